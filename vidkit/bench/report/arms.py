"""What a table of a study shows: its measures, the interval within a row, and each arm's difference from the
reference arm, seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vidkit.bench.report.columns import Column, machines, minutes
from vidkit.bench.report.estimates import NOTHING, Estimate, estimate, written
from vidkit.bench.report.results import Line, Results
from vidkit.bench.rows.specs import STUDIES, Measure, Spec


def within(line: Line, measure: Measure) -> float | None:
    """Half of the interval over clips or episodes of one seed: the mean over seeds."""
    found = [row.half_widths[measure.name] for row in line.rows if measure.name in row.half_widths]
    return measure.factor * sum(found) / len(found) if found else None


def difference(line: Line, reference: Line, measure: Measure) -> Estimate | None:
    """Of the arm from the reference, seed by seed: seeds share the encoder, the clips or the episodes."""
    mine, theirs = line.by_seed(measure), reference.by_seed(measure)
    both = [seed for seed in mine if seed in theirs]
    if measure.relative:
        return estimate([100 * (mine[seed] / theirs[seed] - 1) for seed in both])
    return estimate([mine[seed] - theirs[seed] for seed in both])


def _reference(of: Sequence[Line]) -> Line | None:
    return next((line for line in of if line.arm == _spec(line).reference), None)


def _spec(line: Line) -> Spec:
    return STUDIES[line.first.in_study.study]


def columns(of: Sequence[Line]) -> tuple[Column, ...]:
    """Every column that these arms can have."""
    spec, reference = _spec(of[0]), _reference(of)
    counted = dict.fromkeys(name for line in of for row in line.rows for name in row.counts)
    found = [
        Column("arm", lambda line: line.arm, right=False),
        Column("what it is", lambda line: line.first.in_study.about, right=False, brief=False),
        Column("seeds", lambda line: f"{len(line.rows)} of {line.planned}"),
        Column("visible", _count("visible"), brief="visible" in counted),
    ]
    for number, measure in enumerate(spec.measures):
        found += _of_measure(measure, spec, reference, first=number == 0)
    found += [Column(name, _count(name), brief=False) for name in counted if name != "visible"]
    found += [
        Column("minutes", minutes, brief=False),
        Column("status", lambda line: line.status, right=False),
    ]
    return tuple(found)


def _of_measure(measure: Measure, spec: Spec, reference: Line | None, first: bool) -> list[Column]:
    def mean(line: Line) -> str:
        return written(line.over_seeds(measure), measure.digits)

    def inside(line: Line) -> str:
        half = within(line, measure)
        return NOTHING if half is None else f"± {half:.{measure.digits}f}"

    def against(line: Line) -> str:
        if reference is None or line.arm == spec.reference:
            return NOTHING
        return _signed(difference(line, reference, measure), 1 if measure.relative else measure.digits)

    def quoted(line: Line) -> str:
        value = line.first.in_study.quoted.get(measure.name)
        return NOTHING if value is None else f"{measure.factor * value:.{1 if measure.factor == 100 else 2}f}"

    short = measure.short
    unit = ", change in %," if measure.relative else ""
    return [
        Column(measure.title, mean),
        Column(f"{short} over {spec.within}", inside, brief=first),
        Column(f"{short}{unit} against {spec.reference}", against, brief=measure.plotted),
        Column(f"paper (quoted) {measure.short}", quoted),
    ]


def _signed(value: Estimate | None, digits: int) -> str:
    if value is None:
        return NOTHING
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:+.{digits}f}{half}"


def _count(name: str) -> Callable[[Line], str]:
    def text(line: Line) -> str:
        found = sorted({row.counts[name] for row in line.rows if name in row.counts})
        if not found:
            return NOTHING
        return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"

    return text


def notes(results: Results, of: Sequence[Line]) -> list[str]:
    """What a reader needs beside the table."""
    spec = results.spec
    found = [spec.question, *results.notes]
    if any(line.planned > 1 for line in of):
        found.append(
            "± is half of a 95 % interval over seeds (Student's t), but in columns named so over the "
            f"{spec.within} of one seed. Differences are taken seed by seed; they are not corrected for the number "
            "of arms."
        )
    else:
        found.append(
            f"One seed: ± is half of a 95 % interval over {spec.within}, and says nothing of another seed."
        )
    found += [spec.remark] if spec.remark else []
    if results.label_map_sha256 is not None:
        found.append(
            f"Dataset {results.dataset}: label map {results.label_map_sha256[:12]}, plan "
            f"{(results.plan_sha256 or 'unknown')[:12]}."
        )
    return found + machines(results.rows)


def records(results: Results, of: Sequence[Line]) -> list[dict[str, object]]:
    """A line of the CSV for each arm and measure, every figure as in the rows of results. Differences are in the
    measure's own unit, or as shares where the table has percent.
    """
    spec, reference = results.spec, _reference(of)
    found: list[dict[str, object]] = []
    for line in of:
        for measure in spec.measures:
            mean, inside = line.over_seeds(measure), within(line, measure)
            if mean is None and line.rows:
                continue
            other = None
            if reference is not None and line is not reference:
                other = difference(line, reference, measure)
            scale, step = measure.factor, 100 if measure.relative else measure.factor
            found.append(
                {
                    "study": results.study,
                    "arm": line.arm,
                    "measure": measure.name,
                    **_scaled("mean", "half_95_seeds", mean, scale),
                    "seeds_done": len(line.rows),
                    "seeds_planned": line.planned,
                    "half_95_within": None if inside is None else inside / scale,
                    "within": spec.within,
                    "reference": spec.reference,
                    **_scaled("difference", "difference_half_95", other, step),
                    "paper_quoted": line.first.in_study.quoted.get(measure.name),
                    "dataset": results.dataset,
                    "recipe": line.recipe,
                    "status": line.status,
                }
            )
    return found


def _scaled(name: str, half: str, value: Estimate | None, scale: float) -> dict[str, float | None]:
    if value is None:
        return {name: None, half: None}
    return {name: value.mean / scale, half: None if value.half is None else value.half / scale}

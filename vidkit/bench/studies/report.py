"""The table of a study: a line an arm, means over seeds with 95 % intervals, differences from a reference arm.

Rows are all that a table is made of. An arm that was planned and has no row is missing, and is shown so. Importing
this module brings no torch along.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.bench.ablate.rows import RESULTS
from vidkit.bench.report.estimates import NOTHING, Estimate, estimate, written
from vidkit.bench.studies.rows import PLAN, StudyPlan, StudyRow, is_study, read_plan, read_rows
from vidkit.bench.studies.specs import STUDIES, Measure, Spec
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Study

__all__ = [
    "Line",
    "Results",
    "csv_text",
    "is_study",
    "lines",
    "markdown",
    "notes",
    "plain",
    "read",
    "table",
    "title",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a table is made of."""

    plan: StudyPlan
    rows: tuple[StudyRow, ...]

    @property
    def study(self) -> Study:
        return self.plan.study

    @property
    def spec(self) -> Spec:
        return STUDIES[self.plan.study]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """An arm over its seeds."""

    arm: str
    about: str
    quoted: dict[str, float]
    planned: int
    """Seeds."""
    rows: tuple[StudyRow, ...]
    """Of the seeds that came to their end."""
    status: str
    """ok, "2 of 3 seeds; ...", "missing" or "failed: ..."."""

    def by_seed(self, measure: Measure) -> dict[int, float]:
        """As shown: percent, for example."""
        return {
            row.plan.seed: measure.factor * row.metrics[measure.name]
            for row in self.rows
            if measure.name in row.metrics
        }

    def over_seeds(self, measure: Measure) -> Estimate | None:
        return estimate([*self.by_seed(measure).values()])

    def within(self, measure: Measure) -> float | None:
        """Half of the interval over clips or episodes of one seed: the mean over seeds."""
        found = [row.half_widths[measure.name] for row in self.rows if measure.name in row.half_widths]
        return measure.factor * sum(found) / len(found) if found else None


def read(folder: Path) -> Results:
    """
    Raises:
        ConfigError: no study there, or a damaged file, with its line.
    """
    if not is_study(folder):
        raise ConfigError(
            f"no study in {folder}: {PLAN} is not there", hint="give the --out of a `vidkit ablate --preset`"
        )
    plan = read_plan(folder / PLAN)
    rows = read_rows(folder / RESULTS)
    for number, row in enumerate(rows, start=1):
        if row.study != plan.study or row.label_map_sha256 != plan.label_map_sha256:
            raise ConfigError(
                f"a row of study {row.study!r} on {row.dataset!r} is among those of {plan.study!r} on "
                f"{plan.dataset!r}",
                file=folder / RESULTS,
                row=number,
                hint="take it out; rows of different data do not belong in one table",
            )
    return Results(plan=plan, rows=rows)


def lines(results: Results) -> tuple[Line, ...]:
    """In the order in which the arms were planned."""
    rows = {row.plan.config_hash: row for row in results.rows}
    found = []
    for name in dict.fromkeys(arm.arm for arm in results.plan.arms):
        arms = [arm for arm in results.plan.arms if arm.arm == name]
        known = [rows[arm.config_hash] for arm in arms if arm.config_hash in rows]
        done = tuple(row for row in known if row.status == "ok")
        found.append(
            Line(
                arm=name,
                about=arms[0].about,
                quoted=arms[0].quoted,
                planned=len(arms),
                rows=done,
                status=_status(len(arms), known, len(done)),
            )
        )
    return tuple(found)


def _status(planned: int, known: Sequence[StudyRow], done: int) -> str:
    if done == planned:
        return "ok"
    reasons = [f"failed: {_one_line(row.reason)}" for row in known if row.status == "failed"]
    missing = planned - len(known)
    parts = reasons[:1] + ([f"{missing} missing" if planned > 1 else "missing"] if missing else [])
    return (f"{done} of {planned} seeds; " if planned > 1 else "") + "; ".join(parts)


def _one_line(text: str | None) -> str:
    return " ".join((text or "no reason given").split("\n  -> ")[0].split())


def difference(line: Line, reference: Line, measure: Measure) -> Estimate | None:
    """Of the arm from the reference, seed by seed: seeds share the encoder, the clips or the episodes."""
    mine, theirs = line.by_seed(measure), reference.by_seed(measure)
    both = [seed for seed in mine if seed in theirs]
    if measure.relative:
        return estimate([100 * (mine[seed] / theirs[seed] - 1) for seed in both])
    return estimate([mine[seed] - theirs[seed] for seed in both])


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    text: Callable[[Line], str]
    right: bool = True
    brief: bool = True
    """In a terminal's table as well."""


def table(results: Results, *, brief: bool = False) -> tuple[tuple[Column, ...], tuple[tuple[str, ...], ...]]:
    """(columns, text of each line). Columns that say nothing on any line are left out."""
    of = lines(results)
    kept, texts = [], []
    for column in _columns(results, of):
        text = [column.text(line) for line in of]
        if (column.brief or not brief) and set(text) - {NOTHING}:
            kept.append(column)
            texts.append(text)
    return tuple(kept), tuple(zip(*texts, strict=True)) if texts else ()


def _columns(results: Results, of: Sequence[Line]) -> list[Column]:
    spec = results.spec
    reference = next((line for line in of if line.arm == spec.reference), None)
    found = [
        Column("arm", lambda line: line.arm, right=False),
        Column("what it is", lambda line: line.about, right=False, brief=False),
        Column("seeds", lambda line: f"{len(line.rows)} of {line.planned}"),
        Column("visible", _count("visible"), brief=any("visible" in row.counts for row in results.rows)),
    ]
    for number, measure in enumerate(spec.measures):
        found += _of_measure(measure, spec, reference, first=number == 0)
    named = dict.fromkeys(name for row in results.rows for name in row.counts if name != "visible")
    found += [Column(name, _count(name), brief=False) for name in named]
    found += [
        Column("minutes", lambda line: written(_minutes(line), 1), brief=False),
        Column("status", lambda line: line.status, right=False),
    ]
    return found


def _of_measure(measure: Measure, spec: Spec, reference: Line | None, first: bool) -> list[Column]:
    def mean(line: Line) -> str:
        return written(line.over_seeds(measure), measure.digits)

    def within(line: Line) -> str:
        half = line.within(measure)
        return NOTHING if half is None else f"± {half:.{measure.digits}f}"

    def against(line: Line) -> str:
        if reference is None or line.arm == spec.reference:
            return NOTHING
        return _signed(difference(line, reference, measure), 1 if measure.relative else measure.digits)

    def quoted(line: Line) -> str:
        value = line.quoted.get(measure.name)
        return NOTHING if value is None else f"{measure.factor * value:.{1 if measure.factor == 100 else 2}f}"

    short = measure.short
    unit = ", change in %," if measure.relative else ""
    return [
        Column(measure.title, mean),
        Column(f"{short} over {spec.within}", within, brief=first),
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


def _minutes(line: Line) -> Estimate | None:
    return estimate([row.seconds / 60 for row in line.rows if row.seconds is not None])


def title(results: Results) -> str:
    return f"{results.spec.title}: recipe {results.plan.recipe}, dataset {results.plan.dataset}"


def notes(results: Results) -> tuple[str, ...]:
    """What a reader needs beside the table."""
    spec, plan = results.spec, results.plan
    found = [spec.question, *plan.notes]
    if any(line.planned > 1 for line in lines(results)):
        found.append(
            "± is half of a 95 % interval over seeds (Student's t), but in columns named so over the "
            f"{spec.within} of one seed. Differences are taken seed by seed; they are not corrected for the number "
            "of arms."
        )
    else:
        found.append(
            f"One seed: ± is half of a 95 % interval over {spec.within}, and says nothing of another seed."
        )
    if spec.remark:
        found.append(spec.remark)
    found.append(
        f"Dataset {plan.dataset}: label map {plan.label_map_sha256[:12]}, plan "
        f"{(plan.plan_sha256 or 'unknown')[:12]}."
    )
    found += [f"Run on {name}." for name in sorted({_machine(row) for row in results.rows})]
    return tuple(found)


def _machine(row: StudyRow) -> str:
    gpu = row.machine.get("accelerator")
    words = [str(row.machine.get("cpu")), f"{row.machine.get('cores')} cores"]
    words += [str(gpu["name"])] if gpu else []
    words += [f"torch {row.versions.get('torch')}", f"vidkit {row.versions.get('vidkit')}"]
    words += [f"commit {row.git}"] if row.git else []
    return ", ".join(words)


def markdown(results: Results) -> str:
    """A table in Markdown, with its title and notes."""
    columns, cells = table(results)
    text = [f"## {title(results)}", ""]
    text.append("| " + " | ".join(column.name for column in columns) + " |")
    text.append("| " + " | ".join("---:" if column.right else "---" for column in columns) + " |")
    text += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([*text, "", *(f"- {note}" for note in notes(results))]) + "\n"


def csv_text(results: Results) -> str:
    """A row for each arm and measure, every figure in full as in the rows of results; empty where there is none.
    Differences are in the measure's own unit, or as shares where the table has percent.
    """
    spec = results.spec
    of = lines(results)
    reference = next((line for line in of if line.arm == spec.reference), None)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ["study", "arm", "measure", "mean", "half_95_seeds", "seeds_done", "seeds_planned", "half_95_within"]
    names += [
        "within",
        "reference",
        "difference",
        "difference_half_95",
        "paper_quoted",
        "dataset",
        "recipe",
        "status",
    ]
    writer.writerow(names)
    for line in of:
        for measure in spec.measures:
            mean = line.over_seeds(measure)
            within = line.within(measure)
            other = None
            if reference is not None and line is not reference:
                other = difference(line, reference, measure)
            scale, step = measure.factor, 100 if measure.relative else measure.factor
            values: list[Any] = [results.study, line.arm, measure.name, *_pair(mean, scale), len(line.rows)]
            values += [line.planned, None if within is None else within / scale, spec.within, spec.reference]
            values += [
                *_pair(other, step),
                line.quoted.get(measure.name),
                results.plan.dataset,
                results.plan.recipe,
            ]
            if mean is not None or not line.rows:
                writer.writerow(["" if value is None else value for value in [*values, line.status]])
    return file.getvalue()


def _pair(value: Estimate | None, scale: float) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    return value.mean / scale, None if value.half is None else value.half / scale


def plain(results: Results) -> dict[str, Any]:
    """For JSON: the table's text, and the rows."""
    from vidkit.settings.plain import to_plain

    columns, cells = table(results)
    return {
        "study": results.study,
        "dataset": results.plan.dataset,
        "lines": [dict(zip((column.name for column in columns), row, strict=True)) for row in cells],
        "notes": list(notes(results)),
        "rows": [to_plain(row) for row in results.rows],
    }

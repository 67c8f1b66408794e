"""The page of an ablation: its table, plots and pictures; see `pages`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vidkit.bench.report import table as report
from vidkit.bench.report.contrasts import text as contrast_text
from vidkit.bench.report.contrasts.values import measures, shares, title, value
from vidkit.bench.report.curves import LOSSES, LossPlots, loss_plots
from vidkit.bench.report.estimates import NOTHING
from vidkit.bench.report.grid import training_tmacs
from vidkit.bench.report.mask_pictures import Picture
from vidkit.bench.report.pages import Cell, Column, Figure, Section, Table, render
from vidkit.bench.report.plots import Dots, Point, dots, points
from vidkit.bench.report.results import Line, Results, cells, names
from vidkit.bench.report.style import COLOURS, Chart, svg
from vidkit.bench.rows.schema import Row
from vidkit.bench.rows.specs import Measure

_ROWS = ("cell", "seed", "top-1 %", "clips tested", "coverage", "config", "predictions", "run", "commit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """Of a page; arguments of `pages.render`."""

    title: str
    table: Table
    notes: tuple[str, ...]
    sections: tuple[Section, ...]


def page(results: Results, pictures: Sequence[Picture] | None = None) -> str:
    """The whole page, in one file.

    Args:
        pictures: of masks, as `mask_pictures` draws them; None: the page has no such part.
    """
    of = contents(results, pictures)
    return render(of.title, of.table, of.notes, of.sections)


def contents(results: Results, pictures: Sequence[Picture] | None = None) -> Contents:
    """What the page holds; arguments as of `page`."""
    of = report.lines(results)
    if results.study is not None:
        figures = tuple(Figure(svg=svg(chart)) for chart in study_plots(results).values())
        sections = [Section(title="Plots", figures=figures)] if figures else []
        return Contents(
            title=report.title(results), table=_table(of), notes=report.notes(results, of), sections=tuple(sections)
        )
    curves = [loss_plots(results, of, part) for part in LOSSES] if any(line.kind == "full" for line in of) else []
    sections = [*_contrasts(results), *_accuracy(of), *_measures(of)]
    sections += [*_curves(curves), *_masks(pictures or ()), *_rows(of)]
    notes = (*report.notes(results, of), *_left_out(curves, pictures))
    return Contents(title=report.title(results), table=_table(of), notes=notes, sections=tuple(sections))


# --- tables --------------------------------------------------------------------------------------


def _table(of: Sequence[Line]) -> Table:
    columns, texts = _status_early(*report.table(of))
    called = names(of)
    what = "an arm" if any(line.first.arm for line in of) else "a cell"
    said = f"Each line is {what} over its seeds. "
    said += "Columns marked (quoted) are the paper's figures, not measured here."
    return Table(
        name="results",
        caption=said,
        columns=tuple(
            Column(
                name=column.name, look=_look(column.name, right=column.right), heads=column.name in ("mask", "arm")
            )
            for column in columns
        ),
        rows=tuple(
            tuple(
                Cell(
                    text,
                    bad=column.name == "status" and not line.status.startswith("ok"),
                    more="" if line.first.arm else called[line.group].removeprefix(line.cell.mask).strip(),
                )
                for column, text in zip(columns, row, strict=True)
            )
            for line, row in zip(of, texts, strict=True)
        ),
    )


def _look(name: str, *, right: bool) -> str:
    """Classes of a column."""
    words = (
        ("right", right),
        ("quoted", "(quoted)" in name),
        ("status", name == "status"),
        ("long", name == "what it is"),
    )
    return " ".join(word for word, holds in words if holds)


def _status_early(
    columns: Sequence[report.Column], texts: Sequence[Sequence[str]]
) -> tuple[list[report.Column], list[list[str]]]:
    """What failed or is missing stands beside the seeds: a wide table ends beyond the screen."""
    names = [column.name for column in columns]
    order = [i for i, name in enumerate(names) if name != "status"]
    after = max((place for place, i in enumerate(order) if names[i] in ("V of N", "seeds")), default=-1)
    order.insert(after + 1, names.index("status"))
    return [columns[i] for i in order], [[row[i] for i in order] for row in texts]


def _rows(of: Sequence[Line]) -> list[Section]:
    """Every row that the table was made of."""
    called = names(of)
    texts = [(called[line.group], *_facts(row)) for line in cells(of) for row in line.rows]
    if not texts:
        return []
    table = Table(
        name="rows",
        caption="One line for each row of results.jsonl that came to its end.",
        columns=tuple(Column(name=name, heads=name == "cell") for name in _ROWS),
        rows=tuple(tuple(map(Cell, row)) for row in texts),
    )
    return [Section(title="Rows", summary="What the table was made of", table=table)]


def _facts(row: Row) -> tuple[str, ...]:
    top1 = row.metrics.get("top1")
    return (
        str(row.plan.seed),
        NOTHING if top1 is None else f"{100 * top1:.2f}",
        NOTHING if row.clips is None else str(row.clips),
        NOTHING if row.coverage is None else f"{row.coverage:.2%}",
        row.plan.config_hash,
        (row.predictions_sha256 or NOTHING)[:12],
        row.runs.get("test", NOTHING),
        (row.git or NOTHING)[:12],
    )


# --- figures -------------------------------------------------------------------------------------


def _accuracy(of: Sequence[Line]) -> list[Section]:
    drawn = plots(of)
    if not drawn:
        return []
    called = names(of)
    gone = [called[line.group] for line in cells(of) if line.kind == "full" and not line.rows]
    words = (f"Not shown, since they have no result: {'; '.join(gone)}.",) if gone else ()
    return [Section(title="Accuracy", before=words, figures=tuple(Figure(svg=svg(chart)) for chart in drawn))]


def _contrasts(results: Results) -> list[Section]:
    """The table of verdicts, which stands open."""
    found = report.verdicts(results)
    if not found:
        return []
    table = Table(
        name="contrasts",
        caption="One line for each contrast and measure.",
        columns=tuple(
            Column(name=name, look="right" if right else "", heads=name == "contrast")
            for name, right in contrast_text.COLUMNS
        ),
        rows=tuple(tuple(map(Cell, row)) for row in contrast_text.rows(found)),
    )
    return [
        Section(
            title=contrast_text.TITLE,
            before=contrast_text.notes(found),
            summary="Differences and verdicts",
            table=table,
            unfolded=True,
        )
    ]


def _measures(of: Sequence[Line]) -> list[Section]:
    """Each measure over the way of pre-training, a line for each arm."""
    lines = [line for line in cells(of) if line.kind == "full"]
    rows = [row for line in lines for row in line.rows]
    at = shares(rows)
    if len(at) < 2:
        return []
    called, figures = names(of), []
    colours = _colours(lines, called)
    for name in measures(rows):
        series = {
            arm: some for arm, some in _on_the_way(lines, called, name, at, _percent).items() if len(some) > 1
        }
        if series:
            chart = points(series, x="% of pre-training", y=title(name), joined=True, colours=colours)
            figures.append(Figure(svg=svg(chart)))
    figures += [Figure(svg=svg(chart)) for chart in over_compute(lines, called)]
    return [Section(title="On the way", figures=tuple(figures))] if figures else []


def over_compute(lines: Sequence[Line], called: Mapping[str, str]) -> list[Chart]:
    """The first measure that was taken on the way, against the multiply-accumulates of pre-training until then."""
    rows = [row for line in lines for row in line.rows]
    x = "training so far, 10^12 multiply-accumulates"
    for name in measures(rows):
        series = _on_the_way(lines, called, name, shares(rows), _tmacs)
        if any(len(some) > 1 for some in series.values()):
            return [points(series, x=x, y=title(name), joined=True, colours=_colours(lines, called))]
    return []


def _on_the_way(
    lines: Sequence[Line],
    called: Mapping[str, str],
    name: str,
    at: Sequence[float],
    x: Callable[[Line, float], float | None],
) -> dict[str, list[Point]]:
    """By arm: a measure at shares of pre-training, as far as it is known there. `x` is where a share stands."""
    series: dict[str, list[Point]] = {}
    for line, share in itertools.product(lines, at):
        place = x(line, share)
        found = line.value(lambda row, s=share: value(row, name, s))  # type: ignore[misc]
        if place is not None and found is not None:
            series.setdefault(called[line.group], []).append(Point(place, found))
    return series


def _percent(line: Line, share: float) -> float:
    return 100 * share


def _tmacs(line: Line, share: float) -> float | None:
    spent = line.value(training_tmacs)
    return None if spent is None else share * spent.mean


def _colours(lines: Sequence[Line], called: Mapping[str, str]) -> dict[str, str]:
    """By name, of arms where each strategy is there once: those that it has in the other plots."""
    strategies = [line.cell.mask for line in lines]
    once = len(set(strategies)) == len(strategies)
    return {called[line.group]: COLOURS[line.cell.mask] for line in lines if once and line.cell.mask in COLOURS}


def _curves(of: Sequence[LossPlots]) -> list[Section]:
    figures = tuple(Figure(svg=svg(chart)) for part in of for chart in part.charts)
    if not figures:
        return []
    return [
        Section(
            title="Losses",
            before=("A line is the mean over seeds, the band goes from the lowest to the highest seed.",),
            figures=figures,
            after=tuple(sentence for part in of for sentence in part.missing),
        )
    ]


def _masks(pictures: Sequence[Picture]) -> list[Section]:
    if all(picture.png is None for picture in pictures):
        return []
    figures = tuple(
        Figure(
            image=picture.uri,
            alt=f"Masks of {picture.name}: video, prediction, error, mask; time from left to right",
            caption=f"{picture.name}: {picture.caption}",
        )
        for picture in pictures
        if picture.png is not None
    )
    gone = tuple(f"{picture.name}: {picture.caption}" for picture in pictures if picture.png is None)
    return [Section(title="Masks", figures=figures, after=gone)]


def _left_out(curves: Sequence[LossPlots], pictures: Sequence[Picture] | None) -> list[str]:
    """The parts that the page has nothing for, in one line: rows are often looked at without their runs."""
    found = []
    if curves and not any(part.charts for part in curves):
        found.append("curves of losses (no log lies beside the rows)")
    if pictures is not None and all(picture.png is None for picture in pictures):
        words = "no cell has a pre-training that came to its end"
        if pictures:
            more = f", and so for {len(pictures) - 1} more" if len(pictures) > 1 else ""
            words = pictures[0].caption.removeprefix("No picture: ") + more
        found.append(f"pictures of masks ({words})")
    return [f"Left out: {', and '.join(found)}."] if found else []


def plots(of: Sequence[Line]) -> list[Chart]:
    """Accuracy against ratio and against memory, where lines have both."""
    lines = cells(of)
    metric, name = next(
        ((key, word) for key, word in (("top1", "top-1 %"), ("mAP", "mAP %")) if any(o.metric(key) for o in lines)),
        ("", ""),
    )
    if not metric:
        return []
    known = [(line, y) for line in lines if (y := line.metric(metric)) is not None]
    by_ratio: dict[str, list[Point]] = {}
    for line, y in known:
        by_ratio.setdefault(line.cell.mask, []).append(Point(line.cell.ratio, y))
    made = [points(by_ratio, x="mask ratio", y=name, joined=_one_setting(lines), aside=True)]
    for what in ("measured", "predicted"):  # both in one plot would compare two things
        by_memory: dict[str, list[Point]] = {}
        for line, y in known:
            memory = _memory(line, what)
            if memory is not None:
                by_memory.setdefault(line.cell.mask, []).append(Point(memory / 1e9, y))
        if sum(map(len, by_memory.values())) == len(known):
            made.append(points(by_memory, x=f"{what} memory of a pre-training step, GB", y=name, joined=False))
            break
    return made


def _memory(line: Line, what: str) -> float | None:
    """Bytes, mean over seeds."""
    found = line.value(lambda row: row.measured_bytes if what == "measured" else row.predicted_bytes)
    return None if found is None else found.mean


def _one_setting(lines: Sequence[Line]) -> bool:
    """Whether each strategy and ratio is there once, so that a line between points means the ratio alone."""
    keys = [(line.cell.mask, line.cell.ratio) for line in lines]
    return len(keys) == len(set(keys))


# --- figures of a study --------------------------------------------------------------------------


def study_plots(results: Results) -> dict[str, Chart]:
    """For each measure that some arm has and that is worth a plot, by the measure's name."""
    of = report.lines(results)
    made = {}
    for measure in results.spec.measures:
        arms = [
            Dots(name=line.arm, mean=mean, each=line.by_seed(measure))
            for line in of
            if (mean := line.over_seeds(measure)) is not None
        ]
        if measure.plotted and arms:
            better = "less is better" if measure.lower else "more is better"
            made[measure.name] = dots(
                arms,
                x=f"{measure.title} ({better})",
                title=f"{results.spec.title}: {measure.title}",
                digits=measure.digits,
                chance=_chance(results, measure),
            )
    return made


def _chance(results: Results, measure: Measure) -> float | None:
    """What guessing reaches, as shown; None: the rows do not say."""
    found = {row.found["chance"] for row in results.rows if isinstance(row.found.get("chance"), float)}
    return measure.factor * found.pop() if len(found) == 1 else None

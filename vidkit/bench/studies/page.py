"""A study's plots, and one page with table, plots and notes; see `vidkit.bench.report.pages`."""

from __future__ import annotations

from collections.abc import Sequence

from vidkit.bench.report import plots as report_plots
from vidkit.bench.report.html import look
from vidkit.bench.report.pages import Cell, Column, Figure, Section, Table, render
from vidkit.bench.report.plots import Dots
from vidkit.bench.report.style import Chart, svg
from vidkit.bench.studies import report as study_report
from vidkit.bench.studies.report import Line, Results
from vidkit.bench.studies.specs import Measure


def page(results: Results) -> str:
    """The whole page."""
    figures = tuple(Figure(svg=svg(chart)) for chart in plots(results).values())
    sections = [Section(title="Plots", figures=figures)] if figures else []
    return render(study_report.title(results), _table(results), study_report.notes(results), sections)


def _table(results: Results) -> Table:
    columns, texts = study_report.table(results)
    return Table(
        name="results",
        caption="Each line is an arm over its seeds. Columns marked (quoted) are the paper's figures.",
        columns=tuple(
            Column(
                name=column.name,
                look="long" if column.name == "what it is" else look(column.name, right=column.right),
                heads=column.name == "arm",
            )
            for column in columns
        ),
        rows=tuple(
            tuple(
                Cell(text, bad=column.name == "status" and not text.startswith("ok"))
                for column, text in zip(columns, row, strict=True)
            )
            for row in texts
        ),
    )


def plots(results: Results) -> dict[str, Chart]:
    """For each measure that some arm has and that is worth a plot, by the measure's name."""
    of = study_report.lines(results)
    made = {}
    for measure in results.spec.measures:
        shown = [line for line in of if line.over_seeds(measure) is not None]
        if measure.plotted and shown:
            made[measure.name] = _dots(shown, measure, results)
    return made


def _dots(of: Sequence[Line], measure: Measure, results: Results) -> Chart:
    arms = [
        Dots(name=line.arm, mean=mean, each=line.by_seed(measure))
        for line in of
        if (mean := line.over_seeds(measure)) is not None
    ]
    better = "less is better" if measure.lower else "more is better"
    return report_plots.dots(
        arms,
        x=f"{measure.title} ({better})",
        title=f"{results.spec.title}: {measure.title}",
        digits=measure.digits,
        chance=_chance(results, measure),
    )


def _chance(results: Results, measure: Measure) -> float | None:
    """What guessing reaches, as shown; None: the rows do not say."""
    found = {row.found["chance"] for row in results.rows if isinstance(row.found.get("chance"), float)}
    return measure.factor * found.pop() if len(found) == 1 else None

"""What results, and a comparison of two, look like on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from vidkit.bench.report import compare_text
from vidkit.bench.report import table as report
from vidkit.bench.report.compare import Comparison
from vidkit.bench.report.contrasts import text as contrast_text
from vidkit.bench.report.results import Results
from vidkit.cli.output import console


def show_results(results: Results) -> None:
    """The table on stdout, with what a reader needs beside it."""
    of = report.lines(results)
    columns, cells = report.table(of, brief=True)
    _show(
        report.title(results),
        [(column.name, column.right) for column in columns],
        cells,
        report.notes(results, of),
    )
    found = report.verdicts(results)
    if found:
        _show(contrast_text.TITLE, contrast_text.COLUMNS, contrast_text.rows(found), contrast_text.notes(found))


def show_comparison(found: Comparison) -> None:
    """What changed, on stdout."""
    columns, cells = compare_text.table(found)
    _show(compare_text.title(found), [(name, False) for name in columns], cells, compare_text.notes(found))


def _show(
    title: str, columns: Sequence[tuple[str, bool]], cells: Iterable[Sequence[str]], notes: Iterable[str]
) -> None:
    """
    Args:
        columns: name, and whether its cells stand to the right.
    """
    out = console()
    shown = Table(title=escape(title))
    for name, right in columns:
        shown.add_column(escape(name), justify="right" if right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*(escape(cell) for cell in row))
    out.print(shown)
    for note in notes:
        out.print(escape(note))

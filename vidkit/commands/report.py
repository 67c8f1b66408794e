"""`vidkit report`: tables from the rows of ablations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from vidkit.bench import report
from vidkit.bench.html import page
from vidkit.bench.report import Results
from vidkit.bench.rows import replace_file
from vidkit.commands.output import console, print_json
from vidkit.settings import to_plain


def run(
    folders: Sequence[Path], *, csv: Path | None, markdown: Path | None, html: Path | None, as_json: bool
) -> int:
    """Print the table, and write it to the files given."""
    results = report.read_results(folders)
    for path, text in ((csv, report.csv_text), (markdown, report.markdown), (html, page)):
        if path is not None:
            replace_file(path, text(results))
            print(f"wrote {path}", file=sys.stderr)
    if as_json:
        print_json(as_plain(results))
    else:
        show(results)
    return 0


def as_plain(results: Results) -> dict[str, object]:
    return {
        "dataset": results.dataset,
        "lines": report.plain(results),
        "rows": [to_plain(row) for row in results.rows],
    }


def show(results: Results) -> None:
    """The table on stdout, with what a reader needs beside it."""
    out = console()
    of = report.lines(results)
    columns, cells = report.table(of, brief=True)
    shown = Table(title=escape(report.title(results)))
    for column in columns:
        shown.add_column(column.name, justify="right" if column.right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*(escape(cell) for cell in row))
    out.print(shown)
    for note in report.notes(results, of):
        out.print(escape(note))

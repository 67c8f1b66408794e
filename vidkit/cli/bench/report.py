"""`vidkit report`: tables from the rows of ablations, and what changed from one to another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from vidkit.bench.ablate.rows import replace_file
from vidkit.bench.report import compare_text
from vidkit.bench.report import table as report
from vidkit.bench.report.compare import Comparison
from vidkit.bench.report.compare import compare as compared
from vidkit.bench.report.results import Results
from vidkit.bench.studies.rows import is_study
from vidkit.cli.bench import studies
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError
from vidkit.settings.plain import to_plain


def run(
    folders: Sequence[Path],
    *,
    csv: Path | None,
    markdown: Path | None,
    html: Path | None,
    as_json: bool,
    compare: bool = False,
    data: Path | None = None,
) -> int:
    """Print the table, and write it to the files given.

    Args:
        compare: two folders, and what changed from the first to the second.
        data: the dataset, for the pictures of the page.
    """
    if any(map(is_study, folders)):
        return studies.report(
            folders, csv=csv, markdown=markdown, html=html, as_json=as_json, compare=compare, data=data
        )
    if compare:
        return _compare(folders, csv=csv, markdown=markdown, html=html, as_json=as_json)
    if data is not None and html is None:
        raise ConfigError("--data is for the pictures of a page", field="--data", hint="give --html as well")
    results = report.read_results(folders)
    for path, text in ((csv, report.csv_text), (markdown, report.markdown)):
        if path is not None:
            _write(path, text(results))
    if html is not None:
        write_page(html, results, data)
    if as_json:
        print_json(as_plain(results))
    else:
        show(results)
    return 0


def write_page(html: Path, results: Results, data: Path | None) -> None:
    """The page with table, plots and pictures; see `vidkit.bench.report.html.page`."""
    from vidkit.bench.report.html import page
    from vidkit.bench.report.mask_pictures import mask_pictures

    pictures = mask_pictures(
        results, report.lines(results), data=data, tell=lambda words: print(words, file=sys.stderr)
    )
    _write(html, page(results, pictures))


def _write(path: Path, text: str) -> None:
    replace_file(path, text)
    print(f"wrote {path}", file=sys.stderr)


def as_plain(results: Results) -> dict[str, object]:
    return {
        "dataset": results.dataset,
        "lines": report.plain(results),
        "rivals": {group: to_plain(rival) for group, rival in results.rivals.items()},
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


# --- two sets of results -------------------------------------------------------------------------


def _compare(
    folders: Sequence[Path], *, csv: Path | None, markdown: Path | None, html: Path | None, as_json: bool
) -> int:
    if len(folders) != 2:
        raise ConfigError(
            f"{len(folders)} folders are given; expected two",
            field="--compare",
            hint="vidkit report --compare BEFORE AFTER",
        )
    for name, path in (("--csv", csv), ("--html", html)):
        if path is not None:
            raise ConfigError(f"{name} has no form for a comparison", field=name, hint="use --markdown or --json")
    found = compared(*folders)
    if markdown is not None:
        _write(markdown, compare_text.markdown(found))
    if as_json:
        print_json(compare_text.plain(found))
    else:
        _show_comparison(found)
    return 0


def _show_comparison(found: Comparison) -> None:
    out = console()
    columns, cells = compare_text.table(found)
    shown = Table(title=escape(compare_text.title(found)))
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in cells:
        shown.add_row(*(escape(cell) for cell in row))
    out.print(shown)
    for note in compare_text.notes(found):
        out.print(escape(note))

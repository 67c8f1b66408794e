"""Tables of results as text, for a terminal, Markdown, CSV and JSON: a line a cell of a grid, or a line an arm of a
study, with mean and 95 % interval over its seeds.

What a grid shows is in `grid`, what a study shows in `arms`. An arm or a cell that was planned and has no row is
missing, and is shown so. Importing this module brings no torch along.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from vidkit.bench.report import arms, grid
from vidkit.bench.report.columns import Column
from vidkit.bench.report.contrasts import text as contrast_text
from vidkit.bench.report.contrasts.findings import Finding, findings
from vidkit.bench.report.estimates import NOTHING
from vidkit.bench.report.results import Line, Results, lines, read_results
from vidkit.settings.plain import to_plain

__all__ = [
    "Column",
    "Line",
    "Results",
    "csv_text",
    "lines",
    "markdown",
    "notes",
    "plain",
    "read_results",
    "table",
    "verdicts",
]


def columns_of(of: Sequence[Line]) -> tuple[Column, ...]:
    """Every column that such lines can have."""
    return arms.columns(of) if any(line.first.arm for line in of) else grid.COLUMNS


def table(of: Sequence[Line], *, brief: bool = False) -> tuple[tuple[Column, ...], tuple[tuple[str, ...], ...]]:
    """(columns, text of each line). Columns that say nothing on any line are left out, and settings that are the
    same on every line: the notes name them. With `brief`, also those that a terminal has no room for.
    """
    shared = grid.common(of)
    columns = [column for column in columns_of(of) if column.name not in shared and (column.brief or not brief)]
    texts = {column.name: [column.text(line) for line in of] for column in columns}
    kept = [column for column in columns if set(texts[column.name]) - {NOTHING}]
    return tuple(kept), tuple(tuple(texts[column.name][i] for column in kept) for i in range(len(of)))


def title(results: Results) -> str:
    """What the table is of."""
    recipes = ", ".join(dict.fromkeys(str(one.recipe) for one in results.planned))
    data = "no data: memory and speed only" if results.dataset is None else f"dataset {results.dataset}"
    if results.study is not None:
        return f"{results.spec.title}: recipe {recipes}, {data}"
    return f"Ablation, recipe {recipes}, {data}"


def verdicts(results: Results) -> tuple[Finding, ...]:
    """Every contrast of a grid, in every measure."""
    return findings(results.contrasts, results.rows, results.folders)


def notes(results: Results, of: Sequence[Line]) -> tuple[str, ...]:
    """What a reader needs beside the table."""
    return tuple(grid.notes(results, of) if results.study is None else arms.notes(results, of))


def markdown(results: Results) -> str:
    """A table in Markdown, with its title and notes, and the contrasts."""
    of = lines(results)
    columns, cells = table(of)
    text = [f"## {title(results)}", ""]
    text.append("| " + " | ".join(column.name for column in columns) + " |")
    text.append("| " + " | ".join("---:" if column.right else "---" for column in columns) + " |")
    text += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    whole = "\n".join([*text, "", *(f"- {note}" for note in notes(results, of))]) + "\n"
    found = contrast_text.markdown(verdicts(results))
    return f"{whole}\n{found}" if found else whole


def csv_text(results: Results) -> str:
    """Every figure in full, empty where there is none: a row for each cell, or for each arm and measure."""
    of = lines(results)
    records = grid.records(results, of) if results.study is None else arms.records(results, of)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)  # None is written as nothing
    return file.getvalue()


def plain(results: Results) -> dict[str, Any]:
    """For JSON: the table's lines as text, and the rows in full."""
    of = lines(results)
    columns = columns_of(of)
    return {
        "study": results.study,
        "dataset": results.dataset,
        "lines": [{column.name: column.text(line) for column in columns} for line in of],
        "notes": list(notes(results, of)),
        "contrasts": contrast_text.plain(verdicts(results)),
        "rows": [to_plain(row) for row in results.rows],
    }

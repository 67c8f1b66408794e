"""What tables of grids and studies have in common: columns, times, machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vidkit.bench.report.estimates import written
from vidkit.bench.report.results import Line
from vidkit.bench.rows.schema import Row


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and how a line's text in it is made."""

    name: str
    text: Callable[[Line], str]
    right: bool = True
    brief: bool = True
    """In a terminal's table as well."""
    setting: bool = False
    """Of a cell: named once, beside the table, where it is the same in every line."""


def minutes(line: Line) -> str:
    """Wall time of a run in minutes: mean and interval over seeds."""
    return written(line.value(lambda row: None if row.wall_s is None else row.wall_s / 60), 1)


def machines(rows: Iterable[Row]) -> list[str]:
    """A sentence for each machine that rows were made on."""
    return [f"Run on {name}." for name in sorted({_machine(row) for row in rows if row.machine})]


def _machine(row: Row) -> str:
    gpu = row.machine.get("accelerator")
    words = [str(row.machine.get("cpu")), f"{row.machine.get('cores')} cores"]
    words += [str(gpu["name"])] if gpu else []
    words += [f"torch {row.versions.get('torch')}", f"vidkit {row.versions.get('vidkit')}"]
    words += [f"commit {_short(row.git)}"] if row.git else []
    return ", ".join(words)


def _short(commit: str) -> str:
    """Of "HASH" or "HASH+changes"."""
    number, plus, rest = commit.partition("+")
    return number[:12] + plus + rest

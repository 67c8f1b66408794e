"""What a comparison with the baseline looks like on a terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from vidkit.bench.regress.compare import FAILING, Findings, Row, Section, Value
from vidkit.cli.output import console


def plain(
    rows: Mapping[Section, Sequence[Row]], found: Mapping[Section, Findings], *, code: int, updated: bool
) -> dict[str, Any]:
    """What --json prints."""
    return {
        "exit_code": code,
        "updated": updated,
        "conditions": {name: dict(findings.conditions) for name, findings in found.items()},
        "rows": [
            {"section": name, **asdict(row), "failed": row.failed} for name, each in rows.items() for row in each
        ],
    }


def show(rows: Mapping[Section, Sequence[Row]], *, code: int) -> None:
    """What moved and every ratio, on stdout; why the command exits 1, on stderr."""
    out = console()
    # ratios always: how near they are to their limit is worth knowing
    shown = [row for each in rows.values() for row in each if row.verdict != "same" or row.rule == "least"]
    if shown:
        out.print(_table(shown, title="What moved, and every ratio"))
    for name, each in rows.items():
        out.print(f"{name}: {len(each):,} values: {_counted(each)}")
    if code:
        failed = [row for each in rows.values() for row in each if row.failed]
        console(stderr=True).print(
            f"[red]exit 1:[/red] {_counted(failed)}; if that is meant, take it over with --update"
        )


def show_update(baseline: Path, rows: Mapping[Section, Sequence[Row]], *, new: bool) -> None:
    """What the baseline had and has now, on stdout; nothing of it where there was none (`new`)."""
    out = console()
    moved = [row for each in rows.values() for row in each if row.baseline != row.now]
    if new:
        moved = []  # everything is new
    if moved:
        out.print(_table(moved, title="What the baseline had, and has now"))
    for name, each in rows.items():
        out.print(f"{name}: {len(each):,} values: {_counted(each)}")
    out.print(f"wrote {escape(str(baseline))}")


def _counted(rows: Sequence[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())


def _table(rows: Sequence[Row], *, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("name")
    for name in ("baseline", "now", "change", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("note")
    for row in rows:
        verdict = f"[red]{row.verdict}[/red]" if row.verdict in FAILING else row.verdict
        change = "" if row.change is None else _percent(row.change)
        words = [escape(row.name), _text(row.baseline), _text(row.now), change, _tolerance(row)]
        table.add_row(*words, verdict, escape(row.note))
    return table


def _text(value: Value | None) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"{value[-1]:.6g} at the end"
    if isinstance(value, str):
        return escape(value if len(value) <= 20 else value[:12] + "…")
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _percent(change: float) -> str:
    return f"{change:+.2%}" if abs(change) >= 1e-3 or change == 0 else f"{change:+.1e}"


def _tolerance(row: Row) -> str:
    if row.rule == "least":
        return f"-{row.tolerance:.0%}"
    return f"{row.tolerance:g}" if row.tolerance else "none"

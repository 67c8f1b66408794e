"""`vidkit bench regress`: measure, compare with a baseline, say what moved."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from vidkit.bench.regress import compare as regress
from vidkit.bench.regress.compare import FAILING, SECTIONS, Findings, Row, Section, Stored, Value
from vidkit.cli.output import console, print_json
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError


def run(baseline: Path, *, update: bool, only: str | None, as_json: bool) -> int:
    """Measure and compare; with `update`, write the baseline anew.

    Returns:
        0; 1 where something changed, got slower or is gone.

    Raises:
        ConfigError: no baseline, or a damaged one; an unknown section.
    """
    if only is not None and only not in SECTIONS:
        raise ConfigError(f"there is no part {only!r}", field="--only", hint="choose " + " or ".join(SECTIONS))
    chosen = SECTIONS if only is None else (only,)
    stored = _before(baseline) if update else regress.read_baseline(baseline)
    if not update:  # before minutes are spent
        for name in chosen:
            regress.section_of(stored, name, baseline)
    found = _measure(chosen)
    empty = Stored(conditions={}, values={})
    rows = {name: regress.compare(stored.get(name, empty), found[name]) for name in chosen}
    if update:
        now: dict[str, Stored] = {name: findings.stored() for name, findings in found.items()}
        regress.write_baseline(baseline, {**stored, **now})
    code = int(not update and any(row.failed for each in rows.values() for row in each))
    if as_json:
        print_json(_as_json(rows, found, code=code, updated=update))
    elif update:
        _print_update(baseline, rows, new=not stored)
    else:
        _print(rows, code=code)
    return code


def _before(baseline: Path) -> dict[str, Stored]:
    """What is going to be replaced."""
    if not baseline.exists():
        return {}
    try:
        return regress.read_baseline(baseline)
    except ConfigError as error:
        print(f"the old baseline is replaced without a comparison: {error.where}: {error.message}", file=sys.stderr)
        return {}


def _measure(chosen: Sequence[Section]) -> dict[Section, Findings]:
    from vidkit.bench.regress import exact as regress_exact
    from vidkit.bench.regress import ratios as regress_ratios

    modules = {"exact": regress_exact, "ratios": regress_ratios}
    total = sum(len(modules[name].PARTS) for name in chosen)
    found: dict[Section, Findings] = {}
    with (
        tempfile.TemporaryDirectory(prefix="vidkit-regress-") as folder,
        Progress("measuring", total, unit="parts") as progress,
    ):

        def done(part: str) -> None:
            progress.note = part
            progress.advance()

        for name in chosen:
            work = Path(folder) / name
            work.mkdir()
            found[name] = modules[name].measure(work, done)
    return found


# --- what is printed -----------------------------------------------------------------------------


def _as_json(
    rows: Mapping[Section, Sequence[Row]], found: Mapping[Section, Findings], *, code: int, updated: bool
) -> dict[str, Any]:
    return {
        "exit_code": code,
        "updated": updated,
        "conditions": {name: dict(findings.conditions) for name, findings in found.items()},
        "rows": [
            {"section": name, **asdict(row), "failed": row.failed} for name, each in rows.items() for row in each
        ],
    }


def _print(rows: Mapping[Section, Sequence[Row]], *, code: int) -> None:
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


def _print_update(baseline: Path, rows: Mapping[Section, Sequence[Row]], *, new: bool) -> None:
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

"""What a plan and a finished build look like on a terminal."""

from __future__ import annotations

import shlex
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vidkit.data.build.build import Built
from vidkit.data.plan.planning import Prepared, reconciliation, unusable
from vidkit.data.storage.places import Place
from vidkit.errors import CLIP_ERRORS, display_path

_SHOWN = 5


def print_plan(prepared: Prepared, console: Console) -> None:
    """Sources and what matched, label sets that were folded, leaks: everything known before decoding."""
    plan = prepared.plan
    for matching in plan.matching:
        head = f"[bold]{matching.source}[/bold]" + (f"  {escape(matching.layout)}" if matching.layout else "")
        console.print(head)
        for words, count in matching.counts.items():
            examples = matching.examples.get(words, [])
            shown = f"  [dim]e.g. {escape(', '.join(examples[:2]))}[/dim]" if examples else ""
            console.print(f"  {count:>9,}  {escape(words)}{shown}")
        for note in matching.notes:
            console.print(f"  [yellow]note:[/yellow] {escape(note)}")
    names = plan.label_map.names
    console.print(
        f"[bold]plan[/bold]  {prepared.table.num_rows:,} clips, {len(names):,} classes "
        f"({plan.label_map.rule}, label map {plan.label_map.sha256[:12]})"
    )
    if plan.excluded is not None:
        some = escape(", ".join(plan.excluded.clip_ids[:2]))
        console.print(f"  left out by --exclude: {len(plan.excluded.clip_ids):,} clips  [dim]e.g. {some}[/dim]")
        if plan.excluded.doubt is not None:
            console.print(f"  [yellow]note:[/yellow] {escape(plan.excluded.doubt)}")
    for item in unusable(prepared.table):
        what = f"{item['clips']:,} clips cannot be used: {CLIP_ERRORS[item['error']]}"
        example = f"  [dim]e.g. {escape(item['example'])}[/dim]"
        console.print(f"  [red]{item['error']}[/red] {what}{example}")
    for note in plan.absent.notes:
        console.print(f"  [yellow]note:[/yellow] {escape(note)}")
    for folded in plan.folded[:_SHOWN]:
        into = folded.into or "no kept subset: failure row label-set-not-kept"
        console.print(f"  folded: {escape(folded.label_set)} ({folded.clips} clips) -> {escape(into)}")
    if len(plan.folded) > _SHOWN:
        console.print(f"  ... {len(plan.folded) - _SHOWN} more label sets are folded")
    for leak in plan.leaks[:_SHOWN]:
        console.print(
            f"  [yellow]leak:[/yellow] {escape(leak.value)} is in {' and '.join(leak.splits)} "
            f"({len(leak.clip_ids)} clips)"
        )
    if len(plan.leaks) > _SHOWN:
        console.print(f"  ... {len(plan.leaks) - _SHOWN} more leaks")
    print_reconciliation(reconciliation(prepared), console, stored=False)


def print_reconciliation(rows: list[dict[str, Any]], console: Console, *, stored: bool) -> None:
    """Published counts beside ours."""
    if not rows:
        return
    table = Table(title="found beside expected", title_justify="left")
    table.add_column("count of")
    table.add_column("expected", justify="right")
    table.add_column("on disk", justify="right")
    if stored:
        table.add_column("stored", justify="right")
    table.add_column("")
    table.add_column("where the number comes from", overflow="fold")
    for row in rows:
        found = row["found"] if stored else row["planned"]
        verdict = "[green]equal[/green]" if found == row["expected"] else f"[red]{found - row['expected']:+,}[/red]"
        cells = [escape(row["what"]), f"{row['expected']:,}", f"{row['planned']:,}"]
        cells += [f"{row['found']:,}"] if stored else []
        table.add_row(*cells, verdict, escape(row["where"]))
    console.print(table)
    for row in rows:
        if row["what"] == "clips/kinetics" and row["planned"] > 2 * row["expected"]:
            share = row["expected"] / row["planned"]
            console.print(
                f"Kinetics is larger than the published part of it; --kinetics-fraction {share:.2g} takes as much"
            )


def print_result(built: Built, out: Place, console: Console) -> None:
    """Counts, failures by code with an example each, and what to do next."""
    facts = built.facts
    counts = facts["counts"]
    rate = f", {built.made / built.seconds:.1f} clips/s" if built.made and built.seconds else ""
    how = f"in {built.seconds:.0f} s{rate}" if built.made else "nothing was left to do"
    what = f"{counts['shards']} shards, {_size(counts['bytes'])}, {how}"
    console.print(f"[bold]{facts['name']}[/bold] in {escape(display_path(str(out)))}: {what}")
    table = Table()
    for column in ("", "planned", "ok", "failed", "missing"):
        table.add_column(column, justify="right" if column else "left")
    for split, tally in [*facts["splits"].items(), ("all", counts)]:
        table.add_row(split, *(f"{tally[name]:,}" for name in ("planned", "ok", "failed", "missing")))
    console.print(table)
    for code, count in facts["errors"].items():
        if code != "missing":
            example = _example(built, code)
            console.print(f"  [red]{code}[/red] {count:,}: {CLIP_ERRORS[code]}  [dim]e.g. {escape(example)}[/dim]")
    if counts["with_warnings"]:
        console.print(f"  [yellow]warnings[/yellow] {counts['with_warnings']:,}: the ledger says of what")
    for leak in [leak for leak in facts["leaks"] if leak["kind"] == "file"][:_SHOWN]:
        console.print(f"  [yellow]same file in two splits:[/yellow] {escape(', '.join(leak['clip_ids'][:4]))}")
    print_reconciliation(facts["reconciliation"], console, stored=True)
    if facts["synthetic"]:
        console.print("[yellow]synthetic: these clips are generated, not filmed[/yellow]")
    folder = escape(shlex.quote(display_path(str(out))))
    console.print(
        f"next: vidkit verify {folder}   vidkit view {folder}   vidkit inspect {folder} --sheet sheet.png"
    )


def _example(built: Built, code: str) -> str:
    import pyarrow.compute as pc

    rows = built.ledger.filter(pc.equal(built.ledger["error"], code)).slice(0, 1).to_pylist()
    return f"{rows[0]['clip_id']}: {rows[0]['message']}" if rows else ""


def _size(count: int) -> str:
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"

"""`vidkit verify`: is a dataset what it says it is?"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from vidkit.cli.output import console, cores, print_json
from vidkit.data.progress import Progress

_SHOWN = 50


def run(dataset: Path, *, sample: int | None, workers: int, seed: int, as_json: bool) -> int:
    """Verify and print; 1 if anything is wrong."""
    from vidkit.data.verify.dataset import verify

    with Progress("verifying", 0) as progress:

        def told(done: int, total: int) -> None:
            progress.total = total
            progress.advance(by=done - progress.done)

        result = verify(dataset, sample=sample, workers=workers or cores(), seed=seed, progress=told)
    if as_json:
        print_json({"dataset": str(dataset), "exit_code": int(not result.ok), **result.to_dict()})
        return int(not result.ok)
    out = console()
    out.print("checked: " + ", ".join(f"{count:,} {what}" for what, count in result.checks.items()))
    if result.ok:
        out.print(f"[green]{dataset}: everything agrees[/green]")
        return 0
    total = len(result.problems) + sum(result.unlisted.values())
    table = Table(title=f"{total:,} problems in {escape(str(dataset))}", title_justify="left")
    for column in ("problem", "where", "what"):
        table.add_column(column, overflow="fold")
    for problem in result.problems[:_SHOWN]:
        table.add_row(problem.kind, escape(problem.where), escape(problem.message))
    out.print(table)
    if total > _SHOWN:
        out.print(f"... and {total - _SHOWN:,} more; --json lists up to 1,000 of each kind")
    return 1

"""`vidkit verify`: is a dataset what it says it is?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vidkit.cli.options import Dataset, Json
from vidkit.cli.output import console, cores, print_json, told

if TYPE_CHECKING:
    from pathlib import Path

    from vidkit.data.verify.report import Verification

EXAMPLE = "vidkit verify vidkit-demo"

_SHOWN = 50


def run(
    dataset: Dataset,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", help="Decode only N clips; everything else is checked in full.", min=0),
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode; 0: one per core.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Choice of the sample.")] = 0,
    as_json: Json = False,
) -> int:
    """Check a dataset against its own records (hashes, samples, frames, labels); exit 1 if one disagrees."""
    from vidkit.data.progress import Progress
    from vidkit.data.verify.dataset import verify

    with Progress("verifying", 0) as progress:
        result = verify(dataset, sample=sample, workers=workers or cores(), seed=seed, progress=told(progress))
    if as_json:
        print_json({"dataset": str(dataset), "exit_code": int(not result.ok), **result.to_dict()})
        return int(not result.ok)
    _print(result, dataset)
    return int(not result.ok)


def _print(result: Verification, dataset: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = console()
    out.print("checked: " + ", ".join(f"{count:,} {what}" for what, count in result.checks.items()))
    if result.ok:
        out.print(f"[green]{dataset}: everything agrees[/green]")
        return
    total = len(result.problems) + sum(result.unlisted.values())
    table = Table(title=f"{total:,} problems in {escape(str(dataset))}", title_justify="left")
    for column in ("problem", "where", "what"):
        table.add_column(column, overflow="fold")
    for problem in result.problems[:_SHOWN]:
        table.add_row(problem.kind, escape(problem.where), escape(problem.message))
    out.print(table)
    if total > _SHOWN:
        out.print(f"... and {total - _SHOWN:,} more; --json lists up to 1,000 of each kind")

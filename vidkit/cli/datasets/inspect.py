"""`vidkit inspect`: what is in a dataset, in tables and as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vidkit.cli.options import Dataset, Json
from vidkit.cli.output import console, print_json

EXAMPLE = "vidkit inspect vidkit-demo --sheet sheet.png"


def run(
    dataset: Dataset,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw a contact sheet of clips with their labels."),
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips on the sheet.", min=1)] = 24,
    split: Annotated[str | None, typer.Option(help="Clips of one split only.")] = None,
    seed: Annotated[int, typer.Option(help="Choice of clips.")] = 0,
    as_json: Json = False,
) -> int:
    """Show what is in a dataset: counts, classes, lengths, sizes, failures."""
    from vidkit.data.look import inspect

    summary = inspect.summarise(dataset)
    if as_json:
        print_json(summary.to_dict())
    else:
        inspect.render(summary, console())
    if sheet is not None:
        from vidkit.data.look.sheet import contact_sheet

        drawn = contact_sheet(dataset, sheet, clips=clips, seed=seed, split=split)
        print(f"contact sheet: {drawn}", file=sys.stderr if as_json else sys.stdout)
    return 0

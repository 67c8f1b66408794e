"""`vidkit inspect`: what is in a dataset, in tables and as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

from vidkit.cli.output import console, print_json


def run(dataset: Path, *, sheet: Path | None, clips: int, split: str | None, seed: int, as_json: bool) -> int:
    """Summarise and print; draw the contact sheet if one is asked for."""
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

"""`vidkit extract`: features of a dataset's clips, in a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidkit.commands.evaluate import parse_views
from vidkit.commands.output import print_json


def run(
    data: Path,
    checkpoint: Path,
    out: Path,
    *,
    splits: Sequence[str] | None,
    views: str | None,
    stride: int | None,
    batch_size: int,
    workers: int,
    device: str | None,
    as_json: bool,
) -> int:
    """Extract, and say what was written."""
    from vidkit.train import extract

    facts = extract.run(
        data,
        checkpoint,
        out,
        splits=splits or None,
        views=parse_views(views or "1x1"),
        stride=stride,
        batch_size=batch_size,
        workers=workers,
        device=device,
        quiet=as_json,
    )
    if as_json:
        print_json({"file": str(out), **facts})
    else:
        clips = ", ".join(f"{split} {count:,}" for split, count in facts["clips"].items())
        print(f"{out}: {facts['width']} numbers for each of {sum(facts['clips'].values()):,} clips ({clips})")
    return 0

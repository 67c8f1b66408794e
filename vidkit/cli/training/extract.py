"""`vidkit extract`: features of a dataset's clips, in a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import print_json
from vidkit.cli.training.evaluate import parse_views
from vidkit.errors import ConfigError


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
    if os.environ.get("WORLD_SIZE", "1") != "1":  # all of them would write the same file
        raise ConfigError("extract works in one process", field="WORLD_SIZE", hint="start it without torchrun")
    from vidkit.train import extract

    with memory_told("use a smaller --batch-size: that many clips are read at a time, with all their views"):
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

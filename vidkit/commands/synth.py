"""`vidkit synth`: generated clips in real layouts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vidkit.commands.output import cores, print_json
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError


def run(kind: str, out: Path, *, workers: int, as_json: bool, size: str | None = None, **options: Any) -> int:
    """Write a generated dataset; see `vidkit.data.synthetic_layouts.write_layout`."""
    from vidkit.data.synthetic_layouts import write_layout

    if size is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        if not match:
            raise ConfigError(f"--size {size!r} is not WIDTHxHEIGHT", hint="for example --size 340x256")
        options["size"] = (int(match[1]), int(match[2]))
    with Progress("drawing clips", 0) as progress:

        def told(done: int, total: int) -> None:
            progress.total = total
            progress.advance(by=done - progress.done)

        report = write_layout(kind, out, workers=workers or cores(), progress=told, **options)
    if as_json:
        print_json(
            {
                "root": str(report.root),
                "clips": report.clips,
                "splits": dict(report.splits),
                "classes": len(report.classes),
                "videos": report.videos,
                "missing": report.missing,
                "broken": report.broken,
                "extra": report.extra,
                "next_command": report.next_command,
            }
        )
    else:
        splits = ", ".join(f"{split} {count:,}" for split, count in report.splits.items())
        print(f"{report.clips:,} clips ({splits}) of {len(report.classes)} classes in {report.root}")
        print(f"next: {report.next_command}")
    return 0

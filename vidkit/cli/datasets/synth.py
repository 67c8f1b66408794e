"""`vidkit synth`: generated clips in real layouts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidkit.cli.output import cores, print_json
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError


def run(kind: str, out: Path, *, workers: int, as_json: bool, size: str | None = None, **options: Any) -> int:
    """Write a generated dataset; see `vidkit.data.synth.layouts.write_layout`."""
    from vidkit.data.synth.layouts import write_layout

    if size is not None:
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
        if not match:
            raise ConfigError(
                f"--size {size!r} is not WIDTHxHEIGHT", hint="for example --size 340x256, or --size 64"
            )
        options["size"] = (int(match[1]), int(match[2] or match[1]))
    with Progress("drawing clips", 0) as progress:
        report = write_layout(kind, out, workers=workers or cores(), progress=_told(progress), **options)
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


def draw_beside(out: Path, kind: str, *, workers: int = 0, **options: Any) -> Path:
    """Generated clips in a folder beside the dataset that is built from them, whole or not at all, and once.

    Returns:
        The folder; `out` with "-clips" at the end of its name.
    """
    from vidkit.data.build.state import lock
    from vidkit.data.synth.layouts import write_layout

    clips = out.resolve().with_name(out.resolve().name + "-clips")
    with lock(out):  # two at once would draw into one folder
        if not clips.exists():
            part = clips.with_name(clips.name + ".part")
            shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
            with Progress("drawing clips", 0) as progress:
                write_layout(kind, part, workers=workers or cores(), progress=_told(progress), **options)
            part.rename(clips)
    return clips


def _told(progress: Progress) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        progress.total = total
        progress.advance(by=done - progress.done)

    return told

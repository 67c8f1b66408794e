"""Generated clips beside the dataset that is made of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from vidkit.cli.output import cores, told


def draw_beside(out: Path, kind: str, *, workers: int = 0, **options: Any) -> Path:
    """Generated clips in a folder beside the dataset that is built from them, whole or not at all, and once.

    Args:
        options: further arguments of `vidkit.data.synth.layouts.write_layout`.

    Returns:
        The folder; `out` with "-clips" at the end of its name.
    """
    from vidkit.data.build.state import lock
    from vidkit.data.progress import Progress
    from vidkit.data.synth.layouts import write_layout

    clips = out.resolve().with_name(out.resolve().name + "-clips")
    locked = clips.with_name(clips.name + ".lock")
    with lock(locked):  # two at once would draw into one folder
        try:
            if not clips.exists():
                part = clips.with_name(clips.name + ".part")
                shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
                with Progress("drawing clips", 0) as progress:
                    write_layout(kind, part, workers=workers or cores(), progress=told(progress), **options)
                part.rename(clips)
        finally:
            shutil.rmtree(locked)
    return clips

"""Source clips for benchmarks: drawn ones in the datasets' own layouts, and filmed ones where they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

FILMED = ("k400_arm_wrestling.mp4", "test.mp4")


def media_folder() -> Path | None:
    """Where the filmed clips lie: $VIDKIT_TEST_MEDIA, or beside the checkout; None where they are not."""
    given = os.environ.get("VIDKIT_TEST_MEDIA")
    places = [Path(given)] if given else [Path(__file__).parents[3] / "shared" / "media"]
    return next((place for place in places if all((place / name).exists() for name in FILMED)), None)


def make_sources(kind: str, folder: Path, *, clips: int, distinct: int, real: bool, workers: int) -> None:
    """Write a source folder, unless it is there already: Kinetics class folders with bare ids, or TinyVIRAT v1.

    Args:
        kind: "kinetics" or "tinyvirat".
        distinct: different videos of Kinetics size; the others are links to them.
        real: the two filmed clips under many ids, in place of drawn ones.
    """
    from vidkit.data.synth.layouts import write_layout

    if folder.exists():
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    if real:
        _link_filmed(part, clips)
    elif kind == "kinetics":
        classes = min(clips, distinct, 400)
        write_layout("kinetics-bare-ids", part, clips=clips, classes=classes, distinct=distinct, workers=workers)
    else:
        write_layout("tinyvirat-v1", part, clips=clips, workers=workers)
    part.rename(folder)


def _link_filmed(folder: Path, clips: int) -> None:
    media = media_folder()
    assert media is not None
    classes = [folder / "arm wrestling", folder / "abseiling"]
    for i in range(clips):
        path = classes[i % 2] / f"clip{i:07d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 2:
            shutil.copyfile(media / FILMED[i], path)
        else:
            os.link(classes[i % 2] / f"clip{i % 2:07d}.mp4", path)

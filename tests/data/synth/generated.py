"""Small generated datasets for tests, and the simplest code that reads them back."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path
from typing import Any

import av

from vidkit.data.manifests import class_list
from vidkit.data.synth.layouts import SynthReport, write_layout

SMALL: dict[str, Any] = {"size": (48, 36), "frames": 4, "fps": 10.0}
KINETICS = class_list("kinetics400").names
TINYVIRAT = class_list("tinyvirat26").names


def small(kind: str, out: Path, **more: Any) -> SynthReport:
    return write_layout(kind, out, **{"clips": 30, "classes": 3, **SMALL, **more})


def files(root: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file."""
    found = {}
    for path in sorted(root.rglob("*")):
        assert not path.is_symlink()
        if path.is_file():
            found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def videos(root: Path) -> set[str]:
    return {name for name in files(root) if name.endswith((".mp4", ".webm", ".avi"))}


def frames_and_size(path: Path) -> tuple[int, int, int]:
    with av.open(os.fspath(path)) as container:
        frames = list(container.decode(video=0))
    return (len(frames), frames[0].width, frames[0].height) if frames else (0, 0, 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

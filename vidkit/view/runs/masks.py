"""What a pre-trained model sees of a clip: video, prediction, error, probability and mask, at any ratio.

Torch and the model are loaded when the first picture is asked for, and stay; one picture is made at a time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vidkit.bench.rows.files import read_rows
from vidkit.errors import VidkitError
from vidkit.view.shelf import Shelf


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A checkpoint of a pre-training."""

    id: str
    """In addresses."""
    name: str
    path: Path


def checkpoints(shelf: Shelf) -> list[Pretrained]:
    """Of the runs that are open, and of those that tables of results name."""
    named = [(shelf.names[run], run) for run in shelf.runs]
    for folder in shelf.tables:
        try:
            runs = [row.runs["pretrain"] for row in read_rows(folder) if "pretrain" in row.runs]
        except VidkitError:  # the table's own page says so
            continue
        named += [(f"{shelf.names[folder]}: {run}", folder / run) for run in dict.fromkeys(runs)]
    found = []
    for name, run in named:
        path = run / "checkpoints" / "last.pt"
        if path.is_file() and _kind(run) == "pretrain":
            short = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            found.append(Pretrained(id=short, name=name, path=path))
    return found


def _kind(run: Path) -> str | None:
    try:
        kind = json.loads((run / "config.json").read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        return None
    return kind if isinstance(kind, str) else None

"""Small pictures of clips, each made once: a file for each clip in the user's own cache, in a folder named by its
shard's sha256. A shard that changes has another name, so nothing there is ever wrong; it can be deleted.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from vidkit.errors import ClipError, DatasetError
from vidkit.view.clips import stored
from vidkit.view.clips.opened import Opened

#: Pixels of the longer side; screens show them at half of it.
SIDE = 256

_QUALITY = 78

#: Part of the name of a folder. Raised when pictures are made otherwise.
_KIND = "thumbs-1"

#: Clips that are decoded at a time: the server's other answers must not wait for pictures.
_TURNS = threading.BoundedSemaphore(max(2, (os.cpu_count() or 2) - 1))


def cache_folder() -> Path:
    """Where this user's caches are: $VIDKIT_CACHE, or as the system has it."""
    named = os.environ.get("VIDKIT_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vidkit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidkit"


def thumb(opened: Opened, row: dict[str, Any]) -> bytes | None:
    """A WebP picture of the clip's middle; None where no clip is stored, or its shard has no sha256.

    Raises:
        ClipError: the clip cannot be decoded.
        DatasetError: the shard cannot be read.
    """
    place = stored.place_of(row)
    if place is None:
        return None
    sha256 = str(opened.shards.get(place.shard, {}).get("sha256", ""))
    if not sha256.isalnum():
        raise DatasetError("shards.json has no sha256 of the shard", file=opened.root / place.shard)
    path = cache_folder() / _KIND / sha256 / f"{place.offset}.webp"
    with contextlib.suppress(OSError):
        kept = path.read_bytes()
        if kept:
            return kept
    with _TURNS:
        made = _drawn(stored.read(opened, place))
    _keep(path, made)
    return made


def _drawn(clip: bytes) -> bytes:
    from PIL import Image

    from vidkit.data.media.frames import ClipReader

    with ClipReader(clip) as reader:
        if not len(reader):
            raise ClipError("decode-error", "no frame")
        picture = Image.fromarray(reader.frames([len(reader) // 2])[0])
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=_QUALITY)
    return file.getvalue()


def _keep(path: Path, data: bytes) -> None:
    """Whole or not at all; not synced, since it can be made again. Without room for a cache there is none."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).replace(path)

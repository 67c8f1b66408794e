"""The bytes of a stored clip, by its place in a shard. What the ledger says is not believed: a shard must be one of
shards.json, lie within the dataset's folder, and be long enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from vidkit.data.dataset import within_reach
from vidkit.data.paths import open_source
from vidkit.data.shards import json_member, padded
from vidkit.data.storage.places import StorePath
from vidkit.errors import ClipError, DatasetError
from vidkit.view.clips.opened import Opened

#: Bytes that are read at once.
BLOCK = 1 << 18

_LOOK = "restore it from a copy, or see what is wrong with `vidkit verify DIR`"


@dataclass(frozen=True, slots=True)
class Place:
    """Of a clip's MP4 in a shard."""

    shard: str
    offset: int
    nbytes: int


def place_of(row: dict[str, Any]) -> Place | None:
    """Of a row of the ledger; None where no clip is stored."""
    if row["status"] != "ok" or row["offset"] is None or row["nbytes"] is None:
        return None
    return Place(row["shard"], row["offset"], row["nbytes"])


class Shard(Protocol):
    """What is read of a shard that is open."""

    def seek(self, offset: int, /) -> int:
        """The next `read` begins there."""

    def read(self, count: int, /) -> bytes:
        """At most so many bytes."""

    def close(self) -> None:
        """Nothing more is read."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: Any) -> None: ...


class _InStore:
    """A shard that lies in a store: each `read` is a request."""

    def __init__(self, path: StorePath) -> None:
        self._path, self._at = path, 0

    def seek(self, offset: int, /) -> int:
        self._at = offset
        return offset

    def read(self, count: int, /) -> bytes:
        with within_reach(self._path):
            found = self._path.read_range(self._at, count)
        self._at += len(found)
        return found

    def close(self) -> None:
        pass

    def __enter__(self) -> _InStore:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


def open_shard(opened: Opened, place: Place) -> Shard:
    """The shard, which holds all of the clip.

    Raises:
        DatasetError: there is no such shard, or it is too short.
    """
    path = opened.root / place.shard
    if place.shard not in opened.shards:
        raise DatasetError(f"the ledger names a shard that shards.json does not have: {place.shard!r}", hint=_LOOK)
    if isinstance(path, StorePath):
        if ".." in place.shard.split("/") or place.shard.startswith("/"):
            raise DatasetError("the shard's name leaves the dataset's folder", file=opened.root, hint=_LOOK)
        _must_hold(path, place, int(opened.shards[place.shard]["bytes"]))
        return _InStore(path)
    try:
        file = open_source(os.fspath(opened.root), place.shard)
    except ClipError as error:
        if error.code == "unsafe-path":  # as in the part of a dataset that a study makes: its shards are links
            what, hint = "the shard lies outside of the dataset's folder", "open the dataset that it belongs to"
        elif error.code == "missing":
            what, hint = "the shard is not there", _LOOK
        else:
            what, hint = f"the shard cannot be read: {error.message}", _LOOK
        raise DatasetError(what, file=path, hint=hint) from None
    try:
        _must_hold(path, place, os.fstat(file.fileno()).st_size)
    except DatasetError:
        file.close()
        raise
    return file


def _must_hold(path: Any, place: Place, size: int) -> None:
    if not 0 <= place.offset <= place.offset + place.nbytes <= size:
        raise DatasetError(
            f"the shard has {size:,} bytes, and the ledger has a clip at {place.offset:,} to "
            f"{place.offset + place.nbytes:,}",
            file=path,
            hint=_LOOK,
        )


def blocks(file: Shard, start: int, count: int) -> Iterator[bytes]:
    """`count` bytes from `start` on, some at a time; the file is closed in the end."""
    with file:
        file.seek(start)
        while count > 0 and (block := file.read(min(BLOCK, count))):
            count -= len(block)
            yield block


def read(opened: Opened, place: Place) -> bytes:
    """The whole clip. Raises DatasetError as `open_shard`."""
    return b"".join(blocks(open_shard(opened, place), place.offset, place.nbytes))


def sample_json(opened: Opened, place: Place) -> dict[str, Any]:
    """The JSON file beside the clip, which comes after it in the shard.

    Raises:
        DatasetError: as `open_shard`, or something else lies there.
    """
    with open_shard(opened, place) as shard:
        file: Shard = shard

        def at(count: int, start: int) -> bytes:
            file.seek(start)
            return file.read(count)

        try:
            return json_member(at, place.offset + padded(place.nbytes))
        except ValueError as error:
            raise DatasetError(
                f"the clip's JSON cannot be read: {error}", file=opened.root / place.shard, hint=_LOOK
            ) from None

"""Bytes of clips by their place in the ledger: from shards on a disk, or from shards in a store, by ranges.

A disk answers at once. A store answers after tens of milliseconds, so many requests are under way at a time: those
of a batch, and of the batches after it. Nothing but the clips asked for is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vidkit.data.load.disk_cache import DiskCache
from vidkit.data.storage.places import PARALLEL, StorePath

#: open shards; Kinetics-400 has 250 of 1,000 clips, and a process may have 1,024 files
_OPEN_SHARDS = 64

#: Bytes that are kept of clips which were asked for ahead, and that nobody came for.
_WAITING_BYTES = 256 << 20


class Piece(NamedTuple):
    """Bytes of a shard: its number, where they begin, how many they are."""

    shard: int
    offset: int
    nbytes: int


class Shards(Protocol):
    """Where clips are read from."""

    def read(self, piece: Piece) -> bytes:
        """The bytes; fewer where the shard ends.

        Raises:
            OSError: the shard cannot be read.
        """

    def ahead(self, pieces: Iterable[Piece]) -> None:
        """These will be read soon, in this order."""


def open_shards(root: Path | StorePath, names: tuple[str, ...], cache: DiskCache | None) -> Shards:
    """The shards of a dataset, wherever it lies. A disk needs no cache on a disk."""
    return StoreShards(root, names, cache) if isinstance(root, StorePath) else DiskShards(root, names)


class DiskShards:
    """Shards in a folder."""

    def __init__(self, root: Path, names: tuple[str, ...]) -> None:
        self.root, self.names = root, names
        self._open: dict[int, int] = {}

    def read(self, piece: Piece) -> bytes:
        """See `Shards`."""
        return os.pread(self._descriptor(piece.shard), piece.nbytes, piece.offset)

    def ahead(self, pieces: Iterable[Piece]) -> None:
        """The kernel reads ahead as it likes."""

    def _descriptor(self, number: int) -> int:
        """An open shard. Descriptors that a forked worker inherits are good: `pread` has no position."""
        found = self._open.pop(number, None)
        if found is None:
            while len(self._open) >= _OPEN_SHARDS:
                os.close(self._open.pop(next(iter(self._open))))
            found = os.open(self.root / self.names[number], os.O_RDONLY | os.O_CLOEXEC)
        self._open[number] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # descriptors mean nothing in another process

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)


class StoreShards:
    """Shards in a store, or behind a web server.

    Args:
        cache: where clips are kept that were read once.
    """

    def __init__(self, root: StorePath, names: tuple[str, ...], cache: DiskCache | None) -> None:
        self.root, self.names, self.cache = root, names, cache
        self._owner = 0
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[Piece, Future[bytes]] = {}

    def read(self, piece: Piece) -> bytes:
        """See `Shards`."""
        self._begin()
        coming = self._coming.pop(piece, None)
        return coming.result() if coming is not None else self._read(piece)

    def ahead(self, pieces: Iterable[Piece]) -> None:
        """Begin to read. What was asked for long ago, and never fetched, is let go."""
        pool = self._begin()
        for piece in pieces:
            if piece not in self._coming:
                self._coming[piece] = pool.submit(self._read, piece)
        waiting = sum(piece.nbytes for piece in self._coming)
        while waiting > _WAITING_BYTES and len(self._coming) > 1:
            oldest = next(iter(self._coming))
            self._coming.pop(oldest).cancel()
            waiting -= oldest.nbytes

    def _begin(self) -> ThreadPoolExecutor:
        """This process's threads: a forked process inherits the object, but none of them."""
        if self._pool is None or self._owner != os.getpid():
            self._owner, self._coming = os.getpid(), {}
            self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="ranges")
        return self._pool

    def _read(self, piece: Piece) -> bytes:
        name = self.names[piece.shard]
        kept = self.cache.get(name, piece.offset, piece.nbytes) if self.cache is not None else None
        if kept is not None:
            return kept
        data = (self.root / name).read_range(piece.offset, piece.nbytes)
        if self.cache is not None and len(data) == piece.nbytes:
            self.cache.put(name, piece.offset, data)
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_coming": {}}

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None and self._owner == os.getpid():
            pool.shutdown(wait=False, cancel_futures=True)

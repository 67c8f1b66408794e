"""Bytes of clips by their place in the ledger: from shards on a disk, or from shards in a store, by ranges.

A disk answers at once. A store answers after tens of milliseconds, so many requests are under way at a time: those
of a batch, and of the batches after it. Clips that lie next to each other, as those of an evaluation do, come by
one request. Nothing but the clips asked for is read, and what little lies between two of them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vidkit.data.load.disk_cache import DiskCache
from vidkit.data.storage.places import PARALLEL, StorePath
from vidkit.data.storage.signed import SignedRanges
from vidkit.data.storage.stores import S3

#: open shards; Kinetics-400 has 250 of 1,000 clips, and a process may have 1,024 files
_OPEN_SHARDS = 64

#: Bytes that are kept of clips which were asked for ahead, and that nobody came for.
_WAITING_BYTES = 256 << 20

#: One request brings so many bytes at most; more are read in parallel.
_RUN_BYTES = 4 << 20

#: Bytes between two clips that are read along, rather than by a request of their own: headers and a sidecar, which
#: the clip behind them may outweigh.
_GAP, _GAP_MOST = 4 << 10, 16 << 10


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
        self._signed = SignedRanges(root, names) if root.protocol in S3 else None
        self._owner = 0
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[Piece, Future[dict[Piece, bytes]]] = {}

    def read(self, piece: Piece) -> bytes:
        """See `Shards`."""
        self._begin()
        coming = self._coming.pop(piece, None)
        return coming.result().pop(piece) if coming is not None else self._read([piece])[piece]

    def ahead(self, pieces: Iterable[Piece]) -> None:
        """Begin to read, neighbours by one request. What was asked for long ago, and never fetched, is let go."""
        pool = self._begin()
        for run in runs(piece for piece in dict.fromkeys(pieces) if piece not in self._coming):
            future = pool.submit(self._read, run)
            self._coming |= dict.fromkeys(run, future)
        waiting = sum(piece.nbytes for piece in self._coming)
        while waiting > _WAITING_BYTES and len(self._coming) > 1:
            oldest = next(iter(self._coming))
            future = self._coming.pop(oldest)
            waiting -= oldest.nbytes
            if future not in self._coming.values():
                future.cancel()

    def _begin(self) -> ThreadPoolExecutor:
        """This process's threads: a forked process inherits the object, but none of them."""
        if self._pool is None or self._owner != os.getpid():
            self._owner, self._coming = os.getpid(), {}
            self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="ranges")
            # not by __del__: at the interpreter's end it would come after the modules that a pool needs
            weakref.finalize(self, _end, self._pool, self._owner)
        return self._pool

    def _read(self, pieces: list[Piece]) -> dict[Piece, bytes]:
        """Pieces of one shard, in order."""
        name, cache = self.names[pieces[0].shard], self.cache
        found: dict[Piece, bytes] = {}
        for piece in pieces if cache is not None else ():
            kept = cache.get(name, piece.offset, piece.nbytes) if cache is not None else None
            if kept is not None:
                found[piece] = kept
        for run in runs(piece for piece in pieces if piece not in found):
            start = run[0].offset
            data = self._range(name, start, run[-1].offset + run[-1].nbytes - start)
            for piece in run:
                found[piece] = data[piece.offset - start : piece.offset - start + piece.nbytes]
                if cache is not None and len(found[piece]) == piece.nbytes:
                    cache.put(name, piece.offset, found[piece])
        return found

    def _range(self, name: str, offset: int, nbytes: int) -> bytes:
        if self._signed is not None:
            return self._signed.read_range(name, offset, nbytes)
        return (self.root / name).read_range(offset, nbytes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_coming": {}}


def _end(pool: ThreadPoolExecutor, owner: int) -> None:
    if owner == os.getpid():
        pool.shutdown(wait=False, cancel_futures=True)


def runs(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Pieces that lie next to each other in a shard, together, in the order of their offsets; runs in the order of
    the first piece that was asked for.

    >>> found = runs([Piece(0, 9612, 100), Piece(1, 0, 10), Piece(0, 9000, 100)])
    >>> [[(piece.shard, piece.offset) for piece in run] for run in found]
    [[(0, 9000), (0, 9612)], [(1, 0)]]
    """
    asked = list(pieces)
    order = {piece: number for number, piece in reversed(list(enumerate(asked)))}
    found: list[list[Piece]] = []
    for piece in sorted(asked):
        if found and _joins(found[-1], piece):
            found[-1].append(piece)
        else:
            found.append([piece])
    return sorted(found, key=lambda run: min(order[piece] for piece in run))


def _joins(run: list[Piece], piece: Piece) -> bool:
    """Whether a piece that begins behind the run's last one may come by the same request."""
    last = run[-1]
    end = last.offset + last.nbytes
    return (
        piece.shard == last.shard
        and end <= piece.offset <= end + min(_GAP_MOST, max(_GAP, piece.nbytes // 8))
        and piece.offset + piece.nbytes - run[0].offset <= _RUN_BYTES
    )

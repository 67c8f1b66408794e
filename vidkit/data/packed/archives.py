"""Which of a folder's files are archives, and the indexes of all of them."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from vidkit.data.packed.index import Index, Packed, indexed, is_known
from vidkit.data.packed.kinds import FIRST_BYTES, HEAD_BYTES, Kind, following, kind_of, other_archive, part_name
from vidkit.data.packed.scratch import Scratch
from vidkit.data.progress import Progress
from vidkit.errors import display_path

#: Inflating is one core's work an archive; more than so many would fight for the disk.
_AT_ONCE = 4

#: Work that is done sooner needs no progress.
_SILENT_S = 2.0


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive in a source folder: its parts in order (one, if it is whole), relative to the folder."""

    parts: tuple[str, ...]
    kind: Kind

    @property
    def path(self) -> str:
        """That of the first part, by which it is known."""
        return self.parts[0]


@dataclass(slots=True)
class Found:
    """What some files turned out to be."""

    archives: list[Archive] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    """No archives."""
    notes: list[str] = field(default_factory=list)
    """Archives that cannot be read here, or of which a part is not there; files that cannot be opened."""


def find_archives(root: str, paths: Iterable[str]) -> Found:
    """Tell archives from other files by their first bytes. Each file is opened; those that cannot be are told."""
    found = Found()
    kinds: dict[str, Kind] = {}
    for path in sorted(paths):
        try:
            head = _head(os.path.join(root, path), FIRST_BYTES)
        except OSError as error:
            head = b""
            found.notes.append(f"{display_path(path)} cannot be read: {error.strerror}")
        kind = kind_of(head, lambda path=path: _head(os.path.join(root, path), HEAD_BYTES))  # type: ignore[misc]
        if kind is not None:
            kinds[path] = kind
            continue
        found.rest.append(path)
        if other := other_archive(head):
            name, how = other
            found.notes.append(f"{display_path(path)} is a {name} archive, not read here: unpack it ({how})")
    numbered: dict[str, list[str]] = {}
    for path in found.rest:
        if part := part_name(path):
            numbered.setdefault(part.before, []).append(path)
    taken: set[str] = set()
    for path, kind in kinds.items():
        start = part_name(path)
        parts, missing = following(path, numbered.get(start.before, ())) if start else ([], None)
        taken.update(parts)
        found.archives.append(Archive((path, *parts), kind))
        if missing:
            found.notes.append(f"{display_path(path)} goes on in parts, but {missing} is not there")
    found.rest = [path for path in found.rest if path not in taken]
    return found


def archive_at(root: str, path: str) -> Archive | None:
    """The archive whose first part is `path`, with the parts that lie beside it; None if it is none."""
    folder, name = os.path.split(path)
    here = os.path.join(root, folder)
    beside = []
    if (start := part_name(name)) is not None:
        with os.scandir(here) as entries:
            beside = [one.name for one in entries if one.name.startswith(start.before) and one.is_file()]
    for found in find_archives(here, {name, *beside}).archives:
        if found.path == name:
            return Archive(tuple(os.path.join(folder, part) for part in found.parts), found.kind)
    return None


def _head(path: str, count: int) -> bytes:
    """The first bytes of a file; nothing of a pipe, a socket or a link that leads nowhere. Raises `OSError`."""
    try:
        # a FIFO would block for ever without O_NONBLOCK
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EIO):
            raise
        return b""
    try:
        return os.read(handle, count) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    finally:
        os.close(handle)


def packed_at(root: str, archive: Archive) -> Packed:
    """The archive with its parts' full paths."""
    parts = tuple(os.path.join(root, part) for part in archive.parts)
    return Packed(parts, archive.kind, display_path(archive.path))


def index_all(root: str, archives: Sequence[Archive], scratch: Scratch, *, quiet: bool = True) -> list[Index]:
    """The indexes of archives, in order; see `indexed`. Several are made at once; long work shows its progress.

    Raises:
        BuildError: see `indexed`.
    """
    todo = [packed_at(root, archive) for archive in archives]
    watch = _Watch([one for one in todo if not is_known(one)], quiet)
    try:
        with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1, len(todo) or 1)) as pool:
            futures = [pool.submit(indexed, one, scratch, watch.of(one)) for one in todo]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
                return [future.result() for future in futures]
            except BaseException:
                watch.stopped = True
                for future in futures:
                    future.cancel()
                raise
    finally:
        watch.close()


class _Stopped(BaseException):
    """Ctrl-C, or another archive's error: not to be taken for damage of the archive that is being read."""


class _Watch:
    """Progress over all archives, in MB, once it takes long."""

    def __init__(self, todo: Sequence[Packed], quiet: bool) -> None:
        self.total = sum(Path(part).stat().st_size for one in todo for part in one.parts if os.path.exists(part))
        self.quiet, self.stopped = quiet or not self.total, False
        self._begun, self._lock, self._shown = time.monotonic(), threading.Lock(), 0
        self._read: dict[str, int] = {}
        self._progress = Progress("reading archives", self.total // 1_000_000, unit="MB")
        self._entered = False

    def of(self, packed: Packed) -> Callable[[int], None]:
        """What is told how much of an archive was read."""

        def on_bytes(count: int) -> None:
            if self.stopped:
                raise _Stopped
            with self._lock:
                self._read[packed.parts[0]] = count
                self._show(packed.shown)

        return on_bytes

    def _show(self, name: str) -> None:
        if self.quiet or time.monotonic() - self._begun < _SILENT_S:
            return
        if not self._entered:
            self._entered = True
            self._progress.__enter__()
        self._progress.note = name
        now = min(sum(self._read.values()), self.total) // 1_000_000
        if now > self._shown:
            self._progress.advance(by=now - self._shown)
            self._shown = now

    def close(self) -> None:
        if self._entered:
            self._progress.__exit__(None, None, None)

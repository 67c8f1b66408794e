"""Compressed tars, inflated once and in order: there is no way to their middle. Bounded, and removed when done.

A file here is held (a shared lock) by every process that reads it, so that one build's end or need for room does
not take it from another. Locks end with their process, however it ends.
"""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import gzip
import io
import lzma
import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vidkit.data.packed.joined import Joined
from vidkit.data.packed.kinds import Kind
from vidkit.data.packed.members import FREE_BYTES, MOST_RATIO
from vidkit.errors import BuildError, clean_message

CACHE_VARIABLE = "VIDKIT_CACHE"
SCRATCH_VARIABLE = "VIDKIT_SCRATCH"

#: Bytes that inflated archives may take, all of them together, unless something else is asked for.
LIMIT_BYTES = 200 * 10**9

_BLOCK = 1 << 20

#: A file is locked sooner than this after it was made.
_FRESH_S = 60
#: A growing file looks so often at what the others take.
_LOOK_EVERY = 64 << 20


def cache_folder() -> Path:
    """Where indexes lie, which any run may use again: $VIDKIT_CACHE, or the user's cache."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "vidkit")


def scratch_folder() -> Path:
    """Where inflated archives lie: $VIDKIT_SCRATCH, or beside the indexes."""
    given = os.environ.get(SCRATCH_VARIABLE)
    return Path(given) if given else cache_folder() / "scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """Room for what must be inflated."""

    folder: Path = field(default_factory=scratch_folder)
    limit: int = LIMIT_BYTES
    """Bytes, over all files in the folder."""


#: Files that this process reads, with their locks.
_held: dict[str, BinaryIO] = {}
_HELD_LOCK = threading.Lock()


def hold(path: Path) -> bool:
    """Keep others from removing an inflated archive while this process lives; False: it is not there."""
    with _HELD_LOCK:
        there = _held.get(str(path))
        try:
            if there is not None and os.path.samestat(os.fstat(there.fileno()), path.stat()):
                return True
            file = path.open("rb")
        except OSError:
            return False
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes there, either
            fcntl.flock(file, fcntl.LOCK_SH)
        if not path.exists():  # removed between the two
            file.close()
            return False
        if there is not None:  # of a file that was inflated anew
            there.close()
        _held[str(path)] = file
        return True


def let_go() -> None:
    """Remove what this process held and nobody else reads."""
    with _HELD_LOCK:
        for name, file in _held.items():
            file.close()
            remove(Path(name))
        _held.clear()


def remove(path: Path) -> bool:
    """Remove a file, if no process holds it; whether it did."""
    try:
        # one that was made just now is not locked yet
        if path.suffix == ".part" and time.time() - path.stat().st_mtime < _FRESH_S:
            return False
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:  # held, gone, or in a place without locks
        return False
    return True


def inflate(
    whole: Joined, kind: Kind, target: Path, shown: str, scratch: Scratch, on_bytes: Callable[[int], None]
) -> list[str]:
    """Inflate a compressed tar to `target`, and hold it; of a damaged one, what comes before that.

    Args:
        target: in the scratch folder.
        shown: the archive's name in messages.
        on_bytes: told how many bytes of the archive were read.

    Returns:
        In words what is wrong with the archive.

    Raises:
        BuildError: no room within the limit or on the disk, or a size that no honest archive has.
    """
    try:
        scratch.folder.mkdir(parents=True, exist_ok=True)
        for left in scratch.folder.glob("vidkit-*.part"):
            remove(left)  # of a process that was killed
        part = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.part")
        with part.open("wb") as out:
            with contextlib.suppress(OSError):
                fcntl.flock(out, fcntl.LOCK_EX)
            try:
                notes = _copy(opened(whole, kind), whole, out, shown, scratch, on_bytes)
                out.flush()
                os.fsync(out.fileno())
                part.replace(target)
                with contextlib.suppress(OSError):
                    fcntl.flock(out, fcntl.LOCK_SH)
                hold(target)  # before the lock goes: nobody may remove it in between
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise BuildError(
            f"cannot inflate {shown} to {scratch.folder}: {error.strerror or error}",
            hint="give --scratch a folder on a disk with room, or unpack the archive yourself",
        ) from error
    return notes


def opened(whole: Joined, kind: Kind) -> Any:
    """The content of a compressed tar, to be read in order; closing it closes the tar."""
    file = io.BufferedReader(whole, _BLOCK)
    if kind == "tar.gz":
        return gzip.GzipFile(fileobj=file)
    return bz2.BZ2File(file) if kind == "tar.bz2" else lzma.LZMAFile(file)


def _copy(
    source: Any, whole: Joined, out: BinaryIO, shown: str, scratch: Scratch, on_bytes: Callable[[int], None]
) -> list[str]:
    done = room = 0
    most = MOST_RATIO * whole.length + FREE_BYTES
    while True:
        try:
            block = source.read1(_BLOCK)  # `read` would lose what comes before the damage
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            return [clean_message(f"is damaged or cut off after {done:,} bytes of its content: {error}")]
        except OSError as error:
            if error.errno is not None:
                raise
            return [clean_message(f"is damaged after {done:,} bytes of its content: {error}")]  # bzip2's way
        if not block:
            return []
        done += len(block)
        if done > most:
            raise BuildError(
                f"{shown} inflates to more than {MOST_RATIO} times its size",
                hint="no archive of videos does: move it out of the source folder",
            )
        if done > room:
            room = _make_room(scratch, out.name, done, shown)
        out.write(block)
        on_bytes(whole.tell())


def _make_room(scratch: Scratch, mine: str, size: int, shown: str) -> int:
    """Remove files that nobody reads, the oldest first, until a file of `size` fits within the limit.

    Returns:
        The size that it may have before this must be asked again.
    """
    others: list[tuple[float, int, str]] = []
    with os.scandir(scratch.folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # removed meanwhile
                if entry.path != mine and _is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                    facts = entry.stat(follow_symlinks=False)
                    others.append((facts.st_mtime, facts.st_size, entry.path))
    left = scratch.limit - sum(taken for _, taken, _ in others)
    for _, taken, path in sorted(others):
        if size <= left:
            break
        if remove(Path(path)):
            left += taken
    if size > left:
        raise BuildError(
            f"{shown} does not fit: inflated archives in {scratch.folder} would pass {scratch.limit / 1e9:g} GB",
            hint="raise --scratch-limit, give --scratch a folder on a larger disk, or unpack the archive yourself",
        )
    return min(left, size + _LOOK_EVERY)


def _is_ours(name: str) -> bool:
    """Whether a file is named as those here are: --scratch may be a folder with other things in it."""
    return name.startswith("vidkit-") and name.endswith((".inflated", ".part"))

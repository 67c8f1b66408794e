"""Files that are there as a whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vidkit.errors import TrainingError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write to PATH.part, which takes the place of `path` once the body has ended and all is on the disk. If the
    body raises, what was at `path` stays, and the part goes.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            part.unlink()
        raise
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes | str) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one. Text is UTF-8, its line ends are kept.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def save_whole(path: Path, data: bytes | str) -> None:
    """`write_whole` for results of a run, with an error that says how to go on.

    Raises:
        TrainingError: the file cannot be written.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> TrainingError:
    """The error to raise for a result of a run that could not be written."""
    locked = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    hint = "give --out a place that can be written" if locked else "make room and go on with --resume"
    return TrainingError(f"cannot write: {error.strerror}", file=path, hint=hint)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

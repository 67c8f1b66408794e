"""File names as text, and the opening of what they name. Without pyarrow, so that worker processes start soon."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes

from vidkit.data.storage.places import StorePath, is_address
from vidkit.errors import ClipError

_RAW = "raw-bytes:"

#: A source in a store is copied to this machine, one at a time for each worker; a larger one is no clip.
MOST_COPIED = 64 << 30


class OutOfReachError(OSError):
    """A source that cannot be read now, which is no fault of the clip."""


def path_to_text(path: str) -> str:
    """File names are bytes; Arrow text is UTF-8. Names that are not UTF-8 are stored percent-encoded.

    >>> path_to_text("a b.mp4")
    'a b.mp4'
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return _RAW + quote_from_bytes(os.fsencode(path))
    return _RAW + quote_from_bytes(os.fsencode(path)) if path.startswith(_RAW) else path


def text_to_path(text: str) -> str:
    """Inverse of `path_to_text`."""
    return os.fsdecode(unquote_to_bytes(text[len(_RAW) :])) if text.startswith(_RAW) else text


def open_source(root: str, path: str, *, follow_symlinks: bool = False) -> BinaryIO:
    """Open a source file, which must be a regular file within `root`.

    Args:
        root: a folder, or an address in a store, of which a temporary copy is opened, gone once it is closed.

    Raises:
        ClipError: `missing`, `unsafe-path`, `unreadable`.
        OutOfReachError: the store does not answer, or there is no room for the copy.
    """
    name = text_to_path(path)
    if is_address(root):
        return _copy_of(root, name)
    full = os.path.join(root, name)  # no Path: names need not be UTF-8
    if "\0" in name:
        raise ClipError("unreadable", "a path cannot hold a null byte")
    if os.path.isabs(name) or ".." in Path(name).parts:
        raise ClipError("unsafe-path", "the path leaves the source folder")
    if not follow_symlinks:
        real, top = os.path.realpath(full), os.path.realpath(root)
        if os.path.commonpath([real, top]) != top:
            raise ClipError("unsafe-path", "a symbolic link leads out of the source folder; see --follow-symlinks")
    try:
        # a FIFO would block for ever without O_NONBLOCK, which does nothing to regular files
        handle = os.open(full, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise ClipError("missing", "the file was not found") from None
    except OSError as error:
        raise ClipError("unreadable", os.strerror(error.errno or errno.EIO)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ClipError("unreadable", "not a regular file")
    return os.fdopen(handle, "rb")


def _copy_of(root: str, name: str) -> BinaryIO:
    if "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise ClipError("unsafe-path", "the path leaves the source folder")
    at = StorePath.of(root) / name
    with contextlib.ExitStack() as on_error:
        file = on_error.enter_context(tempfile.TemporaryFile(prefix="vidkit-source-"))
        try:
            size = at.download_into(file, MOST_COPIED)
        except FileNotFoundError:
            raise ClipError("missing", "the file was not found") from None
        except OSError as error:  # also refused: credentials that ran out would make every clip a failure
            raise OutOfReachError(error.errno, error.strerror or str(error), str(at)) from None
        if size > MOST_COPIED:
            raise ClipError("unreadable", f"it has {size:,} bytes; at most {MOST_COPIED:,} are copied")
        file.seek(0)
        on_error.pop_all()
    return cast(BinaryIO, file)

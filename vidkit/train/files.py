"""Files that a user asks for by --out: whole or not at all, and asked about before the work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vidkit.errors import ConfigError, VidkitError
from vidkit.files import whole_file


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[BinaryIO]:
    """A file that a user named, with the folder it lies in: `files.whole_file`, with an error that names --out.

    Raises:
        VidkitError: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as file:
            yield file
    except OSError as error:
        raise _no_place(out, error) from error


def check_place(out: Path, what: str) -> None:
    """Whether `what` could go to the file `out`; makes its folder. For asking before the work is done.

    Raises:
        ConfigError: it is a folder.
        VidkitError: its folder cannot be made.
    """
    if out.is_dir():
        raise ConfigError(f"is a folder; {what} go to one file", field="--out", file=out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(out, error) from error


def _no_place(out: Path, error: OSError) -> VidkitError:
    return VidkitError(
        f"cannot write: {error.strerror or error}", file=out, hint="give --out a place that can be written"
    )

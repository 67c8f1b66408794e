"""Files of `torch.save`: read without running what they hold, written whole or not at all.

Reading never unpickles freely: `torch.load(weights_only=True)` takes tensors and plain containers, and of other
classes only those that the caller names.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidkit.errors import ConfigError, TrainingError, clean_message
from vidkit.files import whole_file

ZIP = b"PK\x03\x04"
#: How the first bytes of a pickle of protocol 2 and above look, which files of torch before 1.6 begin with.
PICKLE = b"\x80"


def read_torch_file(path: Path, *, allow: Sequence[type] = (), mmap: bool = True) -> Any:
    """What `torch.save` wrote, on the CPU.

    Args:
        allow: classes that may be restored besides tensors and plain values. Only such without code of their own.
        mmap: read tensors from the disk when they are used, so that those which are not cost nothing.

    Raises:
        ConfigError: no such file, none of `torch.save`, cut off, or with objects of other classes.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=path, hint=_hint_to_read(path, error)
        ) from error
    if head != ZIP and not head.startswith(PICKLE):
        what = "is empty" if not head else "is no file that torch.save wrote"
        raise ConfigError(f"{what}; expected a checkpoint", file=path, hint="give the path of a checkpoint")
    try:
        with torch.serialization.safe_globals(list(allow)):
            if mmap and head == ZIP and _is_text(path):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error, allow) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file ends in errors of nearly any class
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
        raise ConfigError(
            f"the file is cut off or damaged: {clean_message(str(error), 160)}",
            file=path,
            hint="copy or download it again, or take an earlier checkpoint",
        ) from error


def check_sums(path: Path) -> None:
    """Compare every part with the checksum that `torch.save` wrote beside it; torch itself reads without looking.

    Raises:
        ConfigError: a part is not what was written.
    """
    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        bad = clean_message(str(error), 160)
    if bad is not None:
        raise ConfigError(
            f"the file is damaged: {bad} is not what was written",
            file=path,
            hint="copy it again, or take an earlier checkpoint",
        )


def write_torch_file(path: Path, value: Any) -> None:
    """Write under another name in the same folder, sync, rename: a crash leaves the file that was there before.

    Raises:
        TrainingError: the file cannot be written.
    """
    try:
        with whole_file(path) as file:
            torch.save(value, file)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None and "PytorchStreamWriter" not in str(error):
            raise
        reason = clean_message(str(error), 160) if cause is None else cause.strerror or str(cause)
        raise TrainingError(f"cannot write: {reason}", file=path, hint=_hint_to_write(path, cause)) from error


def _is_text(path: Path) -> bool:
    """torch maps files by names in UTF-8 only."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _os_error(error: BaseException | None) -> OSError | None:
    """torch passes on an error of the file, or raises its own in answer to it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _hint_to_read(path: Path, error: OSError) -> str:
    if error.errno == errno.EISDIR:
        exported = (path / "config.json").exists() and not (path / "checkpoints").exists()
        return "`vidkit convert` reads folders of other projects" if exported else "give the path of a file in it"
    return "give the path of a checkpoint, such as RUN/checkpoints/last.pt"


def _hint_to_write(path: Path, error: OSError | None) -> str:
    kind = None if error is None else error.errno
    if kind == errno.ENOENT:
        return f"make the folder {path.parent} first"
    if kind in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR):
        return "choose a place that you may write to"
    return f"make room on the disk of {path.parent} and try again; the file that was there before is untouched"


def _refused(path: Path, error: Exception, allow: Sequence[type]) -> ConfigError:
    """Names the classes that were not restored. torch's own text is left out: it recommends unpickling freely."""
    try:
        with torch.serialization.safe_globals(list(allow)), path.open("rb") as file:
            found = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # no zip file, or too damaged for it: torch has named the first one
        found = []
    found = found or sorted(set(re.findall(r"GLOBAL (\S+)", str(error))))
    hint = "save its weights alone, by torch.save(model.state_dict(), ...), where it was made and is trusted"
    if found:
        what = f"holds Python objects that would have to run code to be restored: {', '.join(found)}"
    else:
        what = "is damaged, or holds Python objects that would have to run code to be restored"
    return ConfigError(what, file=path, hint=hint)

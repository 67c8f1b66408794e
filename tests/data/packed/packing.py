"""Archives as people have them, made of a folder or of bytes by the standard library."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

Files = Mapping[str, bytes]


def tar(files: Files, mode: str = "w", *, front: str = "", form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form, errors="surrogateescape") as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(front + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(files: Files, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def split(data: bytes, parts: int, name: Callable[[int], str], folder: Path) -> None:
    size = len(data) // parts + 1
    for number in range(parts):
        (folder / name(number)).write_bytes(data[number * size : (number + 1) * size])


def content(root: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }

"""The members of a plain tar, by `tarfile`, which knows its many dialects; nothing is read but headers.

`tarfile` takes what it cannot read for the archive's end, and believes every size that it is told. Here a damaged
archive is known as one, and a header that lies neither fills the memory nor goes round in a circle.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

from vidkit.data.packed.joined import ByPosition
from vidkit.data.packed.members import MOST_MEMBERS, Add, Link, Member, clean_name, link_target
from vidkit.errors import clean_message

#: Longest extended header (names, times) that is believed.
_LONGEST_HEADER = 1 << 20

#: An archive ends with blocks of zeros; so much behind the first is looked at for more members.
_AFTER_END = 1 << 20


class _Bounded:
    """What `tarfile` reads from: never more at once than a header may have."""

    def __init__(self, file: Any) -> None:
        self.tell, self.seek, self._read = file.tell, file.seek, file.read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data: bytes = self._read(size)
        return data


def read_tar(whole: ByPosition, add: Add, on_place: Callable[[int], None]) -> list[str]:
    """Hand every file and link of a tar to `add`, in order.

    Args:
        on_place: told how far into the archive the reading is, in bytes.

    Returns:
        In words what is wrong with the archive; members behind it are unknown.
    """
    file: Any = io.BufferedReader(whole, 4096)
    how: Any = {"fileobj": _Bounded(file), "mode": "r:", "encoding": "utf-8", "errors": "surrogateescape"}
    try:
        with tarfile.open(**how) as tar:
            return _walk(tar, whole, add, on_place)
    except Exception as error:  # of a damaged header `tarfile` lets pass whatever its parsing raises
        return [clean_message(f"is damaged: {type(error).__name__}: {error}")]
    finally:
        file.detach()


def _walk(tar: Any, whole: ByPosition, add: Add, on_place: Callable[[int], None]) -> list[str]:
    count, before = 0, -1
    while True:
        try:
            info = tar.next()
        except Exception as error:  # likewise
            at = f"{max(0, tar.offset):,} of {whole.length:,}"
            return [clean_message(f"ends or is damaged at byte {at}: {error}")]
        if info is None:
            return _end(tar.offset, whole)
        if tar.offset <= before:
            return [f"is damaged at byte {before:,}: a size below zero"]
        before, count = tar.offset, count + 1
        tar.members.clear()  # it keeps them all
        if count > MOST_MEMBERS:
            return [f"has more than {MOST_MEMBERS:,} members"]
        on_place(tar.offset)
        found = _member(info, whole.length)
        if found is not None:
            add(found)


def _member(info: tarfile.TarInfo, length: int) -> Member | Link | None:
    name, inside = clean_name(info.name)
    if name is None or info.isdir():
        return None
    member = Member(name=name, offset=info.offset_data, size=max(0, info.size), stored=max(0, info.size))
    if not inside:
        return member.failed("unsafe-path", "the member's name leads out of the source folder")
    if "\0" in name:
        return member.failed("unreadable", "a path cannot hold a null byte")
    if info.issym():
        return Link(name, link_target(name, info.linkname))
    if info.islnk():
        target, stays = clean_name(info.linkname)
        return Link(name, target if stays else None)
    if not info.isreg():
        return member.failed("unreadable", "not a regular file")
    if info.size < 0:
        return member.failed("unreadable", "a size below zero")
    if info.issparse():
        return member.failed("unreadable", "stored as a sparse file, in pieces: unpack it")
    if info.offset_data + info.size > length:
        left = max(0, length - info.offset_data)
        return member.failed("truncated", f"the archive ends after {left:,} of {info.size:,} bytes of this file")
    return member


def _end(at: int, whole: ByPosition) -> list[str]:
    """Whether there is an end where `tarfile` saw one."""
    block = whole.pread(512, at)
    if block.strip(b"\0"):
        return [f"is damaged at byte {at:,} of {whole.length:,}: no header there"]
    if len(block) < 512:
        return [] if at == whole.length else [f"ends within a header, at byte {at:,}"]
    if whole.pread(_AFTER_END, at).strip(b"\0"):
        return [f"goes on behind its end, at byte {at:,} of {whole.length:,}: several archives put together?"]
    return []

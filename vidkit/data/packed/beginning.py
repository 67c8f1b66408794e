"""The first files of a tar, without reading the rest: enough to know an archive whose files lie there unpacked."""

from __future__ import annotations

import contextlib
import lzma
import os
import zlib
from collections.abc import Callable

from vidkit.data.packed.archives import Archive
from vidkit.data.packed.index import open_parts
from vidkit.data.packed.joined import ByPosition
from vidkit.data.packed.members import Link, Member
from vidkit.data.packed.scratch import opened
from vidkit.data.packed.tars import read_tar

#: So much of a compressed tar is inflated to see its first files: a little, and more where that does not tell.
_LOOKS = (1 << 20, 32 << 20)

#: A tar may begin with many files of another kind.
_MOST_SEEN = 2000


class _Enough(BaseException):
    """Not to be taken for damage."""


class _InMemory(ByPosition):
    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data

    def pread(self, size: int, at: int) -> bytes:
        return self._data[at : at + size]


def begins_with(root: str, archive: Archive, accept: Callable[[Member], bool | None], count: int) -> bool:
    """Whether the first `count` files of a tar that count are all accepted, and there is one.

    Args:
        accept: False ends the reading at once; None: the file does not count.
    """
    paths = [os.path.join(root, part) for part in archive.parts]
    with contextlib.closing(open_parts(paths, [os.stat(path).st_size for path in paths])) as whole:
        if archive.kind == "tar":
            return _accepted(whole, accept, count) > 0
        source, data, accepted = opened(whole, archive.kind), bytearray(), 0
        for most in _LOOKS:
            # what is damaged is told when the archive is indexed
            with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
                while len(data) < most and (block := source.read1(most - len(data))):
                    data += block
            accepted = _accepted(_InMemory(bytes(data)), accept, count)
            if accepted < 0:
                return False
        return accepted > 0


def _accepted(whole: ByPosition, accept: Callable[[Member], bool | None], count: int) -> int:
    """How many files were accepted; -1: one was not."""
    seen = accepted = 0

    def add(found: Member | Link) -> None:
        nonlocal seen, accepted
        said = accept(found) if isinstance(found, Member) else None
        seen, accepted = seen + 1, -1 if said is False else accepted + bool(said)
        if accepted in (-1, count) or seen == _MOST_SEEN:
            raise _Enough

    with contextlib.suppress(_Enough):
        read_tar(whole, add, lambda place: None)
    return accepted

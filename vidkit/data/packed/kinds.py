"""What a file is by its first bytes, and which files are parts of one archive."""

from __future__ import annotations

import bz2
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["tar", "zip", "tar.gz", "tar.bz2", "tar.xz"]

#: First bytes -> how it was made small.
_COMPRESSED: tuple[tuple[bytes, Kind, Callable[[], Any]], ...] = (
    (b"\x1f\x8b\x08", "tar.gz", lambda: zlib.decompressobj(31)),
    (b"BZh", "tar.bz2", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", "tar.xz", lambda: lzma.LZMADecompressor(memlimit=1 << 28)),
)

#: Archives that cannot be read here, and what unpacks them.
_OTHERS = (
    (b"Rar!\x1a\x07", "RAR", "unar"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
    (b"\x28\xb5\x2f\xfd", "zstd", "tar --zstd -xf"),
)

#: So much of a file tells its kind; bzip2 gives nothing before its first block of 900,000 bytes is whole.
HEAD_BYTES = 1 << 20
FIRST_BYTES = 512

#: The last number or letters of a part: 20bn-something-something-v2-07, k400.tar.gz.007, train.tgz.ab
_PART = re.compile(r"(?s)(.*[^0-9])([0-9]{1,4})|(.*[._-](?:[a-z]*[-_])?)([a-z]{2})")


def kind_of(head: bytes, rest: Callable[[], bytes]) -> Kind | None:
    """What an archive is, never by its name; None: none that can be read.

    Args:
        head: the first `FIRST_BYTES` of the file.
        rest: gives the first `HEAD_BYTES`, for those that had to be inflated to know.
    """
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if _is_tar(head):
        return "tar"
    for sign, kind, inflater in _COMPRESSED:
        if head.startswith(sign):
            try:
                return kind if _is_tar(inflater().decompress(rest(), 512)) else None
            except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError):
                return None
    return None


def _is_tar(block: bytes) -> bool:
    """Whether a block is a header with the right sum: the oldest tars have no other mark."""
    if len(block) < 512 or not block.strip(b"\0"):
        return False
    try:
        tarfile.TarInfo.frombuf(block[:512], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError):
        return False
    return True


def other_archive(head: bytes) -> tuple[str, str] | None:
    """(what it is, what unpacks it) of an archive that cannot be read here."""
    return next(((name, how) for sign, name, how in _OTHERS if head.startswith(sign)), None)


@dataclass(frozen=True, slots=True)
class PartName:
    """A name that ends in a number or in two letters, as those of parts do."""

    before: str
    number: int
    width: int
    letters: bool


def part_name(path: str) -> PartName | None:
    """The name taken apart.

    >>> part_name("20bn-something-something-v2-07"), part_name("k400.tar.gz.ab").number
    (PartName(before='20bn-something-something-v2-', number=7, width=2, letters=False), 1)
    """
    match = _PART.fullmatch(path)
    if match is None:
        return None
    if match[2] is not None:
        return PartName(match[1], int(match[2]), len(match[2]), False)
    first, second = (ord(letter) - ord("a") for letter in match[4])
    return PartName(match[3], 26 * first + second, 2, True)


def following(first: str, others: Iterable[str]) -> tuple[list[str], str | None]:
    """(the parts that go on where `first` ends, in order; one that is not there though a later one is).

    Args:
        others: paths of files that are no archives by themselves.
    """
    start = part_name(first)
    if start is None:
        return [], None
    mine: dict[int, str] = {}
    for path in others:
        part = part_name(path)
        like = part is not None and (part.before, part.letters) == (start.before, start.letters)
        if part is not None and like and part.width >= start.width and part.number > start.number:
            mine.setdefault(part.number, path)
    parts: list[str] = []
    number = start.number + 1
    while number in mine:
        parts.append(mine.pop(number))
        number += 1
    return parts, None if not mine else f"part {number:0{start.width}d}" if not start.letters else f"part {number}"

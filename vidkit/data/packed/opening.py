"""Opening what a ledger's `path` names: a file, or a member of an archive (`archive.tar::member`)."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from vidkit.data import paths
from vidkit.data.packed.archives import archive_at, packed_at
from vidkit.data.packed.index import Index, existing, indexed, is_current
from vidkit.data.packed.joined import Joined, Window
from vidkit.data.packed.members import SEPARATOR, Member
from vidkit.data.packed.scratch import Scratch, hold
from vidkit.data.paths import path_to_text, text_to_path
from vidkit.errors import ClipError, display_path

#: A deflated member up to this size is inflated in memory, a larger one to a file.
_IN_MEMORY = 256 << 20

#: Indexes that a thread keeps open.
_MOST_OPEN = 200

_LOCAL_HEADER = 30
_BLOCK = 1 << 20

_open = threading.local()


def open_source(root: str, path: str, *, follow_symlinks: bool = False) -> BinaryIO:
    """Open a source file, which must be a regular file within `root`, or a member of an archive there.

    Raises:
        ClipError: `missing`, `unsafe-path`, `unreadable`; `truncated` where the archive ends within the member.
    """
    try:
        return paths.open_source(root, path, follow_symlinks=follow_symlinks)
    except ClipError as error:
        if error.code != "missing":
            raise
        for archive, name in _ways(text_to_path(path)):
            if os.path.isfile(os.path.join(root, archive)):
                return _open_member(root, archive, name, follow_symlinks)
        raise


def _ways(name: str) -> Iterator[tuple[str, str]]:
    """(archive, member) as a path may mean them: a file's own name can have the separator, too."""
    at = name.find(SEPARATOR)
    while at >= 0:
        yield name[:at], name[at + len(SEPARATOR) :]
        at = name.find(SEPARATOR, at + 1)


def make_ready(root: str, given: Iterable[str], scratch: Scratch) -> None:
    """Index the archives that some paths name where that is not done on this machine, so that no clip waits for it.

    Args:
        scratch: where those are inflated that are compressed as a whole.

    Raises:
        BuildError: see `index.indexed`.
    """
    seen: set[str] = set()
    for path in given:
        for archive, _ in _ways(text_to_path(path)):
            first = os.path.join(root, archive)
            if archive not in seen and os.path.isfile(first) and not _is_ready(first):
                _renewed(root, archive, scratch)
            seen.add(archive)


def _is_ready(first: str) -> bool:
    index = existing(first)
    if index is None:
        return False
    with contextlib.closing(index):
        return is_current(index, first) and (index.data is None or hold(index.data))


def _renewed(root: str, archive: str, scratch: Scratch) -> Index | None:
    """The index of an archive as it is now; None if it is none."""
    found = archive_at(root, archive)
    return None if found is None else indexed(packed_at(root, found), scratch)


def _index(root: str, archive: str) -> Index:
    """The index of an archive that was indexed before.

    Raises:
        ClipError: it is no archive, or another one than was indexed.
    """
    first = os.path.join(root, archive)
    kept: dict[str, Index] = _open.__dict__.setdefault("indexes", {})
    index = kept.get(first)
    if index is not None and is_current(index, first) and (index.data is None or index.data.exists()):
        return index
    if len(kept) >= _MOST_OPEN or index is not None:
        for name in [first] if index is not None else list(kept):
            kept.pop(name).close()
    index = existing(first)
    if index is None or (index.data is not None and not hold(index.data)):
        index = _renewed(root, archive, Scratch())
    if index is None:
        raise ClipError("unreadable", f"{display_path(archive)} is no archive that can be read")
    if not is_current(index, first):
        index.close()
        text = f"{display_path(archive)} changed while it was used: run again with --retry-failed"
        raise ClipError("unreadable", text)
    kept[first] = index
    return index


def _open_member(root: str, archive: str, name: str, follow_symlinks: bool) -> BinaryIO:
    # whether the archive may be opened at all, before its index says anything
    paths.open_source(root, path_to_text(archive), follow_symlinks=follow_symlinks).close()
    index = _index(root, archive)
    member = index.find(name)
    if member is None:
        raise ClipError("missing", f"{display_path(archive)} holds no such file")
    if member.fault is not None:
        raise ClipError(member.fault, member.message or "")
    folder = os.path.dirname(archive)
    names = [os.path.join(folder, part) for part, _ in index.parts]

    def open_part(number: int) -> BinaryIO:
        return paths.open_source(root, path_to_text(names[number]), follow_symlinks=follow_symlinks)

    data = index.data
    try:
        if data is not None:
            whole = Joined([data.stat().st_size], lambda number: data.open("rb"))
        else:
            whole = Joined([size for _, size in index.parts], open_part)
        try:
            return cast("BinaryIO", _content(whole, member, index.is_zip))
        except BaseException:
            whole.close()
            raise
    except OSError as error:
        raise ClipError("unreadable", error.strerror or str(error)) from None


def _content(whole: Joined, member: Member, is_zip: bool) -> io.IOBase:
    if not is_zip:
        return _window(whole, member.offset, member)
    head = whole.pread(_LOCAL_HEADER, member.offset)
    if head[:4] != b"PK\x03\x04" or len(head) < _LOCAL_HEADER:
        raise ClipError("unreadable", "the zip has nothing where its directory says that this file is")
    start = (
        member.offset
        + _LOCAL_HEADER
        + int.from_bytes(head[26:28], "little")
        + int.from_bytes(head[28:30], "little")
    )
    if member.method:
        return _inflated(whole, start, member)
    window = _window(whole, start, member)
    crc = 0
    for at in range(0, member.size, _BLOCK):
        crc = zlib.crc32(window.pread(_BLOCK, at), crc)
    _check(crc, member)
    return window


def _window(whole: Joined, start: int, member: Member) -> Window:
    window = Window(whole, start, member.size)
    if window.length < member.size:
        raise ClipError("truncated", _ends(window.length, member))
    return window


def _ends(after: int, member: Member) -> str:
    return f"the archive ends after {after:,} of {member.size:,} bytes of this file"


def _inflated(whole: Joined, start: int, member: Member) -> io.IOBase:
    """A deflated member, of no more bytes than its archive says."""
    scratch = Scratch()
    if member.size > scratch.limit:
        raise ClipError("unreadable", f"{member.size:,} bytes: more than may be inflated; unpack it")
    out: io.IOBase
    if member.size <= _IN_MEMORY:
        out = io.BytesIO()
    else:
        scratch.folder.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryFile(dir=scratch.folder)  # noqa: SIM115 - the caller closes it
        out = cast("io.IOBase", made)
    try:
        _inflate_to(cast("BinaryIO", out), Window(whole, start, member.stored), member)
    except BaseException:
        out.close()
        raise
    whole.close()
    out.seek(0)
    return out


def _inflate_to(out: BinaryIO, packed: Window, member: Member) -> None:
    inflater, done, crc = zlib.decompressobj(-15), 0, 0
    try:
        while not inflater.eof:
            block = inflater.unconsumed_tail or packed.read(_BLOCK)
            made = inflater.decompress(block, _BLOCK)  # of nothing, too: some may still be in it
            if not block and not made:
                raise ClipError("truncated", _ends(done, member))
            done += len(made)
            if done > member.size:
                raise ClipError("unreadable", f"inflates to more than its {member.size:,} bytes")
            crc = zlib.crc32(made, crc)
            out.write(made)
    except zlib.error as error:
        raise ClipError("unreadable", f"damaged in its archive: {error}") from None
    if done < member.size:
        raise ClipError("unreadable", f"inflates to {done:,} of its {member.size:,} bytes")
    _check(crc, member)


def _check(crc: int, member: Member) -> None:
    if member.crc is not None and crc != member.crc:
        raise ClipError("unreadable", "damaged in its archive: the checksum is another one")

"""The members of a zip, by its central directory (`zipfile`); nothing is inflated but what links say."""

from __future__ import annotations

import io
import stat
import zipfile

from vidkit.data.packed.joined import Joined
from vidkit.data.packed.members import (
    FREE_BYTES,
    MOST_MEMBERS,
    MOST_RATIO,
    Add,
    Link,
    Member,
    clean_name,
    link_target,
)
from vidkit.errors import clean_message

_UTF8, _ENCRYPTED = 0x800, 0x1
_UNIX = 3
_LONGEST_LINK = 4096


def read_zip(whole: Joined, add: Add) -> list[str]:
    """Hand every file and link of a zip to `add`.

    Returns:
        In words what is wrong with the archive, where there is no telling what it holds.
    """
    file = io.BufferedReader(whole, 1 << 16)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_MEMBERS:
                return [f"has more than {MOST_MEMBERS:,} members"]
            for info in infos:
                found = _member(archive, info, whole.length)
                if found is not None:
                    add(found)
        return []
    except Exception as error:  # of a damaged directory `zipfile` lets pass whatever its parsing raises
        return [clean_message(f"cannot be read, as one that was cut off cannot: {error}")]
    finally:
        file.detach()


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, length: int) -> Member | Link | None:
    name, inside = clean_name(_name(info))
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    if name is None or info.is_dir() or stat.S_ISDIR(mode):
        return None
    member = Member(
        name=name,
        offset=info.header_offset,
        size=info.file_size,
        stored=info.compress_size,
        method=info.compress_type,
        crc=info.CRC,
    )
    if not inside:
        return member.failed("unsafe-path", "the member's name leads out of the source folder")
    if info.flag_bits & _ENCRYPTED:
        return member.failed("unreadable", "encrypted: unpack it with its password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return member.failed("unreadable", f"packed by a method that is not read here ({info.compress_type})")
    if info.header_offset + info.compress_size > length:
        return member.failed("truncated", "the archive ends within this file")
    if info.file_size > FREE_BYTES and info.file_size > MOST_RATIO * info.compress_size:
        return member.failed("unreadable", f"inflates to more than {MOST_RATIO} times its size")
    return _link(archive, info, member) if stat.S_ISLNK(mode) else member


def _link(archive: zipfile.ZipFile, info: zipfile.ZipInfo, member: Member) -> Member | Link:
    if info.file_size > _LONGEST_LINK:
        return member.failed("unreadable", "a link of that length leads nowhere")
    try:
        target = archive.read(info).decode("utf-8", "surrogateescape")
    except Exception as error:  # as above: one link is not the archive
        return member.failed("unreadable", f"a link that cannot be read: {error}")
    return Link(member.name, link_target(member.name, target))


def _name(info: zipfile.ZipInfo) -> str:
    """The name with the bytes that it has: most programs write UTF-8 and do not say so."""
    name = info.filename
    if info.flag_bits & _UTF8:
        return name
    if info.create_system == _UNIX:
        return name.encode("cp437").decode("utf-8", "surrogateescape")
    return name if "/" in name else name.replace("\\", "/")  # as some programs on Windows write it

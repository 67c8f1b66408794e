"""How files end, told from their outermost boxes alone: cut off, whole, or with something behind the end.

FFmpeg reads what it finds and says little of what it does not; this is what its demuxers do not tell.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

#: The object of an ASF header with the file's length and duration.
ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")

#: Names of Matroska's outermost parts.
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"

#: Tags of an FLV: sound, pictures, and what is said of them.
_FLV_TAGS = frozenset({8, 9, 18})


def is_cut(file: BinaryIO) -> bool | None:
    """Whether an AVI, ASF, FLV or Matroska file is shorter than its outermost boxes say; None where they do not."""
    with back_in_place(file) as length:
        head = file.read(4096)
        if head[:4] == b"RIFF":
            return any(end > length + 1 for _, _, end in _riff_chunks(file, 0, length))  # a byte of padding
        if (properties := head.find(ASF_PROPERTIES)) >= 0:
            return length < int.from_bytes(head[properties + 40 : properties + 48], "little")
        if head[:3] == b"FLV":
            return _flv_end(file, length) > length or None  # one that was cut between two tags does not show it
        segment = head.find(_SEGMENT)
        if head[:4] != _EBML or not 0 <= segment < len(head) - 12:
            return None
        width = 9 - head[segment + 4].bit_length()  # as many leading zeros as bytes follow
        size = int.from_bytes(head[segment + 4 : segment + 4 + width], "big") & (1 << 7 * width) - 1
        unknown = size == (1 << 7 * width) - 1
        return None if unknown else segment + 4 + width + size > length


def lacks_trailer(file: BinaryIO) -> bool:
    """Whether a GIF does not end as one does; zeros may follow."""
    with back_in_place(file) as length:
        file.seek(max(0, length - 4096))
        return not file.read().rstrip(b"\0").endswith(b";")


def indexed_chunks(file: BinaryIO, stream: int) -> int:
    """Chunks of an AVI's stream, empty ones too, by the old kind of index; 0 where there is none."""
    mine = _chunk_names(stream)
    with back_in_place(file) as length:
        for name, start, end in _riff_chunks(file, 12, length):
            if name == b"idx1":
                file.seek(start)
                entries = file.read(end - start)
                return sum(entries[at : at + 4] in mine for at in range(0, len(entries) - 15, 16))
    return 0


def listed_chunks(file: BinaryIO, stream: int) -> int:
    """Chunks of an AVI's stream, empty ones too, that lie in the file, whatever its indexes say."""
    mine, count = _chunk_names(stream), 0
    with back_in_place(file) as length:
        lists = [(0, length)]
        while lists:
            for name, start, end in _riff_chunks(file, *lists.pop()):
                if name in (b"RIFF", b"LIST"):
                    lists.append((start + 4, min(end, length)))
                count += name in mine
    return count


def _chunk_names(stream: int) -> tuple[bytes, bytes]:
    return b"%02ddc" % stream, b"%02ddb" % stream


def _riff_chunks(file: BinaryIO, start: int, length: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of what chunks hold, side by side from `start` on."""
    while start + 8 <= length:
        file.seek(start)
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        if not name.strip(b"\0"):
            return  # space that was never written, which can be gigabytes
        yield name, start + 8, start + 8 + size
        start += 8 + size + size % 2


@contextmanager
def back_in_place(file: BinaryIO) -> Iterator[int]:
    """The file at its start, its length as value; the demuxer reads on from where it was."""
    at = file.tell()
    try:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        yield length
    finally:
        file.seek(at)


def _flv_end(file: BinaryIO, length: int) -> int:
    """Where the last tag of an FLV ends that is one; more than `length` where that was cut off."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    while at + 4 <= length:
        file.seek(at)
        head = file.read(4)
        if head[0] & 31 not in _FLV_TAGS:
            break
        at += 15 + int.from_bytes(head[1:], "big")
    return at


def unread_bytes(file: BinaryIO, kind: str, read_to: int) -> int:
    """Bytes of a second file behind the first one, of which FFmpeg shows nothing; 0 where there is none.

    Args:
        kind: FFmpeg's name of the container.
        read_to: where the last packet that was read ends.
    """
    with back_in_place(file) as length:
        if kind == "flv":
            return max(0, length - _flv_end(file, length))
        if kind.startswith("asf"):
            head = file.read(4096)
            at = head.find(ASF_PROPERTIES)
            size = int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0
            return max(0, length - size) if size >= read_to else 0
        if kind.startswith("matroska"):
            starts = [at for name, at in _matroska_parts(file, length) if name == _SEGMENT]
        elif kind.startswith("mov"):
            boxes = list(_mp4_boxes(file, length))
            films = [at for name, at in boxes if name == b"moov"]
            starts = [at for name, at in boxes if name == b"ftyp"] if len(films) > 1 else []
        else:
            return 0
    return next((length - start for start in starts[1:] if start >= read_to), 0)


def _matroska_parts(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int]]:
    """(name, offset) of what lies side by side in a Matroska file: a head and a segment for each file in it."""
    at = 0
    while at + 12 <= length:
        file.seek(at)
        head = file.read(12)
        if head[:4] not in (_EBML, _SEGMENT) or not head[4]:
            return
        yield head[:4], at
        width = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + width], "big") & (1 << 7 * width) - 1
        if size == (1 << 7 * width) - 1:
            return  # of unknown size: to the end, as far as can be told
        at += 4 + width + size


def _mp4_boxes(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int]]:
    """(name, offset) of the outermost boxes."""
    at = 0
    while 0 <= at <= length - 8:
        file.seek(at)
        size, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8:
            return
        yield name, at
        at += size


def ogg_end(file: BinaryIO, stream: int) -> bool | None:
    """Whether the n-th stream of an Ogg file comes to its end; None where its last page is not marked as that.

    False: it does not, and the file's last page is not all there.
    """
    serials: list[bytes] = []
    ended: dict[bytes, bool] = {}
    at = 0
    with back_in_place(file) as length:
        while at + 27 <= length:
            file.seek(at)
            head = file.read(27 + 255)
            if head[:4] != b"OggS":
                break
            flags, serial = head[5], head[14:18]
            if flags & 2:
                serials.append(serial)
            at += 27 + head[26] + sum(head[27 : 27 + head[26]])
            ended[serial] = bool(flags & 4) and at <= length
    if stream < len(serials) and ended[serials[stream]]:
        return True
    return False if at > length else None


def lacks_index(stream: BinaryIO) -> bool:
    """Whether a file begins as an MP4 and ends before its `moov` box does."""
    length = stream.seek(0, io.SEEK_END)
    start, kind = 0, b"ftyp"
    while kind != b"moov" and start <= length:  # a damaged size can be more than a seek takes
        stream.seek(start)
        size, kind = int.from_bytes(stream.read(4), "big"), stream.read(4)
        if size == 1:
            size = int.from_bytes(stream.read(8), "big")
        if size < 8 or (start == 0 and kind != b"ftyp"):
            return start > 0
        start += size
    return start > length

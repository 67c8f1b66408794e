"""What a file's header promises, against what is there: finds files that were cut off.

The promise that counts is the video stream's own. A file also lasts as long as its sound, subtitles and
chapters do; and in AVI a picture that repeats the one before is an empty chunk.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av

from vidkit.data.media.packets import Packets
from vidkit.errors import ClipError

#: A header may promise so much more than its streams hold; so many frames, where bytes are known to be missing.
_MISSING_S = 0.5
_MISSING_FRAMES = 1.5

#: Their header promises no duration: FFmpeg estimates one from what it finds.
_ESTIMATED = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu", "gif", "ogg", "dv"})

#: The object of an ASF header with the file's length and duration.
_ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")


def check_promises(file: BinaryIO, container: Any, video: Any, packets: Packets) -> tuple[str, ...]:
    """Compare the number of pictures, or else the duration; an AVI's last empty chunks are added to `packets`.

    Returns:
        Warnings: promises that a whole file does not keep.

    Raises:
        ClipError: `truncated`.
    """
    promised = int(video.frames)
    if container.format.name == "avi" and packets.places < promised and not _is_cut(file):
        chunks = _avi_chunks(file, video.index)
        packets.places = max(packets.places, promised if chunks is None else chunks)
        if packets.places == promised:
            return ()
        return (f"the header promises {promised} frames; the file is whole and has {packets.places}",)
    if promised and packets.places < promised:
        raise ClipError("truncated", f"{packets.places} of {promised} frames are in the file")
    if container.format.name == "gif" and _lacks_trailer(file):
        raise ClipError("truncated", f"the file ends after {packets.places} frames without the mark of its end")
    lasts_s = _asf_duration_s(file) if container.format.name == "asf" else (container.duration or 0) / av.time_base
    if promised or not lasts_s or container.format.name in _ESTIMATED or not packets.any_end_s:
        return ()
    # a Matroska header counts from 0, also where the first picture is due later
    own_s, cut = _own_duration_s(video), _is_cut(file)
    if own_s is not None:  # the smaller one: a copy of a part may carry the old duration along
        missing_s = min(lasts_s, own_s) - packets.end_s
    else:  # of a file that was cut, subtitles can promise to outlast what is there
        missing_s = lasts_s - (packets.heard_end_s if cut else packets.any_end_s)
    frame_s = float(packets.last_duration * video.time_base)
    if missing_s <= (_MISSING_FRAMES * frame_s if cut and frame_s else _MISSING_S):
        return ()
    if cut is False:
        # packets without a time may well fill what seems to be missing
        return () if None in packets.pts else (f"the header promises {missing_s:.1f} s more; the file is whole",)
    raise ClipError("truncated", f"the last {missing_s:.1f} s that the header promises are not in the file")


def _own_duration_s(video: Any) -> float | None:
    """What Matroska's tags say of the video stream itself."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", video.metadata.get("DURATION", "").strip())
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _is_cut(file: BinaryIO) -> bool | None:
    """Whether an AVI, ASF or Matroska file is shorter than its outermost boxes say; None where they do not."""
    with _back_in_place(file) as length:
        head = file.read(4096)
        if head[:4] == b"RIFF":
            return any(end > length + 1 for _, _, end in _riff_chunks(file, 0, length))  # a byte of padding
        if (properties := head.find(_ASF_PROPERTIES)) >= 0:
            return length < int.from_bytes(head[properties + 40 : properties + 48], "little")
        segment = head.find(b"\x18\x53\x80\x67")
        if head[:4] != b"\x1a\x45\xdf\xa3" or not 0 <= segment < len(head) - 12:
            return None
        width = 9 - head[segment + 4].bit_length()  # as many leading zeros as bytes follow
        size = int.from_bytes(head[segment + 4 : segment + 4 + width], "big") & (1 << 7 * width) - 1
        unknown = size == (1 << 7 * width) - 1
        return None if unknown else segment + 4 + width + size > length


def _asf_duration_s(file: BinaryIO) -> float:
    """What ASF's header promises, which FFmpeg does not tell of a file that was cut; 0 where there is nothing."""
    with _back_in_place(file):
        head = file.read(4096)
    at = head.find(_ASF_PROPERTIES)
    if at < 0:
        return 0.0
    ticks, preroll_ms = (int.from_bytes(head[at + i : at + i + 8], "little") for i in (64, 80))
    return max(0.0, ticks / 10_000_000 - preroll_ms / 1000)


def _lacks_trailer(file: BinaryIO) -> bool:
    """Whether a GIF does not end as one does; zeros may follow."""
    with _back_in_place(file) as length:
        file.seek(max(0, length - 4096))
        return not file.read().rstrip(b"\0").endswith(b";")


def _avi_chunks(file: BinaryIO, stream: int) -> int | None:
    """Chunks of a stream, empty ones too, by the old kind of index; None where there is none."""
    with _back_in_place(file) as length:
        for name, start, end in _riff_chunks(file, 12, length):
            if name == b"idx1":
                file.seek(start)
                entries = file.read(end - start)
                mine = tuple(b"%02d%s" % (stream, kind) for kind in (b"dc", b"db"))
                return sum(entries[at : at + 4] in mine for at in range(0, len(entries) - 15, 16))
    return None


def _riff_chunks(file: BinaryIO, start: int, length: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of what chunks hold, side by side from `start` on."""
    while start + 8 <= length:
        file.seek(start)
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        yield name, start + 8, start + 8 + size
        start += 8 + size + size % 2


@contextmanager
def _back_in_place(file: BinaryIO) -> Iterator[int]:
    """The file at its start, its length as value; the demuxer reads on from where it was."""
    at = file.tell()
    try:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        yield length
    finally:
        file.seek(at)


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

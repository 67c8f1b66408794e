"""What a file's header promises, against what is there: finds files that were cut off.

The promise that counts is the video stream's own. A file also lasts as long as its sound, subtitles and
chapters do; and in AVI a picture that repeats the one before is an empty chunk.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import av

from vidkit.data.media.ends import (
    ASF_PROPERTIES,
    back_in_place,
    indexed_chunks,
    is_cut,
    lacks_trailer,
    listed_chunks,
    ogg_end,
    unread_bytes,
)
from vidkit.data.media.packets import Packets
from vidkit.errors import ClipError

#: A header may promise so much more than its streams hold; so many frames, where bytes are known to be missing.
_MISSING_S = 0.5
_MISSING_FRAMES = 1.5

#: So many bytes behind the end are not worth a word.
_IGNORED_BYTES = 1024

#: Their header promises no duration: FFmpeg estimates one from what it finds.
_ESTIMATED = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu", "gif", "ogg", "dv"})


def check_promises(file: BinaryIO, container: Any, video: Any, packets: Packets) -> tuple[str, ...]:
    """Compare the number of pictures, or else the duration; an AVI's last empty chunks are added to `packets`.

    Returns:
        Warnings: promises that a whole file does not keep.

    Raises:
        ClipError: `truncated`.
    """
    promised = int(video.frames)
    if container.format.name == "avi" and not is_cut(file):
        chunks = max(indexed_chunks(file, video.index), listed_chunks(file, video.index))
        packets.places = max(packets.places, chunks)
        if packets.places >= promised:
            return ()
        return (f"the header promises {promised} frames; the file is whole and has {packets.places}",)
    if promised and packets.places < promised:
        raise ClipError("truncated", f"{packets.places} of {promised} frames are in the file")
    cut = is_cut(file)
    warnings = _check_end(file, container.format.name, video.index, packets, cut)
    lasts_s = _asf_duration_s(file) if container.format.name == "asf" else (container.duration or 0) / av.time_base
    if promised or not lasts_s or container.format.name in _ESTIMATED or not packets.any_end_s:
        return warnings
    # a Matroska header counts from 0, also where the first picture is due later
    own_s = _own_duration_s(video)
    if own_s is not None:  # the smaller one: a copy of a part may carry the old duration along
        missing_s = min(lasts_s, own_s) - packets.end_s
    else:  # of a file that was cut, subtitles can promise to outlast what is there
        missing_s = lasts_s - (packets.heard_end_s if cut else packets.any_end_s)
    frame_s = float(packets.last_duration * video.time_base)
    if missing_s <= (_MISSING_FRAMES * frame_s if cut and frame_s else _MISSING_S):
        return warnings
    if cut is False:
        # packets without a time may well fill what seems to be missing
        return () if None in packets.pts else (f"the header promises {missing_s:.1f} s more; the file is whole",)
    raise ClipError("truncated", f"the last {missing_s:.1f} s that the header promises are not in the file")


def _check_end(file: BinaryIO, kind: str, stream: int, packets: Packets, cut: bool | None) -> tuple[str, ...]:
    """What the end of a file tells where no number of pictures does.

    Raises:
        ClipError: `truncated`.
    """
    if kind == "gif" and lacks_trailer(file):
        raise ClipError("truncated", f"the file ends after {packets.places} frames without the mark of its end")
    if kind == "ogg" and (ended := ogg_end(file, stream)) is not True:
        if ended is False:
            raise ClipError("truncated", f"the file ends within a page, after {packets.places} frames")
        return ("the video's last page is not marked as its end: the file may have been cut",)
    if (rest := unread_bytes(file, kind, packets.read_to)) > _IGNORED_BYTES:
        return (f"{rest:,} bytes follow the stream's end, perhaps a file put behind it, and are not read",)
    return ("the file ends before its last part does; pictures may be missing at the end",) if cut else ()


def _own_duration_s(video: Any) -> float | None:
    """What Matroska's tags say of the video stream itself."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", video.metadata.get("DURATION", "").strip())
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _asf_duration_s(file: BinaryIO) -> float:
    """What ASF's header promises, which FFmpeg does not tell of a file that was cut; 0 where there is nothing."""
    with back_in_place(file):
        head = file.read(4096)
    at = head.find(ASF_PROPERTIES)
    if at < 0:
        return 0.0
    ticks, preroll_ms = (int.from_bytes(head[at + i : at + i + 8], "little") for i in (64, 80))
    return max(0.0, ticks / 10_000_000 - preroll_ms / 1000)

"""Opening video files, and decoding exactly the frames that are asked for.

PyAV in process. Frames are found by an index of presentation times (`frame_index`), so that odd files
give the frames that were meant, or an error. Pictures that nobody needs and on which no other picture
depends are not decoded.
"""

from __future__ import annotations

import bisect
import io
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
import av.logging
import numpy as np
import numpy.typing as npt

from vidkit.data.media.frame_index import (
    FrameIndex,
    as_fraction,
    build_index,
    decode_packets,
    failing_as_clip_error,
    frames_between,
    words_of,
)
from vidkit.errors import ClipError, clean_message

__all__ = ["FrameIndex", "as_fraction", "build_index", "frames_between"]

Source = bytes | bytearray | memoryview | BinaryIO

#: Demuxers that may be tried. A playlist or script named .mp4 could otherwise open other files.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,h264,hevc,ivf,nut"

#: Makes a decoder report damage as an error instead of guessing the missing picture.
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}

#: Titles in other encodings must not stop a clip; from version 19 PyAV never raises for them.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class _LastWords(logging.Handler):
    """Keeps what FFmpeg says at level error; one clip's worth."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        if len(self.said) < 20:
            self.said.append(clean_message(record.getMessage(), 120))


@contextmanager
def listening() -> Iterator[_LastWords]:
    """Collect FFmpeg's error messages while a clip is handled, and keep them off the terminal.

    FFmpeg reports concealed damage in its log alone, so the count is what `warnings` is made from.
    """
    words = _LastWords()
    logger = logging.getLogger("libav")
    with _LISTENERS_LOCK:  # of several threads, the first one in and the last one out set the state
        if not _LISTENERS:
            _BEFORE[:] = [av.logging.get_level(), logger.propagate]
            av.logging.set_level(av.logging.ERROR)
            logger.propagate = False
        _LISTENERS.append(words)
        logger.addHandler(words)
    try:
        yield words
    finally:
        with _LISTENERS_LOCK:
            logger.removeHandler(words)
            _LISTENERS.remove(words)
            if not _LISTENERS:
                level, logger.propagate = _BEFORE
                av.logging.set_level(level)


_LISTENERS: list[_LastWords] = []
_LISTENERS_LOCK = threading.Lock()
#: FFmpeg's log level and whether its messages go on, while nobody listens.
_BEFORE: list[Any] = []


@contextmanager
def open_video(source: Source, *, strict: bool = False) -> Iterator[tuple[Any, Any]]:
    """Open a file for decoding with one thread; yields (container, first real video stream).

    Raises:
        ClipError: `empty`, `not-a-video`, `truncated` (no index), `no-video-stream`, `unsupported-codec`.
    """
    stream = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
    if not stream.read(1):
        raise ClipError("empty", "the file has 0 bytes")
    stream.seek(0)
    try:
        container = av.open(
            stream,
            mode="r",
            buffer_size=1 << 18,
            **_METADATA,
            # an opened file must not open others: no protocols, and no demuxer that follows references
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": ""},
        )
    except av.error.FFmpegError as error:
        raise ClipError("truncated" if _lacks_index(stream) else "not-a-video", words_of(error)) from None
    with container:
        # a song's cover art is a "video" stream of one attached picture
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            raise ClipError("no-video-stream", f"streams: {', '.join(s.type for s in container.streams) or 'none'}")
        video = streams[0]
        if video.codec_context is None:
            raise ClipError("unsupported-codec", "no decoder for the video stream")
        video.codec_context.thread_count = 1  # workers are the parallelism; threads only add latency
        if strict:
            video.codec_context.options = STRICT
        yield container, video


def _lacks_index(stream: BinaryIO) -> bool:
    """Whether a file begins as an MP4 and ends before its `moov` box does."""
    start, kind = 0, b"ftyp"
    while kind != b"moov":
        stream.seek(start)
        size, kind = int.from_bytes(stream.read(4), "big"), stream.read(4)
        if size == 1:
            size = int.from_bytes(stream.read(8), "big")
        if size < 8 or (start == 0 and kind != b"ftyp"):
            return start > 0
        start += size
    return start > stream.seek(0, io.SEEK_END)


def decode(
    container: Any, video: Any, index: FrameIndex, wanted: Sequence[int], *, strict: bool = False
) -> Iterator[tuple[int, Any]]:
    """Yield (i, av.VideoFrame) for each distinct index in `wanted`, ascending.

    Only the groups of pictures that hold wanted frames are read; one seek to each.

    Raises:
        ClipError: `decode-error` where a wanted frame does not come out.
        IndexError: an index outside the clip.
    """
    order = sorted(set(wanted))
    if order and not 0 <= order[0] <= order[-1] < len(index):
        raise IndexError(f"frames {order[0]} to {order[-1]} of a clip of {len(index)} frames")
    with failing_as_clip_error():
        if index.by_time:
            yield from _decode_by_time(container, video, index, order, strict)
        else:
            yield from _decode_by_count(container, video, order, strict)


def _decode_by_time(
    container: Any, video: Any, index: FrameIndex, order: list[int], strict: bool
) -> Iterator[tuple[int, Any]]:
    container.seek(0)
    video.codec_context.flush_buffers()
    for start, group in _groups(index, order):
        pts = {index.pts[i]: i for i in group}
        if start is not None:
            container.seek(start, stream=video)
            video.codec_context.flush_buffers()
        left = len(group)
        frames = decode_packets(video, container.demux(video), frozenset(pts), strict=strict)
        for frame in frames:
            i = pts.pop(frame.pts, None)
            if i is None:
                continue
            yield i, frame
            left -= 1
            if not left:
                break
        frames.close()
        if left:
            lost = sorted(pts.values())
            raise ClipError(
                "decode-error", f"{left} of {len(order)} frames did not come out, the first is {lost[0]}"
            )
    video.codec_context.skip_frame = "DEFAULT"


def _decode_by_count(container: Any, video: Any, order: list[int], strict: bool) -> Iterator[tuple[int, Any]]:
    container.seek(0)
    video.codec_context.flush_buffers()
    left = iter(order)
    target = next(left, None)
    for i, frame in enumerate(decode_packets(video, container.demux(video), None, strict=strict)):
        if i == target:
            yield i, frame
            target = next(left, None)
            if target is None:
                return
    if target is not None:
        raise ClipError("decode-error", f"frame {target} did not come out")


def _groups(index: FrameIndex, order: list[int]) -> Iterator[tuple[int | None, list[int]]]:
    """Split wanted frames into runs that are decoded without a seek: (time to seek to, frames).

    Neighbouring groups are read through: a seek costs more than the pictures between them.
    """
    positions = [p for p, _ in index.starts]
    run: list[int] = []
    run_start: int | None = None
    run_group = -1
    for i in order:
        g = bisect.bisect_right(positions, index.position[i]) - 1
        if run and g > run_group + 1:
            yield run_start, run
            run, run_start = [], None
        if not run:
            run_start = index.starts[g][1] if g > 0 else None
        run.append(i)
        run_group = g
    if run:
        yield run_start, run


class ClipReader:
    """Random access to the frames of one clip held in memory.

    >>> reader = ClipReader(mp4_bytes)                      # doctest: +SKIP
    >>> reader.frames([0, 40, 4])                           # doctest: +SKIP
    array of shape (3, H, W, 3), uint8 RGB, upright, in the order asked for
    """

    def __init__(self, source: Source, *, strict: bool = False) -> None:
        self._opened = open_video(source, strict=strict)
        self._strict = strict
        self.container, self.video = self._opened.__enter__()
        try:
            self.index = build_index(self.container, self.video)
        except BaseException:
            self.close()
            raise
        # One scaler with one thread: a new one for every frame costs more than the scaling (3 to 7 times in all)
        self._reformatter = av.video.reformatter.VideoReformatter()

    def __len__(self) -> int:
        return len(self.index)

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def frames(self, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """(T, H, W, 3) uint8 RGB, one frame for each index, in the order and as often as asked.

        Raises:
            ClipError: `decode-error` where one of the frames cannot be had.
            IndexError: an index outside the clip.
        """
        where: dict[int, list[int]] = {}
        for t, i in enumerate(indices):
            where.setdefault(int(i), []).append(t)
        out: npt.NDArray[np.uint8] | None = None
        for i, frame in decode(self.container, self.video, self.index, list(where), strict=self._strict):
            shown: Any = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            rgb = upright(shown, frame.rotation)
            if out is None:
                out = np.empty((len(indices), *rgb.shape), np.uint8)
            if rgb.shape != out.shape[1:]:
                raise ClipError("decode-error", f"the picture size changes at frame {i}; transcode the clip first")
            out[where[i]] = rgb
        return out if out is not None else np.empty((0, 0, 0, 3), np.uint8)


def upright(rgb_HWC: npt.NDArray[np.uint8], rotation: float) -> npt.NDArray[np.uint8]:
    """Apply a display matrix's rotation (degrees, counter-clockwise; multiples of 90)."""
    return np.rot90(rgb_HWC, round(rotation / 90) % 4)


def decode_frames(source: Source, indices: Sequence[int], *, strict: bool = False) -> npt.NDArray[np.uint8]:
    """`ClipReader(source).frames(indices)` for a single use."""
    with ClipReader(source, strict=strict) as reader:
        return reader.frames(indices)

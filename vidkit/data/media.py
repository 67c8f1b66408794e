"""Opening video files, indexing their frames, and decoding exactly the frames that are asked for.

PyAV in process. A file is demuxed once for the times of its pictures; frames are then found by their
presentation time, never by `index / rate`, so variable frame rates, open GOPs, edit lists and odd
containers give the frames that were meant, or an error. Pictures that nobody needs and on which no
other picture depends are not decoded.
"""

from __future__ import annotations

import bisect
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO

import av
import av.logging
import numpy as np
import numpy.typing as npt

from vidkit.errors import ClipError, clean_message

Source = bytes | bytearray | memoryview | BinaryIO

#: Demuxers that may be tried. A playlist or script named .mp4 could otherwise open other files.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,h264,hevc,ivf,nut"

#: Codecs of which one packet is one picture, so that packets can be counted instead of pictures.
#: VP8 and MPEG-4 in AVI hide pictures or pack two into one packet; those are counted by decoding.
_PACKET_IS_PICTURE = frozenset(
    {"h264", "hevc", "vp9", "av1", "libdav1d", "libvpx-vp9", "mjpeg", "ffv1", "qtrle", "png", "prores", "huffyuv"}
)

#: Decoders that leave out a picture on which none depends without changing what the others show.
_CAN_SKIP = frozenset({"h264", "hevc"})

#: Makes a decoder report damage as an error instead of guessing the missing picture.
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}

#: Titles in other encodings must not stop a clip; from version 19 PyAV never raises for them.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

#: A file whose header promises this much more than its streams hold was cut off.
_MISSING_S = 0.5


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
    level, propagate = av.logging.get_level(), logger.propagate
    logger.addHandler(words)
    logger.propagate = False
    av.logging.set_level(av.logging.ERROR)
    try:
        yield words
    finally:
        av.logging.set_level(level)
        logger.propagate = propagate
        logger.removeHandler(words)


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
        words = _words(error)
        code = "truncated" if "moov atom not found" in words else "not-a-video"
        raise ClipError(code, words) from None
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


@contextmanager
def _failing_as_clip_error() -> Iterator[None]:
    """What a damaged index makes demuxer and PyAV raise, as the error of a clip."""
    try:
        yield
    except av.error.EOFError as error:
        raise ClipError("truncated", _words(error)) from None
    except av.error.FFmpegError as error:
        raise ClipError("decode-error", _words(error)) from None
    except (IndexError, OverflowError) as error:  # PyAV: a stream that appears on the way, a time out of range
        raise ClipError("decode-error", f"the demuxer gave up: {error}") from None


def _words(error: Exception) -> str:
    """A decoder's last words without its buffer addresses."""
    log = getattr(error, "log", None)
    name = getattr(error, "strerror", None) or str(error)
    return clean_message(f"{name}; {log[1]}: {log[2]}" if log else name)


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The pictures of a video stream, in the order in which they are shown.

    `pts` are in units of `time_base`; `position` gives each picture's packet in decoding order.
    `starts` are the packets from which decoding can begin, with the time each of them is shown.
    """

    pts: tuple[int, ...]
    duration: int
    time_base: Fraction
    position: tuple[int, ...]
    starts: tuple[tuple[int, int], ...]
    by_time: bool
    """False where packets carry no usable times; pictures are then counted as they come out."""
    rate: Fraction

    def __len__(self) -> int:
        return len(self.pts)

    def __repr__(self) -> str:
        return f"FrameIndex({len(self)} frames, {self.duration_s:.3f} s, {len(self.starts)} groups)"

    @property
    def duration_s(self) -> float:
        """Seconds from the first picture's appearance to the end of the last one."""
        return float(self.duration * self.time_base)


def as_fraction(value: Any) -> Fraction:
    """A rational of PyAV's, whose type depends on the version, as Python's own; unknown is 0.

    >>> as_fraction(None)
    Fraction(0, 1)
    """
    return Fraction(value.numerator, value.denominator) if value is not None and value.denominator else Fraction(0)


def build_index(container: Any, video: Any) -> FrameIndex:
    """Demux the whole file once; the container is left at its end (seek before decoding).

    Raises:
        ClipError: `truncated` where the container promises more than it holds, `decode-error`.
    """
    shown: list[tuple[int, int]] = []
    starts: list[tuple[int, int]] = []
    promised = video.frames
    total = hidden = last_duration = 0
    untimed = False
    end_s = 0.0
    others = [s for s in container.streams if s.type in ("audio", "video")]
    with _failing_as_clip_error():
        for packet in container.demux(others):
            if not packet.size:
                continue
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != video.index:
                continue
            if packet.pts is None:
                untimed = True
            else:
                if packet.is_keyframe:
                    starts.append((total, packet.pts))
                if packet.is_discard:
                    hidden += 1  # before the edit list's first picture: decoded, never shown
                else:
                    shown.append((packet.pts, total))
                last_duration = packet.duration or last_duration
            total += 1
    if promised and total < promised:
        raise ClipError("truncated", f"{total} of {promised} frames are in the file")
    if container.duration and end_s:
        start_s = max(0, container.start_time or 0) / av.time_base
        missing_s = container.duration / av.time_base + start_s - end_s
        if missing_s > _MISSING_S:
            raise ClipError("truncated", f"the last {missing_s:.1f} s that the header promises are not in the file")
    if not total:
        raise ClipError("truncated" if promised else "no-video-stream", "the video stream holds no packet")
    if hidden == total:
        raise ClipError("decode-error", f"the edit list shows none of {total} frames")

    rate = as_fraction(video.average_rate) or as_fraction(video.guessed_rate) or Fraction(25)
    shown.sort()
    pts = tuple(p for p, _ in shown)
    duplicates = len(set(pts)) != len(pts)
    if untimed or duplicates or video.codec_context.name not in _PACKET_IS_PICTURE:
        return _index_by_decoding(container, video, rate)
    gap = last_duration or (pts[-1] - pts[-2] if len(pts) > 1 else round(1 / (rate * as_fraction(video.time_base))))
    return FrameIndex(
        pts=pts,
        duration=pts[-1] - pts[0] + max(1, gap),
        time_base=as_fraction(video.time_base),
        position=tuple(k for _, k in shown),
        starts=tuple(starts),
        by_time=True,
        rate=rate,
    )


def _index_by_decoding(container: Any, video: Any, rate: Fraction) -> FrameIndex:
    """Count what comes out where packets do not tell: AVI without times, packed or hidden pictures."""
    tick = max(1, round(1 / (rate * as_fraction(video.time_base))))
    with _failing_as_clip_error():
        container.seek(0)
        seen = [frame.pts for frame in _decode_packets(video, container.demux(video), None)]
    times = [time for time in seen if time is not None]
    if len(times) < len(seen) or any(a >= b for a, b in pairwise(times)):
        times = [i * tick for i in range(len(seen))]  # no times, or in disorder: AVI has a constant rate
    if not times:
        raise ClipError("decode-error", "no frame could be decoded")
    return FrameIndex(
        pts=tuple(times),
        duration=times[-1] - times[0] + tick,
        time_base=as_fraction(video.time_base),
        position=tuple(range(len(times))),
        starts=((0, times[0]),),
        by_time=False,
        rate=rate,
    )


def _decode_packets(video: Any, packets: Any, wanted: frozenset[int] | None, *, strict: bool = False) -> Any:
    """Yield frames in the order they are shown. Damaged packets are passed over unless `strict`.

    `wanted` are the times of the pictures that are needed; others are skipped where nothing refers to them.
    """
    context = video.codec_context
    if context.name not in _CAN_SKIP:
        wanted = None
    skipping = False
    for packet in packets:
        if wanted is not None and packet.size:
            skip = packet.pts not in wanted
            if skip != skipping:  # the decoder itself knows which pictures are not referred to
                context.skip_frame = "NONREF" if skip else "DEFAULT"
                skipping = skip
        try:
            frames = context.decode(packet if packet.size else None)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            if strict:
                raise ClipError("decode-error", _words(error)) from None
            continue  # what is lost is found by counting: see the callers
        yield from frames
    context.skip_frame = "DEFAULT"


def frames_between(index: FrameIndex, start_s: float | None, end_s: float | None) -> range:
    """Indices of the frames shown from `start_s` up to `end_s` (seconds after the first frame)."""
    first = 0 if start_s is None else bisect.bisect_left(index.pts, index.pts[0] + start_s / index.time_base)
    last = len(index) if end_s is None else bisect.bisect_left(index.pts, index.pts[0] + end_s / index.time_base)
    return range(first, last)


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
    with _failing_as_clip_error():
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
        frames = _decode_packets(video, container.demux(video), frozenset(pts), strict=strict)
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
    for i, frame in enumerate(_decode_packets(video, container.demux(video), None, strict=strict)):
        if i == target:
            yield i, frame
            target = next(left, None)
            if target is None:
                return
    if target is not None:
        raise ClipError("decode-error", f"frame {target} did not come out")


def _groups(index: FrameIndex, order: list[int]) -> Iterator[tuple[int | None, list[int]]]:
    """Split wanted frames into runs that are decoded without a seek: (time to seek to, frames).

    A picture shown before its group's first picture, as in an open GOP, needs the group before.
    Neighbouring groups are read through: a seek costs more than the pictures between them.
    """
    positions = [p for p, _ in index.starts]
    run: list[int] = []
    run_start: int | None = None
    run_group = -1
    for i in order:
        g = bisect.bisect_right(positions, index.position[i]) - 1
        if g >= 0 and index.pts[i] < index.starts[g][1]:
            g -= 1
        if run and g > run_group + 1:
            yield run_start, run
            run, run_start = [], None
        if not run:
            run_start = index.starts[g][1] if g > 0 else None
        run.append(i)
        run_group = max(g, run_group) if len(run) > 1 else g
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

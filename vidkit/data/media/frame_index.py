"""Which pictures a video stream shows and when, found by demuxing it once.

Frames are known by their presentation time, never by `index / rate`: that is what makes variable frame
rates, open GOPs and edit lists come out right. Where a container's times are none or cannot be
trusted, pictures are counted as they come out of the decoder.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import av

from vidkit.errors import ClipError, clean_message

#: Codecs of which one packet is one picture, so that packets can be counted instead of pictures.
#: VP8 and MPEG-4 in AVI hide pictures or pack two into one packet; those are counted by decoding.
_PACKET_IS_PICTURE = frozenset(
    {"h264", "hevc", "vp9", "av1", "libdav1d", "libvpx-vp9", "mjpeg", "ffv1", "qtrle", "png", "prores", "huffyuv"}
)

#: Containers whose times can be trusted. AVI has none, and FFmpeg makes up wrong ones where pictures are reordered.
_TIMED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv", "nut", "ivf"})

#: Containers with an index of their own, so that a seek leads to the keyframe that was meant.
_SEEKABLE = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})

#: Decoders that leave out a picture on which none depends without changing what the others show.
_CAN_SKIP = frozenset({"h264", "hevc"})

#: A file whose header promises this much more than its streams hold was cut off.
_MISSING_S = 0.5


@contextmanager
def failing_as_clip_error() -> Iterator[None]:
    """What a damaged index makes demuxer and PyAV raise, as the error of a clip."""
    try:
        yield
    except av.error.EOFError as error:
        raise ClipError("truncated", words_of(error)) from None
    except av.error.FFmpegError as error:
        raise ClipError("decode-error", words_of(error)) from None
    except (IndexError, OverflowError, ValueError) as error:
        # PyAV's own: a stream that appears on the way, a time out of range, a decoder that did not open
        raise ClipError("decode-error", f"PyAV gave up: {error}") from None


def words_of(error: Exception) -> str:
    """A decoder's last words without its buffer addresses."""
    log = getattr(error, "log", None)
    name = getattr(error, "strerror", None) or str(error)
    return clean_message(f"{name}; {log[1]}: {log[2]}" if log else name)


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The pictures of a video stream, in the order in which they are shown.

    `pts` are in units of `time_base`; `position` gives each picture's packet in decoding order.
    `starts` are the packets from which decoding can begin, with the time each of them is shown: the first, and
    keyframes that nothing after them looks back across. Those of open GOPs are none.
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
    keys: list[int] = []
    times: list[int] = []
    promised = video.frames
    total = hidden = last_duration = 0
    untimed = False
    end_s = 0.0
    others = [s for s in container.streams if s.type in ("audio", "video")]
    with failing_as_clip_error():
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
                times.append(packet.pts)
                if packet.is_keyframe and container.format.name in _SEEKABLE and _starts_anew(packet, video):
                    keys.append(total)
                if packet.is_discard:
                    hidden += 1  # before the edit list's first picture: decoded, never shown
                else:
                    shown.append((packet.pts, total))
                last_duration = packet.duration or last_duration
            total += 1
    if promised and total < promised:
        raise ClipError("truncated", f"{total} of {promised} frames are in the file")
    if container.duration and end_s:
        # a Matroska header counts from 0, also where the first picture is due later
        missing_s = container.duration / av.time_base - end_s
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
    trusted = container.format.name in _TIMED and video.codec_context.name in _PACKET_IS_PICTURE
    if untimed or duplicates or not trusted:
        return _index_by_decoding(container, video, rate)
    gap = last_duration or (pts[-1] - pts[-2] if len(pts) > 1 else round(1 / (rate * as_fraction(video.time_base))))
    return FrameIndex(
        pts=pts,
        duration=pts[-1] - pts[0] + max(1, gap),
        time_base=as_fraction(video.time_base),
        position=tuple(k for _, k in shown),
        starts=_closed(times, keys),
        by_time=True,
        rate=rate,
    )


#: Kinds of coded pictures that make a decoder forget all earlier ones: H.264's and HEVC's IDR.
_IDR = {"h264": frozenset({5}), "hevc": frozenset({19, 20})}


def _starts_anew(packet: Any, video: Any) -> bool:
    """Whether a keyframe of an MP4 or Matroska file is a clean start, and not merely decodable by itself.

    x264's open GOPs begin with such pictures; decoding from there works, but not without complaints about
    missing references, which would count as damage.
    """
    codec, head = video.codec_context.name, video.codec_context.extradata
    if codec not in _IDR:
        return True
    at_length, data, at = {"h264": 4, "hevc": 21}[codec], bytes(packet), 0
    if not head or len(head) <= at_length or head[0] != 1:
        return False
    size = (head[at_length] & 3) + 1  # units are preceded by their length, in so many bytes
    while at + size < len(data):
        kind = data[at + size] & 31 if codec == "h264" else data[at + size] >> 1 & 63
        if kind in _IDR[codec]:
            return True
        at += size + int.from_bytes(data[at : at + size], "big")
    return False


def _closed(times: list[int], keys: list[int]) -> tuple[tuple[int, int], ...]:
    """(packet, time) of the first packet, and of keyframes that part the packets before from those after."""
    before, after = list(accumulate(times, max)), list(accumulate(reversed(times), min))[::-1]
    good = [k for k in keys if k and before[k - 1] < times[k] == after[k]]
    return tuple((k, times[k]) for k in [0, *good])


def _index_by_decoding(container: Any, video: Any, rate: Fraction) -> FrameIndex:
    """Count what comes out where packets do not tell: AVI without times, packed or hidden pictures."""
    tick = max(1, round(1 / (rate * as_fraction(video.time_base))))
    with failing_as_clip_error():
        container.seek(0)
        seen = [frame.pts for frame in decode_packets(video, container.demux(video), None)]
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


def decode_packets(video: Any, packets: Any, wanted: frozenset[int] | None, *, strict: bool = False) -> Any:
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
                raise ClipError("decode-error", words_of(error)) from None
            continue  # what is lost is found by counting: see the callers
        yield from frames
    context.skip_frame = "DEFAULT"


def frames_between(index: FrameIndex, start_s: float | None, end_s: float | None) -> range:
    """Indices of the frames shown from `start_s` up to `end_s` (seconds after the first frame)."""
    first = 0 if start_s is None else bisect.bisect_left(index.pts, index.pts[0] + start_s / index.time_base)
    last = len(index) if end_s is None else bisect.bisect_left(index.pts, index.pts[0] + end_s / index.time_base)
    return range(first, last)

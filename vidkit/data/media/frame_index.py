"""Which pictures a video stream shows and when, found by demuxing it once.

Frames are known by their presentation time, never by `index / rate`: that is what makes variable frame
rates, open GOPs and edit lists come out right. Where a container's times are none or cannot be
trusted, pictures are counted as they come out of the decoder.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import Any

import av

from vidkit.data.media import times as shown_times
from vidkit.data.media.opening import OpenVideo, failing_as_clip_error, words_of
from vidkit.data.media.packets import (
    BARE,
    CLOCKED,
    JUMP_S,
    PACKET_IS_PICTURE,
    Packets,
    closed_groups,
    field_coded,
    read_packets,
    tells_pictures,
)
from vidkit.data.media.promises import check_promises
from vidkit.data.media.stalls import Stall, find_stalls
from vidkit.data.media.times import ShownTimes
from vidkit.errors import ClipError

#: Decoders that leave out a picture on which none depends without changing what the others show.
_CAN_SKIP = frozenset({"h264", "hevc"})

#: More pictures a second are none, but ticks of a clock.
_FASTEST = 1000

#: A picture that stays for so many times the usual is worth a word.
_UNUSUAL = 10


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
    warnings: tuple[str, ...] = ()
    """What had to be made up or left out, in words; errors where decoding is strict."""

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


def build_index(opened: OpenVideo) -> FrameIndex:
    """Demux a file that was just opened once, and decode it where that does not tell.

    Raises:
        ClipError: `truncated` where the container promises more than it holds; `decode-error`, also where an
            index with warnings is made of a file that is open for strict decoding.
    """
    container, video = opened.container, opened.video
    with failing_as_clip_error():
        packets, opened.first = read_packets(container, video)
    broken = check_promises(opened.file, container, video, packets)
    if not len(packets):
        raise ClipError("truncated" if video.frames else "no-video-stream", "the video stream holds no packet")
    if len(packets.hidden) == len(packets):
        raise ClipError("decode-error", f"the edit list shows none of {len(packets)} frames")
    own = as_fraction(video.codec_context.framerate)
    own = own if 1 <= own <= _FASTEST or (opened.format in BARE and 0 < own < 1) else Fraction(0)
    rates = [as_fraction(video.average_rate), as_fraction(video.guessed_rate)]  # DV's average is that of its ticks
    if opened.format in BARE:
        rates.insert(0, own)
    rate = next((rate for rate in rates if 0 < rate <= _FASTEST), Fraction(25))
    if tells_pictures(container, video, packets) and not _stalls_by_time(packets, video, own):
        index = _index_by_time(packets, packets.shown, as_fraction(video.time_base), rate)
    else:
        index = _index_by_decoding(opened, packets, rate, own)
    if broken:
        index = replace(index, warnings=(*broken, *index.warnings))
    if opened.strict and index.warnings:
        raise ClipError("decode-error", index.warnings[0])
    return index


def _index_by_time(
    packets: Packets,
    shown: list[tuple[int, int]],
    time_base: Fraction,
    rate: Fraction,
    warnings: tuple[str, ...] = (),
) -> FrameIndex:
    pts = tuple(p for p, _ in shown)
    gap = packets.last_duration or (pts[-1] - pts[-2] if len(pts) > 1 else round(1 / (rate * time_base)))
    return FrameIndex(
        pts=pts,
        duration=max(pts[-1] + max(1, gap), packets.held_until or pts[-1]) - pts[0],
        time_base=time_base,
        position=tuple(k for _, k in shown),
        starts=closed_groups(packets),
        by_time=True,
        rate=rate,
        warnings=warnings,
    )


def _stalls_by_time(packets: Packets, video: Any, own: Fraction) -> tuple[Stall, ...]:
    shown = packets.shown
    lasts = [packets.durations[k] for _, k in shown]
    return find_stalls([time for time, _ in shown], lasts, as_fraction(video.time_base), own)


def _index_by_decoding(opened: OpenVideo, packets: Packets, rate: Fraction, own: Fraction) -> FrameIndex:
    """Count what comes out where packets do not tell: AVI without times, packed or hidden pictures, odd clocks."""
    losses = Losses()
    with failing_as_clip_error():
        frames = decode_packets(opened, opened.from_start(), None, losses=losses)
        told = [(frame.pts, frame.duration or 0) for frame in frames]
    if not told:
        raise ClipError("decode-error", "no frame could be decoded")
    came, lasts = [time for time, _ in told], [duration for _, duration in told]
    video = opened.video
    time_base = as_fraction(video.time_base)
    pictures = video.codec_context.name in PACKET_IS_PICTURE
    expected = len(packets) - len(packets.hidden) if pictures and not field_coded(video) else 0
    stalls = find_stalls(came, lasts, time_base, own) if opened.format != "avi" else ()
    if pictures and opened.format != "avi" and shown_times.increasing(came) and not stalls:
        timed = _by_time_after_all(packets, came, time_base, rate, opened)
        if timed is not None:
            return timed
    if stalls:  # an average of what stood still is none
        rate = own or 1 / (stalls[0].step * time_base)
    times = _times(opened, packets, came, time_base, rate, own, stalls)
    duration = times.pts[-1] - times.pts[0] + times.lasts
    if opened.format == "avi":  # to the end of the last empty chunk
        duration = max(duration, packets.places * times.lasts - times.pts[0])
    return FrameIndex(
        pts=times.pts,
        duration=duration,
        time_base=times.time_base,
        position=tuple(range(len(came))),
        starts=((0, times.pts[0]),),
        by_time=False,
        rate=rate,
        warnings=(
            *times.warnings,
            *losses.warnings(expected, len(came)),
        ),
    )


def _by_time_after_all(
    packets: Packets, came: list[int], time_base: Fraction, rate: Fraction, opened: OpenVideo
) -> FrameIndex | None:
    """An index by time, where all packets have one and the pictures came out in the order of these.

    Pictures at the beginning that refer to some before the file's are left out, as by every player. Others that
    did not come out are damaged: they stay in the index, and an error follows when they are wanted.
    """
    if None in packets.pts or _jumps(opened, came, time_base):
        return None
    shown = packets.shown
    expected = {p for p, _ in shown}
    lost = expected.difference(came)
    if len(expected) < len(shown) or len(lost) + len(came) != len(expected):
        return None
    if lost and field_coded(opened.video):
        return None
    key = packets.pts[packets.first_key] if packets.first_key < len(packets) else None
    early = {p for p, k in shown if p < came[0] and (k < packets.first_key or key is None or p < key)}
    cut = lost & early
    note = f"{len(cut)} frames at the beginning cannot be decoded: the file begins within a group of pictures"
    kept = [item for item in shown if item[0] not in cut]
    return _index_by_time(packets, kept, time_base, rate, (note,) if cut else ())


def _times(
    opened: OpenVideo,
    packets: Packets,
    came: list[int | None],
    time_base: Fraction,
    stated: Fraction,
    own: Fraction,
    stalls: tuple[Stall, ...],
) -> ShownTimes:
    tick = max(1, round(1 / (stated * time_base)))
    if opened.format == "avi":  # the n-th chunk is due at n / rate
        if len(came) == len(packets) and shown_times.increasing(packets.dts):
            return ShownTimes(tuple(d for d in packets.dts if d is not None), time_base, tick)
        if not shown_times.increasing(came):
            return ShownTimes(tuple(i * tick for i in range(len(came))), time_base, tick)
    if shown_times.increasing(came) and not _jumps(opened, came, time_base) and not stalls:
        return ShownTimes(tuple(p for p in came if p is not None), time_base, tick)
    jump = JUMP_S / time_base if opened.format in CLOCKED else None
    whose = "the stated rate"
    if opened.format in BARE:
        whose = "the coded stream's rate" if own else "ffmpeg's default, for the stream states no rate"
    return shown_times.mend(
        came, time_base, stated=stated, own=own or stated, jump=jump, whose=whose, stalls=stalls
    )


def _jumps(opened: OpenVideo, came: list[Any], time_base: Fraction) -> bool:
    return opened.format in CLOCKED and any((b - a) * time_base > JUMP_S for a, b in pairwise(came))


@dataclass(slots=True)
class Losses:
    """What did not come out of a decoder, so that it can be told."""

    packets: int = 0

    def warnings(self, expected: int, came: int) -> Iterator[str]:
        """`expected` pictures are known to be in the packets; 0 where that is not known."""
        if self.packets:
            yield f"{self.packets} packets could not be decoded"
        elif came < expected:
            yield f"{expected - came} of {expected} packets gave no picture"


def decode_packets(
    opened: OpenVideo, packets: Iterator[Any], wanted: frozenset[int] | None, *, losses: Losses | None = None
) -> Any:
    """Yield frames in the order they are shown. Damaged packets are passed over unless decoding is strict.

    `wanted` are the times of the pictures that are needed; others are skipped where nothing refers to them.
    """
    context = opened.video.codec_context
    if context.name not in _CAN_SKIP:
        wanted = None
    skipping = False
    for packet in itertools.chain(packets, (None,)):
        if packet is not None and not packet.size:
            continue  # a decoder would take an empty packet for the end
        if wanted is not None and packet is not None:
            skip = packet.pts not in wanted
            if skip != skipping:  # the decoder itself knows which pictures are not referred to
                context.skip_frame = "NONREF" if skip else "DEFAULT"
                skipping = skip
        try:
            frames = context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            if opened.strict:
                raise ClipError("decode-error", words_of(error)) from None
            if losses is not None:
                losses.packets += 1
            continue  # what is lost is found by counting: see the callers
        yield from frames
    context.skip_frame = "DEFAULT"


def frames_between(index: FrameIndex, start_s: float | None, end_s: float | None) -> range:
    """Indices of the frames shown from `start_s` up to `end_s` (seconds after the first frame)."""
    first = 0 if start_s is None else bisect.bisect_left(index.pts, index.pts[0] + start_s / index.time_base)
    last = len(index) if end_s is None else bisect.bisect_left(index.pts, index.pts[0] + end_s / index.time_base)
    return range(first, last)


def long_gaps(index: FrameIndex, span: range) -> tuple[str, ...]:
    """A warning where a picture stays for so much longer than the others that a clock may have jumped.

    It may as well be a still, so that the times stay as they are, and strict decoding minds nothing.
    """
    gaps = [b - a for a, b in pairwise(index.pts[span.start : span.stop])]
    limit = float(JUMP_S / index.time_base)
    if not gaps or max(gaps) <= limit:
        return ()
    limit = max(limit, float(_UNUSUAL * median_low(gaps)))
    long = [(gap, i) for i, gap in zip(span, gaps, strict=False) if gap > limit]
    if not long:
        return ()
    gap, i = max(long, key=lambda item: item[0])
    more = f", and {len(long) - 1} others for long" if len(long) > 1 else ""
    lasts_s = float(gap * index.time_base)
    return (f"frame {i} stays for {lasts_s:.1f} s{more}: a still, or a clock that jumped; the times are kept",)

"""One source clip -> one stored clip: H.264 in MP4, 8-bit 4:2:0, no audio, the same bytes every time.

In process (PyAV), because starting a program costs as much as a small clip. Only the pictures that
are kept, and those they depend on, are decoded. Frames are counted while they pass through.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.filter

from vidkit.data.media import frames as media
from vidkit.data.media.frames import as_fraction
from vidkit.errors import ClipError, clean_message
from vidkit.settings.encode import EncodeSettings

#: An annotated cut is not applied to a file this little longer than the cut: it is already trimmed.
TRIM_SLACK_S = 1.0

#: x264 gives the same bytes on every processor; without it, also not on sizes that are no multiple of 16.
_X264 = "threads=1:cpu-independent=1"

#: Longest side that H.264 allows.
_MAX_SIDE = 16384

#: Mean rates outside these come from damaged times; within them MP4's 32-bit ticks suffice.
_RATES = (Fraction(1, 100_000), Fraction(100_000))

#: Frames of a stored clip; nine hours at 30 frames a second. More come from damaged times, and fill the memory.
_MOST_FRAMES = 1_000_000

_SCALER = "flags=bicubic+accurate_rnd+bitexact+full_chroma_int"

#: One matrix and range for all stored clips, whatever the source has: those that decoders take where none is told.
_COLOURS = "out_color_matrix=bt601:out_range=tv"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredClip:
    """An encoded clip and what a reader must know of it."""

    data: bytes
    frames: int
    fps: float
    """Mean frames per second of the stored clip."""
    duration_s: float
    width: int
    height: int
    start_s: float | None
    """The cut that was applied; None where the file was already trimmed."""
    end_s: float | None
    source_frames: int
    """Frames that the source shows within the cut."""
    source_width: int
    source_height: int
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"StoredClip({self.frames} frames, {self.width}x{self.height}, {self.fps:.3f} fps, {len(self.data)} B)"
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Which frames are stored, and when each is shown: (index in the source, time in `time_base`)."""

    shown: tuple[tuple[int, int], ...]
    time_base: Fraction
    duration: int
    rate: Fraction


def encoder_fingerprint() -> dict[str, str]:
    """What besides settings and sources decides the bytes: library versions."""
    versions = {k: ".".join(map(str, v)) for k, v in sorted(av.library_versions.items())}
    keep = ("libavcodec", "libavfilter", "libavformat", "libavutil", "libswscale")
    return {"pyav": av.__version__, "x264": _x264_build(), **{k: versions[k] for k in keep}}


def _x264_build() -> str:
    """x264 tells its build in the stream it writes, and nowhere else."""
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 16, 16, "yuv420p", Fraction(1, 25)
    frame = av.VideoFrame(16, 16, "yuv420p")
    data = b"".join(bytes(p) for f in (frame, None) for p in context.encode(f))
    start = data.find(b"x264 - core ")
    return data[start + 12 : start + 40].split(b" - ")[0].decode("ascii", "replace") if start >= 0 else "unknown"


def transcode(
    source: media.Source,
    settings: EncodeSettings,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    strict: bool = False,
) -> StoredClip:
    """Decode, choose frames, crop, scale and encode one clip.

    Args:
        source: the file's bytes, or a binary file opened for reading.
        start_s, end_s: cut of an untrimmed original, in seconds after its first frame.
        strict: any damage that the decoder notices is an error instead of a warning.

    Raises:
        ClipError: with the code that belongs in the ledger.
    """
    with media.listening() as words, media.open_video(source, strict=strict, stream=settings.map) as opened:
        index = media.build_index(opened)
        words.count = 0  # what the first pass said is said again by the second
        words.said.clear()
        cut = cut_to_apply(index, start_s, end_s)
        span = media.frames_between(index, *cut)
        timing = choose_frames(index, span, settings)
        if len(timing.shown) < settings.min_frames:
            raise ClipError("too-short", f"{len(timing.shown)} frames; {settings.min_frames} are needed")
        frames = _in_time(media.decode(opened, index, [i for i, _ in timing.shown]), timing)
        data, size, source_size, count = _encode(frames, opened, timing, settings)
        if count != len(timing.shown):
            raise ClipError("decode-error", f"{count} of {len(timing.shown)} planned frames came out")
        warnings = (f"decoder reported {words.count} errors: {words.said[0]}",) if words.count else ()
        if strict and words.count:
            raise ClipError("decode-error", f"{words.count} errors reported: {words.said[0]}")
        return StoredClip(
            data=data,
            frames=count,
            fps=float(timing.rate),
            duration_s=float(timing.duration * timing.time_base),
            width=size[0],
            height=size[1],
            start_s=cut[0],
            end_s=cut[1],
            source_frames=len(span),
            source_width=source_size[0],
            source_height=source_size[1],
            warnings=(*opened.warnings, *index.warnings, *media.long_gaps(index, span), *warnings),
        )


def cut_to_apply(
    index: media.FrameIndex, start_s: float | None, end_s: float | None
) -> tuple[float | None, float | None]:
    """The cut to apply: none where the file is about as long as the cut, so already trimmed."""
    if start_s is None or end_s is None or index.duration_s <= end_s - start_s + TRIM_SLACK_S:
        return None, None
    if index.duration_s <= start_s:
        raise ClipError("too-short", f"the file lasts {index.duration_s:.1f} s; the clip starts at {start_s:g} s")
    if index.duration_s < end_s - TRIM_SLACK_S:
        raise ClipError("too-short", f"the file lasts {index.duration_s:.1f} s; the clip ends at {end_s:g} s")
    return start_s, end_s


def choose_frames(index: media.FrameIndex, span: range, settings: EncodeSettings) -> Timing:
    """Which frames are stored. All of them, with their own times, unless a rate or a limit says otherwise.

    N frames "uniformly over the whole clip" are the frames on screen at (k + 1/2) D / N, so that
    variable frame rates are sampled in time, not by frame number.
    """
    if not span:
        return Timing((), index.time_base, 0, index.rate)
    pts = index.pts[span.start : span.stop]
    end = index.pts[span.stop] if span.stop < len(index) else index.pts[0] + index.duration
    duration = end - pts[0]
    seconds = duration * index.time_base
    if not _RATES[0] <= len(pts) / seconds <= _RATES[1]:
        raise ClipError("decode-error", f"{len(pts)} frames in {float(seconds):g} s: the times make no sense")
    wanted_rate = None if settings.fps is None else Fraction(settings.fps).limit_denominator(1001)
    count = len(pts) if wanted_rate is None else max(1, round(seconds * wanted_rate))
    limited = settings.max_frames is not None and count > settings.max_frames
    if limited:
        count = settings.max_frames or count
    elif count > _MOST_FRAMES:
        raise ClipError("decode-error", f"{count:,} frames would be stored: the times make no sense")
    elif wanted_rate is None:
        shown = tuple((i, p - pts[0]) for i, p in zip(span, pts, strict=True))
        return Timing(shown, index.time_base, duration, Fraction(len(pts)) / seconds)
    rate = _in_32_bits(wanted_rate if wanted_rate and not limited else Fraction(count) / seconds)
    chosen = []
    at = 0
    step = 1 / (rate * index.time_base)
    for k in range(count):
        due = pts[0] + (k + Fraction(1, 2)) * step
        while at + 1 < len(pts) and pts[at + 1] <= due:
            at += 1
        chosen.append((span.start + at, k))
    return Timing(tuple(chosen), 1 / rate, count, rate)


def _in_32_bits(rate: Fraction) -> Fraction:
    """The rate as near as 32-bit numerators and denominators come to it."""
    if max(rate.numerator, rate.denominator) < 1 << 31:
        return rate
    return rate.limit_denominator(10_000) if rate > 1 else 1 / (1 / rate).limit_denominator(10_000)


def _in_time(frames: Iterator[tuple[int, Any]], timing: Timing) -> Iterator[tuple[Any, int]]:
    """Pair decoded frames with the times they are due; a frame that is due twice is given twice.

    Raises:
        ClipError: `decode-error` where one of them does not come out: the next one must not stand in for it.
    """
    current, picture = -1, None
    for i, time in timing.shown:
        while current < i:
            current, picture = next(frames, (1 << 62, None))
        if current != i:
            raise ClipError("decode-error", f"frame {i} of the source did not come out")
        yield picture, time


def stored_size(width: int, height: int, settings: EncodeSettings) -> tuple[int, int]:
    """(width, height) of the stored clip for a source shown at `width` x `height`; both even.

    Raises:
        ClipError: `encode-error` where H.264 has no such size.
    """
    if settings.fit == "crop":
        return settings.size, settings.size
    short = min(width, height)
    stored = [max(2, 2 * round(side * settings.size / short / 2)) for side in (width, height)]
    if max(stored) > _MAX_SIDE:
        raise ClipError("encode-error", f"{stored[0]}x{stored[1]} is more than H.264 allows ({_MAX_SIDE} a side)")
    return stored[0], stored[1]


class _Fitter:
    """Turns decoded frames upright, crops and scales them: one filter graph for each input format."""

    def __init__(self, opened: media.OpenVideo, settings: EncodeSettings, time_base: Fraction) -> None:
        self.opened, self.settings, self.time_base = opened, settings, time_base
        self.key: tuple[Any, ...] | None = None
        self.size: tuple[int, int] | None = None
        self.source_size: tuple[int, int] = (0, 0)
        self.aspect = Fraction(0)
        self.as_is = False

    def fit(self, frame: Any) -> Any:
        rotation = round(frame.rotation / 90) * 90 % 360
        key = (frame.width, frame.height, frame.format.name, rotation)
        if key != self.key:
            self._build(frame, rotation)
            self.key = key
        if self.as_is:
            return frame
        self.source.push(frame)
        return self.sink.pull()

    def _build(self, frame: Any, rotation: int) -> None:
        # Pixels are taken as stored, as every decoder gives them; an aspect that is not square is carried over as
        # a tag. Stretching would give Kinetics' common 340x256 copies another shape than everybody trains on.
        width, height = frame.width, frame.height
        turned = rotation in (90, 270)
        upright = (height, width) if turned else (width, height)
        if self.size is None:  # a picture size that changes on the way keeps the first frame's stored size
            self.source_size = upright
            self.size = stored_size(*upright, self.settings)
            # of the stream as it is now: the file may have been opened anew to decode it
            aspect = as_fraction(self.opened.video.sample_aspect_ratio)
            self.aspect = 1 / aspect if turned and aspect else aspect
        out_w, out_h = self.size
        self.as_is = (width, height) == self.size and not rotation and _is_plain(frame)
        if self.as_is:  # filters would copy every pixel, and change none
            return
        graph: Any = av.filter.Graph()
        graph.threads = 1
        self.source = graph.add_buffer(
            width=width, height=height, format=frame.format.name, time_base=self.time_base
        )
        chain = [self.source]
        if self.settings.fit == "crop":
            side = max(2, min(width, height))  # chroma has half the pixels, and needs one
            chain.append(graph.add("crop", f"{min(width, side)}:{min(height, side)}"))
        # scale before turning: there are fewer pixels to turn
        scale_to = (out_h, out_w) if turned else (out_w, out_h)
        chain.append(graph.add("scale", f"{scale_to[0]}:{scale_to[1]}:{_SCALER}:{_COLOURS}"))
        chain.append(graph.add("format", "pix_fmts=yuv420p"))
        if rotation:
            turn = {90: ("transpose", "dir=cclock"), 270: ("transpose", "dir=clock"), 180: ("hflip", "")}[rotation]
            chain.append(graph.add(*turn) if turn[1] else graph.add(turn[0]))
            if rotation == 180:
                chain.append(graph.add("vflip"))
        self.sink = graph.add("buffersink")
        graph.link_nodes(*chain, self.sink).configure()
        self.graph = graph  # keeps the filters alive


def _is_plain(frame: Any) -> bool:
    """8-bit 4:2:0 in the usual range and matrix: what filters would make of it."""
    usual_matrix = int(frame.colorspace) in (2, 5, 6)  # unspecified, and the two names of BT.601
    return bool(frame.format.name == "yuv420p" and int(frame.color_range) in (0, 1) and usual_matrix)


def _encode(
    frames: Iterator[tuple[Any, int]], opened: media.OpenVideo, timing: Timing, settings: EncodeSettings
) -> tuple[bytes, tuple[int, int], tuple[int, int], int]:
    """Fit, encode and mux; returns (mp4 bytes, stored size, source size, frames written)."""
    fitter = _Fitter(opened, settings, timing.time_base)
    file = io.BytesIO()
    times = [time for _, time in timing.shown]
    lasts = {time: after - time for time, after in zip(times, [*times[1:], timing.duration], strict=True)}
    options = {"crf": str(settings.crf), "preset": settings.preset, "g": str(settings.gop), "x264-params": _X264}
    if settings.tune:
        options["tune"] = settings.tune
    written = 0
    try:
        with av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as output:
            stream: Any = None
            for frame, time in frames:
                picture = fitter.fit(frame)
                if stream is None:
                    stream = _add_stream(output, picture, fitter.aspect, timing, options)
                picture.pts, picture.time_base = time, timing.time_base
                picture.pict_type = 0  # the source's picture types must not steer the encoder
                _mux(output, stream.encode(picture), lasts)
                written += 1
            if stream is not None:
                _mux(output, stream.encode(None), lasts)
    except av.error.FFmpegError as error:
        raise ClipError("encode-error", clean_message(str(error))) from None
    return file.getvalue(), fitter.size or (0, 0), fitter.source_size, written


def _mux(output: Any, packets: list[Any], lasts: dict[int, int]) -> None:
    """Write packets with how long each picture stays on screen; the encoder would guess for the last one."""
    for packet in packets:
        packet.duration = lasts[packet.pts]
        output.mux(packet)


def _add_stream(output: Any, picture: Any, aspect: Fraction, timing: Timing, options: dict[str, str]) -> Any:
    stream = output.add_stream("libx264", rate=_in_32_bits(timing.rate), options=options)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    context = stream.codec_context
    context.time_base = timing.time_base
    if aspect > 0 and aspect != 1:
        context.sample_aspect_ratio = aspect
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.bitexact
    # what `_COLOURS` made of the source's; primaries and transfer are not touched
    context.color_range = av.video.reformatter.ColorRange.MPEG
    context.colorspace = av.video.reformatter.Colorspace.SMPTE170M
    context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
    return stream

"""Video files whose times, headers or streams are odd, as recorders, cutters and old tools leave them.

    ODD[name].write(folder / f"x{ODD[name].suffix}")

Every player shows them, and so must vidkit. Frames show their own number; see `tests.indexclips`.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

from tests.badmedia import _box, _make, _patch, has_encoder
from tests.indexclips import FPS, FRAMES, X264_EXACT, add_tone, indexed_clip, indexed_frame

BFRAMES = f"bframes=2:b-adapt=0:keyint=12:min-keyint=12:scenecut=0:{X264_EXACT}"
H264_B = {"x264-params": BFRAMES}
SIZE = {"width": 64, "height": 48}


class Odd(NamedTuple):
    write: Callable[[Path], None]
    frames: int
    """How many a decoder gives; they show 0, 1, 2, ... after `first`."""
    duration_s: float
    warning: str = ""
    """What the ledger must say of it; empty: nothing."""
    suffix: str = ".mp4"
    first: int = 0
    refused: bool = True
    """Strict decoding refuses what has a warning, unless it is but a choice."""
    again: bool = False
    """The second half shows what the first one did."""

    @property
    def shows(self) -> list[int]:
        """The numbers that the frames show."""
        count = self.frames // (1 + self.again)
        return list(range(self.first, self.first + count)) * (1 + self.again)


# --- times -----------------------------------------------------------------------------------------


def blocks(data: bytearray) -> Iterator[tuple[int, int]]:
    """(offset of the cluster's time element's value, offset of a block's 16-bit time) in a Matroska file."""

    def vint(at: int) -> tuple[int, int]:
        width = 9 - data[at].bit_length()
        return int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1, at + width

    at = data.index(b"\x1f\x43\xb6\x75")
    while data[at : at + 4] == b"\x1f\x43\xb6\x75":
        size, start = vint(at + 4)
        end, time = start + size, 0
        at = start
        while at < end:
            kind = data[at]
            size, start = vint(at + 1)
            if kind == 0xE7:
                time = at
            elif kind == 0xA3:
                yield time, start + 1
            at = start + size


def cut_in_a_group(path: Path, untimed: int = 13) -> None:
    """A copy cut in the middle of a group: the first times are below zero, which Matroska cannot say."""
    indexed_clip(path, container="matroska", options=H264_B, **SIZE)

    def shift(data: bytearray) -> None:
        for _, at in blocks(data):
            struct.pack_into(">h", data, at, struct.unpack_from(">h", data, at)[0] - untimed * 1000 // FPS)

    _patch(path, shift)


def coarse_times(path: Path, gap_ms: int = 200) -> None:
    """Times in steps of several pictures."""
    indexed_clip(path, container="matroska", options={"x264-params": f"bframes=0:{X264_EXACT}"}, **SIZE)

    def blur(data: bytearray) -> None:
        for _, at in blocks(data):
            struct.pack_into(">h", data, at, struct.unpack_from(">h", data, at)[0] // gap_ms * gap_ms)

    _patch(path, blur)


def one_wild_time(path: Path) -> None:
    indexed_clip(path, container="matroska", options={"x264-params": f"bframes=0:{X264_EXACT}"}, **SIZE)
    _patch(path, lambda data: struct.pack_into(">h", data, list(blocks(data))[20][1], 30_000))


def decoding_times(path: Path) -> None:
    """Pictures that are reordered, with the times at which they are decoded: a lost table."""
    buffer = io.BytesIO()
    _write(buffer, "h264", indexed_frames(FRAMES), H264_B)
    with (
        av.open(io.BytesIO(buffer.getvalue()), format="h264") as source,
        av.open(os.fspath(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = i
            packet.duration = 1
            output.mux(packet)


def ts_joined(path: Path, again: int) -> None:
    """Two recordings one after the other; the second one's first picture is due at `again` (frames)."""
    part = path.with_name(path.name + ".part")
    half = FRAMES // 2
    indexed_clip(path, half, container="mpegts", **SIZE)
    indexed_clip(part, half, first=half, first_pts=again, container="mpegts", **SIZE)
    path.write_bytes(path.read_bytes() + part.read_bytes())
    part.unlink()


def ts_from_the_middle(path: Path) -> None:
    """A recording that was switched on within a group."""
    indexed_clip(path, container="mpegts", options={**H264_B, "g": "12"}, **SIZE)
    data = path.read_bytes()
    with av.open(os.fspath(path)) as container:
        starts = [p.pos for p in container.demux(video=0) if p.size]
    # the tables at the front stay
    path.write_bytes(data[: 188 * 3] + data[starts[5] // 188 * 188 :])


def _write(
    target: Any, container: str, frames: Iterable[Any], options: dict[str, str], codec: str = "libx264"
) -> None:
    with av.open(target, "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        stream: Any = output.add_stream(codec, rate=FPS, options={"preset": "veryfast", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def indexed_frames(count: int, width: int = 64, height: int = 48, first: int = 0) -> Iterator[Any]:
    for k in range(count):
        frame = av.VideoFrame.from_ndarray(indexed_frame(first + k, width, height), format="rgb24")
        frame.pts, frame.time_base = k, Fraction(1, FPS)
        yield frame


# --- AVI ---------------------------------------------------------------------------------------------

HELD = [k * 3 // 2 for k in range(FRAMES)]
"""Chunk of each picture where every third one is empty."""


def avi_with_empty_chunks(path: Path, **how: Any) -> None:
    indexed_clip(path, container="avi", pts=HELD, time_base=Fraction(1, FPS), **SIZE, **how)


def avi_that_ends_in_empty_chunks(path: Path, empty: int = 4) -> None:
    """The last chunks turned into empty ones, in the file and in its index."""
    indexed_clip(path, container="avi", codec="mjpeg", pix_fmt="yuvj420p", **SIZE)

    def hollow(data: bytearray) -> None:
        index = data.rindex(b"idx1")
        entries = [at for at in range(index + 8, len(data) - 15, 16) if data[at : at + 4] == b"00dc"]
        movi = data.index(b"movi")
        for at in entries[-empty:]:
            place, size = struct.unpack_from("<II", data, at + 8)
            chunk = movi + place
            assert data[chunk : chunk + 4] == b"00dc"
            struct.pack_into("<I", data, at + 12, 0)
            struct.pack_into("<I4sI", data, chunk + 4, 0, b"JUNK", size - 8 + size % 2)

    _patch(path, hollow)


def avi_packed(path: Path) -> None:
    """DivX's packed bitstream: a chunk holds a picture and the B-frame after it, the next one a place holder."""
    plain = io.BytesIO()
    _write(plain, "avi", indexed_frames(FRAMES), {"bf": "1", "b_strategy": "0", "g": "12"}, codec="mpeg4")
    with (
        av.open(io.BytesIO(plain.getvalue())) as source,
        av.open(os.fspath(path), "w", format="avi", container_options={"fflags": "+bitexact"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        coded = [bytes(p) for p in source.demux(video=0) if p.size]
        kinds = [data[data.index(b"\0\0\1\xb6") + 4] >> 6 for data in coded]
        chunks: list[bytes] = []
        for data, kind in zip(coded, kinds, strict=True):
            if kind == 2:
                chunks[-1] += data
                chunks.append(b"\0\0\1\xb6\x40\x00\x00")  # a P picture that is not coded
            else:
                chunks.append(data)
        assert 2 in kinds
        chunks[0] = b"\0\0\1\xb2DivX503b1393p" + chunks[0]
        for i, data in enumerate(chunks):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = i
            packet.is_keyframe = i == 0
            output.mux(packet)


# --- other streams -----------------------------------------------------------------------------------

SUBTITLES = "1\n00:00:00,000 --> 00:00:20,000\nstill there\n"


def subtitles_outlast(path: Path) -> None:
    with (
        av.open(io.BytesIO(SUBTITLES.encode()), format="srt") as words,
        av.open(os.fspath(path), "w", format="matroska", container_options={"fflags": "+bitexact"}) as output,
    ):
        stream = _video(output)
        text = output.add_stream_from_template(words.streams[0])
        for packet in words.demux():
            if packet.size:
                packet.stream = text
                output.mux(packet)
        _fill(output, stream)


def sound_outlasts(path: Path, container: str) -> None:
    with av.open(os.fspath(path), "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        stream = _video(output)
        sound = output.add_stream("aac", rate=16000, layout="mono")
        _fill(output, stream)
        add_tone(output, sound, 6.0)


def chapters_outlast(path: Path, container: str) -> None:
    with av.open(os.fspath(path), "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        output.set_chapters(
            [
                {
                    "id": i,
                    "start": i * 10,
                    "end": (i + 1) * 10,
                    "time_base": Fraction(1),
                    "metadata": {"title": "x"},
                }
                for i in range(3)
            ]
        )
        _fill(output, _video(output))


def _video(output: Any, width: int = 64, height: int = 48, codec: str = "libx264", **how: Any) -> Any:
    options = {"preset": "veryfast", "x264-params": X264_EXACT} if codec == "libx264" else {}
    stream = output.add_stream(codec, rate=FPS, options=options)
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.thread_count = 1
    for name, value in how.items():
        setattr(stream, name, value)
    return stream


def _fill(output: Any, stream: Any, count: int = FRAMES, first: int = 0) -> None:
    for frame in indexed_frames(count, stream.width, stream.height, first):
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


DEFAULT, COVER = av.stream.Disposition.default, av.stream.Disposition.attached_pic
NONE = av.stream.Disposition(0)


def two_streams(path: Path, container: str, default: tuple[bool, bool], sizes: tuple[int, int]) -> None:
    """The first stream shows 1000 and on, in 20 frames; the second 0 and on."""
    with av.open(os.fspath(path), "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        streams = [
            _video(output, size, size * 3 // 4, disposition=DEFAULT if flag else NONE)
            for size, flag in zip(sizes, default, strict=True)
        ]
        _fill(output, streams[0], 20, 1000)
        _fill(output, streams[1])


def with_cover(path: Path, flagged: bool) -> None:
    """A picture larger than the video, as an attached picture or as a track of one frame."""
    with av.open(os.fspath(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as output:
        cover = _video(output, 256, 192, "mjpeg", disposition=COVER if flagged else NONE)
        stream = _video(output, disposition=DEFAULT)
        _fill(output, cover, 1, 5000)
        _fill(output, stream)


def mp4_without_a_picture(path: Path) -> None:
    """A sample of no bytes: the picture before it stays."""
    indexed_clip(path, codec="mjpeg", pix_fmt="yuvj420p", container="mov", **SIZE)

    def empty(data: bytearray) -> None:
        sizes = _box(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
        last = sizes + 20 + 4 * (FRAMES - 1)
        struct.pack_into(">I", data, last, 0)

    _patch(path, empty)


MADE = "times were made"
JUMPS = "the clock jumps"
ORDINARY = FRAMES / FPS
ODD: dict[str, Odd] = {
    "cut-in-a-group": Odd(cut_in_a_group, FRAMES, ORDINARY, MADE, ".mkv"),
    "coarse-times": Odd(coarse_times, FRAMES, ORDINARY, MADE, ".mkv"),
    "one-wild-time": Odd(one_wild_time, FRAMES, ORDINARY, MADE, ".mkv"),
    "decoding-times": Odd(decoding_times, FRAMES, ORDINARY, MADE),
    "raw-h264": Odd(_make(indexed_clip, container="h264", options=H264_B, **SIZE), FRAMES, ORDINARY, MADE),
    "raw-mpeg2": Odd(
        _make(indexed_clip, container="mpeg2video", codec="mpeg2video", options={"bf": "2"}, **SIZE),
        FRAMES,
        ORDINARY,
    ),
    "ts-wraps": Odd(
        _make(indexed_clip, container="mpegts", first_pts=(1 << 33) // 3600 - 20, **SIZE),
        FRAMES,
        ORDINARY,
        suffix=".ts",
    ),
    "ts-joined-from-0": Odd(_make(ts_joined, again=0), FRAMES, ORDINARY, JUMPS, ".ts"),
    "ts-joined-an-hour-on": Odd(_make(ts_joined, again=90_000), FRAMES, ORDINARY, JUMPS, ".ts"),
    "ts-from-the-middle": Odd(ts_from_the_middle, 36, 36 / FPS, "cannot be decoded", ".ts", first=12),
    "avi-held-mpeg4": Odd(_make(avi_with_empty_chunks, codec="mpeg4"), FRAMES, 71 / FPS, suffix=".avi"),
    "avi-held-mjpeg": Odd(
        _make(avi_with_empty_chunks, codec="mjpeg", pix_fmt="yuvj420p"), FRAMES, 71 / FPS, suffix=".avi"
    ),
    "avi-held-h264": Odd(
        _make(avi_with_empty_chunks, options={"x264-params": f"bframes=0:{X264_EXACT}"}),
        FRAMES,
        71 / FPS,
        suffix=".avi",
    ),
    "avi-held-at-the-end": Odd(avi_that_ends_in_empty_chunks, FRAMES - 4, ORDINARY, suffix=".avi"),
    "avi-h264-b": Odd(
        _make(indexed_clip, container="avi", options=H264_B, **SIZE), FRAMES, ORDINARY, suffix=".avi"
    ),
    "avi-mpeg4-b": Odd(
        _make(indexed_clip, container="avi", codec="mpeg4", options={"bf": "2"}, **SIZE),
        FRAMES,
        ORDINARY,
        suffix=".avi",
    ),
    "avi-packed": Odd(avi_packed, FRAMES, ORDINARY, suffix=".avi"),
    "subtitles-outlast": Odd(subtitles_outlast, FRAMES, ORDINARY, suffix=".mkv"),
    "sound-outlasts-mkv": Odd(_make(sound_outlasts, container="matroska"), FRAMES, ORDINARY, suffix=".mkv"),
    "sound-outlasts-mp4": Odd(_make(sound_outlasts, container="mp4"), FRAMES, ORDINARY),
    "sound-outlasts-ts": Odd(_make(sound_outlasts, container="mpegts"), FRAMES, ORDINARY, suffix=".ts"),
    "chapters-outlast-mkv": Odd(_make(chapters_outlast, container="matroska"), FRAMES, ORDINARY, suffix=".mkv"),
    "chapters-outlast-mp4": Odd(_make(chapters_outlast, container="mp4"), FRAMES, ORDINARY),
    "default-second": Odd(
        _make(two_streams, container="mp4", default=(False, True), sizes=(64, 64)),
        FRAMES,
        ORDINARY,
        "number 1 was taken",
        refused=False,
    ),
    "larger-second": Odd(
        _make(two_streams, container="matroska", default=(False, False), sizes=(64, 80)),
        FRAMES,
        ORDINARY,
        "number 1 was taken",
        ".mkv",
        refused=False,
    ),
    "default-first": Odd(
        _make(two_streams, container="mp4", default=(True, False), sizes=(64, 80)),
        20,
        20 / FPS,
        "number 0 was taken",
        first=1000,
        refused=False,
    ),
    "with-cover": Odd(_make(with_cover, flagged=True), FRAMES, ORDINARY),
    "with-poster": Odd(_make(with_cover, flagged=False), FRAMES, ORDINARY),
    "sample-of-no-bytes": Odd(mp4_without_a_picture, FRAMES - 1, ORDINARY, suffix=".mov"),
    "mpeg-ps": Odd(
        _make(indexed_clip, container="vob", codec="mpeg2video", options={"bf": "2"}, **SIZE),
        FRAMES,
        ORDINARY,
        suffix=".vob",
    ),
    "fragmented": Odd(
        _make(indexed_clip, container_options={"movflags": "frag_keyframe+empty_moov"}, **SIZE), FRAMES, ORDINARY
    ),
    "gif": Odd(
        _make(indexed_clip, container="gif", codec="gif", pix_fmt="rgb8", **SIZE), FRAMES, ORDINARY, suffix=".gif"
    ),
    "flv": Odd(_make(indexed_clip, container="flv", options=H264_B, **SIZE), FRAMES, ORDINARY, suffix=".flv"),
    "asf": Odd(_make(indexed_clip, container="asf", codec="wmv2", **SIZE), FRAMES, ORDINARY, suffix=".asf"),
}
if has_encoder("libx265"):
    ODD["raw-hevc"] = Odd(
        _make(
            indexed_clip,
            container="hevc",
            codec="libx265",
            options={"x265-params": "pools=none:frame-threads=1:log-level=error"},
            **SIZE,
        ),
        FRAMES,
        ORDINARY,
        MADE,
    )
if has_encoder("libvpx"):
    ODD["vp8-hidden"] = Odd(
        _make(
            indexed_clip,
            codec="libvpx",
            container="webm",
            options={"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "4"},
            **SIZE,
        ),
        FRAMES,
        ORDINARY,
        suffix=".webm",
    )
if has_encoder("libtheora"):
    ODD["ogv"] = Odd(
        _make(indexed_clip, container="ogg", codec="libtheora", **SIZE), FRAMES, ORDINARY, suffix=".ogv"
    )

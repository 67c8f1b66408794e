"""More odd files, as recorders leave them: recordings joined, clocks set on the way, a still beside the video.

`ODD_RECORDINGS` has the form of `tests.oddmedia.ODD`.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.badmedia import _make, _patch, has_encoder
from tests.indexclips import FPS, FRAMES, X264_EXACT, add_tone, indexed_clip
from tests.oddmedia import (
    COVER,
    H264_B,
    JUMPS,
    MADE,
    NONE,
    ORDINARY,
    SIZE,
    Odd,
    _fill,
    _video,
    avi_with_empty_chunks,
    blocks,
)

GROUPS = f"bframes=0:keyint=12:min-keyint=12:scenecut=0:{X264_EXACT}"
HALF = FRAMES // 2

# --- joined, and clocks that were set -----------------------------------------------------------------


def flv_pictures(data: bytearray) -> Iterator[int]:
    """Offsets of the tags that hold a picture."""
    at = 13
    while at + 12 < len(data):
        if data[at] == 9 and data[at + 12] == 1:
            yield at
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")


def flv_joined(path: Path, *, with_header: bool) -> None:
    """A recording appended to itself: both halves begin alike, to the byte. Players stop at a second header."""
    indexed_clip(path, container="flv", options=H264_B, **SIZE)
    data = path.read_bytes()
    path.write_bytes(data + data[0 if with_header else 13 :])


def clock_set(path: Path, *, container: str, by_ms: int, options: dict[str, str]) -> None:
    """The clock runs on by `by_ms` at one picture; the header promises what an even clock would."""
    indexed_clip(path, container=container, options=options, **SIZE)

    def flv(data: bytearray) -> None:
        for tag in list(flv_pictures(data))[HALF:]:
            ms = int.from_bytes(data[tag + 4 : tag + 7], "big") + by_ms
            data[tag + 4 : tag + 7] = ms.to_bytes(3, "big")

    def matroska(data: bytearray) -> None:
        for _, block in list(blocks(data))[HALF:]:
            struct.pack_into(">h", data, block, struct.unpack_from(">h", data, block)[0] + by_ms)

    _patch(path, flv if container == "flv" else matroska)


def long_still(path: Path, seconds: int) -> None:
    """A variable rate: one picture stays for long. The header says how long all of it lasts."""
    pts = [k + (seconds * FPS if k >= HALF else 0) for k in range(FRAMES)]
    indexed_clip(path, pts=pts, **SIZE)


def with_times(path: Path, *, container: str, due: Callable[[int], int], tick: Fraction, **how: Any) -> None:
    """A copy whose packets are due at other times, in ticks; one that is not later than the last is a tick later,
    as copying programs write it.
    """
    part = path.with_name(path.name + ".part")
    indexed_clip(part, container="matroska", **SIZE, **how)
    with (
        av.open(os.fspath(part)) as source,
        av.open(os.fspath(path), "w", format=container, container_options={"fflags": "+bitexact"}) as output,
    ):
        if how.get("codec") == "libvpx":  # so that the file says how long a picture lasts: nothing in VP8 does
            stream = _video(output, codec="libvpx")
        else:
            stream = output.add_stream_from_template(source.streams.video[0])
            stream.time_base = tick
        last = -1
        for k, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            last = max(last + 1, due(k))
            packet.stream, packet.time_base = stream, tick
            packet.pts = packet.dts = last
            packet.duration = round(1 / (FPS * tick))
            output.mux(packet)
    part.unlink()


def set_back(by_s: Fraction, tick: Fraction) -> Callable[[int], int]:
    """The clock is set back in the middle."""
    return lambda k: round((Fraction(k, FPS) - by_s * (k >= HALF)) / tick)


def caught_up(k: int) -> int:
    """A camera that hangs for ten pictures, and then delivers them all at once; in ms."""
    return (k if k < 20 or k >= 30 else 30) * 1000 // FPS - (max(0, 30 - k) if k >= 20 else 0)


MS, FINE = Fraction(1, 1000), Fraction(1, 16_000)

# --- AVI ------------------------------------------------------------------------------------------------


def avi_ends_in_an_empty_chunk(path: Path, *, promised: bool, indexed: bool, **how: Any) -> None:
    """A picture shown twice as long, at the end. Header and index may know of it or not."""
    indexed_clip(path, container="avi", **SIZE, **how)
    data = path.read_bytes()
    index, movi = data.rindex(b"idx1"), data.index(b"movi")
    end = movi + int.from_bytes(data[movi - 4 : movi], "little")
    entries = data[index + 8 : index + 8 + int.from_bytes(data[index + 4 : index + 8], "little")]
    if indexed:
        entries += b"00dc" + struct.pack("<III", 0, end - movi, 0)
    made = bytearray(data[:end] + b"00dc\0\0\0\0" + b"idx1" + struct.pack("<I", len(entries)) + entries)
    struct.pack_into("<I", made, movi - 4, end - movi + 8)
    struct.pack_into("<I", made, 4, len(made) - 8)
    for name, offset in ((b"avih", 24), (b"strh", 40)):
        at = made.index(name) + offset
        struct.pack_into("<I", made, at, struct.unpack_from("<I", made, at)[0] + promised)
    path.write_bytes(made)


# --- beside the video -------------------------------------------------------------------------------------


def with_still(path: Path, container: str, *, flagged: bool = False, first: bool = True) -> None:
    """A track of one picture, larger than the video, and no header that says how many it has."""
    with av.open(os.fspath(path), "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        size = (256, 192, "mjpeg")
        flags = COVER if flagged else NONE
        still = _video(output, *size, disposition=flags) if first else None
        stream = _video(output, disposition=NONE)
        still = still or _video(output, *size, disposition=flags)
        _fill(output, still, 1, 5000)
        _fill(output, stream)


def with_attachment(path: Path) -> None:
    cover = io.BytesIO()
    with av.open(cover, "w", format="image2pipe") as output:
        _fill(output, _video(output, 256, 192, "mjpeg"), 1, 5000)
    with av.open(os.fspath(path), "w", format="matroska", container_options={"fflags": "+bitexact"}) as output:
        stream = _video(output)
        output.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        _fill(output, stream)


def with_time_code(path: Path) -> None:
    """A data track."""
    with av.open(os.fspath(path), "w", format="mov", container_options={"fflags": "+bitexact"}) as output:
        output.metadata["timecode"] = "01:00:00:00"
        _fill(output, _video(output))


def ogg(path: Path) -> None:
    """VP8 in Ogg; the sound lasts longer."""
    with av.open(os.fspath(path), "w", format="ogg", container_options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream("libvpx", rate=FPS, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream("flac", rate=16000, layout="mono")
        _fill(output, stream)
        add_tone(output, sound, 3.0, "s16")


PLAIN_B = {"codec": "mpeg4", "options": {"bf": "2"}}
PLAIN_H264 = {"options": {"x264-params": GROUPS}}
BACK_MS, AHEAD_MS = -HALF * 1000 // FPS, 30_000
LATER_S = (FRAMES - 1) / FPS + AHEAD_MS / 1000 + 1 / FPS
TEN = "made from the coded stream's rate, 10 frames a second"
STAYS = f"frame {HALF - 1} stays for"

ODD_RECORDINGS: dict[str, Odd] = {
    "flv-joined": Odd(_make(flv_joined, with_header=False), 2 * FRAMES, 2 * ORDINARY, JUMPS, ".flv", again=True),
    "flv-with-a-file-behind": Odd(
        _make(flv_joined, with_header=True), FRAMES, ORDINARY, "bytes follow the stream's end", ".flv"
    ),
    "flv-clock-runs-back": Odd(
        _make(clock_set, container="flv", by_ms=BACK_MS, options=H264_B), FRAMES, ORDINARY, JUMPS, ".flv"
    ),
    "flv-clock-runs-back-in-a-group": Odd(
        _make(clock_set, container="flv", by_ms=BACK_MS, options={"x264-params": f"bframes=0:{X264_EXACT}"}),
        FRAMES,
        ORDINARY,
        JUMPS,
        ".flv",
    ),
    "mkv-clock-runs-back": Odd(
        _make(clock_set, container="matroska", by_ms=BACK_MS, options={"x264-params": GROUPS}),
        FRAMES,
        ORDINARY,
        JUMPS,
        ".mkv",
    ),
    "flv-clock-jumps-ahead": Odd(
        _make(clock_set, container="flv", by_ms=AHEAD_MS, options=PLAIN_H264["options"]),
        FRAMES,
        LATER_S,
        STAYS,
        ".flv",
        refused=False,
    ),
    "mkv-clock-jumps-ahead": Odd(
        _make(clock_set, container="matroska", by_ms=AHEAD_MS, options=H264_B),
        FRAMES,
        LATER_S,
        STAYS,
        ".mkv",
        refused=False,
    ),
    "long-still": Odd(_make(long_still, seconds=60), FRAMES, ORDINARY + 60, f"{STAYS} 60.0 s", refused=False),
    "mkv-clock-stands-still": Odd(
        _make(with_times, container="matroska", due=set_back(Fraction(1), MS), tick=MS, **PLAIN_H264),
        FRAMES,
        ORDINARY,
        MADE,
        ".mkv",
    ),
    "mkv-clock-stands-still-and-goes-on": Odd(
        _make(with_times, container="matroska", due=set_back(Fraction(1, 2), MS), tick=MS, **PLAIN_H264),
        FRAMES,
        ORDINARY,
        "stands still 1 time: 12 of 48 frames",
        ".mkv",
    ),
    "mp4-clock-stands-still": Odd(
        _make(with_times, container="mp4", due=set_back(Fraction(1), FINE), tick=FINE, **PLAIN_H264),
        FRAMES,
        ORDINARY,
        MADE,
    ),
    "mkv-caught-up": Odd(
        _make(with_times, container="matroska", due=caught_up, tick=MS, **PLAIN_H264),
        FRAMES,
        ORDINARY,
        suffix=".mkv",
    ),
    "slow-raw-h264": Odd(_make(indexed_clip, container="h264", fps=10, **SIZE), FRAMES, FRAMES / 10, TEN),
    "slow-raw-mpeg4": Odd(
        _make(indexed_clip, container="m4v", fps=10, codec="mpeg4", **SIZE), FRAMES, FRAMES / 10, suffix=".m4v"
    ),
    "avi-b-held-mpeg4": Odd(_make(avi_with_empty_chunks, **PLAIN_B), FRAMES, 71 / FPS, suffix=".avi"),
    "avi-b-held-h264": Odd(_make(avi_with_empty_chunks, options=H264_B), FRAMES, 71 / FPS, suffix=".avi"),
    "avi-ends-empty-mpeg4-b": Odd(
        _make(avi_ends_in_an_empty_chunk, promised=True, indexed=True, **PLAIN_B),
        FRAMES,
        ORDINARY + 1 / FPS,
        suffix=".avi",
    ),
    "avi-ends-empty-h264": Odd(
        _make(avi_ends_in_an_empty_chunk, promised=True, indexed=False, **PLAIN_H264),
        FRAMES,
        ORDINARY + 1 / FPS,
        suffix=".avi",
    ),
    "avi-ends-empty-mjpeg": Odd(
        _make(avi_ends_in_an_empty_chunk, promised=False, indexed=True, codec="mjpeg", pix_fmt="yuvj420p"),
        FRAMES,
        ORDINARY + 1 / FPS,
        suffix=".avi",
    ),
    "still-mkv": Odd(_make(with_still, container="matroska"), FRAMES, ORDINARY, suffix=".mkv"),
    "still-after-mkv": Odd(_make(with_still, container="matroska", first=False), FRAMES, ORDINARY, suffix=".mkv"),
    "still-flagged-mkv": Odd(
        _make(with_still, container="matroska", flagged=True), FRAMES, ORDINARY, suffix=".mkv"
    ),
    "still-avi": Odd(_make(with_still, container="avi"), FRAMES, ORDINARY, suffix=".avi"),
    "cover-attached": Odd(with_attachment, FRAMES, ORDINARY, suffix=".mkv"),
    "time-code-track": Odd(with_time_code, FRAMES, ORDINARY, suffix=".mov"),
    "dv": Odd(
        _make(indexed_clip, frames=8, width=720, height=576, container="dv", codec="dvvideo"),
        8,
        8 / FPS,
        suffix=".dv",
    ),
    "interlaced": Odd(
        _make(indexed_clip, options={"x264-params": f"tff=1:bframes=2:{X264_EXACT}"}, **SIZE), FRAMES, ORDINARY
    ),
}
if has_encoder("libx265"):
    ODD_RECORDINGS["slow-raw-hevc"] = Odd(
        _make(
            indexed_clip, container="hevc", codec="libx265", fps=10, options={"x265-params": "pools=none"}, **SIZE
        ),
        FRAMES,
        FRAMES / 10,
        TEN,
    )
if has_encoder("libvpx"):
    ODD_RECORDINGS["vp8-clock-stands-still"] = Odd(
        _make(
            with_times,
            container="webm",
            due=set_back(Fraction(1), MS),
            tick=MS,
            codec="libvpx",
            options={"deadline": "realtime", "cpu-used": "8"},
        ),
        FRAMES,
        ORDINARY,
        MADE,
        ".webm",
    )
    ODD_RECORDINGS["ogg-vp8"] = Odd(ogg, FRAMES, ORDINARY, suffix=".ogv")

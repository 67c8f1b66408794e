"""Video files for tests: odd ones that must decode exactly, and broken ones with the error they must give.

    CASES[name].write(folder / f"x{CASES[name].suffix}")

The frames of every file show their own number; see `tests.indexclips`.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from tests.indexclips import (
    FPS,
    FRAMES,
    HEIGHT,
    WIDTH,
    X264_EXACT,
    add_tone,
    indexed_clip,
    indexed_frame,
    read_index,
    write_frames,
)

__all__ = [
    "CASES",
    "FOLLOWED",
    "NAMES",
    "Case",
    "indexed_clip",
    "indexed_frame",
    "read_index",
    "write_frames",
    "write_named",
]


def _patch(path: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def _box(data: bytes | bytearray, *names: bytes) -> int:
    """Offset of the first box with that path (mov atoms are `size, name, payload`)."""
    start, end = 0, len(data)
    for depth, name in enumerate(names):
        while True:
            size, found = struct.unpack_from(">I4s", data, start)
            if found == name:
                break
            start += size
            assert size >= 8, f"a box before {name!r} has no size"
            assert start < end, f"no {name!r} box"
        if depth < len(names) - 1:
            start, end = start + 8, start + size
    return start


# --- files that cannot be used -----------------------------------------------------------------


def zero_byte(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path, part: float, container: str = "mp4") -> None:
    """`part` of a file whose header, at the front, promises all of it."""
    indexed_clip(
        path, container=container, container_options={"movflags": "+faststart"} if container == "mp4" else {}
    )
    data = path.read_bytes()
    if container == "mp4":
        assert data.index(b"moov") < data.index(b"mdat")
    path.write_bytes(data[: int(len(data) * part)])


def no_moov(path: Path) -> None:
    """What an interrupted recording leaves: all the data, and no index."""
    indexed_clip(path)
    data = path.read_bytes()
    moov = _box(data, b"moov")
    assert moov > _box(data, b"mdat")
    path.write_bytes(data[:moov])


def audio_only(path: Path) -> None:
    write_frames(path, (), audio=True)


def cover_art(path: Path) -> None:
    """A song with a cover: the only "video" stream is one attached picture."""
    with av.open(os.fspath(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as output:
        sound = output.add_stream("aac", rate=16000, layout="mono")
        cover: Any = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(indexed_frame(0), format="rgb24")
        output.mux(cover.encode(frame))
        output.mux(cover.encode(None))
        add_tone(output, sound)


def text(path: Path) -> None:
    path.write_text("<!doctype html><title>Video unavailable</title>\n" * 40)


def picture(path: Path) -> None:
    """A JPEG under a video's name. FFmpeg opens it as a stream of one frame."""
    with av.open(os.fspath(path), "w", format="image2pipe") as output:
        stream: Any = output.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(indexed_frame(0), format="rgb24")))
        output.mux(stream.encode(None))


#: Beside a playlist lies the file it names, whole and decodable: whoever opens the playlist as
#: a video and gets frames has followed it. Its suffix is no video's, so folder scans skip it.
FOLLOWED = "followed.bin"


def hls_playlist(path: Path) -> None:
    indexed_clip(path.with_name(FOLLOWED), container="mpegts")
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.92,", FOLLOWED, "#EXT-X-ENDLIST"]
    path.write_text("\n".join(lines) + "\n")


def ffconcat(path: Path) -> None:
    indexed_clip(path.with_name(FOLLOWED), container="mpegts")
    path.write_text(f"ffconcat version 1.0\nfile {FOLLOWED}\n")


def flipped_bits(path: Path, bits: int = 200) -> None:
    """Flipped bits in the middle of the coded pictures; decoders conceal most of it."""

    def flip(data: bytearray) -> None:
        start = _box(data, b"mdat")
        size = struct.unpack_from(">I", data, start)[0]
        middle = np.arange(start + size * 3 // 10, start + size * 7 // 10)
        rng = np.random.default_rng(3)
        for at, bit in zip(rng.choice(middle, bits, replace=False), rng.integers(0, 8, bits), strict=True):
            data[at] ^= 1 << int(bit)

    indexed_clip(path)
    _patch(path, flip)


def zeroed_block(path: Path) -> None:
    """A tenth of the coded pictures reads as zeros, as after a lost disk block."""

    def zero(data: bytearray) -> None:
        start = _box(data, b"mdat")
        size = struct.unpack_from(">I", data, start)[0]
        first, length = start + size // 2, size // 10
        data[first : first + length] = bytes(length)

    indexed_clip(path)
    _patch(path, zero)


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    """Opening it for reading waits for a writer that never comes."""
    os.mkfifo(path)


def no_permission(path: Path) -> None:
    """Unreadable for everybody but root."""
    indexed_clip(path)
    path.chmod(0)


# --- files that are odd, and must decode to exactly their frames ---------------------------------

_MATRIX = {  # degrees clockwise on display -> a, b, c, d of the track header's matrix
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def rotated(path: Path, degrees: int) -> None:
    """Stored turned, with a display matrix that turns it upright: a phone held on its side."""
    frames = (np.rot90(indexed_frame(k), degrees // 90) for k in range(FRAMES))

    def turn(data: bytearray) -> None:
        header = _box(data, b"moov", b"trak", b"tkhd")
        assert data[header + 8] == 0, "version 0 has its matrix at byte 48"
        a, b, c, d = (value * 0x10000 for value in _MATRIX[degrees])
        struct.pack_into(">9i", data, header + 48, a, b, 0, c, d, 0, 0, 0, 0x40000000)

    write_frames(path, frames)
    _patch(path, turn)


def variable_rate(path: Path) -> None:
    """Gaps of 10 to 200 ms between frames, times in 1/1000 s."""
    gaps = np.random.default_rng(5).integers(10, 200, FRAMES - 1)
    pts = [0, *np.cumsum(gaps).tolist()]
    indexed_clip(path, pts=pts, time_base=Fraction(1, 1000))


def alpha(path: Path, codec: str, pix_fmt: str, container: str) -> None:
    """Half-transparent everywhere; the colours beneath are the ones to read."""
    veil = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    frames = (np.concatenate([indexed_frame(k), veil], axis=2) for k in range(FRAMES))
    write_frames(path, frames, codec=codec, pix_fmt=pix_fmt, container=container)


def open_gop(path: Path) -> None:
    """Frames shown before a keyframe that need the group before it."""
    params = f"open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:{X264_EXACT}"
    indexed_clip(path, options={"x264-params": params, "g": "12"})


EDIT_LIST_SKIPS = 10


def edit_list(path: Path) -> None:
    """The edit list starts 10 frames in, between keyframes: those 10 are stored but not shown."""

    def trim(data: bytearray) -> None:
        at = _box(data, b"moov", b"trak", b"edts", b"elst")
        version_flags, entries, duration, media_time = struct.unpack_from(">IIIi", data, at + 8)
        assert (version_flags, entries) == (0, 1)
        movie = struct.unpack_from(">I", data, _box(data, b"moov", b"mvhd") + 20)[0]
        media = struct.unpack_from(">I", data, _box(data, b"moov", b"trak", b"mdia", b"mdhd") + 20)[0]
        duration -= movie * EDIT_LIST_SKIPS // FPS
        struct.pack_into(">Ii", data, at + 16, duration, media_time + media * EDIT_LIST_SKIPS // FPS)

    indexed_clip(path)
    _patch(path, trim)


def late_start(path: Path) -> None:
    """The first frame is due at 4 s; no frame is missing."""
    indexed_clip(path, first_pts=100)


def trailing_junk(path: Path) -> None:
    indexed_clip(path)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)


def size_change(path: Path) -> None:
    """A stream that doubles its picture size half-way, as live recordings do."""
    second = path.with_name(path.name + ".part")
    indexed_clip(path, FRAMES // 2, container="mpegts")
    indexed_clip(
        second, FRAMES // 2, 2 * WIDTH, 2 * HEIGHT, first=FRAMES // 2, first_pts=FRAMES // 2, container="mpegts"
    )
    path.write_bytes(path.read_bytes() + second.read_bytes())
    second.unlink()


def av1(path: Path) -> None:
    os.environ.setdefault("SVT_LOG", "1")  # or the encoder prints 20 lines a clip
    indexed_clip(path, codec="libsvtav1", options={"preset": "10", "svtav1-params": "lp=1"})


def has_encoder(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except ValueError:  # UnknownCodecError
        return False
    return True


# --- all of them ---------------------------------------------------------------------------------


class Case(NamedTuple):
    """One kind of file and what must become of it."""

    write: Callable[[Path], None]
    error: str | None
    """A key of CLIP_ERRORS, or None: it must decode to exactly `frames` frames, in order."""
    frames: int | None = None
    suffix: str = ".mp4"
    first: int = 0
    """Index shown by the first frame."""
    shown: tuple[int, int] = (WIDTH, HEIGHT)
    """Width and height of the first frame as shown, after rotation."""
    concealed: bool = False
    """A tolerant decoder may give all frames, some of them wrong; a strict one must give `error`."""
    warning: str = ""
    """What is said of a file whose times had to be made; a strict decoder refuses it."""


def _make(function: Callable[..., None], *args: Any, **kwargs: Any) -> Callable[[Path], None]:
    return functools.partial(function, *args, **kwargs)


CASES: dict[str, Case] = {
    "zero-byte": Case(zero_byte, "empty"),
    "truncated-30": Case(_make(truncated, part=0.3), "truncated"),
    "truncated-60": Case(_make(truncated, part=0.6), "truncated"),
    "truncated-95": Case(_make(truncated, part=0.95), "truncated"),
    "truncated-mkv-50": Case(_make(truncated, part=0.5, container="matroska"), "truncated", suffix=".mkv"),
    "no-moov": Case(no_moov, "truncated"),
    "audio-only": Case(audio_only, "no-video-stream"),
    "cover-art": Case(cover_art, "no-video-stream"),
    "text": Case(text, "not-a-video"),
    "picture": Case(picture, "not-a-video"),
    "hls-playlist": Case(hls_playlist, "not-a-video"),
    "ffconcat": Case(ffconcat, "not-a-video"),
    "flipped-bits": Case(flipped_bits, "decode-error", FRAMES, concealed=True),
    "zeroed-block": Case(zeroed_block, "decode-error", FRAMES, concealed=True),
    "directory": Case(directory, "unreadable"),
    "fifo": Case(fifo, "unreadable"),
    "one-frame": Case(_make(indexed_clip, frames=1), None, 1),
    "odd-size": Case(_make(indexed_clip, width=97, height=75, pix_fmt="yuv444p"), None, FRAMES, shown=(97, 75)),
    "odd-size-vp9": Case(
        _make(indexed_clip, width=97, height=75, codec="libvpx-vp9", container="webm"),
        None,
        FRAMES,
        suffix=".webm",
        shown=(97, 75),
    ),
    "rotated-90": Case(_make(rotated, degrees=90), None, FRAMES),
    "rotated-180": Case(_make(rotated, degrees=180), None, FRAMES),
    "rotated-270": Case(_make(rotated, degrees=270), None, FRAMES),
    "variable-rate": Case(variable_rate, None, FRAMES),
    "ten-bit": Case(_make(indexed_clip, pix_fmt="yuv420p10le"), None, FRAMES),
    "alpha-qtrle": Case(_make(alpha, codec="qtrle", pix_fmt="argb", container="mov"), None, FRAMES, suffix=".mov"),
    "alpha-ffv1": Case(
        _make(alpha, codec="ffv1", pix_fmt="yuva420p", container="matroska"), None, FRAMES, suffix=".mkv"
    ),
    "alpha-vp9": Case(
        _make(alpha, codec="libvpx-vp9", pix_fmt="yuva420p", container="webm"), None, FRAMES, suffix=".webm"
    ),
    "open-gop": Case(open_gop, None, FRAMES),
    "edit-list": Case(edit_list, None, FRAMES - EDIT_LIST_SKIPS, first=EDIT_LIST_SKIPS),
    "late-start": Case(late_start, None, FRAMES),
    "trailing-junk": Case(trailing_junk, None, FRAMES),
    "size-change": Case(size_change, None, FRAMES, suffix=".ts", warning="the clock jumps 1 time"),
    "avi-mpeg4": Case(_make(indexed_clip, codec="mpeg4", container="avi"), None, FRAMES, suffix=".avi"),
    "mpeg-ts": Case(_make(indexed_clip, container="mpegts"), None, FRAMES, suffix=".ts"),
    "mkv": Case(_make(indexed_clip, container="matroska"), None, FRAMES, suffix=".mkv"),
    "vp9": Case(_make(indexed_clip, codec="libvpx-vp9", container="webm"), None, FRAMES, suffix=".webm"),
    "with-audio": Case(_make(indexed_clip, audio=True), None, FRAMES),
}
if os.geteuid() != 0:
    CASES["no-permission"] = Case(no_permission, "unreadable")
if has_encoder("libx265"):
    x265 = {"x265-params": "pools=none:frame-threads=1:log-level=error"}
    CASES["ten-bit-hevc"] = Case(
        _make(indexed_clip, codec="libx265", pix_fmt="yuv420p10le", options=x265), None, FRAMES
    )
if has_encoder("libsvtav1"):
    CASES["av1"] = Case(av1, None, FRAMES)

#: File names that break naive code; each holds an ordinary clip of `FRAMES` frames.
NAMES: dict[str, str] = {
    "spaces and quotes": 'it\'s "two" words  and `more` $(x);&.mp4',
    "leading dash": "-dQw4w9WgXc.mp4",
    "not UTF-8": os.fsdecode(b"caf\xe9 \xff\xfe.mp4"),
    "very long": "n" * 251 + ".mp4",
    "newline": "two\nlines.mp4",
    "other scripts": "視頻 🎬 видео.mp4",
    "looks like a pattern": "frame%03d.mp4",
    "looks like a protocol": "concat:a|b.mp4",
    "two dots": "a.b..c.mp4",
    "glob": "[a-z]*?.mp4",
}


def write_named(folder: Path) -> dict[str, Path]:
    """One ordinary clip under each of `NAMES`."""
    paths = {}
    for what, name in NAMES.items():
        paths[what] = folder / name
        indexed_clip(paths[what])
    return paths

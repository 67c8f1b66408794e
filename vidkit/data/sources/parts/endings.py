"""What a file's name says about it: endings, stems, and the first bytes where a name says nothing."""

from __future__ import annotations

import re
from pathlib import Path


def _endings(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


#: What the decoder opens and people film, cut or download with. Endings of ffmpeg's demuxers that mean pictures,
#: sound or the insides of a game are no videos here, nor is raw video, which says neither size nor rate.
VIDEO_ENDINGS = _endings(
    "mp4 m4v mov qt f4v mj2 3gp 3g2 ismv mkv mk3d webm avi divx xvid wmv asf flv kux "
    "ts mts m2ts m2t tp trp mpg mpeg mpe mpv m1v m2v vob vro ogv ogm ogx dv dif mxf nut "
    "rm rmvb amv ivf y4m gif wtv ty dav ifv mjpg mjpeg "
    "h261 h263 h264 264 avc h26l h265 265 hevc h266 266 vvc obu vc1"
)
TEXT_ENDINGS = _endings("csv tsv tab json txt list")
PARTIAL_ENDINGS = _endings("part tmp ytdl crdownload")

# "v1.2_clip" and "x.mp4.1" have no ending, but a dot
_ENDING = re.compile(r"\.[a-z][a-z0-9]*")

#: yt-dlp's mark of one stream of a video
_STREAM = re.compile(r"\.f[0-9]{1,4}", re.IGNORECASE)


def ending_of(path: str) -> str:
    """The last ending in small letters, with its dot; "" where the name has none.

    >>> ending_of("a.b/x.MP4"), ending_of("a.b/x")
    ('.mp4', '')
    """
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") + 1 else ""


def stem_of(path: str) -> str:
    """File name without folder and endings; downloaders stack them (`ID.webm.mp4`).

    >>> stem_of("a.b/123.webm.mp4"), stem_of("a.b/x.y.mp4"), stem_of("a.b/x")
    ('123', 'x.y', 'x')
    """
    slash, dot = path.rfind("/") + 1, path.rfind(".")
    if dot < slash:
        return path[slash:]
    stem = path[slash:dot]
    return _unstacked(stem) if "." in stem else stem


def _unstacked(stem: str) -> str:
    while True:
        inner, _, ending = stem.rpartition(".")
        if not inner or (f".{ending.lower()}" not in VIDEO_ENDINGS and not _STREAM.fullmatch(f".{ending}")):
            return stem
        stem = inner


def without_ending(path: str) -> str:
    """A video's path without its last ending, which is its native id where nothing better is known.

    >>> without_ending("run/x.y.mp4"), without_ending("run/v1.2_clip")
    ('run/x.y', 'run/v1.2_clip')
    """
    ending = ending_of(path)
    return path[: -len(ending)] if ending in VIDEO_ENDINGS else path


def has_ending(path: str) -> bool:
    """Whether a name says by an ending what the file is.

    >>> has_ending("a.b/x.bin"), has_ending("a.b/x"), has_ending("v1.2_clip")
    (True, False, False)
    """
    return _ENDING.fullmatch(ending_of(path)) is not None


def may_be_video(path: str) -> bool:
    """Whether a name has a video's ending, or none at all."""
    return ending_of(path) in VIDEO_ENDINGS or not has_ending(path)


#: (position, bytes) that a video file begins with
_SIGNS: tuple[tuple[int, bytes], ...] = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),  # ASF, WMV
    (0, b"\0\0\x01\xba"),  # MPEG program stream, VOB
    (0, b"\0\0\x01\xb3"),  # MPEG-1 and 2 video
    (0, b"\0\0\0\x01\x67"),  # H.264, with a parameter set first
    (0, b"\0\0\0\x01\x09"),
    (0, b"\0\0\0\x01\x40\x01"),  # H.265
    (0, b"OggS"),
    (0, b"GIF8"),
    (0, b".RMF"),
    (0, b"DKIF"),
    (0, b"YUV4MPEG2 "),
    (0, b"nut/multimedia container"),
)


def looks_like_video(path: Path) -> bool:
    """Whether a file begins as a video container does. It is opened: ask only where the name says nothing."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            return False
        with path.open("rb") as stream:
            start = stream.read(400)
    except (OSError, ValueError):
        return False
    return begins_as_video(start)


def begins_as_video(start: bytes) -> bool:
    """Whether the first 400 bytes of a file are a video container's."""
    for first, size in ((0, 188), (4, 192)):  # MPEG-TS, and with times in front of each packet
        if [start[at : at + 1] for at in range(first, first + 3 * size, size)] == [b"G"] * 3:
            return True
    return any(start[at : at + len(sign)] == sign for at, sign in _SIGNS)

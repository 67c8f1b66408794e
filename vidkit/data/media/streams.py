"""Which of a file's video streams is the clip: the one that ffmpeg would take."""

from __future__ import annotations

from typing import Any

from vidkit.errors import ClipError

#: Dispositions of pictures that are no video: a song's cover, thumbnails of a time line, a still.
_STILLS = 1 << 10 | 1 << 11 | 1 << 20

#: Pixels that the flag "default" outweighs, as in ffmpeg.
_DEFAULT_IS_WORTH = 5_000_000


def choose_stream(container: Any, number: int | None = None) -> tuple[Any, tuple[str, ...]]:
    """(the video stream, warnings). Covers and stills do not count.

    Args:
        number: take the n-th video stream, from 0, instead of the best one.

    Raises:
        ClipError: `no-video-stream`, `unsupported-codec`.
    """
    videos = _moving(container)
    if not videos:
        raise ClipError("no-video-stream", f"streams: {', '.join(s.type for s in container.streams) or 'none'}")
    if number is not None:
        if number >= len(videos):
            count = f"{len(videos)} video stream{'s' * (len(videos) > 1)}"
            raise ClipError("no-video-stream", f"the spec's map asks for video stream {number}; there is {count}")
        videos = [videos[number]]
    known = [stream for stream in videos if stream.codec_context is not None]
    if not known:
        raise ClipError("unsupported-codec", "no decoder for the video stream")
    best = max(known, key=_score)  # of equals, the first
    if len(videos) == 1:
        return best, ()
    size = f"{best.width}x{best.height}{', the default' * bool(_flags(best) & 1)}"
    return best, (f"{len(videos)} video streams; number {videos.index(best)} was taken ({size})",)


def _moving(container: Any) -> list[Any]:
    """Video streams that hold more than a picture."""
    videos = [stream for stream in container.streams.video if not _flags(stream) & _STILLS]
    if any(stream.frames > 1 for stream in videos):
        return [stream for stream in videos if stream.frames != 1]  # a poster that lacks its flag
    return videos


def _score(stream: Any) -> int:
    return int(stream.width * stream.height + _DEFAULT_IS_WORTH * (_flags(stream) & 1))


def _flags(stream: Any) -> int:
    return int(stream.disposition.value)

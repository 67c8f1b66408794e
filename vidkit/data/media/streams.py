"""Which of a file's video streams is the clip: the one that ffmpeg would take."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import av

from vidkit.errors import ClipError

#: Dispositions of pictures that are no video: a song's cover, thumbnails of a time line, a still.
_STILLS = 1 << 10 | 1 << 11 | 1 << 20

#: Pixels that the flag "default" outweighs, as in ffmpeg.
_DEFAULT_IS_WORTH = 5_000_000


def choose_stream(
    container: Any, number: int | None = None, posters: frozenset[int] = frozenset()
) -> tuple[Any, tuple[str, ...]]:
    """(the video stream, warnings). Covers and stills do not count.

    Args:
        number: take the n-th video stream, from 0, instead of the best one.
        posters: streams, by their index, that are known to hold one picture.

    Raises:
        ClipError: `no-video-stream`, `unsupported-codec`.
    """
    videos = _moving(container, posters)
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


def find_posters(container: Any) -> frozenset[int] | None:
    """Indexes of the video streams that hold one picture, where not all headers tell and there is a choice.

    The packets that tell are gone then, so that the container must be opened anew; None where none was read.
    """
    videos = [stream for stream in container.streams.video if not _flags(stream) & _STILLS]
    places = container.format.name == "avi"  # its headers count empty chunks as well
    counts = {stream.index: 0 if places else stream.frames for stream in videos}
    unknown = {index for index, count in counts.items() if not count}
    if len(videos) < 2 or not unknown:
        return None
    left = set(unknown)
    with suppress(av.error.FFmpegError):  # what is damaged is found by whoever reads the stream
        for packet in container.demux(*(container.streams[index] for index in unknown)):
            if packet.size:
                counts[packet.stream_index] += 1
                if counts[packet.stream_index] > 1:
                    left.discard(packet.stream_index)
                    if not left:
                        break
    return frozenset(index for index in left if counts[index] == 1)


def _moving(container: Any, posters: frozenset[int]) -> list[Any]:
    """Video streams that hold more than a picture."""
    videos = [stream for stream in container.streams.video if not _flags(stream) & _STILLS]
    moving = [stream for stream in videos if stream.frames != 1 and stream.index not in posters]
    return moving or videos  # a poster may lack its flag; but where all hold one picture, they are what there is


def _score(stream: Any) -> int:
    return int(stream.width * stream.height + _DEFAULT_IS_WORTH * (_flags(stream) & 1))


def _flags(stream: Any) -> int:
    return int(stream.disposition.value)

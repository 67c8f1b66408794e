"""Opening video files, and decoding exactly the frames that are asked for.

PyAV in process. Frames are found by an index of presentation times (`frame_index`), so that odd files
give the frames that were meant, or an error. Pictures that nobody needs and on which no other picture
depends are not decoded.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidkit.data.media.frame_index import (
    FrameIndex,
    as_fraction,
    build_index,
    decode_packets,
    frames_between,
    long_gaps,
)
from vidkit.data.media.opening import (
    FORMATS,
    STRICT,
    OpenVideo,
    Source,
    failing_as_clip_error,
    listening,
    open_video,
)
from vidkit.errors import ClipError

__all__ = [
    "FORMATS",
    "STRICT",
    "FrameIndex",
    "OpenVideo",
    "Source",
    "as_fraction",
    "build_index",
    "frames_between",
    "listening",
    "long_gaps",
    "open_video",
]


def decode(opened: OpenVideo, index: FrameIndex, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Yield (i, av.VideoFrame) for each distinct index in `wanted`, ascending.

    Only the groups of pictures that hold wanted frames are read; one seek to each.

    Raises:
        ClipError: `decode-error` where a wanted frame does not come out.
        IndexError: an index outside the clip.
    """
    order = sorted(set(wanted))
    if order and not 0 <= order[0] <= order[-1] < len(index):
        raise IndexError(f"frames {order[0]} to {order[-1]} of a clip of {len(index)} frames")
    with failing_as_clip_error():
        yield from (_decode_by_time if index.by_time else _decode_by_count)(opened, index, order)


def _decode_by_time(opened: OpenVideo, index: FrameIndex, order: list[int]) -> Iterator[tuple[int, Any]]:
    for start, group in _groups(index, order):
        pts = {index.pts[i]: i for i in group}
        packets = opened.from_start() if start is None else opened.from_time(start)
        left = len(group)
        frames = decode_packets(opened, packets, frozenset(pts))
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
    opened.video.codec_context.skip_frame = "DEFAULT"


def _decode_by_count(opened: OpenVideo, index: FrameIndex, order: list[int]) -> Iterator[tuple[int, Any]]:
    left = iter(order)
    target = next(left, None)
    if target is None:
        return
    for i, frame in enumerate(decode_packets(opened, opened.from_start(), None)):
        if i == target:
            yield i, frame
            target = next(left, None)
            if target is None:
                return
    raise ClipError("decode-error", f"frame {target} of {len(index)} did not come out")


def _groups(index: FrameIndex, order: list[int]) -> Iterator[tuple[int | None, list[int]]]:
    """Split wanted frames into runs that are decoded without a seek: (time to seek to, frames).

    Neighbouring groups are read through: a seek costs more than the pictures between them.
    """
    positions = [p for p, _ in index.starts]
    run: list[int] = []
    run_start: int | None = None
    run_group = -1
    for i in order:
        g = bisect.bisect_right(positions, index.position[i]) - 1
        if run and g > run_group + 1:
            yield run_start, run
            run, run_start = [], None
        if not run:
            run_start = index.starts[g][1] if g > 0 else None
        run.append(i)
        run_group = g
    if run:
        yield run_start, run


class ClipReader:
    """Random access to the frames of one clip held in memory.

    >>> reader = ClipReader(mp4_bytes)                      # doctest: +SKIP
    >>> reader.frames([0, 40, 4])                           # doctest: +SKIP
    array of shape (3, H, W, 3), uint8 RGB, upright, in the order asked for
    """

    def __init__(self, source: Source, *, strict: bool = False) -> None:
        self.opened = OpenVideo(source, strict=strict)
        try:
            self.index = build_index(self.opened)
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
        self.opened.close()

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
        for i, frame in decode(self.opened, self.index, list(where)):
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

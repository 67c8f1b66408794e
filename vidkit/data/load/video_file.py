"""Any video file, looked at as a test looks at a stored clip: the same frames, crops and scaling.

A stored clip comes out exactly as `ClipDataset` gives it. An original is scaled here from its own size, where a
dataset was scaled and encoded first, and its frames are counted at its own rate: scores differ a little.

Shapes: T frames, S spatial views, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidkit.data.load.augment import view_box
from vidkit.data.load.sampling import Draw, Indices, Sampling, draw, render
from vidkit.data.media.frames import ClipReader, Source
from vidkit.data.paths import open_source, path_to_text
from vidkit.errors import ClipError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class FileView:
    """One temporal view of a file, with all its spatial views."""

    video: Tensor
    """(S, C, T, size, size) uint8. In memory the channels come last."""
    frames: Indices
    """(T,) numbers of the frames in the file."""

    def __repr__(self) -> str:
        return f"FileView(video {tuple(self.video.shape)})"


def read_views(path: Path, sampling: Sampling) -> Iterator[FileView]:
    """The temporal views of a video file, one after the other: memory holds the frames of one.

    Args:
        sampling: of a test, so that nothing is random.

    Raises:
        ClipError: the file cannot be opened or decoded.
    """
    _check(sampling)
    name = path_to_text(path.name)
    with open_source(str(path.parent), name, follow_symlinks=True) as file:
        yield from views_in(file, sampling)


def views_in(source: Source, sampling: Sampling) -> Iterator[FileView]:
    """As `read_views`, of a file that is open, or of its bytes."""
    _check(sampling)
    spatial = sampling.views[1]
    with ClipReader(source) as reader:
        if not len(reader):
            raise ClipError("decode-error", "the video stream shows no frame")
        # the size that a file is shown at is known once a frame is decoded; the choice of frames needs none
        indices_KT = draw(sampling, len(reader), 1, 1, (0, 0, 0, 0)).indices
        for frames in indices_KT:
            pictures = reader.frames(frames.tolist())
            height, width = pictures.shape[1:3]
            boxes = tuple(view_box(height, width, s, spatial, sampling.crop_share) for s in range(spatial))
            video = render(sampling, Draw(frames[None], (0,) * spatial, boxes, ()), pictures)
            yield FileView(video, frames)


def _check(sampling: Sampling) -> None:
    if sampling.training:
        raise ValueError("a file is looked at as in a test; give Sampling(training=False)")

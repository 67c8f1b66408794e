"""Which frames of a clip, and which part of the picture: drawn from (seed, epoch, clip) and nothing else.

A *row* is one clip tensor that goes into a batch. Training takes `repeats` rows from one decode, a test
takes K temporal views x S spatial ones. Frame numbers count the stored clip's frames.

Where a clip is too short for T frames at the stride, it is read from its first frame on and its last
frame is repeated (VideoMAE's rule for Kinetics). Shapes: T frames, K temporal views, R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from vidkit.data.load.augment import Augment, Box, augment_row, crop_resize, draw_box, view_box
from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["train", "segments", "views"]
Indices = npt.NDArray[np.int64]


def strided(count: int, start: int, frames: int, stride: int) -> Indices:
    """(T,) frame numbers from `start` on; the last frame repeats where the clip ends.

    >>> strided(10, 4, 4, 3)
    array([4, 7, 9, 9])
    """
    return np.minimum(start + stride * np.arange(frames), count - 1)


def random_start(count: int, frames: int, stride: int, rng: np.random.Generator) -> Indices:
    """(T,) at `stride` from a start that is uniform over those where all frames fit; 0 where they never do."""
    span = (frames - 1) * stride + 1
    return strided(count, int(rng.integers(0, max(1, count - span + 1))), frames, stride)


def uniform_starts(count: int, frames: int, stride: int, views: int) -> Indices:
    """(K, T) at `stride` from K starts, evenly from the first to the last that fits; K = 1: the middle."""
    room = max(0, count - ((frames - 1) * stride + 1))
    starts = [room // 2] if views == 1 else [round(k * room / (views - 1)) for k in range(views)]
    return np.stack([strided(count, start, frames, stride) for start in starts])


def segments(count: int, frames: int, where: float | npt.NDArray[np.float64]) -> Indices:
    """(T,) one frame from each of T equal segments of the whole clip, `where` in [0, 1) of each segment.

    Segments are cut in time, so a clip of fewer than T frames shows some of them more than once (TSN's
    sampling, as VideoMAE uses it for Something-Something v2).

    >>> segments(8, 4, 0.5), segments(3, 4, 0.5)
    (array([1, 3, 5, 7]), array([0, 1, 1, 2]))
    """
    return np.minimum(np.floor((np.arange(frames) + where) * count / frames).astype(np.int64), count - 1)


def _train(count: int, s: Sampling, rng: np.random.Generator) -> Indices:
    return random_start(count, s.frames, s.stride, rng)[None]


def _views(count: int, s: Sampling, rng: np.random.Generator) -> Indices:
    return uniform_starts(count, s.frames, s.stride, s.views[0])


def _segments(count: int, s: Sampling, rng: np.random.Generator) -> Indices:
    if s.training:
        return segments(count, s.frames, rng.random(s.frames))[None]
    return np.stack([segments(count, s.frames, (k + 0.5) / s.views[0]) for k in range(s.views[0])])


#: (K, T) frame numbers by mode; K is 1 in training.
TIME: dict[Mode, Callable[[int, Sampling, np.random.Generator], Indices]] = {
    "train": _train,
    "segments": _segments,
    "views": _views,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How rows are taken from a clip."""

    frames: int = 16
    """T."""
    stride: int = 4
    """Between frames, in stored frames; unused with segments."""
    mode: Mode = "train"
    """"train": at the stride from a random start. "segments": one frame from each of T segments of the whole
    clip, random within (training) or the middle. "views": at the stride from K uniform starts (test)."""
    training: bool = True
    """Random and augmented; otherwise nothing is random."""
    size: int = 64
    """Pixels: side of the square that comes out."""
    views: tuple[int, int] = (1, 1)
    """Temporal x spatial views in a test. Spatial ones lie evenly along the longer side."""
    crop_share: float = 1.0
    """Side of the test crop, as a share of the picture's short side: 224 out of 256 is 0.875."""
    repeats: int = 1
    """Rows from one decode in training, each with its own crop, flip and so on of the same frames."""
    augment: Augment = field(default_factory=Augment)
    flip: bool = False
    """Whether the dataset allows left-right flips; where it does not, none happens whatever `augment` says."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("frames", "stride", "size", "repeats"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.mode in get_args(Mode), "mode", self.mode, "'train', 'segments' or 'views'")
        fits = self.mode == "segments" or self.training == (self.mode == "train")
        faults.check(fits, "training", self.training, f"{self.mode == 'train'} with mode {self.mode!r}")
        two = len(self.views) == 2 and min(self.views) >= 1
        faults.check(two, "views", self.views, "two numbers from 1: temporal x spatial")
        faults.check(not self.training or self.views == (1, 1), "views", self.views, "(1, 1) in training")
        faults.check(self.training or self.repeats == 1, "repeats", self.repeats, "1 outside training")
        faults.check(0 < self.crop_share <= 1, "crop_share", self.crop_share, "above 0, at most 1")
        faults.raise_if_any("sampling settings")

    @property
    def rows(self) -> int:
        """R: rows that one clip gives."""
        return self.repeats if self.training else self.views[0] * self.views[1]


def is_training(mode: Mode, training: bool | None) -> bool:
    """What `mode` says where `training` is None.

    Raises:
        ConfigError: it says nothing.
    """
    if training is None and mode == "segments":
        raise ConfigError(
            "mode 'segments' serves training and tests",
            field="training",
            hint="say training=True or training=False",
        )
    return mode == "train" if training is None else training


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """What is read from one clip. Row r shows frames `indices[which[r]]`, cut to `boxes[r]`.

    `rngs[r]` goes on with the row's own random numbers, for augmentation after the crop; empty in a test.
    """

    indices: Indices
    which: tuple[int, ...]
    boxes: tuple[Box, ...]
    rngs: tuple[np.random.Generator, ...]


def sample_rng(seed: int, epoch: int, index: int, turn: int, stream: int) -> np.random.Generator:
    """Random numbers of one clip in one epoch; `turn` counts its uses within the epoch, `stream` is 0 for
    the choice of frames and r + 1 for row r. Workers and ranks have no part in it.
    """
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, index, turn, stream)))


def draw(sampling: Sampling, count: int, height: int, width: int, key: tuple[int, int, int, int]) -> Draw:
    """Choose frames and boxes for one clip.

    Args:
        count, height, width: frames and size of the stored clip.
        key: (seed, epoch, index, turn), see `sample_rng`.
    """
    indices = TIME[sampling.mode](count, sampling, sample_rng(*key, 0))
    if sampling.training:
        rngs = tuple(sample_rng(*key, row + 1) for row in range(sampling.repeats))
        boxes = tuple(draw_box(sampling.augment, height, width, rng, flip=sampling.flip) for rng in rngs)
        return Draw(indices, (0,) * sampling.repeats, boxes, rngs)
    temporal, spatial = sampling.views
    boxes = tuple(view_box(height, width, s, spatial, sampling.crop_share) for s in range(spatial))
    return Draw(indices, tuple(k for k in range(temporal) for _ in range(spatial)), boxes * temporal, ())


def render(sampling: Sampling, drawn: Draw, pictures: npt.NDArray[np.uint8]) -> Tensor:
    """(R, C, T, S, S) uint8, channels last in memory.

    Args:
        pictures: (K * T, H, W, 3), the frames of `drawn.indices` one view after the other.
    """
    import torch

    threads = torch.get_num_threads()
    if threads > 1:  # without workers: on busy cores, threads that wait for each other cost ten times the work
        torch.set_num_threads(1)
        try:
            return render(sampling, drawn, pictures)
        finally:
            torch.set_num_threads(threads)
    views_KTHWC = torch.from_numpy(pictures).view(*drawn.indices.shape, *pictures.shape[1:])
    rows = []
    for row, (view, box) in enumerate(zip(drawn.which, drawn.boxes, strict=True)):
        video_TCHW = crop_resize(views_KTHWC[view], box, sampling.size)
        if drawn.rngs:
            video_TCHW = augment_row(video_TCHW, sampling.augment, drawn.rngs[row])
        rows.append(video_TCHW.permute(1, 0, 2, 3))
    return rows[0][None] if len(rows) == 1 else torch.stack(rows)

"""Clips as pixels in host memory, for learners that train an encoder: each clip is decoded once.

Shapes: n clips of the dataset, m clips that are held, B clips asked for, T frames, S pixels of a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidkit.data.load.cache import available_memory
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError, TrainingError
from vidkit.fewshot.episodes.class_split import ClassSplit, MetaSplit
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.settings.fewshot import PIXEL_LEARNERS, FewshotConfig
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import ViewConfig
from vidkit.train.inference import open_views

#: The rest of what is free is for the model and its activations.
USABLE = 0.9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipPixels:
    """Some of a dataset's clips, decoded."""

    video: Tensor
    """(m, 3, T, S, S) uint8 in host memory; the channels come last there."""
    place: Tensor
    """(n,) int64: where a row of the `LabelledClips` is in `video`; -1: it is not held."""

    def __post_init__(self) -> None:
        if self.video.dtype != torch.uint8 or self.video.ndim != 5:
            raise ValueError(
                f"clips are {self.video.dtype} of shape {tuple(self.video.shape)}; expected uint8 in 5"
            )

    def __repr__(self) -> str:
        return f"ClipPixels({tuple(self.video.shape)}, of {len(self.place):,} clips)"

    def take(self, rows_B: Tensor) -> Tensor:
        """(B, 3, T, S, S) uint8, on the CPU.

        Raises:
            IndexError: a clip that is not held.
        """
        places = self.place[rows_B.cpu()]
        if (places < 0).any():
            raise IndexError(f"clips {rows_B[places.to(rows_B.device) < 0].tolist()} are not held in memory")
        return self.video[places]


def meta_splits_needed(config: FewshotConfig) -> tuple[MetaSplit, ...]:
    """Classes whose clips learners need as pixels; empty where all of them learn from features."""
    if config.tune:
        return ("train", "val", "test")
    return ("val", "test") if not PIXEL_LEARNERS.isdisjoint(config.learners) else ()


def class_rows(clips: LabelledClips, names: Sequence[str]) -> Tensor:
    """Rows of the clips of these classes, ascending."""
    number = {name: i for i, name in enumerate(clips.classes)}
    return torch.from_numpy(np.flatnonzero(np.isin(clips.class_id, [number[name] for name in names])))


def load_pixels(
    clips: LabelledClips,
    split: ClassSplit,
    meta_splits: Sequence[MetaSplit],
    vit: ViTConfig,
    views: ViewConfig,
    *,
    limit: int | None = None,
    batch_size: int = 16,
    workers: int = 2,
    quiet: bool = False,
) -> ClipPixels:
    """Decode the clips of some meta-splits' classes as feature extraction looks at them: one view, not augmented.

    Args:
        vit: whose frames and size are wanted.
        views: of `inference.views_of`.
        limit: bytes that they may take, m x 3 T S S; None: nine tenths of what is free.

    Raises:
        ConfigError: they take more memory than that.
        DatasetError: a clip that cannot be decoded.
    """
    wanted = class_rows(clips, [name for part in meta_splits for name in split.names(part)])
    shape = (len(wanted), vit.frames, vit.size, vit.size, 3)
    _check_memory(shape, meta_splits, limit)
    place = torch.full((len(clips),), -1, dtype=torch.int64)
    place[wanted] = torch.arange(len(wanted))
    video = torch.empty(shape, dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    filled = 0
    parts = zip(clips.splits, clips.firsts, clips.firsts[1:], strict=False)
    chosen = [part for part in parts if (place[part[1] : part[2]] >= 0).any()]
    total = sum(last - first for _, first, last in chosen)
    with Progress("reading clips", total, quiet=quiet) as progress:
        for name, first, _ in chosen:
            dataset = open_views(clips.dataset.root, name, vit, views)
            loader = ClipLoader(dataset, batch_size=batch_size, workers=workers)
            try:
                for batch in loader:
                    target = place[batch.index + first]
                    held = target >= 0
                    video[target[held]] = batch.video[held]
                    filled += int(held.sum())
                    progress.advance(by=len(batch))
            finally:
                loader.close()
    if filled != len(wanted):
        raise TrainingError(f"{filled:,} of {len(wanted):,} clips came")
    return ClipPixels(video=video, place=place)


def _check_memory(shape: tuple[int, ...], meta_splits: Sequence[MetaSplit], limit: int | None) -> None:
    needed = int(np.prod(shape, dtype=np.int64))
    free = available_memory()
    room = limit if limit is not None else None if free is None else int(USABLE * free)
    if room is None or needed <= room:
        return
    count, frames, size = shape[:3]
    which = ", ".join(f"meta-{part}" for part in meta_splits)
    there = "the limit is" if limit is not None else "memory has room for"
    raise ConfigError(
        f"the {count:,} clips of {which} as {frames} frames of {size} x {size} pixels take {_size(needed)}; "
        f"{there} {_size(room)}",
        field="--tune" if "train" in meta_splits else "--learner",
        hint="use fewer clips or classes (--splits, --class-split), an encoder for smaller pictures, or more "
        "memory; learners on the features of a frozen encoder need none of this",
    )


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count:,} bytes"

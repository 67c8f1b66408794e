"""Pixels as features: what an encoder must be better than, since it has learned nothing.

8 frames, one from each eighth of the clip, averaged in pairs and over squares to 4 steps x 3 colours x 8 x 8
places, between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.storage.places import Place
from vidkit.train.features.extract import Source, chosen_splits, write
from vidkit.train.features.readout import Reading
from vidkit.train.files import check_place

#: Frames and side that are read, and times and places that they are averaged to.
FRAMES, SIDE, TIMES, PLACES = 8, 32, 4, 8

READING = Reading(0, norm=False)


def pixel_features(video_BCTHW: Tensor) -> Tensor:
    """(B, 3, 8, 32, 32) of 0 to 255 -> (B, 4, 192) between 0 and 1."""
    pool = (FRAMES // TIMES, SIDE // PLACES, SIDE // PLACES)
    places_BCTHW = torch.nn.functional.avg_pool3d(video_BCTHW.float() / 255, pool)
    return places_BCTHW.transpose(1, 2).flatten(2)


def run(
    data: Place,
    out: Path,
    *,
    splits: Sequence[str] | None = None,
    batch_size: int = 16,
    workers: int = 2,
    tell: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write them for every usable clip to `out`, as `extract.run` writes an encoder's.

    Raises:
        ConfigError, DatasetError, TrainingError: as `extract.run`.
    """
    check_place(out, "features")
    source = Source(
        read=lambda video: [pixel_features(video)],
        readings=(READING,),
        readout="slots",
        shape=(TIMES, 3 * PLACES * PLACES),
        device=torch.device("cpu"),
        facts={"checkpoint": None, "checkpoint_sha256": None, "checkpoint_kind": "pixels"},
    )
    look: dict[str, Any] = {"frames": FRAMES, "mode": "segments", "training": False, "size": SIDE}
    datasets = [ClipDataset(data, split, **look) for split in chosen_splits(data, splits)]
    return write(data, datasets, source, out, batch_size=batch_size, workers=workers, tell=tell, quiet=quiet)

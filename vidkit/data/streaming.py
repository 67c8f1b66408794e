"""Clips from shards that are streamed: over HTTP, from object stores, through pipes. By webdataset.

A stream has no length, no exact resume, and an order that depends on workers and nodes; which frames and
crop a clip gives does not. Where the shards can lie on a disk, `ClipDataset` is faster and exact.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vidkit.data.augment import Augment, named_augment
from vidkit.data.batch import ClipSample
from vidkit.data.decoders import DECODERS
from vidkit.data.sampling import Mode, Sampling, draw, is_training, render
from vidkit.errors import ClipError, ConfigError, DatasetError

if TYPE_CHECKING:
    from torch import Tensor


def stream(
    urls: str | Sequence[str],
    *,
    frames: int = 16,
    stride: int = 4,
    mode: Mode = "train",
    training: bool | None = None,
    size: int = 64,
    views: tuple[int, int] = (1, 1),
    crop_share: float = 1.0,
    augment: Augment | str = "pretrain",
    repeats: int = 1,
    flip: bool = False,
    labels: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    shuffle: int = 1000,
    decoder: str = "pyav",
) -> Any:
    """A `webdataset.WebDataset` that gives a `ClipSample` for each clip: an iterable dataset for torch.

    Batches: `DataLoader(stream(...), batch_size=8, num_workers=4, collate_fn=vidkit.data.collate)`.

    Args:
        urls: shards, in webdataset's notation ("https://host/train/{000000..000240}.tar").
        flip: whether the dataset allows left-right flips (`flip` in its dataset.json).
        labels: how many base labels there are; samples then carry `multi_hot`.
        epoch: give another one for other crops of the same clips, and another order.
        shuffle: clips in the buffer that training draws from; 0: as they lie.

    For the others see `ClipDataset`. Each clip is raised as a DatasetError where it cannot be decoded.

    Raises:
        ConfigError: settings that cannot be.
    """
    import webdataset

    if decoder not in DECODERS:
        raise ConfigError(f"decoder is {decoder!r}; expected one of {', '.join(DECODERS)}", field="decoder")
    sampling = Sampling(
        frames=frames,
        stride=stride,
        mode=mode,
        training=is_training(mode, training),
        size=size,
        views=views,
        crop_share=crop_share,
        repeats=repeats,
        augment=named_augment(augment),
        flip=flip,
    )
    mixed = sampling.training and shuffle > 0
    shards = webdataset.WebDataset(
        urls if isinstance(urls, str) else list(urls),
        shardshuffle=1_000_000 if mixed else False,  # a buffer for all of them
        nodesplitter=webdataset.split_by_node,
        empty_check=False,  # with more workers than shards some have nothing to do
        seed=seed + epoch,
    )
    if mixed:
        shards = shards.shuffle(shuffle, rng=random.Random(seed + epoch))
    return shards.map(_ToSample(sampling, labels, seed, epoch, decoder))


class _ToSample:
    """(mp4, json) -> ClipSample."""

    def __init__(self, sampling: Sampling, labels: int | None, seed: int, epoch: int, decoder: str) -> None:
        self.sampling, self.labels, self.seed, self.epoch, self.decoder = sampling, labels, seed, epoch, decoder

    def __call__(self, sample: dict[str, Any]) -> ClipSample:
        import torch

        meta = json.loads(sample["json"])
        key = str(sample["__key__"]).rsplit("/", 1)[-1]
        count, height, width = meta["frames"], meta["height"], meta["width"]
        drawn = draw(self.sampling, count, height, width, (self.seed, self.epoch, int(key), 0))
        try:
            pictures = DECODERS[self.decoder](sample["mp4"], drawn.indices.ravel(), count)
        except ClipError as error:
            where = f"key {key}, clip {meta['clip_id']}"
            raise DatasetError(
                f"{where}: {error}", file=sample.get("__url__"), hint="write the shard again"
            ) from None
        multi_hot: Tensor | None = None
        if self.labels is not None:
            multi_hot = torch.zeros(self.labels)
            multi_hot[meta["multi_hot"]] = 1
        return ClipSample(
            video=render(self.sampling, drawn, pictures),
            class_id=-1 if self.labels is not None or meta["class_id"] is None else meta["class_id"],
            multi_hot=multi_hot,
            index=int(key),
            key=key,
            frames=torch.from_numpy(drawn.indices[list(drawn.which)]),
        )

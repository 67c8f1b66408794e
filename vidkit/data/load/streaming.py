"""Clips from shards that are streamed: over HTTP, from object stores, through pipes. By webdataset.

A stream has no exact resume, and an order that depends on workers and processes; which frames and crop a clip
gives does not. Where the shards can lie on a disk, `ClipDataset` is faster and exact.

Processes and their workers (readers) divide the shards. Where there are fewer shards than readers, each of these
reads all of them and takes its turn among the clips, so that nobody goes without.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from vidkit.data.load.augment import Augment, named_augment
from vidkit.data.load.batch import ClipSample
from vidkit.data.load.sampling import Mode, Sampling, draw, is_training, render
from vidkit.data.media.decoders import DECODERS
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
    length: int | None = None,
    decoder: str = "pyav",
) -> Any:
    """A pipeline of webdataset's that gives a `ClipSample` for each clip: an iterable dataset for torch.

    Batches: `DataLoader(stream(...), batch_size=8, num_workers=4, collate_fn=vidkit.data.collate)`.

    Args:
        urls: shards, in webdataset's notation ("https://host/train/{000000..000240}.tar").
        flip: whether the dataset allows left-right flips (`flip` in its dataset.json).
        labels: how many base labels there are; samples then carry `multi_hot`.
        epoch: give another one for other crops of the same clips, and another order.
        shuffle: clips in the buffer that training draws from; 0: as they lie.
        length: clips that each process gives, shared out among its workers. Shards that run out begin again, with
            other crops. None: every clip once over all processes, which may then differ in their numbers of
            batches; training in several processes (DDP) would wait for ever, so give a length there.

    For the others see `ClipDataset`. Each clip is raised as a DatasetError where it cannot be decoded.

    Raises:
        ConfigError: settings that cannot be.
    """
    import webdataset

    if decoder not in DECODERS:
        raise ConfigError(f"decoder is {decoder!r}; expected one of {', '.join(DECODERS)}", field="decoder")
    if length is not None and length < 1:
        raise ConfigError(f"length is {length!r}; expected at least 1", field="length")
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
    shards = webdataset.shardlists.expand_urls(urls) if isinstance(urls, str) else list(urls)
    if not shards:
        raise ConfigError("there is no shard", field="urls")
    passes = _Passes(
        shards=tuple(shards),
        sampling=sampling,
        labels=labels,
        seed=seed,
        epoch=epoch,
        shuffle=shuffle if sampling.training else 0,
        decoder=decoder,
        length=length,
    )
    return passes.one(0) if length is None else webdataset.FluidWrapper(passes)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Passes:
    """One pass over the shards after another. Called, the source of a pipeline of `length` clips a process."""

    shards: tuple[str, ...]
    sampling: Sampling
    labels: int | None
    seed: int
    epoch: int
    shuffle: int
    decoder: str
    length: int | None

    def one(self, turn: int) -> Any:
        """The pipeline of a pass: every clip of this reader once."""
        import webdataset

        seed = self.seed + self.epoch + 1_000_003 * turn
        clips = webdataset.WebDataset(
            list(self.shards),
            shardshuffle=1_000_000 if self.shuffle else False,  # a buffer for all of them
            nodesplitter=_Shards(len(self.shards)),
            workersplitter=None,
            empty_check=False,
            seed=seed,
        )
        clips = clips.compose(_Turns(len(self.shards)))
        if self.shuffle:
            clips = clips.shuffle(self.shuffle, rng=random.Random(seed))
        return clips.map(_ToSample(self.sampling, self.labels, self.seed, self.epoch, turn, self.decoder))

    def __call__(self) -> Iterator[ClipSample]:
        from webdataset.utils import pytorch_worker_info

        assert self.length is not None
        rank, _, worker, workers = pytorch_worker_info()
        left = self.length // workers + (worker < self.length % workers)
        turn = 0
        while left:
            given = 0
            for sample in islice(self.one(turn), left):
                given += 1
                yield sample
            if not given:
                raise DatasetError(
                    f"worker {worker} of process {rank} has no clip: the {len(self.shards)} shards hold fewer "
                    "clips than there are workers of all processes",
                    file=self.shards[0],
                    hint="use fewer workers",
                )
            left, turn = left - given, turn + 1


def _reader() -> tuple[int, int]:
    """(number of this reader, readers): a reader is one worker of one process."""
    from webdataset.utils import pytorch_worker_info

    rank, world, worker, workers = pytorch_worker_info()
    return rank + world * worker, world * workers


@dataclass(frozen=True, slots=True)
class _Shards:
    """This reader's part of the shards, or all of them where they are too few to be divided."""

    count: int

    def __call__(self, shards: Iterator[Any]) -> Iterator[Any]:
        me, readers = _reader()
        return islice(shards, me, None, readers) if self.count >= readers else shards


@dataclass(frozen=True, slots=True)
class _Turns:
    """This reader's part of the clips, where the shards were not divided."""

    count: int

    def __call__(self, clips: Iterator[Any]) -> Iterator[Any]:
        me, readers = _reader()
        return clips if self.count >= readers else islice(clips, me, None, readers)


@dataclass(frozen=True, slots=True)
class _ToSample:
    """(mp4, json) -> ClipSample."""

    sampling: Sampling
    labels: int | None
    seed: int
    epoch: int
    turn: int
    decoder: str

    def __call__(self, sample: dict[str, Any]) -> ClipSample:
        import torch

        meta = json.loads(sample["json"])
        key = str(sample["__key__"]).rsplit("/", 1)[-1]
        count, height, width = meta["frames"], meta["height"], meta["width"]
        drawn = draw(self.sampling, count, height, width, (self.seed, self.epoch, int(key), self.turn))
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

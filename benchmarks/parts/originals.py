"""The raw-file way of reading: each clip opens its original file with decord. What `bench_loader` compares with.

The same requests as vidkit's loader are answered, with the same frames (those on screen at the same times) and the
same crop of the scene, so that only the way of reading differs.

`as_bytes` crops and scales all frames of a clip at once, as vidkit does: uint8 batches, to be normalised on the
device. `as_released` does what the released VideoMAE and AdaMAE training code does after `get_batch`: a PIL picture
for each frame, cropped, scaled and turned one by one, stacked, made float32 and normalised plane by plane in the
worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from vidkit.data import ClipDataset
    from vidkit.data.load.augment import Box
    from vidkit.data.load.order import Request

Pictures = npt.NDArray[np.uint8]


class Originals:
    """Clips of a built dataset, read from the files that it was made of. For torch's DataLoader.

    Args:
        dataset: what vidkit reads; it draws frames and crops here, too.
        source: folder that the ledger's paths start from.
        render: (frames, box, size) -> what goes into a batch.
    """

    def __init__(self, dataset: ClipDataset, source: Path, render: Callable[[Pictures, Box, int], Any]) -> None:
        self.dataset, self.source, self.render = dataset, source, render
        names = ["clip_id", "path", "source_frames"]
        facts = {row["clip_id"]: row for row in dataset.clips.dataset.ledger(names).to_pylist()}
        self.files = [facts[clip_id] for clip_id in dataset.clips.clip_id.to_pylist()]

    def __getitem__(self, request: Request) -> tuple[Any, int]:
        import decord

        clips, i = self.dataset.clips, request.clip
        drawn = self.dataset.draw(request)
        frames = source_frames(drawn.indices[0], int(clips.frames[i]), self.files[i]["source_frames"])
        reader = decord.VideoReader(str(self.source / self.files[i]["path"]), num_threads=1, ctx=decord.cpu(0))
        pictures: Pictures = reader.get_batch(frames.tolist()).asnumpy()
        stored = int(clips.height[i]), int(clips.width[i])
        box = source_box(drawn.boxes[0], stored, (pictures.shape[1], pictures.shape[2]))
        return self.render(pictures, box, self.dataset.sampling.size), int(clips.class_id[i])


class Epochs:
    """vidkit's order as a batch sampler; another epoch with every iteration."""

    def __init__(self, dataset: ClipDataset, batch: int) -> None:
        self.dataset, self.batch, self.epoch = dataset, batch, 0

    def __iter__(self) -> Iterator[list[Request]]:
        from vidkit.data.load.order import epoch_order, rank_batches

        order = epoch_order(len(self.dataset), self.dataset.seed, self.epoch)
        yield from rank_batches(order, self.epoch, batch_size=self.batch, rank=0, world=1, tail="cut")
        self.epoch += 1  # torch makes an iterator that it does not use when workers start: it must not count


def loader(originals: Originals, *, batch: int, workers: int) -> Any:
    """A DataLoader as training code has it, with workers that live on between epochs."""
    from torch.utils.data import DataLoader

    order: Any = Epochs(originals.dataset, batch)
    dataset: Any = originals
    return DataLoader(dataset, batch_sampler=order, num_workers=workers, persistent_workers=workers > 0)


def source_frames(stored: npt.NDArray[np.int64], count: int, of: int) -> npt.NDArray[np.int64]:
    """Frame k of `count` stored ones is the source frame on screen at (k + 1/2) / count of the clip.

    >>> source_frames(np.array([0, 1, 99]), 100, 300)
    array([  1,   4, 298])
    """
    return ((2 * stored + 1) * of) // (2 * count)


def source_box(box: Box, stored: tuple[int, int], source: tuple[int, int]) -> Box:
    """The same part of the scene in the source's pixels. The stored picture is its centre, or all of it.

    Args:
        stored, source: (height, width).
    """
    scale = min(source[0] / stored[0], source[1] / stored[1])
    top, left = ((whole - part * scale) / 2 for whole, part in zip(source, stored, strict=True))
    return box._replace(
        top=min(source[0] - 1, round(top + box.top * scale)),
        left=min(source[1] - 1, round(left + box.left * scale)),
        height=round(box.height * scale),
        width=round(box.width * scale),
    )


def as_bytes(pictures: Pictures, box: Box, size: int) -> Tensor:
    """(C, T, S, S) uint8."""
    import torch

    from vidkit.data.load.augment import crop_resize

    return crop_resize(torch.from_numpy(pictures), box, size).permute(1, 0, 2, 3)


def as_released(pictures: Pictures, box: Box, size: int) -> Tensor:
    """(C, T, S, S) float32, normalised."""
    import torch
    from PIL import Image

    from vidkit.data.load.augment import IMAGENET_MEAN, IMAGENET_STD

    edges = (box.left, box.top, box.left + box.width, box.top + box.height)
    images = [Image.fromarray(frame).convert("RGB").crop(edges) for frame in pictures]
    images = [image.resize((size, size), Image.Resampling.BILINEAR) for image in images]
    if box.flip:
        images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
    planes = torch.from_numpy(np.concatenate([np.asarray(image) for image in images], axis=2)).permute(2, 0, 1)
    planes = planes.contiguous().float().div(255.0)
    count = len(images)
    for plane, mean, std in zip(planes, IMAGENET_MEAN * count, IMAGENET_STD * count, strict=True):
        plane.sub_(mean).div_(std)
    return planes.view(count, 3, size, size).transpose(0, 1)

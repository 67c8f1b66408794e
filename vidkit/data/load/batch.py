"""What a dataset gives for a clip, and what a loader makes of several: every row knows where it comes from.

Shapes: B rows in a batch, R rows of one clip, C, T, H, W a row, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on `device`, without waiting for what the device still has to do.

    To a GPU it goes from pinned memory: from any other the driver may wait until the GPU is idle.
    """
    import torch

    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class BadClip:
    """A clip that could not be decoded. It is left out; no other clip takes its place."""

    index: int
    where: str
    """Dataset, shard, key and clip id."""
    code: str
    """A key of `errors.CLIP_ERRORS`."""
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.code}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSample:
    """The rows of one clip: one, or `repeats`, or temporal x spatial views."""

    video: Tensor
    """(R, C, T, H, W) uint8. In memory the channels come last; `augment.normalise` makes it contiguous."""
    class_id: int
    """-1 where the dataset's label rule gives none."""
    multi_hot: Tensor | None
    """(L,) float32 of 0 and 1 where a clip can have several labels."""
    index: int
    """Of the clip in its `ClipDataset`."""
    key: str
    """Of the clip in the built dataset, over all splits."""
    frames: Tensor
    """(R, T) int64: numbers of the frames in the stored clip."""
    moving: Tensor | None = None
    """(R, T, G, G) uint8: how much of each cell is covered by what moves, of 255, where it was asked for."""

    def __repr__(self) -> str:
        return f"ClipSample({self.key}, video {tuple(self.video.shape)}, class {self.class_id})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """Rows of several clips, clip after clip. `len(batch)` is B, which is smaller where clips are in `bad`."""

    video: Tensor
    """(B, C, T, H, W) uint8. In memory the channels come last; `augment.normalise` makes it contiguous."""
    class_id: Tensor
    """(B,) int64; -1 where the dataset's label rule gives none."""
    multi_hot: Tensor | None
    """(B, L) float32 of 0 and 1 where a clip can have several labels."""
    index: Tensor
    """(B,) int64: of the clip in its `ClipDataset`."""
    view: Tensor
    """(B,) int64: which row of its clip; in a test `temporal * spatial_views + spatial`."""
    frames: Tensor
    """(B, T) int64: numbers of the frames in the stored clip."""
    key: tuple[str, ...]
    """Of the clip in the built dataset, for each row."""
    bad: tuple[BadClip, ...] = ()
    """Clips that were asked for and are not here."""
    moving: Tensor | None = None
    """(B, T, G, G) uint8: how much of each cell is covered by what moves, of 255, where it was asked for."""

    def __len__(self) -> int:
        return len(self.key)

    def __repr__(self) -> str:
        left_out = f", {len(self.bad)} clips left out" if self.bad else ""
        return f"ClipBatch(video {tuple(self.video.shape)}{left_out})"

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> ClipBatch:
        """The same batch on `device`, bytes as bytes."""
        tensors = {name: tensor for name in (*_TENSORS, *_OPTIONAL) if (tensor := getattr(self, name)) is not None}
        return replace(self, **{name: x.to(device, non_blocking=non_blocking) for name, x in tensors.items()})

    def pin_memory(self, device: object = None) -> ClipBatch:
        """Called by torch's DataLoader."""
        tensors = {name: tensor for name in (*_TENSORS, *_OPTIONAL) if (tensor := getattr(self, name)) is not None}
        return replace(self, **{name: x.pin_memory() for name, x in tensors.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        # on its way from a worker each tensor costs a shared file and a connection, 0.5 ms: one is enough
        names = [name for name in (*_TENSORS, *_OPTIONAL) if name != "video"]
        small = {name: tensor.cpu().numpy() for name in names if (tensor := getattr(self, name)) is not None}
        return _received, (self.video, small, self.key, self.bad)


_TENSORS = ("video", "class_id", "index", "view", "frames")
_OPTIONAL = ("multi_hot", "moving")


def _received(video: Tensor, small: dict[str, Any], key: tuple[str, ...], bad: tuple[BadClip, ...]) -> ClipBatch:
    import torch

    tensors: dict[str, Any] = {name: torch.from_numpy(values) for name, values in small.items()}
    return ClipBatch(video=video, multi_hot=tensors.pop("multi_hot", None), key=key, bad=bad, **tensors)


def collate(samples: Sequence[ClipSample | BadClip]) -> ClipBatch:
    """Put the rows of all clips into one batch; clips that could not be decoded are named in `bad`."""
    import torch

    good = [sample for sample in samples if isinstance(sample, ClipSample)]
    bad = tuple(sample for sample in samples if isinstance(sample, BadClip))
    if not good:
        nothing = torch.empty(0, dtype=torch.int64)
        video = torch.empty((0, 3, 0, 0, 0), dtype=torch.uint8)
        return ClipBatch(
            video=video,
            class_id=nothing,
            multi_hot=None,
            index=nothing,
            view=nothing,
            frames=nothing,
            key=(),
            bad=bad,
        )
    counts = [len(sample.video) for sample in good]
    per_clip = torch.tensor([(sample.class_id, sample.index) for sample in good])
    class_id, index = per_clip.repeat_interleave(torch.tensor(counts), dim=0).unbind(1)
    labels = None
    if good[0].multi_hot is not None:
        each = [s.multi_hot for s in good if s.multi_hot is not None]
        labels = torch.stack(each).repeat_interleave(torch.tensor(counts), dim=0)
    return ClipBatch(
        video=_join([sample.video for sample in good], sum(counts)),
        class_id=class_id.contiguous(),
        multi_hot=labels,
        index=index.contiguous(),
        view=torch.cat([torch.arange(count) for count in counts]),
        frames=torch.cat([sample.frames for sample in good]),
        key=tuple(sample.key for sample, count in zip(good, counts, strict=True) for _ in range(count)),
        bad=bad,
        moving=None if good[0].moving is None else torch.cat([s.moving for s in good if s.moving is not None]),
    )


def _join(videos: Sequence[Tensor], rows: int) -> Tensor:
    """(B, C, T, H, W), channels last in memory; in a worker process, memory that the main process can see."""
    import torch
    from torch.utils.data import get_worker_info

    _, channels, time, height, width = videos[0].shape
    shape = (rows, time, height, width, channels)
    if get_worker_info() is None:
        joined = torch.empty(shape, dtype=torch.uint8)
    else:  # as torch's own collate does: written once, not copied again on its way through the queue
        shared: Any = torch.UntypedStorage
        storage = shared._new_shared(rows * time * height * width * channels)
        joined = torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
    joined = joined.permute(0, 4, 1, 2, 3)
    at = 0
    for video in videos:
        joined[at : at + len(video)] = video
        at += len(video)
    return joined

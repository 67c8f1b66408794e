"""Clips of a built dataset for any training loop: each is read by its place in the ledger.

>>> from vidkit.data import ClipDataset                                       # doctest: +SKIP
>>> clips = ClipDataset("vidkit-demo", "train", frames=8, stride=4)           # doctest: +SKIP
>>> clips[0].video.shape                                                      # doctest: +SKIP
torch.Size([1, 3, 8, 64, 64])
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from vidkit.data.load.augment import Augment, named_augment
from vidkit.data.load.batch import BadClip, ClipSample
from vidkit.data.load.disk_cache import DiskCache
from vidkit.data.load.moving import row_shares, stored_shares
from vidkit.data.load.order import Request
from vidkit.data.load.sampling import Draw, Mode, Sampling, draw, is_training, render
from vidkit.data.load.shard_bytes import Piece, Shards, open_shards
from vidkit.data.load.split import LabelFraction, SplitClips, Unusable, open_split
from vidkit.data.media.decoders import DECODERS
from vidkit.data.shards import json_member, padded
from vidkit.data.storage.places import StorePath
from vidkit.data.storage.stores import hint
from vidkit.errors import ClipError, ConfigError, DatasetError

if TYPE_CHECKING:
    from torch import Tensor


class Pictures(Protocol):
    """Where the frames of a dataset's clips come from: the dataset itself, or a cache of it."""

    def pictures(self, i: int, wanted: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(T, H, W, 3) uint8: frames of clip i as they are stored.

        Raises:
            ClipError: the clip cannot be decoded.
        """


class ClipDataset:
    """Clips of one split of a built dataset, as a map-style dataset for torch (`len` and `[i]`).

    Args:
        path: folder of the built dataset, or its address ("s3://bucket/k400", "https://host/k400"): clips are then
            read by byte ranges, and no shard as a whole.
        split: "train", "val" or "test".
        frames: T.
        stride: stored frames from one of them to the next.
        mode: "train" (random start), "segments" (one frame from each of T segments) or "views" (K uniform
            starts x S places, for tests); see `sampling.Sampling`.
        training: random and augmented, or not. Follows from `mode`; "segments" needs to be told.
        size: pixels of the square that comes out; by default the stored clips' short side.
        views: temporal x spatial views in a test; the rows of a sample come in that order.
        crop_share: side of a test's crop as a share of the short side.
        augment: settings, or a name in `augment.AUGMENTS`; "pretrain" by default.
        repeats: rows from one decode in training, each with its own crop.
        seed: what all that is random depends on, with the epoch and the clip's number.
        label_fraction: keep about this share of every class's labelled clips; see `fraction` for what it made.
        classes: only clips of these; none: of all.
        decoder: a name in `decoders.DECODERS`.
        moving: cells a side in which each row says where something moves, for datasets that say so; 0: it does not.
        disk_cache: a folder that keeps clips of a dataset in a store once they were read; None: nothing is kept.
        disk_cache_bytes: at most so many of this dataset's split; see `disk_cache.DiskCache`.

    Raises:
        ConfigError: settings that cannot be.
        DatasetError: a dataset that is missing, unfinished, damaged, or has no usable clip in the split.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        frames: int = 16,
        stride: int = 4,
        mode: Mode = "train",
        training: bool | None = None,
        size: int | None = None,
        views: tuple[int, int] = (1, 1),
        crop_share: float = 1.0,
        augment: Augment | str = "pretrain",
        repeats: int = 1,
        seed: int = 0,
        label_fraction: float | None = None,
        classes: Sequence[str] = (),
        decoder: str = "pyav",
        moving: int = 0,
        disk_cache: str | os.PathLike[str] | None = None,
        disk_cache_bytes: int = 50_000_000_000,
    ) -> None:
        import torch

        if seed < 0:
            raise ConfigError(f"seed is {seed!r}; expected at least 0", field="seed")
        if decoder not in DECODERS:
            raise ConfigError(f"decoder is {decoder!r}; expected one of {', '.join(DECODERS)}", field="decoder")
        if decoder == "decord" and find_spec("decord") is None:  # here, not clip by clip in worker processes
            raise ConfigError("decord is not installed", field="decoder", hint="pip install 'vidkit[decord]'")
        self.clips: SplitClips = open_split(path, split, label_fraction=label_fraction, seed=seed, classes=classes)
        self.sampling = Sampling(
            frames=frames,
            stride=stride,
            mode=mode,
            training=is_training(mode, training),
            size=size or int(self.clips.dataset.facts["settings"]["encode.size"]),
            views=(int(views[0]), int(views[1])),
            crop_share=crop_share,
            repeats=repeats,
            augment=named_augment(augment),
            flip=self.clips.flip,
        )
        if views[1] > 1 and crop_share == 1 and (self.clips.height == self.clips.width).all():
            raise ConfigError(
                f"{views[1]} spatial views of square clips are one and the same",
                field="views",
                hint=f"use views {views[0]}x1, or a crop_share below 1",
            )
        self.seed = seed
        self.decoder = decoder
        self.moving = moving
        # in shared memory, so that worker processes that outlive an epoch see it change
        epoch: Any = torch.zeros((), dtype=torch.int64)
        self._epoch: Tensor = epoch.share_memory_()
        cache = None if disk_cache is None else self._disk_cache(Path(disk_cache), disk_cache_bytes)
        self.shards: Shards = open_shards(self.clips.dataset.root, self.clips.shards, cache)
        self._shares: dict[int, npt.NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        s = self.sampling
        return f"ClipDataset({self.clips!r}, {s.mode}, {s.rows} x {s.frames} frames of {s.size} px)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class id (by label id where a clip can have several)."""
        return self.clips.classes

    @property
    def label_sha256(self) -> str:
        """Of the label map: a checkpoint carries it, and another one here is another set of classes."""
        return str(self.clips.dataset.facts["label_map"]["sha256"])

    @property
    def unusable(self) -> tuple[Unusable, ...]:
        """Planned clips of this split that have no sample."""
        return self.clips.unusable

    @property
    def unlabelled(self) -> int:
        """Clips without a label: good for pre-training only."""
        return self.clips.unlabelled

    @property
    def fraction(self) -> LabelFraction | None:
        """What `label_fraction` kept."""
        return self.clips.fraction

    def set_epoch(self, epoch: int) -> None:
        """For loops of your own, before each epoch: `dataset[i]` is then augmented anew. (`ClipLoader` tells
        the epoch with every request.)
        """
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> ClipSample:
        """The rows of one clip, in the epoch that was set last.

        Raises:
            IndexError: no clip of that number.
            DatasetError: the clip cannot be decoded; the text names dataset, shard, key and clip.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        sample = self.read(Request(int(index) % len(self), int(self._epoch)))
        if isinstance(sample, BadClip):
            raise undecodable([sample])
        return sample

    def __getitems__(self, indices: Sequence[int]) -> list[ClipSample]:
        """Several clips, as torch's DataLoader asks for a batch: a store is asked for all of them at once."""
        self.ahead(int(i) % len(self) for i in indices)
        return [self[i] for i in indices]

    def read(self, request: Request, cache: Pictures | None = None) -> ClipSample | BadClip:
        """The rows of one clip, or why there are none.

        Raises:
            DatasetError: the shard itself cannot be read.
        """
        drawn = self.draw(request)
        i = request.clip
        try:
            pictures = (cache or self).pictures(i, drawn.indices.ravel())
        except ClipError as error:
            return self.bad_clip(i, error)
        return self._sample(i, drawn, pictures)

    def draw(self, request: Request) -> Draw:
        """Which frames and boxes a request means."""
        i = request.clip
        count, height, width = (
            int(column[i]) for column in (self.clips.frames, self.clips.height, self.clips.width)
        )
        return draw(self.sampling, count, height, width, (self.seed, request.epoch, i, request.turn))

    def pictures(self, i: int, wanted: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(T, H, W, 3) uint8: frames of clip i as they are stored.

        Raises:
            ClipError: the clip cannot be decoded, or is not what the ledger says.
            DatasetError: the shard cannot be read.
        """
        clips = self.clips
        found = DECODERS[self.decoder](self.bytes(i), wanted, int(clips.frames[i]))
        size = (int(clips.height[i]), int(clips.width[i]))
        if found.shape[1:3] != size:
            raise ClipError("decode-error", f"pictures of {found.shape[1:3]}; the ledger says {size}")
        return found

    def bytes(self, i: int) -> bytes:
        """The stored file of clip i.

        Raises:
            ClipError: the shard ends before it.
            DatasetError: the shard cannot be read.
        """
        piece = self.piece(i)
        try:
            data = self.shards.read(piece)
        except OSError as error:
            raise self._unreadable(piece.shard, error) from None
        if len(data) != piece.nbytes:
            raise ClipError("truncated", f"the shard holds {len(data):,} of {piece.nbytes:,} bytes")
        return data

    def piece(self, i: int) -> Piece:
        """Where the stored file of clip i lies."""
        clips = self.clips
        return Piece(int(clips.shard[i]), int(clips.offset[i]), int(clips.nbytes[i]))

    def ahead(self, clips: Iterable[int]) -> None:
        """These clips will be read soon, in this order: a store is asked for them all at once."""
        self.shards.ahead(self.piece(i) for i in clips)

    def _unreadable(self, shard: int, error: OSError) -> DatasetError:
        path = self.clips.dataset.root / self.clips.shards[shard]
        advice = hint(error) if isinstance(path, StorePath) else "see `vidkit verify`"
        return DatasetError(f"the shard cannot be read: {error.strerror}", file=path, hint=advice)

    def _disk_cache(self, folder: Path, limit: int) -> DiskCache:
        clips = self.clips
        names = (clips.shards[number] for number in clips.shard)
        places = zip(names, clips.offset.tolist(), clips.nbytes.tolist(), strict=True)
        contents = hashlib.sha256(json.dumps(clips.dataset.shards, sort_keys=True).encode()).hexdigest()
        return DiskCache(folder, f"{clips.split}-{contents[:16]}", places, limit)

    def meta(self, i: int) -> dict[str, Any]:
        """The JSON of clip i's sample, which lies behind the clip in its shard.

        Raises:
            DatasetError: the shard cannot be read, or holds something else there.
        """
        clips = self.clips
        number = int(clips.shard[i])
        place = int(clips.offset[i]) + padded(int(clips.nbytes[i]))
        try:
            return json_member(lambda nbytes, at: self.shards.read(Piece(number, at, nbytes)), place)
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{clips.where(i)}: the sample's JSON cannot be read: {error}", hint="see `vidkit verify`"
            ) from None

    def moving_shares(self, i: int, drawn: Draw) -> npt.NDArray[np.uint8]:
        """(R, T, G, G) uint8: where something moves in the rows that `drawn` means; see `moving`.

        Raises:
            DatasetError: the sample does not say.
        """
        if i not in self._shares:  # small: 256 bytes a frame, and read once
            self._shares[i] = stored_shares(self.meta(i), int(self.clips.frames[i]), self.clips.where(i))
        size = (int(self.clips.height[i]), int(self.clips.width[i]))
        shares = self._shares[i]
        return np.stack(
            [
                row_shares(shares[drawn.indices[view]], box, *size, self.moving)
                for view, box in zip(drawn.which, drawn.boxes, strict=True)
            ]
        )

    def bad_clip(self, i: int, error: ClipError) -> BadClip:
        """What stands for clip i where it could not be decoded."""
        return BadClip(i, self.clips.where(i), error.code, error.message)

    def labels(self, i: int) -> tuple[int, Tensor | None]:
        """(class id or -1, (L,) of 0 and 1 under the multi-hot rule)."""
        import torch

        if self.clips.rule != "multi-hot":
            return int(self.clips.class_id[i]), None
        hot = torch.zeros(len(self.classes))
        hot[self.clips.labels(i)] = 1
        return -1, hot

    def _sample(self, i: int, drawn: Draw, pictures: npt.NDArray[np.uint8]) -> ClipSample:
        import torch

        class_id, multi_hot = self.labels(i)
        return ClipSample(
            video=render(self.sampling, drawn, pictures),
            class_id=class_id,
            multi_hot=multi_hot,
            index=i,
            key=str(self.clips.key[i]),
            frames=torch.from_numpy(drawn.indices[list(drawn.which)]),
            moving=torch.from_numpy(self.moving_shares(i, drawn)) if self.moving else None,
        )


def undecodable(bad: Sequence[BadClip], allowed: int = 0, *, training: bool = False) -> DatasetError:
    """The error for clips that cannot be decoded, of which training may leave out `allowed`. Names the last one."""
    hint = "see what is wrong with `vidkit verify DIR`, and restore or rebuild the shard"
    some = f"{len(bad):,} clips" if len(bad) > 1 else "a clip"
    limit = f", more than the {allowed:,} that may be left out" if allowed else ""
    return DatasetError(
        f"{some} could not be decoded{limit}: {bad[-1]}",
        hint=hint + ("; or let training leave out more: --set data.max_bad=N" if training else ""),
    )

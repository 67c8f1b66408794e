"""Features of every clip that episodes can have, computed once and kept in a Parquet file.

The file's name holds a hash of all that the features depend on: the checkpoint, the dataset's ledger and shards,
and how clips are looked at. Another checkpoint or another build has another name, so a file is never out of date.
It holds several layers before and after the norm, so that another choice among these computes nothing.

Without a checkpoint the features are pixels, a baseline that has learned nothing (`train.features.pixels`). Shapes:
n clips, T steps, W numbers of a step.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidkit.errors import DatasetError
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.fewshot.inputs.encoder import RANDOM, Encoder, Init, Seen, open_encoder
from vidkit.settings.plain import to_plain
from vidkit.train.features import extract, pixels
from vidkit.train.features.file import Features, dataset_hashes, open_features
from vidkit.train.features.readout import FULLEST, MAKES, Reading, Readout, default_layers

#: Changes when the same checkpoint and dataset would give other features.
VERSION = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipFeatures:
    """Features of the clips that episodes are drawn from."""

    array: npt.NDArray[np.float32]
    """(n, T, W), row r for row r of the `LabelledClips`."""
    name: str
    """ "pixels", the checkpoint's file name, or "random"."""
    checkpoint_sha256: str | None = None
    classes: tuple[str, ...] = ()
    """Classes whose labels the encoder was trained with."""
    reading: Reading = pixels.READING
    """The layer that they are of."""
    readout: Readout = "slots"
    file: Path | None = None
    """Where they are kept."""
    computed: bool = True
    """False: they were read from `file`."""

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.float32:
            raise ValueError(
                f"features are {self.array.dtype} of shape {self.array.shape}; expected float32 (n, T, W)"
            )

    @property
    def flat(self) -> npt.NDArray[np.float32]:
        """(n, T W): for learners that see a clip as one vector."""
        return self.array.reshape(len(self.array), -1)

    def __repr__(self) -> str:
        count, steps, width = self.array.shape
        return f"ClipFeatures({self.name!r}, {count:,} clips of {steps} x {width} numbers)"


def clip_features(
    clips: LabelledClips,
    init: Init | None = None,
    *,
    seen: Seen = Seen(),
    cache: Path | None = None,
    seed: int = 0,
    stride: int | None = None,
    batch_size: int = 16,
    workers: int = 2,
    device: str | None = None,
    quiet: bool = False,
) -> ClipFeatures:
    """Features of all clips, from the cache if they are there.

    Args:
        init: a checkpoint of `vidkit pretrain` or `vidkit finetune`; "random": an encoder that was never trained;
            None: pixels.
        seen: layer, norm and read-out of an encoder.
        cache: a folder; None: they are computed each time.
        seed: of a random encoder.
        stride: between frames; None: the training's. Pixels have none.
        batch_size, workers: of reading clips; they do not change the features.

    Raises:
        ConfigError: as `encoder.open_encoder`.
        DatasetError: a clip that cannot be decoded, or a damaged cache.
    """
    root = clips.dataset.root
    what: dict[str, Any] = {"version": VERSION, **dataset_hashes(root), "splits": sorted(clips.splits)}
    encoder: Encoder | None = None
    how: dict[str, Any] = {}
    if init is not None:
        encoder = open_encoder(clips, init, seen=seen, seed=seed, stride=stride)
        how = _stored(encoder)
        what |= {"checkpoint": encoder.sha256, "stride": encoder.views.stride, "mode": encoder.views.mode, **how}
        if init == RANDOM:
            what |= {"random": to_plain(encoder.checkpoint.config), "seed": seed}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    file = (
        None
        if cache is None
        else cache / f"features-{'pixels' if init is None else 'encoder'}-{digest[:16]}.parquet"
    )
    computed = file is None or not file.exists()
    with tempfile.TemporaryDirectory() as temporary:
        target = file or Path(temporary) / "features.parquet"
        look: dict[str, Any] = {
            "splits": clips.splits,
            "batch_size": batch_size,
            "workers": workers,
            "quiet": quiet,
        }
        if computed and encoder is not None:
            source = encoder.checkpoint if init == RANDOM else Path(str(init))
            extract.run(root, source, target, **how, stride=stride, device=device, **look)
        elif computed:
            pixels.run(root, target, **look)
        made = open_features(target)
        made.check(data=root)
        if encoder is None:
            return ClipFeatures(
                array=_aligned(made.load(), clips, target), name="pixels", file=file, computed=computed
            )
        array = _aligned(made.load(encoder.reading, encoder.readout), clips, target)
    return ClipFeatures(
        array=array,
        name=encoder.name,
        checkpoint_sha256=encoder.sha256,
        classes=encoder.classes,
        reading=encoder.reading,
        readout=encoder.readout,
        file=file,
        computed=computed,
    )


def _stored(encoder: Encoder) -> dict[str, Any]:
    """What is extracted: the default layers and the one that is read, as fully as serves any choice."""
    layers = sorted({*default_layers(encoder.vit.depth), encoder.reading.layer})
    return {"layers": layers, "readout": FULLEST if encoder.readout in MAKES[FULLEST] else encoder.readout}


def _aligned(found: Features, clips: LabelledClips, file: Path) -> npt.NDArray[np.float32]:
    """Features by key: the file may have its splits in another order."""
    place = {key: i for i, key in enumerate(found.keys)}
    rows = np.array([place.get(key, -1) for key in clips.key.to_pylist()], np.int64)
    if (rows < 0).any() or (found.class_ids[rows] != clips.class_id).any():
        raise DatasetError(
            "the features are of other clips than the dataset's",
            file=file,
            hint="delete the file: it is made again",
        )
    array = found.array[rows]
    bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
    if len(bad):
        raise DatasetError(f"features that are not finite: clip {clips.clip_id[int(bad[0])]}", file=file)
    return array

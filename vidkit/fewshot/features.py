"""Features of every clip that episodes can have, computed once and kept in a Parquet file.

The file's name holds a hash of all that the features depend on: the checkpoint, the dataset's ledger and shards,
and how clips are looked at. Another checkpoint or another build has another name, so a file is never out of date.

Without a checkpoint the features are pixels, a baseline that has learned nothing: 8 frames, one from each eighth
of the clip, averaged in pairs and over squares to 4 times x 8 x 8 places x 3 colours, between 0 and 1. Shapes:
n clips, D width.
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
import pyarrow as pa
import torch

from vidkit.data.dataset import CLIPS_PARQUET
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.data.shards import sha256_file
from vidkit.errors import DatasetError, TrainingError
from vidkit.fewshot.encoder import RANDOM, Init, open_encoder
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.files import write_whole
from vidkit.models import checkpoints
from vidkit.settings.plain import to_plain
from vidkit.train import extract

#: Of the pixel features: frames and side that are read, and times and places that they are averaged to.
FRAMES, SIDE, TIMES, PLACES = 8, 32, 4, 8

#: Changes when the same checkpoint and dataset would give other features.
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipFeatures:
    array: npt.NDArray[np.float32]
    """(n, D), row r for row r of the `LabelledClips`."""
    name: str
    """ "pixels", the checkpoint's file name, or "random"."""
    checkpoint_sha256: str | None = None
    classes: tuple[str, ...] = ()
    """Classes whose labels the encoder was trained with."""
    file: Path | None = None
    """Where they are kept."""
    computed: bool = True
    """False: they were read from `file`."""

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or self.array.dtype != np.float32:
            raise ValueError(
                f"features are {self.array.dtype} of shape {self.array.shape}; expected float32 (n, D)"
            )

    def __repr__(self) -> str:
        return f"ClipFeatures({self.name!r}, {self.array.shape[0]:,} clips of {self.array.shape[1]} numbers)"


def clip_features(
    clips: LabelledClips,
    init: Init | None = None,
    *,
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
        cache: a folder; None: they are computed each time.
        seed: of a random encoder.
        stride: between frames; None: the training's. Pixels have none.
        batch_size, workers: of reading clips; they do not change the features.

    Raises:
        ConfigError: as `fewshot_encoder.open_encoder`.
        DatasetError: a clip that cannot be decoded, or a damaged cache.
    """
    root = clips.dataset.root
    what: dict[str, Any] = {
        "version": VERSION,
        "clips": sha256_file(root / CLIPS_PARQUET)[0],
        "shards": sha256_file(root / "shards.json")[0],
        "splits": sorted(clips.splits),
    }
    name, sha256 = "pixels", None
    classes: tuple[str, ...] = ()
    if init is not None:
        encoder = open_encoder(clips, init, seed=seed, stride=stride)
        name, sha256, classes = encoder.name, encoder.sha256, encoder.classes
        what |= {"checkpoint": sha256, "stride": encoder.views.stride, "mode": encoder.views.mode}
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
        if computed and init is not None:
            source = Path(init)
            if init == RANDOM:
                source = Path(temporary) / "random.pt"
                checkpoints.save(source, encoder.checkpoint)
            how: dict[str, Any] = {"splits": clips.splits, "stride": stride, "batch_size": batch_size}
            extract.run(root, source, target, **how, workers=workers, device=device, quiet=quiet)
        elif computed:
            _write_pixels(clips, target, batch_size, workers, quiet)
        array = _aligned(extract.load_features(target), clips, target)
    return ClipFeatures(
        array=array, name=name, checkpoint_sha256=sha256, classes=classes, file=file, computed=computed
    )


def _aligned(found: extract.Features, clips: LabelledClips, file: Path) -> npt.NDArray[np.float32]:
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
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DatasetError(f"features that are not finite: clip {clips.clip_id[int(bad[0])]}", file=file)
    return array


def pixel_features(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """(B, 3, 8, 32, 32) of 0 to 255 -> (B, 768) between 0 and 1."""
    pool = (FRAMES // TIMES, SIDE // PLACES, SIDE // PLACES)
    return torch.nn.functional.avg_pool3d(video_BCTHW.float() / 255, pool).flatten(1)


def _write_pixels(clips: LabelledClips, out: Path, batch_size: int, workers: int, quiet: bool) -> None:
    parts: list[torch.Tensor] = []
    with Progress("reading pixels", len(clips), quiet=quiet) as progress:
        for split in clips.splits:
            how: dict[str, Any] = {"frames": FRAMES, "mode": "segments", "training": False, "size": SIDE}
            loader = ClipLoader(
                ClipDataset(clips.dataset.root, split, **how), batch_size=batch_size, workers=workers
            )
            try:
                for batch in loader:
                    parts.append(pixel_features(batch.video))
                    progress.advance(by=len(batch))
            finally:
                loader.close()
    array = torch.cat(parts).numpy()
    if len(array) != len(clips):
        raise TrainingError(f"{len(array):,} of {len(clips):,} clips came")
    names = np.repeat(clips.splits, np.diff(clips.firsts))
    table = pa.table(
        {
            "key": clips.key,
            "clip_id": clips.clip_id,
            "split": pa.array(names.tolist(), pa.string()),
            "class_id": pa.array(clips.class_id, pa.int32(), mask=clips.class_id < 0),
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1]),
        }
    )
    facts = {
        "format": extract.FORMAT,
        "dataset": clips.name,
        "dataset_plan_sha256": clips.plan_sha256,
        "label_map_sha256": clips.label_map_sha256,
        "checkpoint": "pixels",
        "checkpoint_sha256": None,
        "splits": list(clips.splits),
    }
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({b"vidkit": json.dumps(facts)}), sink, compression="zstd")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, sink.getvalue().to_pybytes())

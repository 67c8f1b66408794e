"""Features of every clip of a dataset by a frozen encoder, in one Parquet file.

Nothing is masked. Several views of a clip are averaged after the read-out, so that a step of time is averaged with
the same step of another view. Shapes: n clips, R views of a clip, T steps, W numbers of a step.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from vidkit.data.dataset import open_dataset
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.data.shards import sha256_file
from vidkit.data.storage.places import Place
from vidkit.data.tables import SPLITS
from vidkit.errors import ConfigError, DatasetError, TrainingError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import ViewConfig
from vidkit.train.features.file import FORMAT, dataset_hashes, schema_of
from vidkit.train.features.readout import (
    FULLEST,
    READOUTS,
    Reading,
    Readout,
    read_out,
    readings_of,
    tokens_at,
    width_of,
)
from vidkit.train.files import check_place, written_whole
from vidkit.train.inference import choose_device, open_views, views_of

#: Most clips in a row group; fewer where that would be more than 64 MB of features.
GROUP, GROUP_BYTES = 4096, 2**26

Floats = npt.NDArray[np.float32]

#: (B, C, frames, size, size) uint8 -> (B, T, W) of each reading
Reader = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What makes features of clips, and what of."""

    read: Reader
    readings: tuple[Reading, ...]
    readout: Readout
    shape: tuple[int, int]
    """(T, W) of a reading."""
    device: torch.device
    facts: dict[str, Any]
    """Of what it is."""


def run(
    data: Place,
    checkpoint: Path | Checkpoint,
    out: Path,
    *,
    layers: Sequence[int] | None = None,
    norms: Sequence[bool] = (False, True),
    readout: Readout = FULLEST,
    splits: Sequence[str] | None = None,
    views: tuple[int, int] = (1, 1),
    stride: int | None = None,
    batch_size: int = 16,
    workers: int = 2,
    device: str | None = None,
    limit: int | None = None,
    tell: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the features of every usable clip to `out`, whole or not at all.

    Args:
        layers: None: the last one and those at 1/2 and 3/4 of the depth.
        norms: before (False) and after (True) the final norm.
        splits: None: all that have usable clips.
        views: temporal x spatial.
        stride: between frames; None: the training's.
        batch_size: clips at a time, with all their views.
        device: None: the GPU if there is one.
        limit: at most so many clips of each split, evenly over the split; None: all.
        tell: is told size and time before the work begins.

    Returns:
        The file's facts, as in its metadata, with `clips` of each split.

    Raises:
        ConfigError: settings, layers or splits that cannot be, or features that the disk has no room for.
        DatasetError: no usable dataset, or a clip that cannot be decoded.
        TrainingError: features that are not finite.
    """
    check_place(out, "features")
    loaded = checkpoints.load(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    settings = views_of(loaded.facts, views=views, stride=stride, batch_size=batch_size)
    vit = loaded.config.encoder
    source = encoder_source(
        checkpoints.build(loaded), readings_of(layers, norms, vit.depth), readout, choose_device(device)
    )
    source.facts.update(
        {
            "checkpoint": checkpoint.name if isinstance(checkpoint, Path) else None,
            "checkpoint_sha256": sha256_file(checkpoint)[0] if isinstance(checkpoint, Path) else None,
            "checkpoint_kind": loaded.kind,
            **_looked_at(vit, settings),
        }
    )
    datasets = [open_views(data, split, vit, settings) for split in chosen_splits(data, splits)]
    datasets = [dataset if limit is None else some(dataset, limit) for dataset in datasets]
    return write(data, datasets, source, out, batch_size=batch_size, workers=workers, tell=tell, quiet=quiet)


def encoder_source(
    model: AdaMAE | VideoClassifier, readings: tuple[Reading, ...], readout: Readout, device: torch.device
) -> Source:
    """A frozen encoder. The model is moved, and put into evaluation mode.

    Raises:
        ConfigError: no such read-out.
    """
    if readout not in READOUTS:
        raise ConfigError(f"read-out is {readout!r}; expected one of {', '.join(READOUTS)}", field="--readout")
    model.to(device).eval()
    steps, height, width = model.config.encoder.grid

    def read(video: Tensor) -> list[Tensor]:
        return [read_out(tokens, readout) for tokens in tokens_at(model, video, readings)]

    shape = width_of(readout, steps, height * width, model.config.encoder.width)
    return Source(read=read, readings=readings, readout=readout, shape=shape, device=device, facts={})


def write(
    data: Place,
    datasets: Sequence[ClipDataset],
    source: Source,
    out: Path,
    *,
    batch_size: int = 16,
    workers: int = 2,
    tell: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write what `source` makes of the clips of some splits. Returns and errors as of `run`."""
    facts = {**_facts(data, datasets), **source.facts, **_described(source)}
    schema = schema_of(source.readings, source.shape[0] * source.shape[1], facts)
    total = sum(map(len, datasets))
    size = 2 * total * len(source.readings) * source.shape[0] * source.shape[1]
    _check_room(out, size)
    if tell is not None:
        tell(_announcement(datasets, source, size, batch_size, workers))
    each = max(1, min(GROUP, GROUP_BYTES // max(1, size // max(1, total))))
    with (
        Progress("extracting", total, quiet=quiet) as progress,
        written_whole(out) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for dataset in datasets:
            loader = ClipLoader(dataset, batch_size=batch_size, workers=workers)
            try:
                _write(writer, schema, dataset, features_of(loader, source, progress), each)
            finally:
                loader.close()
    return {**facts, "clips": {d.clips.split: len(d) for d in datasets}}


def features_of(loader: ClipLoader, source: Source, progress: Progress | None = None) -> Iterator[list[Floats]]:
    """(clips of a batch, T, W) of each reading, in the order of the dataset.

    Raises:
        DatasetError: a clip that cannot be decoded.
        TrainingError: features that are not finite, or too large for float16.
    """
    dataset = loader.dataset
    rows, done = dataset.sampling.rows, 0
    for batch in loader:
        index = batch.index[::rows]
        if not torch.equal(index, torch.arange(done, done + len(index))):
            raise TrainingError(f"clips {index.tolist()} came where {done} and those after it were due")
        with torch.inference_mode():
            # rows come clip after clip, each with all its views
            found = [
                one.view(-1, rows, *one.shape[1:]).mean(dim=1).cpu()
                for one in source.read(batch.video.to(source.device, non_blocking=True))
            ]
        for reading, one in zip(source.readings, found, strict=True):
            _check_finite(one, reading, dataset, done)
        yield [one.float().numpy() for one in found]
        done += len(index)
        if progress is not None:
            progress.advance(by=len(index))
    if done != len(dataset):
        raise TrainingError(f"{done:,} of {len(dataset):,} clips of split {dataset.clips.split!r} came")


def _check_finite(features: Tensor, reading: Reading, dataset: ClipDataset, first: int) -> None:
    bad = (~features.half().isfinite().flatten(1).all(dim=1)).nonzero().flatten()
    if not len(bad):
        return
    where = dataset.clips.where(first + int(bad[0]))
    if features[bad[0]].isfinite().all():
        most = float(features[bad[0]].abs().max())
        raise TrainingError(
            f"features of {reading} are too large for float16 ({most:.3g}): {where}",
            hint="read that layer after the norm alone: vidkit extract --norm after",
        )
    raise TrainingError(f"features that are not finite: {where}")


def chosen_splits(data: Place, splits: Sequence[str] | None) -> tuple[str, ...]:
    """In the order of the dataset; None: all that have usable clips.

    Raises:
        ConfigError: no such splits.
        DatasetError: none has a usable clip.
    """
    counts = open_dataset(data).facts["splits"]
    if splits is None:
        found = tuple(split for split in SPLITS if counts.get(split, {}).get("ok"))
        if not found:
            raise DatasetError("no split has a usable clip", file=data, hint="see `vidkit inspect DIR`")
        return found
    if not splits or len(set(splits)) != len(splits) or not set(splits) <= set(SPLITS):
        raise ConfigError(
            f"splits are {', '.join(splits) or 'none'}; expected some of {', '.join(SPLITS)}, each once",
            field="--split",
        )
    return tuple(split for split in SPLITS if split in splits)


def _facts(data: Place, datasets: Sequence[ClipDataset]) -> dict[str, Any]:
    import vidkit

    first = datasets[0]
    built = first.clips.dataset.facts
    return {
        "format": FORMAT,
        "vidkit": vidkit.__version__,
        "dataset": built["name"],
        "dataset_plan_sha256": built.get("plan_sha256"),
        **dataset_hashes(data),
        "label_map_sha256": first.label_sha256,
        "rule": first.clips.rule,
        "classes": list(first.classes),
        "splits": [dataset.clips.split for dataset in datasets],
    }


def _looked_at(vit: ViTConfig, views: ViewConfig) -> dict[str, Any]:
    return {
        "views": list(views.views),
        "frames": vit.frames,
        "size": vit.size,
        "stride": views.stride,
        "mode": views.mode,
        "crop_share": views.crop_share,
    }


def _described(source: Source) -> dict[str, Any]:
    return {
        "readings": [{"layer": one.layer, "norm": one.norm, "column": one.column} for one in source.readings],
        "readout": source.readout,
        "steps": source.shape[0],
        "width": source.shape[1],
    }


# --- size and time -------------------------------------------------------------------------------


def _check_room(out: Path, size: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if size > free:
        raise ConfigError(
            f"the features take up to {size / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left",
            file=out,
            field="--out",
            hint="choose fewer layers (--layers), one side of the norm (--norm) or a smaller read-out (--readout)",
        )


def _announcement(datasets: Sequence[ClipDataset], source: Source, size: int, batch_size: int, workers: int) -> str:
    """How much comes, and about how long it takes by a first batch."""
    total = sum(map(len, datasets))
    steps, width = source.shape
    dataset = datasets[0]
    count = min(batch_size, len(dataset), 4)
    began = time.perf_counter()
    video = torch.cat([dataset[i].video for i in range(count)])
    read = (time.perf_counter() - began) / count
    for _ in range(2):  # the first one also loads what it needs
        began = time.perf_counter()
        with torch.inference_mode():
            _ = [one.cpu() for one in source.read(video.to(source.device))]
        encoded = (time.perf_counter() - began) / count
    each = max(read / workers, encoded) if workers else read + encoded
    return (
        f"{total:,} clips x {len(source.readings)} readings x {steps} steps x {width} numbers: up to "
        f"{size / 1e6:,.1f} MB, in about {_duration(total * each)}"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- rows ----------------------------------------------------------------------------------------


def _write(
    writer: Any, schema: pa.Schema, dataset: ClipDataset, features: Iterator[list[Floats]], each: int
) -> None:
    """Row groups of `each` clips; a split begins a new one."""
    waiting: list[list[Floats]] = []
    first = count = 0
    for part in features:
        waiting.append(part)
        count += len(part[0])
        if count >= each:
            writer.write_table(_table(schema, dataset, first, waiting), row_group_size=count)
            waiting, first, count = [], first + count, 0
    if count:
        writer.write_table(_table(schema, dataset, first, waiting), row_group_size=count)


def _table(schema: pa.Schema, dataset: ClipDataset, first: int, parts: list[list[Floats]]) -> pa.Table:
    arrays = [np.concatenate(column).astype(np.float16) for column in zip(*parts, strict=True)]
    clips, count = dataset.clips, len(arrays[0])
    class_id = clips.class_id[first : first + count]
    columns = [
        clips.key.slice(first, count),
        clips.clip_id.slice(first, count),
        pa.repeat(clips.split, count),
        pa.array(class_id, pa.int32(), mask=class_id < 0),
        pa.array([clips.labels(i) for i in range(first, first + count)], pa.list_(pa.int32())),
        *(pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array[0].size) for array in arrays),
    ]
    return pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def some(dataset: ClipDataset, limit: int) -> ClipDataset:
    """The dataset with at most `limit` of its clips, evenly over it."""
    if len(dataset) <= limit:
        return dataset
    dataset.clips = dataset.clips.take(np.unique(np.linspace(0, len(dataset) - 1, limit).round().astype(np.int64)))
    return dataset

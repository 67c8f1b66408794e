"""Features of every clip of a dataset by a frozen encoder, in one Parquet file.

A classifier gives what its head reads (`VideoClassifier.features`), a masked autoencoder its encoder's mean over
all tokens (`AdaMAE.features`). Several views of a clip are averaged. Shapes: n clips, R views of a clip, D width.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vidkit.data.dataset import open_dataset
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.data.shards import sha256_file
from vidkit.data.tables import SPLITS
from vidkit.errors import ConfigError, DatasetError, TrainingError, VidkitError
from vidkit.files import whole_file
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import ViewConfig
from vidkit.train.inference import choose_device, open_views, views_of

#: Of the file; its facts are JSON under this key of the schema's metadata.
FORMAT = 1
_METADATA = b"vidkit"

#: Clips in a row group: with 1,024 numbers each, 16 MB wait to be written.
GROUP = 4096


class Features(NamedTuple):
    """Clips in dataset order: splits as in `SPLITS`, plan order within."""

    keys: tuple[str, ...]
    class_ids: npt.NDArray[np.int64]
    """(n,), -1 where the dataset's label rule gives none."""
    array: npt.NDArray[np.float32]
    """(n, D)."""


def run(
    data: Path,
    checkpoint: Path,
    out: Path,
    *,
    splits: Sequence[str] | None = None,
    views: tuple[int, int] = (1, 1),
    stride: int | None = None,
    batch_size: int = 16,
    workers: int = 2,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the features of every usable clip to `out`, whole or not at all.

    Args:
        splits: None: all that have usable clips.
        views: temporal x spatial.
        stride: between frames; None: the training's.
        batch_size: clips at a time, with all their views.
        device: None: the GPU if there is one.

    Returns:
        The file's facts, as in its metadata, with `clips` of each split and `width`.

    Raises:
        ConfigError: settings or splits that cannot be.
        DatasetError: no usable dataset, or a clip that cannot be decoded.
        TrainingError: features that are not finite.
    """
    if out.is_dir():
        raise ConfigError("is a folder; features go to one file", field="--out", file=out)
    loaded = checkpoints.load(checkpoint)
    model = checkpoints.build(loaded)
    settings = views_of(loaded.facts, views=views, stride=stride, batch_size=batch_size)
    where = choose_device(device)
    model.to(where).eval()
    vit = model.config.encoder
    datasets = [open_views(data, split, vit, settings) for split in _chosen(data, splits)]
    facts = {
        **_facts(datasets[0], vit, settings),
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": sha256_file(checkpoint)[0],
        "checkpoint_kind": loaded.kind,
        "splits": [dataset.clips.split for dataset in datasets],
    }
    schema = _schema(vit.width, facts)
    total = sum(map(len, datasets))
    with Progress("extracting", total, quiet=quiet) as progress, _writer(out, schema) as writer:
        for dataset in datasets:
            loader = ClipLoader(dataset, batch_size=batch_size, workers=workers)
            try:
                _write(writer, schema, dataset, _features(model, loader, where, progress))
            finally:
                loader.close()
    return {**facts, "clips": {d.clips.split: len(d) for d in datasets}, "width": vit.width}


def _chosen(data: Path, splits: Sequence[str] | None) -> tuple[str, ...]:
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


def _facts(dataset: ClipDataset, vit: ViTConfig, views: ViewConfig) -> dict[str, Any]:
    import vidkit

    built = dataset.clips.dataset.facts
    return {
        "format": FORMAT,
        "vidkit": vidkit.__version__,
        "dataset": built["name"],
        "dataset_plan_sha256": built.get("plan_sha256"),
        "label_map_sha256": dataset.label_sha256,
        "views": list(views.views),
        "frames": vit.frames,
        "size": vit.size,
        "stride": views.stride,
        "mode": views.mode,
        "crop_share": views.crop_share,
    }


def _schema(width: int, facts: dict[str, Any]) -> pa.Schema:
    columns = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("class_id", pa.int32()),  # null where the label rule gives none
        pa.field("feature", pa.list_(pa.float32(), width), nullable=False),
    ]
    return pa.schema(columns, metadata={_METADATA: json.dumps(facts)})


@contextlib.contextmanager
def _writer(out: Path, schema: pa.Schema) -> Iterator[Any]:
    """A Parquet writer under a temporary name, which becomes `out` only if all goes well."""
    import pyarrow.parquet as pq

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            yield writer
    except OSError as error:
        raise VidkitError(
            f"cannot write: {error.strerror or error}", file=out, hint="give --out a place that can be written"
        ) from error


def _features(
    model: AdaMAE | VideoClassifier, loader: ClipLoader, device: torch.device, progress: Progress
) -> Iterator[npt.NDArray[np.float32]]:
    """(clips of a batch, D), in the order of the dataset."""
    dataset = loader.dataset
    rows, done = dataset.sampling.rows, 0
    for batch in loader:
        index = batch.index[::rows]
        if not torch.equal(index, torch.arange(done, done + len(index))):
            raise TrainingError(f"clips {index.tolist()} came where {done} and those after it were due")
        with torch.inference_mode():
            found = model.features(batch.to(device).video).float()
            # rows come clip after clip, each with all its views
            features = found.view(-1, rows, found.shape[1]).mean(dim=1).cpu()
        bad = (~features.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            raise TrainingError(f"features that are not finite: {dataset.clips.where(done + int(bad[0]))}")
        yield features.numpy()
        done += len(index)
        progress.advance(by=len(index))
    if done != len(dataset):
        raise TrainingError(f"{done:,} of {len(dataset):,} clips of split {dataset.clips.split!r} came")


def _write(
    writer: Any, schema: pa.Schema, dataset: ClipDataset, features: Iterator[npt.NDArray[np.float32]]
) -> None:
    """Row groups of `GROUP` clips; a split begins a new one."""
    waiting: list[npt.NDArray[np.float32]] = []
    first = count = 0
    for part in features:
        waiting.append(part)
        count += len(part)
        if count >= GROUP:
            writer.write_table(_table(schema, dataset, first, np.concatenate(waiting)), row_group_size=count)
            waiting, first, count = [], first + count, 0
    if count:
        writer.write_table(_table(schema, dataset, first, np.concatenate(waiting)), row_group_size=count)


def _table(schema: pa.Schema, dataset: ClipDataset, first: int, features: npt.NDArray[np.float32]) -> pa.Table:
    clips, count = dataset.clips, len(features)
    class_id = clips.class_id[first : first + count]
    columns = [
        clips.key.slice(first, count),
        clips.clip_id.slice(first, count),
        pa.repeat(clips.split, count),
        pa.array(class_id, pa.int32(), mask=class_id < 0),
        pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1]),
    ]
    return pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


# --- reading -------------------------------------------------------------------------------------


def load_features(path: Path) -> Features:
    """What `run` wrote.

    Raises:
        DatasetError: no such file, or not one of features.
    """
    with _opened(path) as file:
        table = file.read(["key", "class_id", "feature"])
        width = table.schema.field("feature").type.list_size
        array = np.empty((len(table), width), np.float32)
        at = 0
        for chunk in table["feature"].chunks:
            array[at : at + len(chunk)] = chunk.flatten().to_numpy().reshape(-1, width)
            at += len(chunk)
        class_id = table["class_id"].fill_null(-1).to_numpy().astype(np.int64)
        return Features(tuple(table["key"].to_pylist()), class_id, array)


def feature_facts(path: Path) -> dict[str, Any]:
    """The file's facts: dataset, label map, checkpoint, views and so on.

    Raises:
        DatasetError: no such file, or not one of features.
    """
    with _opened(path) as file:
        return dict(json.loads(file.schema_arrow.metadata[_METADATA]))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    hint = "write it with `vidkit extract`"
    try:
        with path.open("rb") as source, pq.ParquetFile(source) as file:
            metadata = file.schema_arrow.metadata or {}
            missing = {"key", "class_id", "feature"} - set(file.schema_arrow.names)
            if _METADATA not in metadata or missing:
                raise DatasetError("not a file of features", file=path, hint=hint)
            yield file
    except FileNotFoundError:
        raise DatasetError("the file is not there", file=path, hint=hint) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"damaged features: {error}", file=path, hint=hint) from None

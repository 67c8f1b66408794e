"""Multi-view evaluation: every clip of a split exactly once, or an error that says which one could not be read.

Scores are probabilities (softmax; sigmoid where a clip can have several labels), averaged over a clip's views.
Shapes: n clips, K classes or labels, R views of a clip.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError, DatasetError, TrainingError
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import Precision, ViewConfig
from vidkit.train.files import check_place, written_whole
from vidkit.train.inference import choose_device, open_classifier, open_views, views_of
from vidkit.train.metrics import multi_label, single_label
from vidkit.train.setup import usable_precision

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Of the clips of a split, in its order."""

    key: tuple[str, ...]
    clip_id: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    """(n, K) probabilities, means over the views."""
    class_id: npt.NDArray[np.int64]
    """(n,), -1 where a clip can have several labels."""
    multi_hot: npt.NDArray[np.float32] | None
    """(n, K)."""

    def sha256(self) -> str:
        """Of keys and each clip's first choice: two runs that agree on it predict the same."""
        first = self.scores.argmax(axis=1).tolist()
        text = "\n".join(f"{key} {choice}" for key, choice in zip(self.key, first, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()


def open_test_split(
    data: Place,
    split: str,
    vit: ViTConfig,
    views: ViewConfig,
    *,
    label_fraction: float | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> ClipDataset:
    """
    Raises:
        DatasetError: clips of the split have no label.
    """
    dataset = open_views(data, split, vit, views, label_fraction=label_fraction, seed=seed, classes=classes)
    if dataset.unlabelled:
        raise DatasetError(
            f"{dataset.unlabelled:,} of {len(dataset):,} clips of split {split!r} have no label",
            file=data,
            hint="evaluate on a split whose labels are published; `vidkit predict` needs none",
        )
    return dataset


def predict(
    model: VideoClassifier,
    loader: ClipLoader,
    device: torch.device | str,
    *,
    precision: Precision = "fp32",
    progress: Progress | None = None,
) -> Predictions:
    """Scores of every clip that `loader` gives on all processes together; the same on each of them.

    Raises:
        DatasetError: a clip that cannot be decoded.
        TrainingError: scores that are not finite, clips that came twice or not at all.
    """
    dataset = loader.dataset
    views, multi = dataset.sampling.rows, dataset.clips.rule == "multi-hot"
    parts: list[tuple[Tensor, Tensor]] = []
    training = model.training
    model.eval()
    kind = torch.device(device).type
    precision = usable_precision(precision, kind)
    with torch.inference_mode():
        for batch in loader:
            moved = batch.to(device)
            with torch.autocast(kind, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
                logits = model(moved.video).float()
            scores = logits.sigmoid() if multi else logits.softmax(dim=1)
            # rows come clip after clip, each with all its views
            parts.append((batch.index[::views], scores.unflatten(0, (-1, views)).mean(dim=1).cpu()))
            if progress is not None:
                progress.advance(by=len(batch) // views)
    model.train(training)
    classes = len(dataset.classes)
    index = torch.cat([part[0] for part in parts]).numpy() if parts else np.empty(0, np.int64)
    found = torch.cat([part[1] for part in parts]).numpy() if parts else np.empty((0, classes), np.float32)
    return _joined(dataset, *_gathered(index, found))


def _gathered(
    index: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return index, scores
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (index, scores))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _joined(dataset: ClipDataset, index: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> Predictions:
    order = np.argsort(index, kind="stable")
    if not np.array_equal(index[order], np.arange(len(dataset))):
        raise TrainingError(
            f"{len(np.unique(index)):,} of {len(dataset):,} clips were scored, {len(index):,} times"
        )
    scores = scores[order]
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise TrainingError(
            f"{len(bad):,} clips have scores that are not finite, the first: {dataset.clips.where(int(bad[0]))}"
        )
    labels = None
    if dataset.clips.rule == "multi-hot":
        rows = [dataset.labels(i)[1] for i in range(len(dataset))]
        labels = torch.stack([row for row in rows if row is not None]).numpy()
    return Predictions(
        key=tuple(map(str, dataset.clips.key)),
        clip_id=tuple(map(str, dataset.clips.clip_id)),
        scores=scores,
        class_id=dataset.clips.class_id,
        multi_hot=labels,
    )


def metrics_of(predictions: Predictions) -> dict[str, Any]:
    """Accuracy (single label), or mAP and F1 (several)."""
    if predictions.multi_hot is None:
        return single_label(predictions.scores, predictions.class_id)
    return multi_label(predictions.scores, predictions.multi_hot)


def run(
    data: Place,
    checkpoint: Path,
    *,
    split: str,
    views: ViewConfig | None = None,
    workers: int = 2,
    precision: Precision = "fp32",
    device: str | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate a fine-tuned model on a split of a built dataset. Processes of torchrun share the clips.

    Args:
        views: by default one temporal and one spatial view, at the stride of the training.
        out: a Parquet file for the scores of each clip; the first process writes it.

    Returns:
        Metrics, per-class accuracy, confusion matrix, coverage and the clips that have no sample.

    Raises:
        ConfigError: a checkpoint that is no classifier, or of another label map.
        DatasetError: a clip cannot be decoded, or has no label.
        VidkitError: `out` cannot be written.
    """
    if out is not None:
        check_place(out, "scores")
    loaded, model = open_classifier(checkpoint)
    views = views or views_of(loaded.facts)
    dataset = open_test_split(data, split, model.config.encoder, views)
    check_label_map(loaded.facts, dataset, checkpoint)
    rank, world, where = _share(device)
    model.to(where)
    mine = _clips_of(rank, world, views.batch_size, len(dataset))
    with Progress("evaluating", mine, quiet=quiet or rank > 0) as progress:
        loader = ClipLoader(dataset, batch_size=views.batch_size, workers=workers, rank=rank, world=world)
        try:
            predictions = predict(model, loader, where, precision=precision, progress=progress)
        finally:
            loader.close()
    if out is not None and rank == 0:
        write_predictions(predictions, dataset, out)
    return {
        "dataset": dataset.clips.dataset.facts["name"],
        "split": split,
        "checkpoint": str(checkpoint),
        "label_map_sha256": dataset.label_sha256,
        "views": list(views.views),
        **metrics_of(predictions),
        "clips": len(dataset),
        "planned": len(dataset) + len(dataset.unusable),
        "coverage": len(dataset) / (len(dataset) + len(dataset.unusable)),
        "unusable": [
            {"clip_id": clip.clip_id, "status": clip.status, "error": clip.error, "message": clip.message}
            for clip in dataset.unusable
        ],
        "predictions_sha256": predictions.sha256(),
        "classes": list(dataset.classes),
    }


def _share(device: str | None) -> tuple[int, int, torch.device]:
    """(number of this process, processes, device)."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return 0, 1, choose_device(device)
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available())
    return state.process_index, state.num_processes, state.device if device is None else choose_device(device)


def _clips_of(rank: int, world: int, batch_size: int, clips: int) -> int:
    """How many clips of a test one process sees."""
    steps, left = divmod(clips, batch_size * world)
    return steps * batch_size + min(batch_size, max(0, left - rank * batch_size))


def check_label_map(facts: dict[str, Any], dataset: ClipDataset, checkpoint: Path) -> None:
    """
    Raises:
        ConfigError: the checkpoint's classes are not the dataset's.
    """
    theirs = facts.get("label_map_sha256")
    named, ours = list(facts.get("classes") or ()), list(dataset.classes)
    if theirs == dataset.label_sha256 or (theirs is None and named == ours):  # converted ones have names alone
        return
    if theirs is None and len(named) == 0:
        what = "it does not say which classes it was trained on"
    elif len(named) != len(ours):
        what = f"it has {len(named):,} classes, the dataset {len(ours):,}"
    else:
        number = next((i for i, pair in enumerate(zip(named, ours, strict=True)) if pair[0] != pair[1]), 0)
        what = f"class {number} is {named[number]!r} there and {ours[number]!r} in the dataset"
    raise ConfigError(
        f"the checkpoint was trained on another label map: {what}",
        file=checkpoint,
        hint="take the dataset that it was fine-tuned on, or one built by the same spec; for other classes "
        "fine-tune from the pre-trained model"
        + ("" if theirs or named else "; if the dataset has its classes, `vidkit convert --labels DIR` says so"),
    )


def write_predictions(predictions: Predictions, dataset: ClipDataset, out: Path) -> None:
    """A row a clip: key, clip_id, label ids, scores (K floats). Written whole or not at all.

    Raises:
        VidkitError: it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [dataset.clips.labels(i) for i in range(len(dataset))]
    table = pa.table(
        {
            "key": list(predictions.key),
            "clip_id": list(predictions.clip_id),
            "labels": pa.array(labels, pa.list_(pa.int64())),
            "scores": pa.array(list(predictions.scores), pa.list_(pa.float32())),
        }
    )
    with written_whole(out) as file:
        pq.write_table(table, file, compression="zstd")

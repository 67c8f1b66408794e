"""Probes of an encoder on its way: at the checkpoints of a run, and every so many epochs within pre-training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.settings.probe import ProbeConfig
from vidkit.settings.train import Cache, PretrainConfig
from vidkit.train.features.extract import encoder_source, features_of, some
from vidkit.train.features.readout import FULLEST, Reading, derived
from vidkit.train.inference import open_views, views_of
from vidkit.train.probe import knn, linear
from vidkit.train.probe.arm import Arm, probe_features
from vidkit.train.probe.run import How, extracted, plain_arm, random_like
from vidkit.train.probe.scores import Labels, figure, spread
from vidkit.train.runs import RunFolder, read_json

# --- at the checkpoints of a run -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Point:
    """One checkpoint, probed."""

    checkpoint: str
    step: int
    clips: int
    """Seen until then, repeated ones too."""
    arm: Arm

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"checkpoint": self.checkpoint, "step": self.step, "clips": self.clips, **plain_arm(self.arm)}


def during(
    data: Place, run: Path, config: ProbeConfig, how: How, *, done: Callable[[Point], None] | None = None
) -> tuple[Point, ...]:
    """Probe a run's kept checkpoints in order, each with its own choice on the validation clips; first the weights
    it began with.

    Args:
        run: a folder of `vidkit pretrain`; `log.keep_epochs` says which checkpoints it keeps.
        done: called with each point.

    Raises:
        ConfigError: no run, or one without checkpoints; settings that cannot be.
        DatasetError, TrainingError: as `run.probe`.
    """
    folder = RunFolder(run)
    if not (run / "config.json").exists():
        raise ConfigError("no run of vidkit", file=run, field="--during", hint="give the --out of a pre-training")
    settings = read_json(run / "config.json")
    kept = folder.last.parent
    found = [*sorted(kept.glob("epoch-*.pt")), *sorted(kept.glob("step-*.pt")), folder.last]
    loaded = {path: checkpoints.load(path) for path in found if path.exists()}
    if not loaded:
        raise ConfigError(
            "the run has no checkpoint", file=run, field="--during", hint="let it reach the end of an epoch"
        )
    batch = int(settings["config"]["optim"]["batch_size"])
    points: dict[int, Point] = {}
    first = next(iter(loaded.values()))
    started = settings.get("init") is None
    sources: list[tuple[str, int, Path | Checkpoint]] = []
    if started:
        sources.append(("beginning", 0, random_like(first, int(settings["config"]["seed"]))))
    sources += [(path.name, int(one.facts["step"]), path) for path, one in loaded.items()]
    for name, step, source in sources:
        if step in points:  # the last checkpoint may be one of those that were kept
            continue
        with tempfile.TemporaryDirectory() as temporary:
            splits = (config.fit, config.choose, config.test)
            file = extracted(data, source, Path(temporary) / "features.parquet", splits, how)
            points[step] = Point(
                checkpoint=name, step=step, clips=step * batch, arm=probe_features(file, config, name)
            )
        if done is not None:
            done(points[step])
        how = replace(how, tell=None)
    return tuple(points[step] for step in sorted(points))


# --- within pre-training -------------------------------------------------------------------------

#: Most clips of each split that a probe within pre-training looks at.
MOST_TRAIN, MOST_VAL = 4096, 2048

#: Nothing is chosen there: its figures are of the validation clips.
K, PENALTY = 10, 1e-3


class Hook:
    """Probes of the last layer, after the norm, on the validation clips: k-NN and ridge of mean and deviation for
    each time step, ridge of the mean over all, and the share of the variance between classes.

    Close it at the end.
    """

    def __init__(self, config: PretrainConfig, data: Place, device: torch.device) -> None:
        """
        Raises:
            ConfigError, DatasetError: no validation split, or clips without labels.
        """
        vit = config.model.encoder
        views = views_of({"stride": config.data.stride, "mode": config.data.mode})
        self.device = device
        self.loaders = []
        for split, most in ((config.data.split, MOST_TRAIN), ("val", MOST_VAL)):
            dataset = some(open_views(data, split, vit, views), most)
            if dataset.unlabelled:
                raise ConfigError(
                    f"{dataset.unlabelled:,} of {len(dataset):,} clips of split {split!r} have no label",
                    field="probe_epochs",
                    hint="leave probe_epochs at 0: a probe needs labels",
                )
            cache: Cache = "none" if config.data.cache == "none" else "host"
            self.loaders.append(
                ClipLoader(dataset, batch_size=views.batch_size, workers=config.data.workers, cache=cache)
            )
        self.labels = [labels_of(loader.dataset) for loader in self.loaders]

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures from 0 to 1."""
        assert isinstance(model, AdaMAE)
        reading = Reading(model.config.encoder.depth)
        source = encoder_source(model, (reading,), FULLEST, self.device)
        train, val = (_all(loader, source) for loader in self.loaders)
        train_labels, val_labels = self.labels
        flat = train.flatten(1)
        axes = linear.principal_axes(flat)
        pair = knn.neighbours(flat, val.flatten(1), min(K, len(flat)))
        means = [derived(part, FULLEST, "mean").flatten(1) for part in (train, val)]
        mean_axes = linear.principal_axes(means[0])
        found = {
            "probe_knn": figure(knn.votes(*pair, train_labels.hot, K), val_labels),
            "probe_ridge": figure(linear.ridge(axes, train_labels.hot, PENALTY)(val.flatten(1)), val_labels),
            "probe_ridge_mean": figure(linear.ridge(mean_axes, train_labels.hot, PENALTY)(means[1]), val_labels),
        }
        between = spread(flat, train_labels).between
        return found if between is None else {**found, "probe_between": between}

    def close(self) -> None:
        """End the loaders' processes."""
        for loader in self.loaders:
            loader.close()


def labels_of(dataset: ClipDataset) -> Labels:
    """Of all clips of a dataset, which have some."""
    several = dataset.clips.rule == "multi-hot"
    hot = torch.zeros(len(dataset), len(dataset.classes))
    for row in range(len(dataset)):
        hot[row, dataset.clips.labels(row)] = 1
    return Labels(class_id=dataset.clips.class_id, hot=hot, several=several)


def _all(loader: ClipLoader, source: Any) -> Tensor:
    """(n, T, W), the loader's whole split."""
    parts: Sequence[Tensor] = [torch.from_numpy(part[0]) for part in features_of(loader, source)]
    return torch.cat(list(parts))

"""Clips as frozen encoders are tested on them, opened once for all arms of an ablation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from vidkit.bench.ablate.common import Looked, common_masks, look
from vidkit.data.dataset import open_dataset
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.settings.ablation import Measures
from vidkit.settings.mask import ORACLES
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import Cache, PretrainConfig
from vidkit.train.inference import choose_device, open_views, views_of
from vidkit.train.probe.frozen import Part, probed, read

#: Clips at a time.
BATCH = 64


class Held:
    """Loaders of the training clips that have labels and of the tested ones, each with one view of a clip.

    Close it at the end.
    """

    def __init__(self, config: PretrainConfig, data: Path, split: str) -> None:
        """
        Raises:
            ConfigError, DatasetError: settings that do not fit the dataset.
        """
        self.vit = config.model.encoder
        self.key = key_of(config)
        self.device = choose_device(None)
        views = views_of({"stride": config.data.stride, "mode": config.data.mode}, batch_size=BATCH)
        cache: Cache = "none" if config.data.cache == "none" else "host"
        self.moving = says_moving(data, split, self.vit)
        cells = self.vit.grid[1] if self.moving else 0

        def loader(part: str, **how: Any) -> ClipLoader:
            dataset = open_views(data, part, self.vit, views, **how)
            return ClipLoader(dataset, batch_size=BATCH, workers=config.data.workers, cache=cache)

        # a fraction of 1: all that have a label
        self._fit: Callable[[], ClipLoader] = lambda: loader(config.data.split, label_fraction=1.0)
        self._fitted: ClipLoader | None = None
        self.test = loader(split, moving=cells)

    @property
    def fit(self) -> ClipLoader:
        """Of the training clips: opened when a probe first asks for them."""
        if self._fitted is None:
            self._fitted = self._fit()
        return self._fitted

    def measured(self, checkpoint: Path, measures: Measures, seed: int) -> tuple[dict[str, float], Looked | None]:
        """Figures of a checkpoint's frozen encoder by the measures' names, and what its masks show.

        Raises:
            ConfigError: the common ratio leaves nothing visible.
            DatasetError: a clip without a label, or one that cannot be decoded.
            TrainingError: figures that are not finite.
        """
        model = checkpoints.build(checkpoints.load(checkpoint))
        assert isinstance(model, AdaMAE), "a pre-training leaves nothing else"
        found: dict[str, float] = {}
        looked = None
        if "common-error" in measures.names:
            looked = look(model, self.test, self._masks(measures), seed, self.device)
            found["common-error"] = looked.common_error
        if measures.probes:
            fit, test = self._part(model, self.fit), self._part(model, self.test)
            found |= probed(fit, test, measures.probes, seed)
        return {name: found[name] for name in measures.names if name in found}, looked

    def _masks(self, measures: Measures) -> Tensor:
        return common_masks(len(self.test.dataset), self.vit.grid, measures.common_ratio, measures.common_seed)

    def _part(self, model: AdaMAE, loader: ClipLoader) -> Part:
        dataset: ClipDataset = loader.dataset
        if dataset.unlabelled:
            raise ConfigError(
                f"{dataset.unlabelled:,} of {len(dataset):,} clips of split {dataset.clips.split!r} have no label",
                field="--measure",
                hint="a probe needs labels: leave it out, or test another split",
            )
        return read(model, loader, self.device)

    def close(self) -> None:
        """End the loaders' processes."""
        for loader in (self.test, self._fitted):
            if loader is not None:
                loader.close()


def key_of(config: PretrainConfig) -> tuple[object, ...]:
    """What the loaders depend on, apart from the dataset."""
    vit, data = config.model.encoder, config.data
    return vit.frames, vit.size, vit.grid, data.split, data.stride, data.mode, data.cache, data.workers


def says_moving(data: Path, split: str, vit: ViTConfig) -> bool:
    """Whether a split's samples say where something moves, by the first of them."""
    views = views_of({})
    dataset = open_views(data, split, vit, views)
    return "moving" in dataset.meta(0)


def check_oracles(data: Path, configs: list[PretrainConfig]) -> None:
    """Before anything is trained.

    Raises:
        ConfigError: an oracle's mask is asked for on clips that do not say where something moves.
    """
    asking = [config for config in configs if config.model.mask.strategy in ORACLES]
    for config in asking[:1]:  # all are trained on one dataset's split
        strategy = config.model.mask.strategy
        if not says_moving(data, config.data.split, config.model.encoder):
            raise ConfigError(
                f"mask {strategy} needs clips that say where something moves, and those of "
                f"{open_dataset(data).facts['name']!r} do not",
                file=data,
                field="--mask",
                hint="build from `vidkit synth motions`, whose clips do; or leave the oracles out",
            )

"""`vidkit probe`: an encoder beside one of random weights and beside pixels, from one dataset's clips."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import AdaMAEConfig
from vidkit.settings.probe import ProbeConfig
from vidkit.train.features import extract, pixels
from vidkit.train.features.file import FeatureFile, open_features
from vidkit.train.features.readout import FULLEST, READOUTS, Readout
from vidkit.train.probe.arm import Arm, Cell, Tested, compared, probe_features
from vidkit.train.probe.scores import Spread


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """How clips are read and encoded."""

    layers: Sequence[int] | None = None
    readout: Readout = FULLEST
    views: tuple[int, int] = (1, 1)
    stride: int | None = None
    batch_size: int = 16
    workers: int = 2
    device: str | None = None
    quiet: bool = False
    tell: Callable[[str], None] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Probed:
    """An encoder and what it is to be seen beside."""

    config: ProbeConfig
    facts: dict[str, Any]
    """Of the encoder's features."""
    encoder: Arm
    baselines: tuple[Arm, ...]
    """Random weights of its shape, and pixels."""

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        against = {arm.name: compared(self.encoder, arm) for arm in self.baselines}
        return {
            "dataset": self.facts["dataset"],
            "checkpoint": self.facts["checkpoint"],
            "checkpoint_sha256": self.facts["checkpoint_sha256"],
            "metric": self.encoder.test.labels.metric,
            "config": asdict(self.config),
            "classes": self.facts["classes"],
            **{arm.name: plain_arm(arm) for arm in (self.encoder, *self.baselines)},
            "against": against,
        }


def probe(
    data: Place,
    source: Path | Checkpoint,
    config: ProbeConfig,
    how: How,
    *,
    features: Path | None = None,
    baselines: bool = True,
) -> Probed:
    """Extract features, or take those in a file, and probe them and those of both baselines.

    Args:
        source: the encoder's checkpoint.
        features: a file of `vidkit extract` of that checkpoint and dataset, instead of extracting.
        baselines: whether to probe random weights of the encoder's shape, and pixels.

    Raises:
        ConfigError: settings that cannot be; features of another checkpoint, layer or read-out.
        DatasetError: no usable dataset, or features of another one; splits without clips or labels.
        TrainingError: features or losses that are not finite.
    """
    splits = (config.fit, config.choose, config.test)
    loaded = checkpoints.load(source) if isinstance(source, Path) else source
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if features is None:
            file = extracted(data, source, folder / "encoder.parquet", splits, how)
        else:
            file = given(features, data, source, splits)
        encoder = probe_features(file, config, "encoder")
        others: list[Arm] = []
        if baselines:
            same = replace(how, layers=sorted({reading.layer for reading in file.readings}), readout=file.readout)
            untrained = random_like(loaded, config.seed)
            other = extracted(data, untrained, folder / "random.parquet", splits, same)
            others.append(probe_features(other, config, "random"))
            others.append(pixel_arm(data, folder / "pixels.parquet", config, how))
    return Probed(config=config, facts=file.facts, encoder=encoder, baselines=tuple(others))


def extracted(data: Place, source: Path | Checkpoint, out: Path, splits: Sequence[str], how: How) -> FeatureFile:
    """Features of the splits that there are; which are missing is said by whoever wants them."""
    there = [split for split in extract.chosen_splits(data, None) if split in splits]
    extract.run(
        data,
        source,
        out,
        layers=how.layers,
        readout=how.readout,
        splits=there,
        views=how.views,
        stride=how.stride,
        batch_size=how.batch_size,
        workers=how.workers,
        device=how.device,
        tell=how.tell,
        quiet=how.quiet,
    )
    return open_features(out)


def given(path: Path, data: Place, source: Path | Checkpoint, splits: Sequence[str]) -> FeatureFile:
    """A file of features, if it is of this dataset and checkpoint.

    Raises:
        ConfigError: of another checkpoint.
        DatasetError: of another dataset, or without one of the splits.
    """
    from vidkit.data.shards import sha256_file

    file = open_features(path)
    file.check(data=data, splits=splits)
    if isinstance(source, Path) and file.facts["checkpoint_sha256"] != sha256_file(source)[0]:
        raise ConfigError(
            f"the features are of another checkpoint: {file.facts['checkpoint']!r}",
            file=path,
            field="--features",
            hint=f"extract them again: vidkit extract --checkpoint {source}",
        )
    return file


def pixel_arm(data: Place, out: Path, config: ProbeConfig, how: How) -> Arm:
    """Pixels under the read-outs that they have."""
    splits = [s for s in extract.chosen_splits(data, None) if s in (config.fit, config.choose, config.test)]
    pixels.run(data, out, splits=splits, batch_size=how.batch_size, workers=how.workers, quiet=how.quiet)
    return probe_features(open_features(out), replace(config, readouts=None), "pixels")


def random_like(loaded: Checkpoint, seed: int) -> Checkpoint:
    """A checkpoint of the same settings whose weights were never trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = (
            AdaMAE(loaded.config, generator)
            if isinstance(loaded.config, AdaMAEConfig)
            else VideoClassifier(loaded.config, generator)
        )
    return Checkpoint(config=loaded.config, model=model.state_dict(), facts=loaded.facts)


# --- plain values --------------------------------------------------------------------------------


def plain_arm(arm: Arm) -> dict[str, Any]:
    """An arm's cells, spreads, test and notes, for JSON."""
    return {
        "cells": [plain_cell(cell) for cell in arm.cells],
        "spread": [
            {"layer": reading.layer, "norm": reading.norm, "readout": readout, **plain_spread(found)}
            for (reading, readout), found in arm.spreads.items()
        ],
        "test": plain_test(arm.test),
        "notes": list(arm.notes),
    }


def plain_cell(cell: Cell) -> dict[str, Any]:
    """A cell, for JSON."""
    return {
        "layer": cell.reading.layer,
        "norm": cell.reading.norm,
        "readout": cell.readout,
        "probe": cell.probe,
        "setting": cell.setting,
        "val": cell.val,
    }


def plain_spread(found: Spread) -> dict[str, Any]:
    """For JSON."""
    return asdict(found)


def plain_test(found: Tested) -> dict[str, Any]:
    """The test figure with its interval and all other figures, for JSON."""
    return {
        **plain_cell(found.cell),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "clips": len(found.labels),
        **found.figures,
    }


def check_readouts(names: Sequence[str] | None) -> None:
    """
    Raises:
        ConfigError: no such read-out.
    """
    unknown = [name for name in names or () if name not in READOUTS]
    if unknown:
        raise ConfigError(f"read-out is {unknown[0]!r}; expected some of {', '.join(READOUTS)}", field="--readout")

"""Checkpoints of models that were never trained, and stored clips as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.train import small
from vidkit.data import ClipDataset
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, MaskConfig


def adamae(path: Path, *, facts: dict[str, Any] | None = None, **changes: Any) -> AdaMAE:
    """Save a model with adaptive masks, or whatever `changes` make it; a sampler that prefers some tokens."""
    config: AdaMAEConfig = small.model(**changes)
    model = AdaMAE(config, torch.Generator().manual_seed(1))
    if model.sampler is not None:
        with torch.no_grad():
            model.sampler.positions.normal_(generator=torch.Generator().manual_seed(2))
    save(path, model, {"stride": 2, "mode": "train", **(facts or {})})
    return model.eval()


def tube(path: Path) -> AdaMAE:
    return adamae(path, mask=MaskConfig(strategy="tube", ratio=0.75))


def classifier(path: Path, *, classes: int = 3, **facts: Any) -> VideoClassifier:
    """Save a classifier whose scores differ between classes and clips."""
    config = ClassifierConfig(encoder=small.VIT, classes=classes, head_scale=20.0)
    model = VideoClassifier(config, torch.Generator().manual_seed(3))
    save(path, model, {"stride": 2, "mode": "train", "classes": list(small.NAMES), "rule": "single", **facts})
    return model.eval()


def save(path: Path, model: AdaMAE | VideoClassifier, facts: dict[str, Any]) -> None:
    checkpoints.save(path, Checkpoint(config=model.config, model=model.state_dict(), facts=facts))


def change(path: Path, name: str, value: float) -> None:
    """Fill one weight of a saved model."""
    found = checkpoints.load(path)
    state = {**found.model, name: torch.full_like(found.model[name], value)}
    checkpoints.save(path, replace(found, model=state))


def as_files(dataset: ClipDataset, folder: Path) -> list[Path]:
    """The stored clips, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.mp4" for i in range(len(dataset))]
    for i, path in enumerate(paths):
        path.write_bytes(dataset.bytes(i))
    return paths

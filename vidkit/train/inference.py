"""What using a trained model begins with: a device, and how clips are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.sampling import Sampling
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import ViewConfig


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None: the GPU if there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"cannot use device {name!r}: {str(error).splitlines()[0]}",
            field="--device",
            hint="choose cpu, or cuda on a machine with an NVIDIA GPU",
        ) from None
    return device


def views_of(
    facts: Mapping[str, Any],
    *,
    views: tuple[int, int] = (1, 1),
    stride: int | None = None,
    crop_share: float = 1.0,
    batch_size: int = 16,
) -> ViewConfig:
    """How a test looks at clips for a checkpoint with these facts.

    Args:
        stride: between frames; None: the training's, or 4 where the checkpoint does not say.
    """
    return ViewConfig(
        views=views,
        stride=stride or facts.get("stride") or 4,
        mode="segments" if facts.get("mode") == "segments" else "views",
        crop_share=crop_share,
        batch_size=batch_size,
    )


def open_classifier(checkpoint: Path) -> tuple[Checkpoint, VideoClassifier]:
    """A fine-tuned model, on the CPU, in training mode.

    Raises:
        ConfigError: a checkpoint that is no classifier.
    """
    loaded = checkpoints.load(checkpoint)
    model = checkpoints.build(loaded)
    if not isinstance(model, VideoClassifier):
        raise ConfigError(
            f"the checkpoint holds a model of kind {loaded.kind!r}, which names no classes",
            file=checkpoint,
            hint="fine-tune it first: vidkit finetune --init",
        )
    return loaded, model


def open_views(data: Place, split: str, vit: ViTConfig, views: ViewConfig, **how: Any) -> ClipDataset:
    """The clips of a split as a network that is not trained sees them.

    Args:
        how: further arguments of `ClipDataset`.
    """
    return ClipDataset(data, split, **_look(vit, views), **how)


def sampling_of(vit: ViTConfig, views: ViewConfig) -> Sampling:
    """The same for a file that is in no dataset."""
    return Sampling(**_look(vit, views))


def _look(vit: ViTConfig, views: ViewConfig) -> dict[str, Any]:
    return {
        "frames": vit.frames,
        "stride": views.stride,
        "mode": views.mode,
        "training": False,
        "size": vit.size,
        "views": views.views,
        "crop_share": views.crop_share,
    }

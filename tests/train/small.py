"""Runs small enough for tests: a dataset of indexed clips, a model of two blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import vidkit
from tests.data.tinyset import Clip, build
from vidkit.data.synth.layouts import write_layout
from vidkit.settings.model import AdaMAEConfig, DecoderConfig, MaskConfig, SamplerConfig, ViTConfig
from vidkit.settings.train import DataConfig, FinetuneConfig, LogConfig, OptimConfig, PretrainConfig, ViewConfig

VIT = ViTConfig(frames=4, size=32, patch=8, width=32, depth=2, heads=2, mlp_ratio=2.0)
NAMES = ("a", "b", "c")


def dataset(folder: Path, *, train: int = 14, val: int = 7, rule: str = "single") -> Path:
    """Clips of three classes, or of one or two labels each."""

    def labels(i: int) -> tuple[str, ...]:
        return (NAMES[i % 3], NAMES[(i + 1) % 3]) if rule == "multi-hot" and i % 2 else (NAMES[i % 3],)

    clips = [Clip(labels=labels(i), first=i, frames=12) for i in range(train)]
    clips += [Clip(labels=labels(i), split="val", first=20 + i, frames=12) for i in range(val)]
    return build(folder, clips, rule=rule)


def motions(folder: Path) -> Path:
    """Generated motions of two classes, whose samples say where something moves."""
    write_layout("motions", folder / "clips", clips=16, classes=2, frames=8, level=1)
    vidkit.build(vidkit.plan("motions", {"motions": folder / "clips"}), folder / "built", quiet=True)
    return folder / "built"


def model(**changes: Any) -> AdaMAEConfig:
    how: dict[str, Any] = {
        "encoder": VIT,
        "decoder": DecoderConfig(width=16, depth=1, heads=2),
        "mask": MaskConfig(ratio=0.75),
        "sampler": SamplerConfig(heads=2),
    }
    return AdaMAEConfig(**how | changes)


def optim(**changes: Any) -> OptimConfig:
    how: dict[str, Any] = {"epochs": 3, "batch_size": 4, "base_lr": 0.1, "warmup_epochs": 1}
    return OptimConfig(**how | changes)


def data(**changes: Any) -> DataConfig:
    return DataConfig(**{"stride": 2, "workers": 0, "augment": "pretrain"} | changes)


def pretrain(**changes: Any) -> PretrainConfig:
    how: dict[str, Any] = {"model": model(), "optim": optim(), "data": data(), "log": LogConfig(every=1)}
    return PretrainConfig(**how | changes)


def finetune(**changes: Any) -> FinetuneConfig:
    how: dict[str, Any] = {
        "encoder": VIT,
        "optim": optim(layer_decay=0.75, betas=(0.9, 0.999)),
        "data": data(),
        "log": LogConfig(every=1),
        "views": ViewConfig(stride=2, views=(2, 1), batch_size=3),
        "drop_path": 0.1,
    }
    return FinetuneConfig(**how | changes)


#: What says how fast a run was, not what it learnt.
TIMES = ("clips_per_s", "data_wait", "memory_gb", "seconds")


def learnt(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def check_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """All weights agree but for rounding. A key's bias has no gradient but rounding errors, of which Adam makes
    whole steps, so it is left out.
    """
    assert found.keys() == expected.keys()
    for name in expected:
        mine, theirs = found[name], expected[name]
        if name.endswith("qkv.bias"):
            third = len(mine) // 3
            mine, theirs = (torch.cat([bias[:third], bias[-third:]]) for bias in (mine, theirs))
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, msg=name)

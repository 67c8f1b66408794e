"""The section "exact" of the regression benchmark: what is deterministic.

Tokens, parameters, multiply-accumulates and predicted memory of named models; shards of a small build; the losses
of the first steps of `tiny` on that build. Bytes of shards, and the pictures that are trained on, hold for one
encoder only (`transcode.encoder_fingerprint`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from vidkit.bench.measure import facts, flops, memory
from vidkit.bench.measure.step import ModelConfig
from vidkit.bench.regress.compare import Findings, Measured, measure_parts, processor
from vidkit.bench.regress.data import built, planned
from vidkit.data.dataset import open_dataset
from vidkit.data.media.transcode import encoder_fingerprint
from vidkit.errors import ConfigError
from vidkit.models import masking
from vidkit.settings.mask import PAPER_STRATEGIES
from vidkit.settings.model import (
    ClassifierConfig,
    Grid,
    MaskConfig,
    RecomputeConfig,
    Rounding,
    small_64,
    tiny,
    vit_base,
)
from vidkit.settings.recipes import RECIPES
from vidkit.settings.train import LogConfig, Precision, PretrainConfig
from vidkit.train import pretrain
from vidkit.train.runs import RunFolder

#: Of masks: the paper's, and one beyond it.
RATIOS = (0.8, 0.85, 0.9, 0.95, 0.98)

LIGHT = RecomputeConfig(encoder="light", decoder="light", sampler="light")
MODELS: dict[str, ModelConfig] = {
    "vit-base-adaptive-0.95": vit_base(),
    "vit-base-adaptive-0.95-light": replace(vit_base(), recompute=LIGHT),
    "vit-base-tube-0.90": replace(vit_base(), mask=MaskConfig(strategy="tube", ratio=0.9)),
    "vit-base-classifier": ClassifierConfig(encoder=vit_base().encoder, classes=174),
    "small-64": small_64(),
    "tiny": tiny(),
}
#: Clips in the step whose memory is predicted: the paper's.
BATCH = 16
PRECISIONS: dict[str, tuple[Precision, ...]] = {"vit-base-adaptive-0.95": ("fp32", "bf16")}

#: The small build. Of 96 clips 64 or more are for training: two steps an epoch.
CLIPS, CLASSES = 96, 4
STEPS = 20

#: Relative, at each step. The same machine gives the same bits; other instructions round differently, which moves
#: the losses by 2e-7 at most (AVX-512 beside AVX2 and SSE).
CURVE_TOLERANCE = 1e-4

#: What may change a number by rounding, or by another way of computing the same.
ROUNDING = ("torch", "timm", "numpy", "cpu")


def measure(folder: Path, done: Callable[[str], None] = lambda part: None) -> Findings:
    """Measure every part, with one thread.

    Args:
        folder: an empty one, for clips, shards and checkpoints.
        done: called with a part's name at its end.
    """
    return measure_parts(PARTS, folder, done, conditions)


def conditions() -> dict[str, Any]:
    """What the values depend on: encoder, versions of torch, timm and numpy, processor."""
    installed = facts.versions()
    versions = {name: installed[name] for name in ("torch", "timm", "numpy")}
    return {"encoder": encoder_fingerprint(), **versions, "cpu": processor()}


def tokens(folder: Path) -> list[Measured]:
    """N and V of each recipe, and V of each strategy, ratio and rounding on the recipes' grids."""
    found: list[Measured] = []
    grids: dict[Grid, None] = {}
    for name, recipe in RECIPES.items():
        model = recipe().pretrain.model
        vit, mask = model.encoder, model.mask
        visible = _visible(vit.grid, mask.ratio, mask.rounding, mask.strategy)
        found += [_equal(f"tokens/{name}", vit.tokens), _equal(f"visible/{name}", visible)]
        grids[vit.grid] = None
    for grid in grids:
        for rounding in get_args(Rounding):
            for strategy in PAPER_STRATEGIES:
                for ratio in RATIOS:
                    name = f"visible/{'x'.join(map(str, grid))}/{rounding}/{strategy}/{ratio:g}"
                    found.append(_equal(name, _visible(grid, ratio, rounding, strategy)))
    return found


def _visible(grid: Grid, ratio: float, rounding: Any, strategy: Any) -> int | str:
    try:
        return masking.num_visible(grid, ratio, rounding, strategy)
    except ConfigError:  # too few tokens for the ratio: that it is refused must not change either
        return "refused"


def models(folder: Path) -> list[Measured]:
    """Tokens, parameters and multiply-accumulates of a clip, by formula and by torch's counter."""
    found: list[Measured] = []
    for name, config in MODELS.items():
        cost = flops.cost(config)
        numbers = {
            "tokens": cost.tokens,
            "visible": cost.visible,
            "parameters": cost.parameters,
            "forward-macs": cost.forward,
            "training-macs": cost.training,
        }
        found += [_equal(f"model/{name}/{what}", number) for what, number in numbers.items()]
        counted = flops.counted(config, training=True)
        found.append(Measured(name=f"model/{name}/counted-training-macs", value=counted, told=("torch", "timm")))
    return found


def predicted(folder: Path) -> list[Measured]:
    """Peak memory of a training step on CUDA, in bytes."""
    return [
        Measured(
            name=f"model/{name}/predicted-bytes-{precision}-batch-{BATCH}",
            value=memory.predict_peak(config, BATCH, precision, "cuda").total_bytes,
            told=("torch", "timm"),
        )
        for name, config in MODELS.items()
        for precision in PRECISIONS.get(name, ("bf16",))
    ]


def shards(folder: Path) -> list[Measured]:
    """Plan, labels, and every shard of the small build."""
    dataset = open_dataset(_dataset(folder))
    found = [
        _equal("build/plan-sha256", str(dataset.facts["plan_sha256"])),
        _equal("build/label-map-sha256", str(dataset.facts["label_map"]["sha256"])),
        _equal("build/clips", int(dataset.facts["counts"]["ok"])),
    ]
    for shard in dataset.shards:
        name = f"build/{str(shard['shard']).removesuffix('.tar')}"
        found += [
            Measured(name=f"{name}/bytes", value=int(shard["bytes"]), needs=("encoder",)),
            Measured(name=f"{name}/sha256", value=str(shard["sha256"]), needs=("encoder",)),
        ]
    return found


def curve(folder: Path) -> list[Measured]:
    """The loss of each of the first steps of `tiny`, whose schedule ends with them."""
    out = folder / "run"
    with _on_the_cpu():
        pretrain.run(_tiny(), _dataset(folder), out, quiet=True)
    losses = tuple(float(row["loss"]) for row in RunFolder(out).rows())
    found = Measured(
        name=f"losses/tiny/{STEPS}-steps",
        value=losses,
        rule="close",
        tolerance=CURVE_TOLERANCE,
        needs=("encoder",),
        told=ROUNDING,
    )
    return [found]


def _tiny() -> PretrainConfig:
    config = RECIPES["tiny"]().pretrain
    epochs = STEPS // 2
    return replace(config, optim=replace(config.optim, epochs=epochs), log=LogConfig(every=1, save_epochs=epochs))


def _dataset(folder: Path) -> Path:
    return built(planned(folder / "clips", clips=CLIPS, classes=CLASSES), folder / "dataset")


def _equal(name: str, value: int | str) -> Measured:
    return Measured(name=name, value=value)


@contextmanager
def _on_the_cpu() -> Iterator[None]:
    """accelerate takes a GPU where there is one, and a GPU's losses are others."""
    from accelerate.state import AcceleratorState

    name = "ACCELERATE_USE_CPU"
    before = os.environ.get(name)
    os.environ[name] = "true"
    AcceleratorState._reset_state(reset_partial_state=True)  # which device it takes is settled once a process
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


PARTS: dict[str, Callable[[Path], list[Measured]]] = {
    "tokens": tokens,
    "models": models,
    "predicted memory": predicted,
    "shards": shards,
    "losses": curve,
}

"""How clips get to the GPU, for `cuda.tables`: from shards, from a cache in host memory, from one on the device.

Two measurements of each: batches alone (`vidkit bench loader`), and a short pre-training of the small ViT at 64
pixels on generated clips, whose log says what share of a step waited for clips.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from vidkit.bench.measure.loader import LoaderBench
from vidkit.bench.measure.loader import run as run_loader
from vidkit.cli.datasets.embedded import generated
from vidkit.settings.recipes import RECIPES

Cache = Literal["none", "host", "device"]


def motions(work: Path, clips: int, classes: int = 40) -> Path:
    """A dataset of generated motion clips, drawn and built once with the machine's cores.

    Raises:
        BuildError: it could not be built.
    """
    return generated(work / "motions", "motions", clips=clips, classes=min(classes, clips // 4))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def data_jobs(
    device: str, work: Path, data: Path | None, clips: int, *, quick: bool
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """(key, measurement) of each way."""
    for cache in get_args(Cache):
        yield f"loader/64/{cache}", partial(_alone, device, work, None, clips, cache, quick)
    if data is not None:
        yield "loader/224/none", partial(_alone, device, work, data, clips, "none", quick)
        yield "loader/224/host", partial(_alone, device, work, data, clips, "host", quick)
    for cache in get_args(Cache):
        yield f"training/64/{cache}", partial(_training, work, clips, cache, quick)


def _alone(device: str, work: Path, data: Path | None, clips: int, cache: Cache, quick: bool) -> dict[str, Any]:
    settings = LoaderBench(
        data=data or motions(work, clips),
        frames=16,
        stride=2,
        size=224 if data is not None else 64,
        batch_size=4 if quick else 64,
        workers=(1 if quick else cores(),),
        caches=(cache,),
        batches=2 if quick else 100,
        step_ms=0.0,
        device=device,
    )
    found = run_loader(settings)
    return {**found["rows"][0], "clips": found["clips"], "settings": found["settings"]}


def _training(work: Path, clips: int, cache: Cache, quick: bool) -> dict[str, Any]:
    from vidkit.train import pretrain

    data = motions(work, clips)
    config = RECIPES["tiny" if quick else "small-64"]().pretrain
    config = replace(
        config,
        data=replace(config.data, cache=cache, stride=2, workers=0 if quick else min(8, cores()), augment="none"),
        optim=replace(
            config.optim,
            epochs=2 if quick else 12,
            warmup_epochs=1,
            batch_size=4 if quick else 256,
            precision=config.optim.precision,
        ),
        log=replace(config.log, every=2 if quick else 5, save_epochs=1000),
    )
    folder = work / f"training-{cache}"
    summary = pretrain.run(config, data, folder, quiet=True)
    from vidkit.train.runs import RunFolder

    # the first epoch fills queues and tunes kernels
    rows = [row for row in RunFolder(folder).rows() if "loss" in row and row["epoch"] > 1]
    shares = sorted(row["data_wait"] for row in rows)
    speeds = sorted(row["clips_per_s"] for row in rows)
    return {
        "clips_per_s": speeds[len(speeds) // 2],
        "wait_share": shares[len(shares) // 2],
        "wait_share_mean": summary["data_wait"],
        "batch": config.optim.batch_size,
        "steps": summary["steps"],
    }

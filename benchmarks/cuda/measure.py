"""What `cuda.tables` measures: rates of a card, steps, where their time goes, the largest batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda import steps
from vidkit.bench.measure.flops import cost
from vidkit.bench.measure.measure import PROBE_SIZE, matrix_rate, measure
from vidkit.settings.model import AdaMAEConfig, DecoderConfig, Recompute, RecomputeConfig, ViTConfig, vit_base
from vidkit.settings.train import Precision

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")

#: Clips of one epoch: the training lists' published counts, as in the specs `ssv2` and `k400`.
EPOCH_CLIPS = {"ssv2": 168_913, "k400": 241_258}
EPOCHS = 800


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    device: str
    quick: bool
    steps: int
    warmup: int
    released: Path | None
    videomae: Path | None
    data: Path | None
    clips: int
    work: Path

    @property
    def batch(self) -> int:
        return 2 if self.quick else 16

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return PRECISIONS if self.device == "cuda" else ("bf16", "fp32")

    @property
    def base(self) -> AdaMAEConfig:
        if not self.quick:
            return vit_base()
        return AdaMAEConfig(
            encoder=ViTConfig(size=112, width=48, depth=2, heads=4),
            decoder=DecoderConfig(width=24, depth=2, heads=2),
        )


def recomputing(base: AdaMAEConfig, how: Recompute) -> AdaMAEConfig:
    return replace(base, recompute=RecomputeConfig(encoder=how, decoder=how, sampler=how))


def maker(function: Callable[..., steps.Step], *args: Any, **more: Any) -> Callable[[], steps.Step]:
    return lambda: function(*args, **more)


def measured(
    settings: Settings,
    make: Callable[[], steps.Step],
    config: AdaMAEConfig | None = None,
    batch: int | None = None,
) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        clips = batch or settings.batch
        found = steps.timed(make, settings.steps, settings.warmup, settings.device)
        found |= {
            "batch": clips,
            "clips_per_s": clips / found["step_s"],
            "burst_clips_per_s": clips / found["burst_s"],
        }
        if config is not None:
            found["tflops"] = 2 * cost(config).training * clips / found["burst_s"] / 1e12
        return found

    return run


def rate(settings: Settings, precision: Precision) -> dict[str, Any]:
    device: Any = settings.device
    size = 128 if settings.quick else PROBE_SIZE[device]
    return {"matrix_flops": matrix_rate(device, precision, size=size), "size": size}


def ours(settings: Settings, config: AdaMAEConfig, batch: int, precision: Precision) -> dict[str, Any]:
    """A step of `vidkit.bench.measure.step.TrainStep`: what is predicted is what is measured."""
    steps.tidy()
    device: Any = settings.device
    found = measure(
        config,
        batch,
        precision,
        settings.steps,
        warmup=settings.warmup,
        device=device,
        memory=device == "cuda",
        probe=False,
    )
    return {
        key: value
        for key, value in found.row().items()
        if key not in ("device_name", "matrix_tflops", "share_of_peak")
    }


def parts(config: AdaMAEConfig) -> dict[str, Any]:
    return {"parts": cost(config).rows()}


def bandwidth(device: str, size: int) -> dict[str, Any]:
    """Bytes a second: a copy on the device counts what is read and what is written; one from the host once."""
    one = torch.zeros(size, dtype=torch.uint8, device=device)
    other = torch.empty_like(one)
    host = torch.zeros(size, dtype=torch.uint8, pin_memory=device == "cuda")

    def median(copy: Callable[[], object]) -> float:
        seconds = []
        for _ in range(8):
            steps.wait(device)
            started = time.perf_counter()
            copy()
            steps.wait(device)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[2:])

    return {
        "device_bytes_per_s": 2 * size / median(lambda: other.copy_(one)),
        "from_host_bytes_per_s": size / median(lambda: one.copy_(host, non_blocking=True)),
    }


def profile(settings: Settings, top: int = 25) -> dict[str, Any]:
    """Where the time of an eager step goes, by operation: seconds on the device."""
    from torch.profiler import ProfilerActivity

    batch = 2 if settings.quick else 64
    step = steps.our_step(settings.base, batch, "bf16", settings.device)
    for _ in range(settings.warmup):
        step()
    cuda = settings.device == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as seen:
        step()
        steps.wait(settings.device)

    def spent(event: Any) -> float:
        return float(event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6

    events = sorted(seen.key_averages(), key=spent, reverse=True)
    return {
        "batch": batch,
        "seconds": round(sum(map(spent, events)), 6),
        "operations": [
            {"name": event.key[:120], "calls": event.count, "seconds": round(spent(event), 6)}
            for event in events[:top]
        ],
    }


def largest(settings: Settings, config: AdaMAEConfig) -> dict[str, Any]:
    """The largest batch, in steps of 8, that a step in bf16 has room for, and its speed."""
    if settings.device != "cuda":
        return {"skipped": "the largest batch is a question to a GPU"}

    def fits(batch: int) -> dict[str, Any] | None:
        try:
            return measured(settings, maker(steps.our_step, config, batch, "bf16", "cuda"), config, batch)()
        except torch.OutOfMemoryError:
            return None
        finally:
            steps.tidy()

    low, high, best = 0, 64, None
    while (found := fits(high)) is not None:
        low, high, best = high, 2 * high, found
    while high - low > 8:
        middle = (low + high) // 16 * 8
        if (found := fits(middle)) is None:
            high = middle
        else:
            low, best = middle, found
    if best is None:
        return {"skipped": "not even 8 clips fit"}
    speed = best["burst_clips_per_s"]
    hours = {
        f"{name}, {cards} card{'s' * (cards > 1)}": round(clips * EPOCHS / speed / 3600 / cards, 1)
        for name, clips in EPOCH_CLIPS.items()
        for cards in (1, 8)
    }
    return {**best, "gpu_hours_assume": "no wait for data; eight cards eight times as fast", "wall_hours": hours}

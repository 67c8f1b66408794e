"""Peak memory of a training step: predicted without a GPU, and measured.

Predicted is what tensors hold: the very step of training (forward, backward, AdamW's update), carried out on fake
tensors. It leaves out what is no tensor of the step: the CUDA context (several hundred 10^6 bytes that only the
driver sees), the matrix library's workspace (8 to 32 MiB), gaps in the allocator's blocks (`reserved` less
`allocated`), and clips that a loader has sent ahead.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vidkit.bench.measure.attention import Attention, Device, kernel_storage
from vidkit.bench.measure.cpu_peak import resident_peak
from vidkit.bench.measure.step import PHASES, ModelConfig, TrainStep, check_step
from vidkit.bench.measure.tracker import StorageTracker
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import layers
from vidkit.settings.train import Precision

#: Bytes that the allocator of a device rounds a tensor up to.
UNITS: dict[Device, int] = {"cuda": 512, "cpu": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakMemory:
    """Predicted bytes. The first block is what is alive at the highest moment and adds up to `total_bytes`."""

    total_bytes: int
    weights: int
    """Parameters and buffers, float32."""
    gradients: int
    optimizer_states: int
    inputs: int
    """Clips and labels."""
    activations: int
    """Made in the forward pass, half-precision copies of weights included."""
    temporaries: int
    """Made in the backward pass or the update: gradients of activations, activations computed again."""

    forward_bytes: int
    """Highest moment of the forward pass."""
    backward_bytes: int
    update_bytes: int
    kept_bytes: int
    """Activations that the forward pass leaves to the backward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredPeak:
    """Measured bytes over what was there before the model was made."""

    device: Device
    total_bytes: int
    """CUDA: allocated to tensors. CPU: growth of the resident memory of a process that runs the step."""
    reserved_bytes: int | None
    """CUDA: held by torch's allocator, gaps included. None on a CPU."""
    forward_bytes: int | None
    """Highest moment of each phase; None where the system cannot say."""
    backward_bytes: int | None
    update_bytes: int | None


def predict_peak(
    config: ModelConfig,
    batch: int,
    precision: Precision = "fp32",
    device: Device = "cuda",
    optimizer: bool = True,
    attention: Attention = "fused",
) -> PeakMemory:
    """The peak of a training step after the first one, when the optimiser has its state.

    Args:
        device: whose code paths, kernels and allocator; neither needs to be there.
        optimizer: False: no AdamW, so no moments.
        attention: "matrices": as if attention were not fused and kept its scores.

    Raises:
        ConfigError: an impossible batch, precision, device or mask.
    """
    check_step(batch, precision)
    for name, value, choices in (
        ("device", device, get_args(Device)),
        ("attention", attention, get_args(Attention)),
    ):
        if value not in choices:
            raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(choices)}", field=name)
    with FakeTensorMode(), kernel_storage(attention, device), _parts_as_on(device):
        step = TrainStep(config, batch=batch, precision=precision, optimizer=optimizer)
        return track_step(step, StorageTracker(UNITS[device]))


def track_step(step: TrainStep, tracker: StorageTracker) -> PeakMemory:
    """Run `step` once below `tracker`, within the fake tensors' mode if its tensors are fake."""
    tracker.mark([*step.model.parameters(), *step.model.buffers()], "weights")
    tracker.mark([step.clips] if step.targets is None else [step.clips, step.targets], "inputs")
    for parameter in step.model.parameters():
        hook = partial(_mark_gradient, tracker)
        parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
    with tracker:
        step.fill_optimizer()
        tracker.mark(step.optimizer_state(), "optimizer_states")
        tracker.reset()
        kinds = ("activations", "temporaries", "temporaries")
        kept = 0
        for phase, kind in zip(PHASES, kinds, strict=True):
            tracker.begin(phase, kind)
            getattr(step, phase)()
            if phase == "forward":
                kept = tracker.live.get("activations", 0)
    parts = {kind: tracker.at_peak.get(kind, 0) for kind in _KINDS}
    assert sum(parts.values()) == tracker.peak, "a storage was made before the first phase and never marked"
    return PeakMemory(
        total_bytes=tracker.peak,
        **parts,
        **{f"{phase}_bytes": tracker.phases[phase] for phase in PHASES},
        kept_bytes=kept,
    )


_KINDS = ("weights", "gradients", "optimizer_states", "inputs", "activations", "temporaries")


def _mark_gradient(tracker: StorageTracker, parameter: Tensor) -> None:
    assert parameter.grad is not None
    tracker.mark([parameter.grad], "gradients")


@contextlib.contextmanager
def _parts_as_on(device: Device) -> Iterator[None]:
    """On a CPU the models work on large batches in parts; elsewhere, never.

    Fake tensors are on the "cpu" device, so for another one the size from which that happens goes out of reach.
    """
    before = layers.CPU_TOKENS
    if device != "cpu":
        layers.CPU_TOKENS = sys.maxsize
    try:
        yield
    finally:
        layers.CPU_TOKENS = before


def measure_peak(
    config: ModelConfig,
    batch: int,
    precision: Precision = "fp32",
    device: Device = "cuda",
    optimizer: bool = True,
    warmup: int = 2,
) -> MeasuredPeak:
    """The peak of one training step after `warmup` others. On a CPU a process of its own runs it.

    Raises:
        ConfigError: an impossible batch, precision or mask; no CUDA device.
        TrainingError: not enough memory.
    """
    check_step(batch, precision)
    if device == "cpu":
        resident: dict[str, Any] = {**resident_peak(config, batch, precision, optimizer, warmup)}
        return MeasuredPeak(device="cpu", reserved_bytes=None, **resident)
    if not torch.cuda.is_available():
        raise ConfigError(
            "torch sees no CUDA device", field="device", hint="measure on the CPU, or predict the peak without one"
        )
    return _cuda_peak(config, batch, precision, optimizer, warmup)


def _cuda_peak(
    config: ModelConfig, batch: int, precision: Precision, optimizer: bool, warmup: int
) -> MeasuredPeak:  # pragma: no cover - needs a GPU
    torch.cuda.empty_cache()
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    with memory_errors(config, batch, precision, optimizer):
        step = TrainStep(config, batch=batch, precision=precision, device="cuda", optimizer=optimizer)
        for _ in range(warmup):
            step.run()
        # what the warm-up reserved stays: only then does the peak of reserved bytes belong to a usual step
        found: dict[str, Any] = {}
        for phase in PHASES:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            getattr(step, phase)()
            torch.cuda.synchronize()
            found[f"{phase}_bytes"] = torch.cuda.max_memory_allocated() - allocated
            held = torch.cuda.max_memory_reserved() - reserved
            found["reserved_bytes"] = max(found.get("reserved_bytes", 0), held)
    total = max(found[f"{phase}_bytes"] for phase in PHASES)
    return MeasuredPeak(device="cuda", total_bytes=total, **found)


@contextlib.contextmanager
def memory_errors(config: ModelConfig, batch: int, precision: Precision, optimizer: bool = True) -> Iterator[None]:
    """Turns CUDA's lack of memory into a TrainingError that says how much was to be expected."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        expected = predict_peak(config, batch, precision, "cuda", optimizer).total_bytes / 1e9
        free, whole = torch.cuda.mem_get_info()
        raise TrainingError(
            f"out of memory: a step of {batch} clips in {precision} is predicted to need {expected:.1f} GB; "
            f"the device has {whole / 1e9:.1f} GB, {free / 1e9:.1f} GB of them free now",
            hint="use fewer clips, half precision, or recomputation",
        ) from error

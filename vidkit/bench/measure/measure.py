"""One configuration's numbers on this machine: speed, memory, cost. What a result row says of them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vidkit.bench.measure.attention import Device
from vidkit.bench.measure.facts import cpu_model
from vidkit.bench.measure.flops import cost
from vidkit.bench.measure.memory import MeasuredPeak, measure_peak, memory_errors, predict_peak
from vidkit.bench.measure.step import HALF, ModelConfig, TrainStep, check_step
from vidkit.errors import ConfigError
from vidkit.settings.model import AdaMAEConfig
from vidkit.settings.train import Precision

#: Rows and columns of the matrices whose product tells a device's rate: large enough to keep it busy.
PROBE_SIZE: dict[Device, int] = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A training step of one configuration, as plain values. Bytes are those of `memory.MeasuredPeak`."""

    model: str
    """adamae or classifier."""
    device: Device
    device_name: str
    batch: int
    precision: Precision
    tokens: int
    visible: int
    parameters: int
    forward_macs: int
    """Multiply-accumulates of one clip; see `flops.Cost`."""
    training_macs: int

    warmup: int
    seconds: tuple[float, ...]
    """Each timed step, without loading of clips."""
    step_seconds: float
    """Their median."""
    clips_per_s: float
    tflops: float
    """10^12 operations a second, two for each multiply-accumulate."""
    matrix_tflops: float | None
    """What one large matrix product in the same precision attains."""
    share_of_peak: float | None
    """tflops / matrix_tflops."""

    predicted_bytes: int
    measured_bytes: int | None
    """None where memory was not measured, like the rest."""
    reserved_bytes: int | None
    forward_bytes: int | None
    backward_bytes: int | None
    update_bytes: int | None
    predicted_over_measured: float | None

    def row(self) -> dict[str, Any]:
        """For JSON."""
        values = dataclasses.asdict(self)
        return {**values, "seconds": list(self.seconds)}


def measure(
    config: ModelConfig,
    batch: int,
    precision: Precision = "fp32",
    steps: int = 10,
    *,
    warmup: int = 3,
    device: Device | None = None,
    memory: bool = True,
    probe: bool = True,
) -> Measurement:
    """Time training steps on clips of noise, and measure their peak memory.

    Memory comes first and apart: on a CPU from a process of its own.

    Args:
        steps: timed ones, after `warmup` others.
        device: None takes CUDA where torch sees it.
        memory: whether to measure the peak; it is predicted in any case.
        probe: whether to measure the device's rate of matrix products.

    Raises:
        ConfigError: impossible settings, fp16 on a CPU, no such device.
        TrainingError: not enough memory.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check(batch, precision, steps, device)
    costs = cost(config)
    predicted = predict_peak(config, batch, precision, device)
    measured = measure_peak(config, batch, precision, device, warmup=min(warmup, 2)) if memory else None
    seconds = time_steps(config, batch, precision, steps, warmup, device)
    median = statistics.median(seconds)
    tflops = 2 * costs.training * batch / median / 1e12
    rate = matrix_rate(device, precision) / 1e12 if probe else None
    return Measurement(
        model="adamae" if isinstance(config, AdaMAEConfig) else "classifier",
        device=device,
        device_name=torch.cuda.get_device_name() if device == "cuda" else cpu_model(),
        batch=batch,
        precision=precision,
        tokens=costs.tokens,
        visible=costs.visible,
        parameters=costs.parameters,
        forward_macs=costs.forward,
        training_macs=costs.training,
        warmup=warmup,
        seconds=tuple(seconds),
        step_seconds=median,
        clips_per_s=batch / median,
        tflops=tflops,
        matrix_tflops=rate,
        share_of_peak=None if rate is None else tflops / rate,
        predicted_bytes=predicted.total_bytes,
        predicted_over_measured=None if measured is None else predicted.total_bytes / measured.total_bytes,
        **_measured(measured),
    )


def _check(batch: int, precision: Precision, steps: int, device: str) -> None:
    check_step(batch, precision)
    if steps < 1:
        raise ConfigError(f"steps is {steps!r}; expected at least 1", field="steps")
    if device not in PROBE_SIZE:
        raise ConfigError(f"device is {device!r}; expected one of {', '.join(PROBE_SIZE)}", field="device")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA device", field="device", hint="measure on the CPU")
    if device == "cpu" and precision == "fp16":
        raise ConfigError("fp16 needs a CUDA device", field="precision", hint="use bf16 or fp32")


def _measured(peak: MeasuredPeak | None) -> dict[str, Any]:
    names = ("reserved_bytes", "forward_bytes", "backward_bytes", "update_bytes")
    values = {name: None if peak is None else getattr(peak, name) for name in names}
    return {**values, "measured_bytes": None if peak is None else peak.total_bytes}


def time_steps(
    config: ModelConfig, batch: int, precision: Precision, steps: int, warmup: int, device: Device
) -> list[float]:
    """Seconds of each step, the device's work included."""
    with memory_errors(config, batch, precision):
        step = TrainStep(config, batch=batch, precision=precision, device=device)
        return _timed(step.run, steps, warmup, device)


def matrix_rate(device: Device, precision: Precision = "fp32", size: int | None = None, repeats: int = 10) -> float:
    """Operations a second, two for each multiply-accumulate, of `size` x `size` matrix products."""
    rows = size or PROBE_SIZE[device]
    a, b = (torch.randn(rows, rows, device=device, dtype=HALF[precision] or torch.float32) for _ in range(2))
    return 2.0 * rows**3 / statistics.median(_timed(lambda: torch.matmul(a, b), repeats, 2, device))


def _timed(function: Callable[[], object], repeats: int, warmup: int, device: Device) -> list[float]:
    seconds = []
    for number in range(warmup + repeats):
        _wait(device)
        started = time.perf_counter()
        function()
        _wait(device)
        if number >= warmup:
            seconds.append(time.perf_counter() - started)
    return seconds


def _wait(device: Device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

"""Resident memory of a process that runs one training step on the CPU.

`python -m vidkit.bench.measure.cpu_peak` is that process: a pickled job on its standard input, one line of JSON on
its standard output.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from vidkit.bench.measure.step import PHASES, ModelConfig, TrainStep
from vidkit.errors import TrainingError
from vidkit.settings.train import Precision

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

#: glibc keeps freed blocks below a threshold that it raises as it goes; with a fixed low one, freed tensors leave
#: the process at once, and its resident memory is what is alive.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def resident_peak(
    config: ModelConfig, batch: int, precision: Precision, optimizer: bool, warmup: int
) -> dict[str, int | None]:
    """`total_bytes` and each phase's bytes over what the process holds before it makes the model.

    Phases are None where the system cannot reset a process's peak (all but Linux); the total then includes the
    making of the model.

    Raises:
        TrainingError: the process ended early, for lack of memory or otherwise.
    """
    job = pickle.dumps((config, batch, precision, optimizer, warmup, torch.get_num_threads()))
    command = [sys.executable, "-m", "vidkit.bench.measure.cpu_peak"]
    done = subprocess.run(command, input=job, capture_output=True, env={**os.environ, **_ENVIRONMENT}, check=False)
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        raise TrainingError(
            f"the process that runs a step of {batch} clips in {precision} {why}"
            + "".join(f": {w}" for w in words[-1:]),
            hint="use fewer clips if the machine's memory is too small",
        )
    found: dict[str, int | None] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run one step as standard input asks, and answer with `resident_peak`'s numbers, in bytes."""
    config, batch, precision, optimizer, warmup, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    _wake()
    before = _resident("VmRSS")
    step = TrainStep(config, batch=batch, precision=precision, device="cpu", optimizer=optimizer)
    for _ in range(warmup):
        step.run()
    phases: dict[str, int | None] = {}
    for phase in PHASES:
        fresh = _reset_peak()
        getattr(step, phase)()
        peak = _resident("VmHWM") - before
        phases[f"{phase}_bytes"] = peak if fresh else None
    known = [value for value in phases.values() if value is not None]
    total = max(known) if known else _resident("VmHWM") - before
    sys.stdout.write(json.dumps({"total_bytes": total, **phases}) + "\n")


def _wake() -> None:
    """Bring up threads and libraries, which are no part of a step's memory."""
    x = torch.randn(64, 64, requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            torch.nn.functional.linear(x, x).sum().backward()  # type: ignore[no-untyped-call]


def _resident(field: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since the last reset."""
    if not _STATUS.exists():
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used * (1 if sys.platform == "darwin" else 1024)
    line: Any = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def _reset_peak() -> bool:
    """Whether the peak could be set back to what is resident now."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()

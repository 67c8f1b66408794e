"""One cell of an ablation: its runs, which may be there already, its test and measurements, and the row of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vidkit.bench.ablate.attempts import finetuned, memory_errors, pretrained
from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.journal import data_facts
from vidkit.bench.measure.measure import measure
from vidkit.bench.measure.memory import predict_peak
from vidkit.bench.rows.schema import Planned, Row
from vidkit.errors import VidkitError
from vidkit.settings.ablation import MeasureConfig, MemoryConfig
from vidkit.settings.plain import config_hash, to_plain
from vidkit.train import evaluate
from vidkit.train.runs import RunFolder, write_json

#: Of the test's figures; the rest is in test.json.
METRICS = ("top1", "top5", "mean_class", "mAP", "f1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """What `run` does."""

    jobs: tuple[Job, ...]
    data: Path | None
    """None where nothing is trained."""
    out: Path
    split: str = "val"
    """That is tested."""
    measure: MeasureConfig = field(default_factory=MeasureConfig)


@dataclass(kw_only=True, slots=True)
class Runner:
    """Makes the row of one cell after another."""

    ablation: Ablation
    about: dict[str, str | None]
    quiet: bool
    common: dict[str, Any]
    """Of every row: commit, versions, machine."""
    failed: dict[str, str] = field(default_factory=dict)
    """See `pretrained`."""
    measured: dict[MemoryConfig, dict[str, Any]] = field(default_factory=dict)

    def row(self, job: Job) -> Row:
        """Run a cell, or what is left of it. A failure is a row, too. KeyboardInterrupt leaves a checkpoint."""
        memory = job.planned.in_grid.kind == "memory"
        known: dict[str, Any] = {
            "plan": job.planned,
            **self.common,
            **(data_facts(None) if memory else self.about),
            "config": to_plain(job.memory if memory else job.config),
        }
        try:
            with memory_errors():
                found = self._memory(job) if memory else self._full(job)
        except VidkitError as error:
            return Row(status="failed", reason=str(error), **known)
        return Row(status="ok", **{**known, **found})

    # --- what is trained ---

    def _full(self, job: Job) -> dict[str, Any]:
        data, out, config = self.ablation.data, self.ablation.out, job.config
        assert data is not None, "cells that are trained need a dataset"
        before = Path("pretrain") / config_hash(config.pretrain)
        folder = Path("cells") / job.planned.config_hash
        first = pretrained(config.pretrain, data, out / before, self.failed, quiet=self.quiet)
        init = RunFolder(out / before).last
        tuned = finetuned(config.finetune, data, out / folder / "finetune", init=init, quiet=self.quiet)
        started = time.perf_counter()
        tested = evaluate.run(
            data,
            RunFolder(out / folder / "finetune").last,
            split=self.ablation.split,
            views=config.test,
            workers=config.finetune.data.workers,
            precision=config.finetune.optim.precision,
            out=out / folder / "predictions.parquet",
            quiet=self.quiet,
        )
        seconds = time.perf_counter() - started
        write_json(out / folder / "test.json", tested)
        found: dict[str, Any] = {
            "metrics": {name: tested[name] for name in METRICS if isinstance(tested.get(name), float)},
            "pretrain_loss": first["loss"],
            "finetune_loss": tuned["loss"],
            "counts": {"clips": tested["clips"]},
            "coverage": tested["coverage"],
            "split": self.ablation.split,
            "predictions_sha256": tested["predictions_sha256"],
            "clips_per_s": first["clips_per_s"],
            "seconds": {"pretrain": first["seconds"], "finetune": tuned["seconds"], "test": seconds},
            "runs": {
                "pretrain": before.as_posix(),
                "finetune": (folder / "finetune").as_posix(),
                "test": (folder / "test.json").as_posix(),
                "predictions": (folder / "predictions.parquet").as_posix(),
            },
        }
        try:
            with memory_errors():
                return {**found, **self._memory(job)}
        except VidkitError as error:  # the accuracy stands, and the row says why memory does not
            return {**found, "reason": f"memory and speed of a step were not measured: {error.message}"}

    # --- what is measured ---

    def _memory(self, job: Job) -> dict[str, Any]:
        if job.memory not in self.measured:
            found = measured(job.memory, self._how(job.planned))
            if job.planned.in_grid.kind == "memory":
                memory = job.memory
                peak = predict_peak(memory.model, memory.batch, memory.precision, "cuda", attention="matrices")
                found["predicted_matrices_bytes"] = peak.total_bytes
            self.measured[job.memory] = found
        return self.measured[job.memory]

    def _how(self, planned: Planned) -> MeasureConfig:
        """Without a GPU, memory alone is predicted: steps of a large model would take hours."""
        how = self.ablation.measure
        return replace(how, steps=0) if planned.in_grid.kind == "memory" and not torch.cuda.is_available() else how


def measured(memory: MemoryConfig, how: MeasureConfig) -> dict[str, Any]:
    """Fields of a row: memory and speed of a pre-training step.

    With steps, on the device that torch has; without, the peak on CUDA is predicted.

    Raises:
        ConfigError: impossible settings.
        TrainingError: not enough memory.
    """
    known: dict[str, Any] = {"batch": memory.batch, "precision": memory.precision}
    if how.steps == 0:
        peak = predict_peak(memory.model, memory.batch, memory.precision, "cuda")
        return {**known, "device": "cuda", "predicted_bytes": peak.total_bytes}
    found = measure(memory.model, memory.batch, memory.precision, steps=how.steps, warmup=how.warmup, probe=False)
    return {
        **known,
        "device": found.device,
        "predicted_bytes": found.predicted_bytes,
        "measured_bytes": found.measured_bytes,
        "reserved_bytes": found.reserved_bytes,
        "step_clips_per_s": found.clips_per_s,
    }

"""One cell of an ablation: its runs, which may be there already, its test and measurements, and the row of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vidkit.bench.ablate import measured as cell_measures
from vidkit.bench.ablate.attempts import finetuned, memory_errors, pretrained
from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.held import Held, key_of
from vidkit.bench.ablate.journal import data_facts
from vidkit.bench.ablate.measured import Place, evaluated, fields
from vidkit.bench.measure.measure import measure
from vidkit.bench.measure.memory import predict_peak
from vidkit.bench.rows.schema import Contrast, Planned, Row
from vidkit.errors import VidkitError
from vidkit.settings.ablation import CellConfig, MeasureConfig, Measures, MemoryConfig
from vidkit.settings.plain import config_hash, to_plain
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
    measures: Measures = field(default_factory=lambda: Measures(names=("finetune",)))
    again: bool = False
    """Measure cells again whose rows lack one of the measures."""
    contrasts: tuple[Contrast, ...] = ()
    """In the plan with those that it has."""


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
    held: Held | None = None
    """Opened by the first cell that needs it, in each process."""

    def close(self) -> None:
        """Let go of the clips that are held."""
        if self.held is not None:
            self.held.close()

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
        measures, run = self.ablation.measures, RunFolder(out / before)
        first = pretrained(
            config.pretrain, data, run.root, self.failed, quiet=self.quiet, keep=measures.shares[:-1]
        )
        place = Place(data=data, split=self.ablation.split, folder=out / folder, quiet=self.quiet)
        clips = first["steps"] * config.pretrain.optim.batch_size
        found: dict[str, Any] = {
            "metrics": {},
            "pretrain_loss": first["loss"],
            "counts": {
                "pretrain_steps": first["steps"],
                "pretrain_clips": clips,
                "pretrain_macs": clips * job.planned.in_grid.training_macs,
            },
            "split": self.ablation.split,
            "clips_per_s": first["clips_per_s"],
            "seconds": {"pretrain": first["seconds"]},
            "runs": {"pretrain": before.as_posix()},
        }
        if "finetune" in measures.names:
            found = _merged(found, self._tuned(config, run, folder, place))
        started = time.perf_counter()
        points, looked = cell_measures.curve(
            config, measures, run, first["steps"], place, lambda: self._held(config, data)
        )
        if points:
            found = _merged(found, {**fields(points, looked), "seconds": {"curve": time.perf_counter() - started}})
        try:
            with memory_errors():
                return {**found, **self._memory(job)}
        except VidkitError as error:  # the accuracy stands, and the row says why memory does not
            return {**found, "reason": f"memory and speed of a step were not measured: {error.message}"}

    def _tuned(self, config: CellConfig, run: RunFolder, folder: Path, place: Place) -> dict[str, Any]:
        """Fields of a row: fine-tuning with all labels, and its test."""
        tuned = finetuned(config.finetune, place.data, place.folder / "finetune", init=run.last, quiet=self.quiet)
        started = time.perf_counter()
        tested = evaluated(config, place, place.folder / "finetune", place.folder / "predictions.parquet")
        seconds = time.perf_counter() - started
        write_json(place.folder / "test.json", tested)
        return {
            "metrics": {name: tested[name] for name in METRICS if isinstance(tested.get(name), float)},
            "finetune_loss": tuned["loss"],
            "counts": {"clips": tested["clips"]},
            "coverage": tested["coverage"],
            "predictions_sha256": tested["predictions_sha256"],
            "seconds": {"finetune": tuned["seconds"], "test": seconds},
            "runs": {
                "finetune": (folder / "finetune").as_posix(),
                "test": (folder / "test.json").as_posix(),
                "predictions": (folder / "predictions.parquet").as_posix(),
            },
        }

    def _held(self, config: CellConfig, data: Path) -> Held:
        if self.held is not None and self.held.key != key_of(config.pretrain):
            self.held.close()
            self.held = None
        if self.held is None:
            self.held = Held(config.pretrain, data, self.ablation.split)
        return self.held

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


def _merged(one: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Fields of a row and some more; those that hold several values keep what both have."""
    both = {key: {**one[key], **value} for key, value in more.items() if isinstance(one.get(key), dict)}
    return {**one, **more, **both}


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

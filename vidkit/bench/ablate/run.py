"""Ablations: pre-training, fine-tuning, test and measurement of each cell, and a row of results for each.

out/ablation.json          the cells that were planned, and the dataset they are run on
out/results.jsonl          a row for each cell that has run or failed; see `rows`
out/pretrain/HASH/         a pre-training, shared by the cells that have the same one
out/cells/HASH/            finetune/, test.json, predictions.parquet

Cells run one after another. A run that was stopped goes on by `resume`: cells with a result are not run again,
failed ones are, and inside a cell each run goes on from its last checkpoint.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vidkit.bench.ablate.attempts import finished, memory_errors
from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.parallel import places, side_by_side
from vidkit.bench.ablate.rows import (
    PLAN,
    RESULTS,
    Plan,
    PlannedCell,
    Row,
    read_plan,
    read_rows,
    write_plan,
    write_rows,
)
from vidkit.bench.measure import facts
from vidkit.bench.measure.measure import measure
from vidkit.bench.measure.memory import predict_peak
from vidkit.data.build.state import lock
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError, TrainingError, VidkitError
from vidkit.settings.ablation import MeasureConfig, MemoryConfig
from vidkit.settings.plain import config_hash, to_plain
from vidkit.train import evaluate, finetune, pretrain
from vidkit.train.runs import RunFolder, write_json

#: Of the test's figures; the rest is in test.json.
METRICS = ("top1", "top5", "mean_class", "mAP", "f1")

Tell = Callable[[str], None]


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


def run(
    ablation: Ablation,
    *,
    resume: bool = False,
    quiet: bool = False,
    jobs: int = 0,
    tell: Tell = lambda words: None,
) -> tuple[Row, ...]:
    """Run what has no result yet. Returns the rows of these jobs, in their order.

    Args:
        jobs: cells at a time; 0: one for each GPU, at least one.
        tell: called with a line of text when a cell begins and ends.

    Raises:
        ConfigError: `out` holds results and `resume` is off, or results of another dataset; damaged results.
        DatasetError: no usable dataset.
        TrainingError: a result cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM. Rows so far are kept, and the run at work has left a checkpoint.
    """
    out = ablation.out.resolve()
    about = _dataset_facts(ablation.data, ablation.split)
    check_free(out, resume=resume)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder: {error.strerror}", file=out, field="--out") from error
    with lock(out):
        rows = {row.plan.config_hash: row for row in read_rows(out / RESULTS)}
        write_plan(out / PLAN, _joined(read_plan(out / PLAN), ablation, about, out))
        common = _common_facts()
        runner = _Runner(ablation=replace(ablation, out=out), about=about, quiet=quiet, common=common)
        todo: dict[Job, str] = {}
        for number, job in enumerate(ablation.jobs, start=1):
            told = f"cell {number} of {len(ablation.jobs)}: {label(job.planned)}"
            before = rows.get(job.planned.config_hash)
            if before is not None and before.status == "ok":
                tell(f"{told}: done before")
            else:
                todo[job] = told
        for row in _rows(runner, todo, places(jobs), tell):
            rows[row.plan.config_hash] = row
            write_rows(out / RESULTS, rows.values())
            if row.status == "failed":
                tell(f"  failed: {row.reason}")
    return tuple(rows[job.planned.config_hash] for job in ablation.jobs)


def _rows(runner: _Runner, todo: dict[Job, str], where: Sequence[str | None], tell: Tell) -> Iterator[Row]:
    if len(where) == 1:
        for job, told in todo.items():
            tell(told)
            yield runner.row(job)
        return
    told_of = {job.planned.config_hash: told for job, told in todo.items()}
    tell(f"{len(todo)} cells, {len(where)} at a time")
    # lines of several runs at once could not be told apart
    for row in side_by_side(replace(runner, quiet=True).row, todo, where):
        tell(f"{told_of[row.plan.config_hash]}: {row.status}")
        yield row


def check_free(out: Path, *, resume: bool) -> None:
    """Raises ConfigError where `out` holds results, or was begun, and `resume` is off."""
    if not resume and any((out / name).exists() for name in (RESULTS, PLAN)):
        raise ConfigError(f"{out} holds results already", hint="go on with them by --resume, or give another --out")


def label(planned: PlannedCell) -> str:
    """A cell in a few words: what is nearly always varied, and V of N tokens."""
    cell = planned.cell
    words = [cell.mask, f"{cell.ratio:g}", f"{planned.visible} of {planned.tokens} tokens visible"]
    words += [f"decoder {cell.decoder_depth}", *(str(name) for name in (cell.loss, cell.sampler) if name)]
    words += [] if planned.kind == "memory" else [f"{cell.epochs} epochs", f"seed {cell.seed}"]
    return ", ".join(words)


def _dataset_facts(data: Path | None, split: str) -> dict[str, str | None]:
    if data is None:
        return {"dataset": None, "label_map_sha256": None, "plan_sha256": None}
    found = open_dataset(data).facts
    if not found["splits"].get(split, {}).get("ok"):  # before anything is trained
        raise ConfigError(
            f"the dataset has no clips in split {split!r} to test on",
            file=data,
            field="--split",
            hint="choose one of " + ", ".join(name for name, count in found["splits"].items() if count.get("ok")),
        )
    plan = found.get("plan_sha256")
    return {
        "dataset": str(found["name"]),
        "label_map_sha256": str(found["label_map"]["sha256"]),
        "plan_sha256": None if plan is None else str(plan),
    }


def _joined(before: Plan | None, ablation: Ablation, about: dict[str, str | None], out: Path) -> Plan:
    """The plan of `out` with these jobs: a grid can grow."""
    cells = {} if before is None else {cell.config_hash: cell for cell in before.cells}
    for job in ablation.jobs:
        now = job.planned
        known = cells[now.config_hash].paper if now.config_hash in cells else ()
        paper = (*known, *(row for row in now.paper if row not in known))
        cells[now.config_hash] = replace(now, paper=paper)
    if before is not None and before.dataset is not None:
        theirs = {name: getattr(before, name) for name in about}
        if ablation.data is not None and theirs != about:
            raise ConfigError(
                f"the folder holds results of dataset {before.dataset!r} (label map "
                f"{(before.label_map_sha256 or '')[:12]}), not of {about['dataset']!r} "
                f"({(about['label_map_sha256'] or '')[:12]}) as it is now",
                file=out / PLAN,
                hint="give the same --data, or another --out",
            )
        about = theirs
    return Plan(
        dataset=about["dataset"],
        label_map_sha256=about["label_map_sha256"],
        plan_sha256=about["plan_sha256"],
        cells=tuple(cells.values()),
    )


def _common_facts() -> dict[str, Any]:
    machine = facts.machine()
    return {
        "git": machine.pop("git"),
        "versions": {"python": machine["python"], "vidkit": machine["vidkit"], **facts.versions()},
        "machine": {**machine, "accelerator": facts.accelerator()},
    }


@dataclass(kw_only=True, slots=True)
class _Runner:
    ablation: Ablation
    about: dict[str, str | None]
    quiet: bool
    common: dict[str, Any]
    """Of every row: commit, versions, machine."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why a pre-training failed, by its folder's name: cells that share it fail alike, without trying again."""
    measured: dict[MemoryConfig, dict[str, Any]] = field(default_factory=dict)

    def row(self, job: Job) -> Row:
        data = {} if job.planned.kind == "memory" else self.about
        known: dict[str, Any] = {
            "plan": job.planned,
            **self.common,
            "dataset": data.get("dataset"),
            "label_map_sha256": data.get("label_map_sha256"),
            "config": to_plain(job.memory if job.planned.kind == "memory" else job.config),
        }
        try:
            with memory_errors():
                found = self._memory(job) if job.planned.kind == "memory" else self._full(job)
        except VidkitError as error:
            return Row(status="failed", reason=str(error), **known)
        return Row(status="ok", **{**known, **found})

    # --- what is trained ---

    def _full(self, job: Job) -> dict[str, Any]:
        data, out, config = self.ablation.data, self.ablation.out, job.config
        assert data is not None, "cells that are trained need a dataset"
        before = Path("pretrain") / config_hash(config.pretrain)
        folder = Path("cells") / job.planned.config_hash
        first = self._pretrain(job, out / before)
        tuned = finished(out / folder / "finetune") or finetune.run(
            config.finetune,
            data,
            out / folder / "finetune",
            init=RunFolder(out / before).last,
            resume=(out / folder / "finetune" / "config.json").exists(),
            quiet=self.quiet,
        )
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
            "clips": tested["clips"],
            "coverage": tested["coverage"],
            "split": self.ablation.split,
            "predictions_sha256": tested["predictions_sha256"],
            "clips_per_s": first["clips_per_s"],
            "pretrain_s": first["seconds"],
            "finetune_s": tuned["seconds"],
            "test_s": seconds,
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

    def _pretrain(self, job: Job, folder: Path) -> dict[str, Any]:
        if folder.name in self.failed:
            raise TrainingError(self.failed[folder.name])
        done = finished(folder)
        if done is not None:
            return done
        assert self.ablation.data is not None
        try:
            with memory_errors():
                return pretrain.run(
                    job.config.pretrain,
                    self.ablation.data,
                    folder,
                    resume=(folder / "config.json").exists(),
                    quiet=self.quiet,
                )
        except VidkitError as error:
            self.failed[folder.name] = f"the pre-training that it shares with another cell failed: {error.message}"
            raise

    # --- what is measured ---

    def _memory(self, job: Job) -> dict[str, Any]:
        if job.memory not in self.measured:
            found = measured(job.memory, self._how(job.planned))
            if job.planned.kind == "memory":
                memory = job.memory
                peak = predict_peak(memory.model, memory.batch, memory.precision, "cuda", attention="matrices")
                found["predicted_matrices_bytes"] = peak.total_bytes
            self.measured[job.memory] = found
        return self.measured[job.memory]

    def _how(self, planned: PlannedCell) -> MeasureConfig:
        """Without a GPU, memory alone is predicted: steps of a large model would take hours."""
        how = self.ablation.measure
        return replace(how, steps=0) if planned.kind == "memory" and not torch.cuda.is_available() else how


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


def say(words: str) -> None:
    """On stderr, as the commands tell how far they are."""
    print(words, file=sys.stderr)


def failures(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.status == "failed")

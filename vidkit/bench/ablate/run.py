"""Ablations: pre-training, fine-tuning, test and measurement of each cell, and a row of results for each.

out/plan.json              the cells that were planned, and the dataset they are run on
out/results.jsonl          a row for each cell that has run or failed; see `bench.rows`
out/pretrain/HASH/         a pre-training, shared by the cells that have the same one
out/cells/HASH/            finetune/, test.json, predictions.parquet

Cells run one after another. A run that was stopped goes on by `resume`: cells with a result are not run again,
failed ones are, and inside a cell each run goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vidkit.bench.ablate.attempts import finetuned, memory_errors, pretrained
from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.journal import Tell, check_free, check_split, code_and_machine, data_facts, journal
from vidkit.bench.ablate.parallel import places, side_by_side
from vidkit.bench.measure.measure import measure
from vidkit.bench.measure.memory import predict_peak
from vidkit.bench.rows.files import PLAN, read_plan, write_plan
from vidkit.bench.rows.schema import Plan, Planned, Row
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError, VidkitError
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
    with journal(out, tell) as kept:
        write_plan(out, _joined(read_plan(out), ablation, about, out))
        runner = _Runner(ablation=replace(ablation, out=out), about=about, quiet=quiet, common=code_and_machine())
        named = (
            (job, f"cell {number} of {len(ablation.jobs)}: {label(job.planned)}")
            for number, job in enumerate(ablation.jobs, start=1)
        )
        todo = {job: told for job, told in named if not kept.done(job.planned, told)}
        for row in _rows(runner, todo, places(jobs), tell):
            kept.add(row)
    return kept.of(job.planned for job in ablation.jobs)


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
        yield row  # first of all it is kept
        tell(f"{told_of[row.plan.config_hash]}: {row.status}")


def label(planned: Planned) -> str:
    """A cell in a few words: what is nearly always varied, and V of N tokens."""
    of, cell = planned.in_grid, planned.in_grid.settings
    words = [cell.mask, f"{cell.ratio:g}", f"{of.visible} of {of.tokens} tokens visible"]
    words += [f"decoder {cell.decoder_depth}", *(str(name) for name in (cell.loss, cell.sampler) if name)]
    words += [] if of.kind == "memory" else [f"{cell.epochs} epochs", f"seed {cell.seed}"]
    return ", ".join(words)


def _dataset_facts(data: Path | None, split: str) -> dict[str, str | None]:
    if data is None:
        return data_facts(None)
    built = open_dataset(data).facts
    check_split(built, split, data)
    return data_facts(built)


def _joined(before: Plan | None, ablation: Ablation, about: dict[str, str | None], out: Path) -> Plan:
    """The plan of `out` with these jobs: a grid can grow."""
    cells = {} if before is None else {one.config_hash: one for one in before.planned}
    for job in ablation.jobs:
        key = job.planned.config_hash
        known = cells[key].in_grid.paper if key in cells else ()
        cells[key] = job.with_paper(known).planned
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
        planned=tuple(cells.values()),
    )


@dataclass(kw_only=True, slots=True)
class _Runner:
    ablation: Ablation
    about: dict[str, str | None]
    quiet: bool
    common: dict[str, Any]
    """Of every row: commit, versions, machine."""
    failed: dict[str, str] = field(default_factory=dict)
    """See `pretrained`."""
    measured: dict[MemoryConfig, dict[str, Any]] = field(default_factory=dict)

    def row(self, job: Job) -> Row:
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

"""What `vidkit ablate --dry-run` says: cells and arms, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.run import label
from vidkit.bench.measure.flops import cost
from vidkit.bench.measure.memory import predict_peak
from vidkit.bench.rows.specs import SEEDS, STUDIES
from vidkit.bench.studies.work import Settings
from vidkit.cli.bench.asked import Asked
from vidkit.cli.output import console, print_json
from vidkit.data.dataset import DATASET_JSON, open_dataset
from vidkit.settings import ClassifierConfig, Study


def show_cells(asked: Asked, name: str, jobs: Sequence[Job]) -> int:
    """Print the cells of an ablation with what each would cost; nothing is run.

    Returns:
        0.
    """
    data = asked.data or (asked.out / "data" if (asked.out / "data" / DATASET_JSON).exists() else None)
    hours, how = ({}, "") if asked.memory_only else _hours(jobs, data, name)
    peaks = {
        memory: predict_peak(memory.model, memory.batch, memory.precision, "cuda").total_bytes
        for memory in dict.fromkeys(job.memory for job in jobs)
    }
    if asked.as_json:
        print_json({"dry_run": True, "recipe": name, "cells": [_as_plain(job, hours, peaks) for job in jobs]})
        return 0
    out = console()
    table = Table(title=f"{len(jobs)} {'cell' if len(jobs) == 1 else 'cells'}, recipe {name}")
    table.add_column("cell")
    columns = ("V", "N", "GMACs forward", "GMACs step", "parameters, M", "predicted GB", "hours")
    for column in columns:
        table.add_column(column, justify="right")
    for job in jobs:
        planned, cell = job.planned, job.planned.in_grid
        hour = hours.get(planned.config_hash)
        table.add_row(
            escape(label(planned)),
            str(cell.visible),
            str(cell.tokens),
            f"{cell.forward_macs / 1e9:.3f}",
            f"{cell.training_macs / 1e9:.3f}",
            f"{cell.parameters / 1e6:.2f}",
            f"{peaks[job.memory] / 1e9:.2f}",
            "–" if hour is None else f"{hour:.3g}",
        )
    out.print(table)
    memory = jobs[0].memory
    out.print(
        f"GMACs are of one clip. Memory: a pre-training step on CUDA, {memory.batch} clips, {memory.precision}."
    )
    if how:
        out.print(escape(how))
    return 0


def _hours(jobs: Sequence[Job], data: Path | None, name: str) -> tuple[Mapping[str, float], str]:
    if data is None:
        return {}, "Hours need the dataset, which is not built yet: give --data, or run without --dry-run."
    import torch

    from vidkit.bench.ablate.cells import ASSUMED_SHARE, estimated_hours
    from vidkit.bench.measure.measure import matrix_rate

    facts = open_dataset(data).facts
    split = jobs[0].config.pretrain.data.split
    clips = int(facts["splits"].get(split, {}).get("ok", 0))
    names = facts["label_map"]["classes"] or facts["label_map"]["base_labels"]
    device: Any = "cuda" if torch.cuda.is_available() else "cpu"
    precision: Any = jobs[0].memory.precision if device == "cuda" else "fp32"
    rate = matrix_rate(device, precision)
    hours = estimated_hours(jobs, clips, len(names), rate)
    return hours, (
        f"Hours: {sum(hours.values()):.3g} in all, for {clips:,} clips, if training reaches {ASSUMED_SHARE:.0%} of "
        f"this machine's {rate / 1e12:.2f} TFLOP/s in matrix products ({device}, {precision}). Loading and tests "
        "are left out; a pre-training that cells share counts once."
    )


def _as_plain(job: Job, hours: Mapping[str, float], peaks: Mapping[Any, int]) -> dict[str, Any]:
    from vidkit.settings import to_plain

    return {
        **to_plain(job.planned),
        "predicted_bytes": peaks[job.memory],
        "hours": hours.get(job.planned.config_hash),
    }


# --- studies ---


def show_arms(asked: Asked, study: Study, name: str, settings: Settings) -> int:
    """Print the arms of a study with what they would cost; nothing is run.

    Returns:
        0.
    """
    spec, seeds = STUDIES[study], asked.grid.seeds or SEEDS
    arms: dict[str, str] = spec.arms
    costs = _study_costs(asked, study, settings, len(seeds))
    if asked.as_json:
        named = [{"arm": arm, "about": about} for arm, about in arms.items()]
        print_json({"dry_run": True, "study": study, "recipe": name, "seeds": seeds, "arms": named, "costs": costs})
        return 0
    out = console()
    table = Table(title=escape(f"{spec.title}: {len(arms)} arms x {len(seeds)} seeds, recipe {name}"))
    table.add_column("arm")
    table.add_column("what it is")
    for arm, about in arms.items():
        table.add_row(escape(arm), escape(about))
    out.print(table)
    out.print(escape(spec.question))
    for what, amount in costs.items():
        out.print(escape(f"{what}: {amount}"))
    if not costs:
        out.print("Costs need the dataset, which is not built yet: give --data, or run without --dry-run.")
    return 0


def _study_costs(asked: Asked, study: Study, settings: Settings, seeds: int) -> dict[str, Any]:
    """GMACs of training, which is nearly all of the work: clips x MACs of a step. Empty without a dataset."""
    data = asked.data or asked.out / "data"
    if not (data / DATASET_JSON).exists():
        return {}
    facts = open_dataset(data).facts
    split = settings.pretrain.data.split
    clips = int(facts["splits"].get(split, {}).get("ok", 0))
    model = settings.pretrain.model
    each = cost(model)
    epochs = settings.pretrain.optim.epochs
    found: dict[str, Any] = {
        "clips to train on": f"{clips:,}",
        "visible tokens in pre-training": f"{each.visible} of {each.tokens}",
    }
    whole = seeds * epochs * clips * each.training
    if study == "reconstruction":  # larger; the small part for the continuation, for scratch, and for all steps
        whole *= 3
        found["GMACs of training, at most"] = f"{whole / 1e9:,.0f}"
    elif study == "mask-ratio":
        tuned = cost(ClassifierConfig(encoder=model.encoder, classes=max(1, len(facts["label_map"]["classes"]))))
        whole += seeds * len(STUDIES[study].arms) * settings.finetune.optim.epochs * clips * tuned.training
        found["GMACs of training, at most"] = f"{whole / 1e9:,.0f}"
    else:
        found["GMACs of pre-training, at most"] = f"{whole / 1e9:,.0f}"
    return found

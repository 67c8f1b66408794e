"""`vidkit ablate`: cells of a table, from the recipe to the table. Without data, on generated clips."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from vidkit.bench.studies.specs import chosen
from vidkit.cli.bench import report
from vidkit.cli.datasets import embedded
from vidkit.cli.output import command_line, console, print_json
from vidkit.cli.training.runs import default_recipe
from vidkit.data.dataset import DATASET_JSON, open_dataset
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Grid, MeasureConfig, check_preset
from vidkit.settings.plain import changed
from vidkit.settings.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from vidkit.bench.ablate.cells import Job, Wanted

#: In the folder of the results.
PAGE = "report.html"

#: Settings that cells or other options decide: changed by --set, they would have no effect.
DECIDED = {
    "pretrain.seed": "--seed",
    "finetune.seed": "--seed",
    "finetune.encoder.": "--set pretrain.model.encoder.…, which holds for both",
    "finetune.val_split": "--split, which is tested at the end",
    "finetune.val_epochs": "nothing: only the last weights are tested",
    "finetune.views.": "--set test.…",
    "about": "nothing",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    data: Path | None
    out: Path
    grid: Grid
    presets: Sequence[str]
    recipe: str | None
    split: str
    measure: MeasureConfig
    jobs: int
    resume: bool
    dry_run: bool
    memory_only: bool
    changes: Sequence[str]
    as_json: bool


def run(options: Options) -> int:
    """
    Returns:
        0 done; 1 a cell failed; 130 interrupted.
    """
    _check(options)
    study = chosen(tuple(options.presets))
    if study is not None:
        from vidkit.cli.bench import studies

        return studies.run(options, study)
    name, recipe = _recipe(options)
    from vidkit.bench.ablate.cells import plan

    wanted = _wanted(options, recipe)
    if options.data is None and not options.memory_only:
        recipe = _with_tokens(wanted, recipe)
    jobs = plan(wanted, recipe, recipe_name=name, measure=options.measure, memory_only=options.memory_only)
    if options.dry_run:
        return _dry_run(options, name, jobs)
    return _run(options, jobs)


def _check(options: Options) -> None:
    for name in options.presets:
        check_preset(name)
    grid = options.grid
    if options.presets and grid != Grid(seeds=grid.seeds):
        raise ConfigError(
            "a preset has its own masks, ratios and the like", field="--preset", hint="give either, with --seed"
        )
    for text in options.changes:
        key = text.partition("=")[0].strip()
        for name, instead in DECIDED.items():
            if key == name or (name.endswith(".") and key.startswith(name)):
                raise ConfigError(f"{key} has no effect here", field="--set", hint=f"use {instead}")


def _recipe(options: Options) -> tuple[str, Recipe]:
    name = options.recipe
    if name is None:
        if options.data is not None:
            name = default_recipe(open_dataset(options.data).facts)
        else:
            paper = options.memory_only and any(preset.startswith("table1") for preset in options.presets)
            name = "adamae-ssv2" if paper else "tiny"
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}", field="--recipe", hint="choose " + ", ".join(RECIPES))
    recipe = changed(RECIPES[name](), options.changes)
    print(f"recipe {name}: {recipe.about}", file=sys.stderr)
    return name, recipe


def _with_tokens(wanted: Sequence[Wanted], recipe: Recipe) -> Recipe:
    """For generated clips: smaller patches, if a ratio needs them."""
    from vidkit.bench.ablate.cells import fitting

    made = fitting(wanted, recipe)
    before, now = recipe.pretrain.model.encoder, made.pretrain.model.encoder
    if now != before:
        print(
            f"patches of {now.patch} pixels instead of {before.patch}, in every cell: {before.tokens} tokens are "
            f"too few for a ratio of {max(one.cell.ratio for one in wanted):g}; now there are {now.tokens}",
            file=sys.stderr,
        )
    return made


def _wanted(options: Options, recipe: Recipe) -> tuple[Wanted, ...]:
    from vidkit.bench.ablate.cells import from_grid, preset

    if not options.presets:
        return from_grid(options.grid, recipe)
    return tuple(one for name in options.presets for one in preset(name, recipe, options.grid.seeds))


def _run(options: Options, jobs: Sequence[Job]) -> int:
    from vidkit.bench.ablate.rows import RESULTS
    from vidkit.bench.ablate.run import Ablation, check_free, failures, run, say

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's "stop" is a Ctrl-C
    check_free(options.out, resume=options.resume)  # before anything is built
    data = None
    if not options.memory_only:
        data = options.data or embedded.demo(options.out / "data")
    ablation = Ablation(jobs=tuple(jobs), data=data, out=options.out, split=options.split, measure=options.measure)
    try:
        rows = run(ablation, resume=options.resume, quiet=options.as_json, jobs=options.jobs, tell=say)
    except KeyboardInterrupt:
        words = command_line()
        again = words if "--resume" in words else f"{words} --resume"
        print(f"\nStopped; finished cells are kept. Go on with:\n  {again}", file=sys.stderr)
        return 130
    from vidkit.bench.report.table import read_results

    results = read_results([options.out])
    page = options.out / PAGE
    report.write_page(page, results, data)
    if options.as_json:
        print_json({"out": str(options.out), "page": str(page), **report.as_plain(results)})
    else:
        report.show(results)
        console().print(
            f"rows: {escape(str(options.out / RESULTS))}; page: {escape(str(page))}; "
            f"again: vidkit report {escape(str(options.out))}"
        )
    return int(bool(failures(rows)))


# --- what would be done ---


def _dry_run(options: Options, name: str, jobs: Sequence[Job]) -> int:
    from vidkit.bench.ablate.run import label
    from vidkit.bench.measure.memory import predict_peak

    data = options.data or (options.out / "data" if (options.out / "data" / DATASET_JSON).exists() else None)
    hours, how = ({}, "") if options.memory_only else _hours(jobs, data, name)
    peaks = {
        memory: predict_peak(memory.model, memory.batch, memory.precision, "cuda").total_bytes
        for memory in dict.fromkeys(job.memory for job in jobs)
    }
    if options.as_json:
        print_json({"dry_run": True, "recipe": name, "cells": [_as_plain(job, hours, peaks) for job in jobs]})
        return 0
    out = console()
    table = Table(title=f"{len(jobs)} {'cell' if len(jobs) == 1 else 'cells'}, recipe {name}")
    table.add_column("cell")
    columns = ("V", "N", "GMACs forward", "GMACs step", "parameters, M", "predicted GB", "hours")
    for column in columns:
        table.add_column(column, justify="right")
    for job in jobs:
        planned = job.planned
        hour = hours.get(planned.config_hash)
        table.add_row(
            escape(label(planned)),
            str(planned.visible),
            str(planned.tokens),
            f"{planned.forward_macs / 1e9:.3f}",
            f"{planned.training_macs / 1e9:.3f}",
            f"{planned.parameters / 1e6:.2f}",
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
    from vidkit.settings.plain import to_plain

    return {
        **to_plain(job.planned),
        "predicted_bytes": peaks[job.memory],
        "hours": hours.get(job.planned.config_hash),
    }

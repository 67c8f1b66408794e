"""The studies `vidkit ablate --preset reconstruction | mask-ratio | meta`: arms, one after another, and their rows.

out/study.json             the study, its arms and the dataset
out/results.jsonl          a row for each arm that has run or failed; see `study_rows`
out/pretrain/HASH/         a pre-training, shared by the arms that have the same one
out/arms/HASH/             what an arm alone has trained, and its figures by clip
out/parts/                 parts of the dataset, as datasets over the same shards; see `study_parts`
out/report.md, report.html, plot-MEASURE.svg, plot-MEASURE.png

A study that was stopped goes on by `resume`: arms with a result are not run again, failed ones are, and inside an
arm each run goes on from its last checkpoint. More seeds can be added by `resume`; other settings need another
folder.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from vidkit.bench.ablate.attempts import memory_errors
from vidkit.bench.ablate.rows import RESULTS, replace_file
from vidkit.bench.measure import facts
from vidkit.bench.report.style import png, svg
from vidkit.bench.studies import masking as study_masking
from vidkit.bench.studies import meta as study_meta
from vidkit.bench.studies import page as study_page
from vidkit.bench.studies import reconstruction as study_reconstruction
from vidkit.bench.studies import report as study_report
from vidkit.bench.studies.rows import (
    PLAN,
    StudyPlan,
    StudyRow,
    holds_results,
    read_plan,
    read_rows,
    write_plan,
    write_rows,
)
from vidkit.bench.studies.work import Arm, Settings, Work
from vidkit.data.build.state import lock
from vidkit.data.dataset import open_dataset
from vidkit.data.shards import write_atomically
from vidkit.errors import ConfigError, TrainingError, VidkitError
from vidkit.settings.ablation import Study
from vidkit.settings.plain import to_plain

Tell = Callable[[str], None]


class ArmPlan(Protocol):
    """What a study's `prepare` gives."""

    @property
    def arms(self) -> tuple[Arm, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """For the reader of the table."""


#: (what prepares the arms, what runs one)
RUNNERS: dict[Study, tuple[Callable[[Work], Any], Callable[[Work, Any, Arm], dict[str, Any]]]] = {
    "reconstruction": (study_reconstruction.prepare, study_reconstruction.run),
    "mask-ratio": (study_masking.prepare, study_masking.run),
    "meta": (study_meta.prepare, study_meta.run),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Todo:
    """What `run` does."""

    study: Study
    data: Path
    out: Path
    recipe: str
    settings: Settings
    seeds: tuple[int, ...]
    split: str = "val"
    """That is tested; the study "meta" tests on meta-test classes instead."""


def run(
    todo: Todo, *, resume: bool = False, quiet: bool = False, tell: Tell = lambda words: None
) -> tuple[StudyRow, ...]:
    """Run what has no result yet, and write the report. Returns the rows of these arms, in their order.

    Args:
        tell: called with a line of text when an arm begins and ends.

    Raises:
        ConfigError: `out` holds results and `resume` is off, or results of another study, dataset or settings; a
            dataset that the study cannot be run on.
        DatasetError: no usable dataset.
        TrainingError: a result cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM. Rows so far are kept, and the run at work has left a checkpoint.
    """
    out = todo.out.resolve()
    check_free(out, resume=resume)
    built = open_dataset(todo.data).facts
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder: {error.strerror}", file=out, field="--out") from error
    with lock(out):
        work = Work(
            data=todo.data.resolve(),
            out=out,
            split=todo.split,
            settings=todo.settings,
            seeds=todo.seeds,
            quiet=quiet,
        )
        prepare, run_arm = RUNNERS[todo.study]
        before = read_plan(out / PLAN) if (out / PLAN).exists() else None
        if before is not None:
            _check_same(before, todo, built, out)
        plan: ArmPlan = prepare(work)
        rows = {row.plan.config_hash: row for row in read_rows(out / RESULTS)}
        write_plan(out / PLAN, _joined(before, plan, todo, built))
        common = {**_common_facts(), **_data_facts(built)}
        for number, one in enumerate(plan.arms, start=1):
            key = one.planned.config_hash
            told = f"arm {number} of {len(plan.arms)}: {one.planned.arm}, seed {one.planned.seed}"
            if key in rows and rows[key].status == "ok":
                tell(f"{told}: done before")
                continue
            tell(told)
            rows[key] = _row(run_arm, work, plan, one, {"study": todo.study, **common})
            write_rows(out / RESULTS, rows.values())
            if rows[key].status == "failed":
                tell(f"  failed: {rows[key].reason}")
        write_report(out)
    return tuple(rows[one.planned.config_hash] for one in plan.arms)


def check_free(out: Path, *, resume: bool) -> None:
    """Raises ConfigError where `out` holds results, or was begun, and `resume` is off."""
    if not resume and holds_results(out):
        raise ConfigError(f"{out} holds results already", hint="go on with them by --resume, or give another --out")
    if resume and holds_results(out) and not (out / PLAN).exists():
        raise ConfigError(f"{out} holds results of a grid, not of a study", hint="give another --out")


def write_report(out: Path) -> None:
    """report.md, report.html and the plots, from the rows. Raises TrainingError where they cannot be written."""
    results = study_report.read(out)
    replace_file(out / "report.md", study_report.markdown(results))
    replace_file(out / "report.html", study_page.page(results))
    for name, chart in study_page.plots(results).items():
        replace_file(out / f"plot-{name}.svg", svg(chart) + "\n")
        try:
            write_atomically(out / f"plot-{name}.png", png(chart))
        except OSError as error:
            raise TrainingError(f"cannot write: {error.strerror}", file=out / f"plot-{name}.png") from error


def _row(
    run_arm: Callable[..., dict[str, Any]], work: Work, plan: Any, one: Arm, known: dict[str, Any]
) -> StudyRow:
    known = {**known, "plan": one.planned, "config": to_plain(one.config)}
    started = time.perf_counter()
    try:
        with memory_errors():
            found = run_arm(work, plan, one)
    except VidkitError as error:
        return StudyRow(status="failed", reason=str(error), seconds=time.perf_counter() - started, **known)
    return StudyRow(status="ok", **{**known, **found})


def _check_same(before: StudyPlan, todo: Todo, built: dict[str, Any], out: Path) -> None:
    """
    Raises:
        ConfigError: the folder's study is another one.
    """
    mine = {**_identity(todo, built)}
    theirs = {name: getattr(before, name) for name in mine}
    wrong = [name for name in mine if mine[name] != theirs[name]]
    if not wrong:
        return
    if wrong[0] == "settings_sha256":
        raise ConfigError(
            f"the folder holds this study with other settings (recipe {before.recipe!r}, split {before.split!r})",
            file=out / PLAN,
            hint="give the recipe, --set and --split that it was begun with, or another --out",
        )
    raise ConfigError(
        f"the folder's study has {wrong[0]} {str(theirs[wrong[0]])[:40]!r}; now it is {str(mine[wrong[0]])[:40]!r}",
        file=out / PLAN,
        field=wrong[0],
        hint="give another --out",
    )


def _identity(todo: Todo, built: dict[str, Any]) -> dict[str, Any]:
    """Fields of the plan that a resumed study has in common with the one before."""
    settings = json.dumps([to_plain(todo.settings), todo.recipe, todo.split], sort_keys=True)
    return {
        "study": todo.study,
        **_data_facts(built),
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
    }


def _data_facts(built: dict[str, Any]) -> dict[str, Any]:
    plan = built.get("plan_sha256")
    return {
        "dataset": str(built["name"]),
        "label_map_sha256": str(built["label_map"]["sha256"]),
        "plan_sha256": None if plan is None else str(plan),
    }


def _joined(before: StudyPlan | None, plan: ArmPlan, todo: Todo, built: dict[str, Any]) -> StudyPlan:
    """With the arms of seeds that were planned before."""
    now = {one.planned.config_hash: one.planned for one in plan.arms}
    old = {} if before is None else {one.config_hash: one for one in before.arms}
    return StudyPlan(
        **_identity(todo, built),
        recipe=todo.recipe,
        split=todo.split,
        notes=plan.notes,
        arms=(*{**old, **now}.values(),),
    )


def _common_facts() -> dict[str, Any]:
    machine = facts.machine()
    return {
        "git": machine.pop("git"),
        "versions": {"python": machine["python"], "vidkit": machine["vidkit"], **facts.versions()},
        "machine": {**machine, "accelerator": facts.accelerator(), "threads": torch.get_num_threads()},
    }


def failures(rows: tuple[StudyRow, ...]) -> tuple[StudyRow, ...]:
    return tuple(row for row in rows if row.status == "failed")

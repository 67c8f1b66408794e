"""The studies `vidkit ablate --preset reconstruction | mask-ratio | meta`: arms, one after another, and their rows.

out/plan.json              the study, its arms and the dataset
out/results.jsonl          a row for each arm that has run or failed; see `bench.rows`
out/pretrain/HASH/         a pre-training, shared by the arms that have the same one
out/arms/HASH/             what an arm alone has trained, and its figures by clip
out/parts/                 parts of the dataset, as datasets over the same shards; see `parts`
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
from typing import Any

from vidkit.bench.ablate.attempts import memory_errors
from vidkit.bench.ablate.journal import Tell, check_free, code_and_machine, data_facts, journal
from vidkit.bench.report import html
from vidkit.bench.report import table as report
from vidkit.bench.report.style import png, svg
from vidkit.bench.rows.files import PLAN, read_plan, write_plan
from vidkit.bench.rows.schema import Plan, Row
from vidkit.bench.studies import masking as study_masking
from vidkit.bench.studies import meta as study_meta
from vidkit.bench.studies import reconstruction as study_reconstruction
from vidkit.bench.studies.work import Arm, ArmPlan, Settings, Work
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError, VidkitError
from vidkit.files import save_whole
from vidkit.settings.ablation import Study
from vidkit.settings.plain import to_plain

#: (what prepares the arms, what runs one)
RUNNERS: dict[Study, tuple[Callable[[Work], ArmPlan], Callable[[Work, Any, Arm], dict[str, Any]]]] = {
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
) -> tuple[Row, ...]:
    """Run what has no result yet, and write the report. Returns the rows of these arms, in their order.

    Args:
        tell: called with a line of text when an arm begins and ends, and now and then in one that trains a
            few-shot learner, unless `quiet`.

    Raises:
        ConfigError: `out` holds results and `resume` is off, or results of another study, dataset or settings; a
            dataset that the study cannot be run on.
        DatasetError: no usable dataset.
        TrainingError: a result cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM. Rows so far are kept, and the run at work has left a checkpoint.
    """
    out = todo.out.resolve()
    check_free(out, resume=resume, study=True)
    built = open_dataset(todo.data).facts
    with journal(out, tell) as kept:
        work = Work(
            data=todo.data.resolve(),
            out=out,
            split=todo.split,
            recipe=todo.recipe,
            settings=todo.settings,
            seeds=todo.seeds,
            quiet=quiet,
            tell=tell,
        )
        prepare, run_arm = RUNNERS[todo.study]
        before = read_plan(out)
        if before is not None:
            _check_same(before, todo, built, out)
        plan = prepare(work)
        write_plan(out, _joined(before, plan, todo, built))
        common = {**code_and_machine(), **data_facts(built)}
        for number, one in enumerate(plan.arms, start=1):
            told = f"arm {number} of {len(plan.arms)}: {one.config.arm}, seed {one.config.seed}"
            if not kept.done(one.planned, told):
                tell(told)
                kept.add(_row(run_arm, work, plan, one, common))
        write_report(out)
    return kept.of(one.planned for one in plan.arms)


def write_report(out: Path) -> None:
    """report.md, report.html and the plots, from the rows. Raises TrainingError where they cannot be written."""
    results = report.read_results([out])
    save_whole(out / "report.md", report.markdown(results))
    save_whole(out / "report.html", html.page(results))
    for name, chart in html.study_plots(results).items():
        save_whole(out / f"plot-{name}.svg", svg(chart) + "\n")
        save_whole(out / f"plot-{name}.png", png(chart))


def _row(run_arm: Callable[..., dict[str, Any]], work: Work, plan: ArmPlan, one: Arm, known: dict[str, Any]) -> Row:
    known = {**known, "plan": one.planned, "split": one.config.split, "config": to_plain(one.config)}
    started = time.perf_counter()
    try:
        with memory_errors():
            found = run_arm(work, plan, one)
    except VidkitError as error:
        return Row(status="failed", reason=str(error), seconds={"arm": time.perf_counter() - started}, **known)
    return Row(status="ok", **{**known, **found})


def _check_same(before: Plan, todo: Todo, built: dict[str, Any], out: Path) -> None:
    """
    Raises:
        ConfigError: the folder's study is another one.
    """
    mine = _identity(todo, built)
    theirs = {name: getattr(before, name) for name in mine}
    wrong = [name for name in mine if mine[name] != theirs[name]]
    if not wrong:
        return
    if wrong[0] == "settings_sha256":
        recipe = next((one.recipe for one in before.planned), None)
        raise ConfigError(
            f"the folder holds this study with other settings (recipe {recipe!r}, split {before.split!r})",
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
        **data_facts(built),
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
    }


def _joined(before: Plan | None, plan: ArmPlan, todo: Todo, built: dict[str, Any]) -> Plan:
    """With the arms of seeds that were planned before."""
    now = {one.planned.config_hash: one.planned for one in plan.arms}
    old = {} if before is None else {one.config_hash: one for one in before.planned}
    return Plan(**_identity(todo, built), split=todo.split, notes=plan.notes, planned=(*{**old, **now}.values(),))

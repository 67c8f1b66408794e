"""`vidkit ablate --preset reconstruction | mask-ratio | meta`, and `vidkit report` on the folder of a study."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from vidkit.bench.ablate.rows import replace_file
from vidkit.bench.studies import page as study_page
from vidkit.bench.studies import report as study_report
from vidkit.bench.studies.report import Results
from vidkit.bench.studies.rows import is_study
from vidkit.bench.studies.specs import SEEDS, STUDIES
from vidkit.cli.datasets import embedded as generated
from vidkit.cli.output import command_line, console, print_json
from vidkit.cli.training.runs import default_recipe
from vidkit.data.dataset import DATASET_JSON, open_dataset
from vidkit.errors import ConfigError
from vidkit.settings.ablation import MeasureConfig, Study
from vidkit.settings.plain import changed
from vidkit.settings.recipes import RECIPES

if TYPE_CHECKING:
    from vidkit.bench.studies.work import Settings
    from vidkit.cli.bench.ablate import Options

#: The generated clips for few-shot learning, which needs many classes: kind (and spec), classes, clips of each.
#: ("motions", 48, 40) is harder: there the recipe `tiny` stays at chance, and so does everything that builds on it.
FEWSHOT_CLIPS = ("demo", 48, 40)

#: Few-shot settings for generated clips and the small network that learns them on a CPU; with --data, the defaults.
GENERATED = {
    "steps": 300,
    "tune_steps": 400,
    "tune_rate": 1e-3,
    "tune_episodes": 20,
    "finetune_val_episodes": 4,
}

#: Settings that the study or other options decide: changed by --set, they would have no effect.
DECIDED = {
    "about": "nothing",
    "pretrain.seed": "--seed",
    "finetune.seed": "--seed",
    "finetune.encoder.": "--set pretrain.model.encoder.…, which holds for both",
    "finetune.val_split": "--split, which is tested at the end",
    "finetune.val_epochs": "nothing: only the last weights are tested",
    "finetune.views.": "--set test.…",
    "finetune.mask_ratio": "nothing: it is what the study varies",
    "fewshot.learners": "nothing: the study has arms for them",
    "fewshot.seeds": "--seed",
}


def run(options: Options, study: Study) -> int:
    """
    Returns:
        0 done; 1 an arm failed; 130 interrupted.
    """
    _check(options, study)
    name, settings = _settings(options)
    if options.dry_run:
        return _dry_run(options, study, name, settings)
    from vidkit.bench.ablate.run import say
    from vidkit.bench.studies import run as studies

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's "stop" is a Ctrl-C
    studies.check_free(options.out, resume=options.resume)  # before anything is built
    data = options.data or embedded(study, options.out / "data")
    todo = studies.Todo(
        study=study,
        data=data,
        out=options.out,
        recipe=name,
        settings=settings,
        seeds=options.grid.seeds or SEEDS,
        split=options.split,
    )
    try:
        rows = studies.run(todo, resume=options.resume, quiet=options.as_json, tell=say)
    except KeyboardInterrupt:
        words = command_line()
        again = words if "--resume" in words else f"{words} --resume"
        print(f"\nStopped; finished arms are kept. Go on with:\n  {again}", file=sys.stderr)
        return 130
    results = study_report.read(options.out)
    if options.as_json:
        print_json({"out": str(options.out), **study_report.plain(results)})
    else:
        show(results)
        console().print(
            f"table and plots: {escape(str(options.out / 'report.html'))}; again: vidkit report "
            f"{escape(str(options.out))}"
        )
    return int(bool(studies.failures(rows)))


def embedded(study: Study, out: Path) -> Path:
    """The generated clips that a study without --data is run on, built once: which ones, is decided here.

    "meta" has `FEWSHOT_CLIPS`, whose classes are pairs of a shape and a motion: those of meta-test were not seen as
    pairs. The others have the demo of `vidkit ablate`.

    Raises:
        BuildError: it could not be built.
    """
    if study != "meta":
        return generated.demo(out)
    kind, classes, each = FEWSHOT_CLIPS
    return generated.generated(out, kind, classes=classes, clips=classes * each)


def _check(options: Options, study: Study) -> None:
    if options.memory_only:
        raise ConfigError(
            f"the study {study!r} trains; it has no memory-only form", field="--memory-only", hint="leave it out"
        )
    if options.jobs > 1:
        raise ConfigError("arms of a study run one after another", field="--jobs", hint="leave it out")
    if options.measure != MeasureConfig():
        raise ConfigError(
            f"the study {study!r} measures no step's memory or speed, so --batch and --steps have no effect",
            field="--steps" if options.measure.steps != MeasureConfig().steps else "--batch",
            hint="leave them out",
        )
    if options.data is None and options.recipe not in (None, "tiny", "small-64"):
        raise ConfigError(
            f"recipe {options.recipe!r} is for larger clips than those that are generated",
            field="--recipe",
            hint="give --data DIR, or use tiny or small-64",
        )
    for text in options.changes:
        key = text.partition("=")[0].strip()
        for name, instead in DECIDED.items():
            if key == name or (name.endswith(".") and key.startswith(name)):
                raise ConfigError(f"{key} has no effect here", field="--set", hint=f"use {instead}")


def _settings(options: Options) -> tuple[str, Settings]:
    from vidkit.bench.studies.work import settings_of

    name = options.recipe
    if name is None:
        name = "tiny" if options.data is None else default_recipe(open_dataset(options.data).facts)
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}", field="--recipe", hint="choose " + ", ".join(RECIPES))
    settings = settings_of(RECIPES[name]())
    if options.data is None:
        how: dict[str, Any] = GENERATED
        settings = replace(settings, fewshot=replace(settings.fewshot, **how))
    settings = changed(settings, options.changes)
    print(f"recipe {name}: {settings.about}", file=sys.stderr)
    return name, settings


# --- what would be done ---


def _dry_run(options: Options, study: Study, name: str, settings: Settings) -> int:
    spec, seeds = STUDIES[study], options.grid.seeds or SEEDS
    arms: dict[str, str] = spec.arms
    costs = _costs(options, study, settings, len(seeds))
    if options.as_json:
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
    for what, cost in costs.items():
        out.print(escape(f"{what}: {cost}"))
    if not costs:
        out.print("Costs need the dataset, which is not built yet: give --data, or run without --dry-run.")
    return 0


def _costs(options: Options, study: Study, settings: Settings, seeds: int) -> dict[str, Any]:
    """GMACs of training, which is nearly all of the work: clips x MACs of a step. Empty without a dataset."""
    data = options.data or options.out / "data"
    if not (data / DATASET_JSON).exists():
        return {}
    from vidkit.bench.measure.flops import cost
    from vidkit.settings.model import ClassifierConfig

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


# --- reports ---


def report(
    folders: Sequence[Path],
    *,
    csv: Path | None,
    markdown: Path | None,
    html: Path | None,
    as_json: bool,
    compare: bool = False,
    data: Path | None = None,
) -> int:
    """`vidkit report` on one folder of a study: print its table, and write it to the files given.

    Raises:
        ConfigError: several folders, or a damaged one; options that are for grids.
    """
    if compare or data is not None:
        option = "--compare" if compare else "--data"
        raise ConfigError(
            f"{option} is for grids, and {folders[0]} holds a study", field=option, hint="leave it out"
        )
    if len(folders) != 1:
        strangers = [str(folder) for folder in folders if not is_study(folder)]
        what = (
            f"{strangers[0]} holds no study, and another folder does"
            if strangers
            else "studies have tables of their own"
        )
        raise ConfigError(what, hint="make a report of each")
    results = study_report.read(folders[0])
    for path, text in ((csv, study_report.csv_text), (markdown, study_report.markdown), (html, study_page.page)):
        if path is not None:
            replace_file(path, text(results))
            print(f"wrote {path}", file=sys.stderr)
    if as_json:
        print_json(study_report.plain(results))
    else:
        show(results)
    return 0


def show(results: Results) -> None:
    """The table on stdout, with what a reader needs beside it."""
    out = console()
    columns, cells = study_report.table(results, brief=True)
    shown = Table(title=escape(study_report.title(results)))
    for column in columns:
        shown.add_column(escape(column.name), justify="right" if column.right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*(escape(cell) for cell in row))
    out.print(shown)
    for note in study_report.notes(results):
        out.print(escape(note))

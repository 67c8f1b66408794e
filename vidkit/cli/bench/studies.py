"""`vidkit ablate --preset reconstruction | mask-ratio | meta`: arms of a study, from the recipe to the table."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkit.cli.bench.asked import DECIDED, Asked, check_changes, say, say_stopped
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.bench.studies.work import Settings
    from vidkit.settings import Study

#: The generated clips for few-shot learning, which needs many classes. A class is a motion and nothing else.
FEWSHOT_CLIPS: dict[str, Any] = {"level": 2, "classes": 30, "clips": 3000}

#: How long their encoder is pre-trained: about as many steps as help in `make label-fraction`.
FEWSHOT_EPOCHS = 60

#: Few-shot settings for generated clips and the small network that learns them on a CPU; with --data, the defaults.
GENERATED = {
    "steps": 400,
    "tune_steps": 100,
    "tune_rate": 1e-3,
    "tune_episodes": 20,
    "finetune_val_episodes": 4,
}

#: Settings that a study decides: changed by --set, they would have no effect.
OF_STUDY = {
    "finetune.mask_ratio": "nothing: it is what the study varies",
    "fewshot.learners": "nothing: the study has arms for them",
    "fewshot.seeds": "--seed",
}


def run(asked: Asked, study: Study) -> int:
    """
    Returns:
        0 done; 1 an arm failed; 130 interrupted.
    """
    _check(asked, study)
    name, settings = _settings(asked, study)
    if asked.dry_run:
        from vidkit.cli.bench.dry_run import show_arms

        return show_arms(asked, study, name, settings)
    from rich.markup import escape

    from vidkit.bench.ablate.journal import check_free, failures
    from vidkit.bench.report.table import plain, read_results
    from vidkit.bench.rows.specs import SEEDS
    from vidkit.bench.studies import run as studies
    from vidkit.cli.bench.tables import show_results

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's "stop" is a Ctrl-C
    check_free(asked.out, resume=asked.resume, study=True)  # before anything is built
    data = asked.data or embedded(study, asked.out / "data")
    todo = studies.Todo(
        study=study,
        data=data,
        out=asked.out,
        recipe=name,
        settings=settings,
        seeds=asked.grid.seeds or SEEDS,
        split=asked.split,
    )
    try:
        rows = studies.run(todo, resume=asked.resume, quiet=asked.as_json, tell=say)
    except KeyboardInterrupt:
        say_stopped("arms")
        return 130
    results = read_results([asked.out])
    if asked.as_json:
        print_json({"out": str(asked.out), **plain(results)})
    else:
        show_results(results)
        console().print(
            f"table and plots: {escape(str(asked.out / 'report.html'))}; again: vidkit report "
            f"{escape(str(asked.out))}"
        )
    return int(bool(failures(rows)))


def embedded(study: Study, out: Path) -> Path:
    """The generated clips that a study without --data is run on, built once: which ones, is decided here.

    "meta" has `FEWSHOT_CLIPS`; the others have the demo.

    Raises:
        BuildError: it could not be built.
    """
    from vidkit.cli.datasets import embedded as generated

    if study != "meta":
        return generated.demo(out)
    return generated.generated(out, "motions", **FEWSHOT_CLIPS)


def _check(asked: Asked, study: Study) -> None:
    from vidkit.settings import MeasureConfig

    if asked.memory_only:
        raise ConfigError(
            f"the study {study!r} trains; it has no memory-only form", field="--memory-only", hint="leave it out"
        )
    if asked.executor != "local":
        raise ConfigError("arms of a study run one after another", field="--executor", hint="leave it out")
    if asked.measure != MeasureConfig():
        raise ConfigError(
            f"the study {study!r} measures no step's memory or speed, so --batch and --steps have no effect",
            field="--steps" if asked.measure.steps != MeasureConfig().steps else "--batch",
            hint="leave them out",
        )
    for option, given in (
        ("--measure", asked.again),
        ("--contrast", bool(asked.contrasts)),
        ("--equal", asked.equal != "tokens"),
    ):
        if given:
            raise ConfigError(
                f"the study {study!r} has measures and a reference arm of its own",
                field=option,
                hint="leave it out",
            )
    if asked.data is None and asked.recipe not in (None, "tiny", "small-64"):
        raise ConfigError(
            f"recipe {asked.recipe!r} is for larger clips than those that are generated",
            field="--recipe",
            hint="give --data DIR, or use tiny or small-64",
        )
    check_changes(asked.changes, {**DECIDED, **OF_STUDY})


def _settings(asked: Asked, study: Study) -> tuple[str, Settings]:
    from vidkit.bench.studies.work import settings_of
    from vidkit.cli.training.recipe import fitting, recipe_named
    from vidkit.settings import changed

    name = asked.recipe or ("tiny" if asked.data is None else fitting(asked.data))
    settings = settings_of(recipe_named(name))
    if asked.data is None:
        how: dict[str, Any] = GENERATED
        settings = replace(settings, fewshot=replace(settings.fewshot, **how))
        if study == "meta":
            optim = replace(settings.pretrain.optim, epochs=FEWSHOT_EPOCHS)
            settings = replace(settings, pretrain=replace(settings.pretrain, optim=optim))
    settings = changed(settings, asked.changes)
    print(f"recipe {name}: {settings.about}", file=sys.stderr)
    return name, settings

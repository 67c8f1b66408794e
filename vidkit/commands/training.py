"""`vidkit pretrain` and `vidkit finetune`: recipe, changes, run, summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.commands.output import command_line, console, print_json
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError
from vidkit.recipes import RECIPES, Recipe
from vidkit.settings import changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What both commands take. None and empty: as the recipe has it."""

    data: Path
    out: Path
    init: Path | None
    recipe: str | None
    resume: bool
    changes: Sequence[str]
    """`key=value`, the named options among them."""
    as_json: bool


def pretrain(options: Options) -> int:
    recipe = _recipe(options)
    config = changed(recipe.pretrain, options.changes)
    if not options.as_json:
        _announce(config.model.encoder, options)
    from vidkit.train import pretrain as training

    return _run(training.run, config, options)


def finetune(options: Options) -> int:
    recipe = _recipe(options)
    config = changed(recipe.finetune, options.changes)
    from vidkit.train import finetune as training

    return _run(training.run, config, options)


def _recipe(options: Options) -> Recipe:
    name = options.recipe or default_recipe(open_dataset(options.data).facts)
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}", field="--recipe", hint="choose " + ", ".join(RECIPES))
    recipe = RECIPES[name]()
    print(f"recipe {name}: {recipe.about}", file=sys.stderr)
    return recipe


def default_recipe(facts: dict[str, Any]) -> str:
    """The recipe that fits a dataset's clips."""
    if facts.get("synthetic"):
        return "tiny"
    if int(facts["settings"]["encode.size"]) <= 96:
        return "small-64"
    return "adamae-k400" if facts["flip"] else "adamae-ssv2"


def _announce(vit: Any, options: Options) -> None:
    print(
        f"{vit.tokens:,} tokens of {vit.frames} x {vit.size} x {vit.size} pixels; run in {options.out}",
        file=sys.stderr,
    )


def _run(run: Any, config: Any, options: Options) -> int:
    try:
        summary = run(
            config, options.data, options.out, init=options.init, resume=options.resume, quiet=options.as_json
        )
    except KeyboardInterrupt:
        words = command_line()
        again = words if "--resume" in words else f"{words} --resume"
        print(f"\nStopped; a checkpoint was written. Go on with:\n  {again}", file=sys.stderr)
        return 130
    if options.as_json:
        print_json(summary)
        return 0
    out = console()
    out.print(
        f"{summary['steps']:,} steps, {summary['clips']:,} clips in {summary['seconds']:.0f} s "
        f"({summary['clips_per_s']:.1f} clips/s, {summary['data_wait']:.0%} waiting for data), "
        f"{summary['memory_gb']:.2f} GB, loss {summary['loss']:.4f}"
    )
    for name, value in summary["metrics"].items():
        out.print(f"  {name} {value:.4f}")
    if summary["left_out"]:
        out.print(f"  {summary['left_out']} clips could not be decoded and were left out")
    out.print(f"checkpoints, log and summary: {options.out}")
    return 0

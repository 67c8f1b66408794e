"""`vidkit pretrain` and `vidkit finetune`: recipe, changes, run, summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import command_line, console, first_process, print_json
from vidkit.data.dataset import open_dataset
from vidkit.data.load.split import open_split
from vidkit.errors import ConfigError
from vidkit.settings.plain import changed
from vidkit.settings.recipes import RECIPES, Recipe
from vidkit.settings.train import FinetuneConfig

_LESS_MEMORY = (
    "use a smaller --batch-size, or the same one in parts (--set optim.accumulate=2), --precision bf16, or keep "
    "less for the backward pass (--set model.recompute.encoder=full, in fine-tuning --set recompute=full)"
)


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
    if not options.as_json and first_process():
        _announce(config.model.encoder, options)
    from vidkit.train import pretrain as training

    return _run(training.run, config, options)


def finetune(options: Options) -> int:
    recipe = _recipe(options)
    config = changed(recipe.finetune, options.changes)
    config = _with_val_split(config, options)
    if config.data.label_fraction is not None and first_process():
        clips = open_split(
            options.data, config.data.split, label_fraction=config.data.label_fraction, seed=config.seed
        )
        print(f"labels: {clips.fraction}", file=sys.stderr)
    from vidkit.train import finetune as training

    return _run(training.run, config, options)


def _with_val_split(config: FinetuneConfig, options: Options) -> FinetuneConfig:
    """Without clips to evaluate on, training goes without evaluation, unless a split was asked for.

    TinyVIRAT and the composite may have a test split only, and no best checkpoint is chosen by that in silence.

    Raises:
        ConfigError: the split that was asked for has no usable clip.
    """
    split = config.val_split
    counts = {name: found["ok"] for name, found in open_dataset(options.data).facts["splits"].items()}
    if split is None or counts.get(split):
        return config
    if not any(change.startswith("val_split=") for change in options.changes):
        if first_process():
            print(
                f"no clips in split {split!r}: no evaluation during training and no best checkpoint; take last.pt, "
                "or choose by another split (--set val_split=test)",
                file=sys.stderr,
            )
        return replace(config, val_split=None)
    usable = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    raise ConfigError(
        f"no usable clip in split {split!r}, on which training is evaluated; usable: {usable or 'none'}",
        file=options.data,
        field="val_split",
        hint="--set val_split=null trains without evaluation; best.pt is then left out, last.pt is the result",
    )


def _recipe(options: Options) -> Recipe:
    name = options.recipe or default_recipe(open_dataset(options.data).facts)
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}", field="--recipe", hint="choose " + ", ".join(RECIPES))
    recipe = RECIPES[name]()
    if first_process():
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
        with memory_told(_LESS_MEMORY):
            summary = run(
                config, options.data, options.out, init=options.init, resume=options.resume, quiet=options.as_json
            )
    except KeyboardInterrupt:
        if first_process():
            words = command_line()
            again = words if "--resume" in words.split() else f"{words} --resume"
            kept = (options.out / "checkpoints" / "last.pt").exists()
            what = "a checkpoint was written" if kept else "before the first checkpoint"
            print(f"\nStopped; {what}. Go on with:\n  {again}", file=sys.stderr)
        return 130
    if not first_process():
        return 0
    if options.as_json:
        print_json(summary)
        return 0
    out = console()
    out.print(
        f"{summary['steps']:,} steps, {summary['clips']:,} clips in {summary['seconds']:.0f} s "
        f"({summary['clips_per_s']:.1f} clips/s, {summary['data_wait']:.0%} waiting for data), "
        f"{summary['memory_gb']:.2f} GB" + ("" if summary["loss"] is None else f", loss {summary['loss']:.4f}")
    )
    for name, value in summary["metrics"].items():
        out.print(f"  {name} {value:.4f}")
    if summary["left_out"]:
        some = "1 clip" if summary["left_out"] == 1 else f"{summary['left_out']:,} clips"
        out.print(f"  left out, because not to be decoded: {some}")
    out.print(f"checkpoints, log and summary: {options.out}")
    return 0

"""`vidkit finetune`: recipe, changes, run, summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidkit.cli import options
from vidkit.cli.output import first_process
from vidkit.cli.training import runs
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place
    from vidkit.settings import FinetuneConfig

EXAMPLE = "vidkit finetune --data k400 --out runs/ft --init runs/pre/checkpoints/last.pt"


def run(
    data: options.Data,
    out: options.Run,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            help="A pre-trained model; by default training starts from scratch.",
            show_default=False,
        ),
    ] = None,
    recipe: options.Recipe = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    label_fraction: Annotated[
        float | None,
        typer.Option(help="Use about this share of each class's labelled clips.", show_default=False),
    ] = None,
    class_split: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only the meta-train classes of this class split.", show_default=False),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Only the meta-train classes of this few-shot benchmark.", show_default=False
        ),
    ] = None,
    workers: options.Workers = None,
    cache: options.Cache = None,
    tracker: options.Tracker = None,
    resume: options.Resume = False,
    changes: options.Changes = None,
    as_json: options.Json = False,
) -> int:
    """Train a classifier, from a pre-trained encoder or from scratch.

    With --class-split or --benchmark it is Meta-Baseline's first stage: a classifier of the meta-train classes
    alone. Then `vidkit fewshot --init RUN/checkpoints/best.pt --learner cosine --tune 2`, with the same classes.
    """
    from vidkit.data.load.split import open_split
    from vidkit.settings import changed

    named = {
        "data.label_fraction": label_fraction,
        **runs.common(epochs, batch_size, precision, seed, workers, cache, tracker),
    }
    given = runs.assignments(named, changes)
    config = changed(runs.chosen(recipe, data).finetune, given)
    config = _with_classes(config, data, class_split, benchmark)
    config = _with_val_split(config, data, given)
    if config.data.label_fraction is not None and first_process():
        clips = open_split(
            data,
            config.data.split,
            label_fraction=config.data.label_fraction,
            seed=config.seed,
            classes=config.data.classes,
        )
        print(f"labels: {clips.fraction}", file=sys.stderr)
    from vidkit.train import finetune

    return runs.carry_out(finetune.run, config, data, out, init=init, resume=resume, as_json=as_json)


def _with_classes(
    config: FinetuneConfig, data: Place, class_split: Path | None, benchmark: str | None
) -> FinetuneConfig:
    """Training on the meta-train classes alone, and evaluation on clips of the same."""
    if class_split is None and benchmark is None:
        return config
    from vidkit.cli.fewshot.classes import choose

    chosen = choose(
        data, splits=None, split_seed=0, shares=None, class_split=class_split, benchmark=benchmark, asked={}
    )
    names = chosen.split.train
    if not names:
        raise ConfigError("there is no meta-train class", field="--class-split" if class_split else "--benchmark")
    if first_process():
        print(f"classes: the {len(names)} of meta-train, of {len(chosen.clips.classes)}", file=sys.stderr)
    return replace(config, data=replace(config.data, classes=names))


def _with_val_split(config: FinetuneConfig, data: Place, given: Sequence[str]) -> FinetuneConfig:
    """Without clips to evaluate on, training goes without evaluation, unless a split was asked for.

    TinyVIRAT and the composite may have a test split only, and no best checkpoint is chosen by that in silence.

    Raises:
        ConfigError: the split that was asked for has no usable clip.
    """
    from vidkit.data.dataset import open_dataset

    split = config.val_split
    counts = {name: found["ok"] for name, found in open_dataset(data).facts["splits"].items()}
    if split is None or counts.get(split):
        return config
    if not any(change.startswith("val_split=") for change in given):
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
        file=data,
        field="val_split",
        hint="--set val_split=null trains without evaluation; best.pt is then left out, last.pt is the result",
    )

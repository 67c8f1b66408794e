"""`vidkit pretrain`: recipe, changes, run, summary."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vidkit.cli import options
from vidkit.cli.output import first_process
from vidkit.cli.training import runs

EXAMPLE = "vidkit pretrain --data k400 --out runs/pre --recipe adamae-k400 --epochs 100 --resume"

MASKS = "adaptive, tube, random, frame, motion, multi-block, green, error, or your own as module:function"


def run(
    data: options.Data,
    out: options.Run,
    recipe: options.Recipe = None,
    mask: Annotated[str | None, typer.Option(help=MASKS, show_default=False)] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of tokens that is hidden.", show_default=False)] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="Which of them are predicted: complement, running-cell or random.", show_default=False),
    ] = None,
    target_ratio: Annotated[
        float | None, typer.Option(help="Share of them that is predicted.", show_default=False)
    ] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    cache: options.Cache = None,
    tracker: options.Tracker = None,
    init: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="Go on from these weights.", show_default=False)
    ] = None,
    resume: options.Resume = False,
    changes: options.Changes = None,
    as_json: options.Json = False,
) -> int:
    """Pre-train a masked autoencoder (AdaMAE) on a built dataset."""
    from vidkit.settings import changed

    named = {
        "model.mask.strategy": mask,
        "model.mask.ratio": ratio,
        "model.mask.targets": targets,
        "model.mask.target_ratio": target_ratio,
        **runs.common(epochs, batch_size, precision, seed, workers, cache, tracker),
    }
    config = changed(runs.chosen(recipe, data).pretrain, runs.assignments(named, changes))
    if not as_json and first_process():
        vit = config.model.encoder
        print(
            f"{vit.tokens:,} tokens of {vit.frames} x {vit.size} x {vit.size} pixels; run in {out}", file=sys.stderr
        )
    from vidkit.train import pretrain

    return runs.carry_out(pretrain.run, config, data, out, init=init, resume=resume, as_json=as_json)

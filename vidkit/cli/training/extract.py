"""`vidkit extract`: features of a dataset's clips, in a Parquet file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vidkit.cli import options
from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import console, print_json
from vidkit.cli.training.inputs import parse_layers, parse_views
from vidkit.errors import ConfigError

EXAMPLE = "vidkit extract --data k400 --checkpoint runs/pre/checkpoints/last.pt --out features.parquet"


def run(
    data: options.Data,
    checkpoint: options.Checkpoint,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.parquet", help="A row for each clip.")],
    splits: Annotated[
        list[str] | None,
        typer.Option("--split", help="train, val or test; may be repeated. By default all.", show_default=False),
    ] = None,
    layers: options.Layers = None,
    norm: Annotated[str, typer.Option(help="before, after or both: the final norm, of each token.")] = "both",
    readout: Annotated[
        str,
        typer.Option(
            help="mean, mean-std, slots, slots-std or tokens: mean and deviation over all tokens, or over space "
            "for each time step. All others but tokens can be made of slots-std."
        ),
    ] = "slots-std",
    views: options.Views = None,
    stride: options.Stride = None,
    batch_size: options.ClipsAtATime = 16,
    workers: options.LoaderProcesses = 2,
    device: options.Device = None,
    as_json: options.Json = False,
) -> int:
    """Write the features of every clip of a dataset, by a pre-trained or fine-tuned model."""
    if os.environ.get("WORLD_SIZE", "1") != "1":  # all of them would write the same file
        raise ConfigError("extract works in one process", field="WORLD_SIZE", hint="start it without torchrun")
    norms = {"before": (False,), "after": (True,), "both": (False, True)}
    if norm not in norms:
        raise ConfigError(f"norm is {norm!r}; expected before, after or both", field="--norm")
    from vidkit.train.features import extract

    log = console(stderr=True)

    with memory_told("use a smaller --batch-size: that many clips are read at a time, with all their views"):
        facts = extract.run(
            data,
            checkpoint,
            out,
            layers=parse_layers(layers),
            norms=norms[norm],
            readout=readout,  # type: ignore[arg-type]  # checked there
            splits=splits or None,
            views=parse_views(views or "1x1"),
            stride=stride,
            batch_size=batch_size,
            workers=workers,
            device=device,
            tell=log.print,
            quiet=as_json,
        )
    if as_json:
        print_json({"file": str(out), **facts})
    else:
        clips = ", ".join(f"{split} {count:,}" for split, count in facts["clips"].items())
        columns = ", ".join(reading["column"] for reading in facts["readings"])
        print(
            f"{out}: {facts['readout']} of {columns}, {facts['steps']} steps x {facts['width']} numbers each, for "
            f"{sum(facts['clips'].values()):,} clips ({clips})"
        )
    return 0

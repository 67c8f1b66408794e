"""`vidkit masks`: a picture of what a masked autoencoder hides and predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidkit.cli import options
from vidkit.cli.training.inputs import default_split

EXAMPLE = "vidkit masks --checkpoint runs/pre/checkpoints/last.pt --data k400 --out masks.png"


def run(
    checkpoint: options.Checkpoint,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .png or .gif file.")],
    clip: Annotated[Path | None, typer.Option(metavar="FILE", help="A video file.", show_default=False)] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Or clips of a built dataset.", show_default=False)
    ] = None,
    split: options.Split = None,
    clips: Annotated[int, typer.Option(help="Clips of the dataset.", min=1, max=24)] = 4,
    ratio: Annotated[
        float | None,
        typer.Option(help="Share of tokens that is hidden; by default the training's.", show_default=False),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="adaptive, tube, random, frame or another of `vidkit pretrain`; by default the training's.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    stride: options.Stride = None,
    device: options.Device = None,
) -> int:
    """Draw what a pre-trained model sees: video, prediction, error, probability and mask, row by row."""
    from vidkit.train.pictures import mask_picture

    drawn = mask_picture(
        checkpoint,
        out,
        clip=clip,
        data=data,
        split=split or ("val" if data is None else default_split(data)),
        clips=clips,
        ratio=ratio,
        mask=mask,
        seed=seed,
        stride=stride,
        device=device,
    )
    some = f"{len(drawn.clips)} clips" if len(drawn.clips) > 1 else drawn.clips[0]
    print(
        f"{drawn.file}: {some}, {drawn.strategy} masks, {drawn.visible:,} of {drawn.tokens:,} tokens visible "
        f"(ratio {drawn.ratio:g})"
    )
    return 0

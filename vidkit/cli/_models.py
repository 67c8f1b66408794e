"""The command line of what one does with a trained model. As in `cli`, imports live in the bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidkit.cli.options import Checkpoint, Data, Device, Json, Stride, Views


def masks(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .png or .gif file.")],
    clip: Annotated[Path | None, typer.Option(metavar="FILE", help="A video file.", show_default=False)] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Or clips of a built dataset.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test; by default val, or test without it.", show_default=False),
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips of the dataset.", min=1, max=24)] = 4,
    ratio: Annotated[
        float | None,
        typer.Option(help="Share of tokens that is hidden; by default the training's.", show_default=False),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="adaptive, tube, random or frame; by default the training's.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    stride: Stride = None,
    device: Device = None,
) -> None:
    """Draw what a pre-trained model sees: video, prediction, error, probability and mask, row by row."""
    from vidkit.cli.training import masks as command

    code = command.run(
        checkpoint,
        out=out,
        clip=clip,
        data=data,
        split=split,
        clips=clips,
        ratio=ratio,
        mask=mask,
        seed=seed,
        stride=stride,
        device=device,
    )
    raise typer.Exit(code)


def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Video files.")],
    checkpoint: Checkpoint,
    views: Views = None,
    top: Annotated[int, typer.Option(help="Classes to name.", min=1)] = 5,
    stride: Stride = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """The most probable classes of video files, by a fine-tuned model; exit 1 if one cannot be decoded."""
    from vidkit.cli.training import predict as command

    code = command.run(checkpoint, files, views=views, top=top, stride=stride, device=device, as_json=json)
    raise typer.Exit(code)


def extract(
    data: Data,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.parquet", help="A row for each clip.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="train, val or test; may be repeated. By default all.", show_default=False),
    ] = None,
    views: Views = None,
    stride: Stride = None,
    batch_size: Annotated[int, typer.Option(help="Clips at a time, with all their views.", min=1)] = 16,
    workers: Annotated[int, typer.Option(help="Loader processes.", min=0)] = 2,
    device: Device = None,
    json: Json = False,
) -> None:
    """Write the features of every clip of a dataset, by a pre-trained or fine-tuned model."""
    from vidkit.cli.training import extract as command

    code = command.run(
        data,
        checkpoint,
        out,
        splits=split,
        views=views,
        stride=stride,
        batch_size=batch_size,
        workers=workers,
        device=device,
        as_json=json,
    )
    raise typer.Exit(code)


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint, or a Hugging Face folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file; with --to hf a new folder.")],
    to: Annotated[str, typer.Option(help="vidkit, videomae or hf")],
    heads: Annotated[
        int | None, typer.Option(help="Attention heads, where a layout does not say.", min=1, show_default=False)
    ] = None,
    decoder_heads: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.", min=1, show_default=False)] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a clip's side.", min=1, show_default=False)] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A built dataset whose classes the head has, in that order: it can then be evaluated on it.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Read a checkpoint of VideoMAE, AdaMAE or Hugging Face, or write ours in their layout."""
    from vidkit.cli.training import convert as command

    code = command.run(
        source,
        out,
        to=to,
        heads=heads,
        decoder_heads=decoder_heads,
        frames=frames,
        size=size,
        labels=labels,
        as_json=json,
    )
    raise typer.Exit(code)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (masks, predict, extract, convert):
        app.command()(command)

"""`vidkit predict`: the best classes of video files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidkit.cli import options
from vidkit.cli.output import console, print_json
from vidkit.cli.training.inputs import parse_views
from vidkit.errors import ConfigError, display_path

if TYPE_CHECKING:
    from vidkit.train.predict import FilePrediction

EXAMPLE = "vidkit predict --checkpoint runs/ft/checkpoints/best.pt clip.mp4"


def run(
    checkpoint: options.Checkpoint,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Video files.")],
    views: options.Views = None,
    top: Annotated[int, typer.Option(help="Classes to name.", min=1)] = 5,
    stride: options.Stride = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> int:
    """The most probable classes of video files, by a fine-tuned model; exit 1 if one cannot be decoded."""
    if top < 1:
        raise ConfigError(f"top is {top}; expected at least 1", field="--top")
    if not files:
        raise ConfigError("no video file is given", field="FILE")
    from vidkit.train.predict import open_predictor

    predictor = open_predictor(checkpoint, views=parse_views(views or "1x1"), stride=stride, device=device)
    failed = False
    rows = []
    for found in predictor.files(files, top=top):
        failed = failed or found.error is not None
        if as_json:
            rows.append(_row(found))
        else:
            _print(found)
    if as_json:
        settings = predictor.views
        print_json(
            {
                "checkpoint": str(checkpoint),
                "scores": "sigmoid" if predictor.multi else "softmax",
                "views": list(settings.views),
                "stride": settings.stride,
                "mode": settings.mode,
                "files": rows,
            }
        )
    return int(failed)


def _row(found: FilePrediction) -> dict[str, Any]:
    return {
        "file": display_path(str(found.file)),
        "top": [asdict(guess) for guess in found.guesses],
        "frames": [list(view) for view in found.frames],
        "warning": found.warning,
        "error": found.error,
        "message": found.message,
    }


def _print(found: FilePrediction) -> None:
    name = display_path(str(found.file))
    if found.error is not None:
        console(stderr=True).print(f"{name}: {found.error}: {found.message}", markup=False)
        return
    out = console()
    out.print(name, markup=False)
    for guess in found.guesses:
        out.print(f"  {guess.score:7.2%}  {guess.name}", markup=False)
    if found.warning is not None:
        console(stderr=True).print(f"{name}: warning: {found.warning}", markup=False)

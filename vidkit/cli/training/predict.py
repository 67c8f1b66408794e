"""`vidkit predict`: the best classes of video files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkit.cli.output import console, print_json
from vidkit.cli.training.evaluate import parse_views
from vidkit.errors import ConfigError, display_path

if TYPE_CHECKING:
    from vidkit.train.predict import FilePrediction


def run(
    checkpoint: Path,
    files: Sequence[Path],
    *,
    views: str | None,
    top: int,
    stride: int | None,
    device: str | None,
    as_json: bool,
) -> int:
    """Predict and print, file by file; 1 if one of them could not be used."""
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

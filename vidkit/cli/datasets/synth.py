"""`vidkit synth`: generated clips in real layouts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from vidkit.cli.options import Json, parts_of
from vidkit.cli.output import cores, print_json, told
from vidkit.errors import ConfigError

EXAMPLE = "vidkit synth kinetics --out clips/kinetics --clips 100 --classes 5"

_PICTURES = "Clips"
_FAULTS = "Faults"


def run(
    kind: Annotated[
        str,
        typer.Argument(
            help="kinetics (or kinetics-flat, kinetics-class-folders, kinetics-bare-ids, kinetics-listfile), "
            "minikinetics, ssv2, tinyvirat-v1, tinyvirat-v2, ucf101, hmdb51, demo, or motions (64x64, "
            "2 to 48 classes told by motion alone)."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")],
    clips: Annotated[
        int | None, typer.Option(help="Clips in all splits together.", min=1, rich_help_panel=_PICTURES)
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, rich_help_panel=_PICTURES)] = None,
    label_sets: Annotated[
        int | None, typer.Option(help="TinyVIRAT: distinct label sets.", min=1, rich_help_panel=_PICTURES)
    ] = None,
    distinct: Annotated[
        int | None,
        typer.Option(help="Draw only so many videos and repeat them.", min=1, rich_help_panel=_PICTURES),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip.", min=1, show_default=False, rich_help_panel=_PICTURES)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Pixels; one number for a square.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    fps: Annotated[float | None, typer.Option(show_default=False, rich_help_panel=_PICTURES)] = None,
    level: Annotated[
        int | None,
        typer.Option(
            help="motions: from 1, few classes and nothing else in sight, to 5, 40 classes in a crowd that shakes; "
            "by default 5.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN/VAL/TEST",
            help="demo and motions: parts of the clips in each split, such as 60/5/35.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    missing: Annotated[
        float, typer.Option(help="Share of annotated clips without a file.", rich_help_panel=_FAULTS)
    ] = 0.0,
    broken: Annotated[
        float, typer.Option(help="Share of files that are empty or cut off.", rich_help_panel=_FAULTS)
    ] = 0.0,
    extra: Annotated[int, typer.Option(help="Files without annotation.", min=0, rich_help_panel=_FAULTS)] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: one per core.", min=0)] = 0,
    seed: int = 0,
    as_json: Json = False,
) -> int:
    """Write generated clips in a dataset's real folder layout, with its real annotation files."""
    from vidkit.data.progress import Progress
    from vidkit.data.synth.layouts import write_layout

    how: dict[str, Any] = {
        "clips": clips,
        "classes": classes,
        "label_sets": label_sets,
        "distinct": distinct,
        "frames": frames,
        "size": None if size is None else _pixels(size),
        "fps": fps,
        "level": level,
        "shares": None if shares is None else parts_of(shares, "60/5/35"),
        "missing": missing,
        "broken": broken,
        "extra": extra,
        "seed": seed,
    }
    given = {name: value for name, value in how.items() if value not in (None, 0.0)}
    with Progress("drawing clips", 0) as progress:
        report = write_layout(kind, out, workers=workers or cores(), progress=told(progress), **given)
    if as_json:
        print_json(
            {
                "root": str(report.root),
                "clips": report.clips,
                "splits": dict(report.splits),
                "classes": len(report.classes),
                "videos": report.videos,
                "missing": report.missing,
                "broken": report.broken,
                "extra": report.extra,
                "next_command": report.next_command,
            }
        )
    else:
        splits = ", ".join(f"{split} {count:,}" for split, count in report.splits.items())
        print(f"{report.clips:,} clips ({splits}) of {len(report.classes)} classes in {report.root}")
        print(f"next: {report.next_command}")
    return 0


def _pixels(size: str) -> tuple[int, int]:
    """
    >>> _pixels("340x256"), _pixels("64")
    ((340, 256), (64, 64))
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
    if not match:
        raise ConfigError(f"--size {size!r} is not WIDTHxHEIGHT", hint="for example --size 340x256, or --size 64")
    return int(match[1]), int(match[2] or match[1])

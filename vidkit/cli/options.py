"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place


def parts_of(shares: str, example: str) -> tuple[float, ...]:
    """Three parts of a whole: as they are with commas, of any sum with strokes.

    >>> parts_of("0.6,0.05,0.35", ""), parts_of("60/5/35", ""), parts_of("2/1/1", "")
    ((0.6, 0.05, 0.35), (0.6, 0.05, 0.35), (0.5, 0.25, 0.25))

    Raises:
        ConfigError: something else.
    """
    strokes = "/" in shares
    try:
        numbers = [float(text) for text in shares.split("/" if strokes else ",")]
    except ValueError:
        numbers = []
    whole = sum(numbers) if strokes else 1.0
    if len(numbers) != 3 or not whole > 0:
        raise ConfigError(f"--shares {shares!r} is not three numbers", hint=f"for example --shares {example}")
    return tuple(number / whole for number in numbers)


def as_place(text: str) -> Place:
    """What an option that takes folders and addresses names."""
    from vidkit.data.storage.places import place

    return place(text)


# --- of many commands ---

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
# typer knows no unions, and makes a Path of an address that it does not survive
Dataset = Annotated[Any, typer.Argument(metavar="DIR", help="A built dataset, or its address.", parser=as_place)]
Data = Annotated[
    Any, typer.Option("--data", metavar="DIR", help="A built dataset, or its address.", parser=as_place)
]
Checkpoint = Annotated[Path, typer.Option("--checkpoint", metavar="CKPT", help="A checkpoint.")]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; by default the GPU, if any.", show_default=False)]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The cluster's; else $RAY_ADDRESS, or a cluster of its own on this machine.",
        show_default=False,
    ),
]

# --- of commands that use a trained model ---

Stride = Annotated[
    int | None, typer.Option(help="Between frames; by default the training's.", min=1, show_default=False)
]
Views = Annotated[
    str | None, typer.Option(metavar="TxS", help="Temporal x spatial views; by default 1x1.", show_default=False)
]
Split = Annotated[
    str | None,
    typer.Option(help="train, val or test; by default val, or test without it.", show_default=False),
]
ClipsAtATime = Annotated[int, typer.Option("--batch-size", help="Clips at a time, with all their views.", min=1)]
LoaderProcesses = Annotated[int, typer.Option("--workers", help="Loader processes.", min=0)]

Layers = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...",
        help="Of the encoder, from 1; by default the last and those at 1/2 and 3/4 of the depth.",
        show_default=False,
    ),
]

# --- of training runs ---

Run = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="adamae-ssv2, adamae-k400, videomae-ssv2, videomae-k400, small-64, tiny or tiny-8; by default "
        "what fits the dataset.",
        show_default=False,
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, show_default=False)]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Clips in a step, over all processes; the rate follows it.", min=1, show_default=False),
]
Precision = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16", show_default=False)]
Seed = Annotated[int | None, typer.Option(min=0, show_default=False)]
Workers = Annotated[
    int | None, typer.Option(help="Loader processes for each training process.", min=0, show_default=False)
]
Cache = Annotated[
    str | None, typer.Option(help="none, host or device: decode each clip once, into memory.", show_default=False)
]
Tracker = Annotated[
    str | None, typer.Option(help="A tracker of accelerate's, such as tensorboard.", show_default=False)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. optim.base_lr=3e-4; may be repeated."),
]

# --- of few-shot episodes ---

_EPISODES = "Episodes"

Way = Annotated[
    int | None,
    typer.Option(help="Classes of an episode; by default 5.", min=1, show_default=False, rich_help_panel=_EPISODES),
]
Shot = Annotated[
    int | None,
    typer.Option(
        help="Labelled clips of each class; by default 1.", min=1, show_default=False, rich_help_panel=_EPISODES
    ),
]
Query = Annotated[
    int | None,
    typer.Option(
        help="Clips of each class to be classified; by default 15.",
        min=1,
        show_default=False,
        rich_help_panel=_EPISODES,
    ),
]
SharedGroups = Annotated[
    bool | None,
    typer.Option(
        "--allow-shared-groups/--no-shared-groups",
        help="Let one video be in support and query; by default no, or as the benchmark has it.",
        show_default=False,
        rich_help_panel=_EPISODES,
    ),
]

_CLASSES = "Classes and clips"

SplitSeed = Annotated[int, typer.Option(help="Of the choice of classes.", min=0, rich_help_panel=_CLASSES)]
Shares = Annotated[
    str | None,
    typer.Option(
        metavar="A/B/C",
        help="Of classes for training, validation, test, such as 64/16/20.",
        show_default=False,
        rich_help_panel=_CLASSES,
    ),
]
ClassSplit = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Take the choice of classes from a file.",
        show_default=False,
        rich_help_panel=_CLASSES,
    ),
]
Benchmark = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Classes and protocol of kinetics100-cmn, ssv2-small-cmn, ssv2-full-otam, hmdb51-arn or ucf101-arn: "
        "5-way, 10,000 episodes of one query a class.",
        show_default=False,
        rich_help_panel=_CLASSES,
    ),
]
ClipLists = Annotated[
    list[Path] | None,
    typer.Option(
        "--clips",
        metavar="FILE",
        help="Only clips that this list names, one a line; may be repeated.",
        show_default=False,
        rich_help_panel=_CLASSES,
    ),
]
Splits = Annotated[
    str | None,
    typer.Option(
        help="Clips of these splits only, such as train,val.", show_default=False, rich_help_panel=_CLASSES
    ),
]

"""The command line of training and evaluation. As in `cli`, imports live in the bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidkit.cli.options import Checkpoint, Data, Device, Json, Stride, Views

_Out = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.")]
_Recipe = Annotated[
    str | None,
    typer.Option(
        help="adamae-ssv2, adamae-k400, videomae-ssv2, videomae-k400, small-64 or tiny; by default what fits "
        "the dataset.",
        show_default=False,
    ),
]
_Epochs = Annotated[int | None, typer.Option(min=1, show_default=False)]
_BatchSize = Annotated[
    int | None,
    typer.Option(help="Clips in a step, over all processes; the rate follows it.", min=1, show_default=False),
]
_Precision = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16", show_default=False)]
_Seed = Annotated[int | None, typer.Option(min=0, show_default=False)]
_Workers = Annotated[
    int | None, typer.Option(help="Loader processes for each training process.", min=0, show_default=False)
]
_Cache = Annotated[
    str | None, typer.Option(help="none, host or device: decode each clip once, into memory.", show_default=False)
]
_Tracker = Annotated[
    str | None, typer.Option(help="A tracker of accelerate's, such as tensorboard.", show_default=False)
]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. optim.base_lr=3e-4; may be repeated."),
]


def pretrain(
    data: Data,
    out: _Out,
    recipe: _Recipe = None,
    mask: Annotated[str | None, typer.Option(help="adaptive, tube, random or frame", show_default=False)] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of tokens that is hidden.", show_default=False)] = None,
    epochs: _Epochs = None,
    batch_size: _BatchSize = None,
    precision: _Precision = None,
    seed: _Seed = None,
    workers: _Workers = None,
    cache: _Cache = None,
    tracker: _Tracker = None,
    init: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="Go on from these weights.", show_default=False)
    ] = None,
    resume: _Resume = False,
    set_: _Set = None,
    json: Json = False,
) -> None:
    """Pre-train a masked autoencoder (AdaMAE) on a built dataset."""
    from vidkit.cli.training import runs as training

    named = {
        "model.mask.strategy": mask,
        "model.mask.ratio": ratio,
        **_common(epochs, batch_size, precision, seed, workers, cache, tracker),
    }
    options = _options(data, out, init, recipe, resume, named, set_, json)
    raise typer.Exit(training.pretrain(options))


def finetune(
    data: Data,
    out: _Out,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            help="A pre-trained model; by default training starts from scratch.",
            show_default=False,
        ),
    ] = None,
    recipe: _Recipe = None,
    epochs: _Epochs = None,
    batch_size: _BatchSize = None,
    precision: _Precision = None,
    seed: _Seed = None,
    label_fraction: Annotated[
        float | None,
        typer.Option(help="Use about this share of each class's labelled clips.", show_default=False),
    ] = None,
    workers: _Workers = None,
    cache: _Cache = None,
    tracker: _Tracker = None,
    resume: _Resume = False,
    set_: _Set = None,
    json: Json = False,
) -> None:
    """Train a classifier, from a pre-trained encoder or from scratch."""
    from vidkit.cli.training import runs as training

    named = {
        "data.label_fraction": label_fraction,
        **_common(epochs, batch_size, precision, seed, workers, cache, tracker),
    }
    options = _options(data, out, init, recipe, resume, named, set_, json)
    raise typer.Exit(training.finetune(options))


def _common(
    epochs: int | None,
    batch_size: int | None,
    precision: str | None,
    seed: int | None,
    workers: int | None,
    cache: str | None,
    tracker: str | None,
) -> dict[str, Any]:
    return {
        "optim.epochs": epochs,
        "optim.batch_size": batch_size,
        "optim.precision": precision,
        "seed": seed,
        "data.workers": workers,
        "data.cache": cache,
        "log.tracker": tracker,
    }


def _options(
    data: Path,
    out: Path,
    init: Path | None,
    recipe: str | None,
    resume: bool,
    named: dict[str, Any],
    changes: list[str] | None,
    as_json: bool,
) -> Any:
    from vidkit.cli.training.runs import Options

    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    return Options(
        data=data,
        out=out,
        init=init,
        recipe=recipe,
        resume=resume,
        changes=(*given, *(changes or ())),
        as_json=as_json,
    )


def evaluate(
    data: Data,
    checkpoint: Checkpoint,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test; by default val, or test without it.", show_default=False),
    ] = None,
    views: Views = None,
    stride: Stride = None,
    crop_share: Annotated[
        float | None,
        typer.Option(help="Side of the crop as a share of the short side.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Clips at a time, with all their views.", min=1)] = 16,
    workers: Annotated[int, typer.Option(help="Loader processes.", min=0)] = 2,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16")] = "fp32",
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write each clip's scores.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Accuracy of a fine-tuned model on a split: every clip counts once, or is named."""
    from vidkit.cli.training import evaluate as command

    code = command.run(
        data,
        checkpoint,
        split=split,
        views=views,
        stride=stride,
        crop_share=crop_share,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        device=device,
        out=out,
        as_json=json,
    )
    raise typer.Exit(code)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (pretrain, finetune, evaluate):
        app.command()(command)

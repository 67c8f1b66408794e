"""`vidkit probe`: what simple classifiers find in a frozen encoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidkit.cli import options
from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import console, print_json
from vidkit.cli.training.inputs import parse_layers, parse_views
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place
    from vidkit.settings.probe import ProbeConfig
    from vidkit.train.probe.run import How

EXAMPLE = "vidkit probe --data ssv2 --checkpoint runs/pre/checkpoints/last.pt"

#: At each checkpoint of a run, unless others are asked for: those without training.
_QUICK = ("knn", "ridge")


def run(
    data: options.Data,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="CKPT", help="A checkpoint.", show_default=False)
    ] = None,
    during: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Instead: every checkpoint that a pre-training kept (log.keep_epochs).",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.svg",
            help="Of --during: draw the curve, accuracy against clips seen.",
            show_default=False,
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet", help="Of `vidkit extract`, instead of extracting.", show_default=False
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="knn, ridge, logistic or attentive; may be repeated. By default all; with --during knn and ridge.",
            show_default=False,
        ),
    ] = None,
    layers: options.Layers = None,
    readout: Annotated[
        list[str] | None,
        typer.Option(
            help="mean, mean-std, slots, slots-std, or tokens alone; may be repeated. By default all but tokens.",
            show_default=False,
        ),
    ] = None,
    fit: Annotated[str, typer.Option(help="Split that probes learn from.")] = "train",
    choose: Annotated[str, typer.Option(help="Split that everything is chosen on.")] = "val",
    test: Annotated[str, typer.Option(help="Split of the one figure.")] = "test",
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Random weights and pixels beside it.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of random weights and of the attentive probe.", min=0)] = 0,
    views: options.Views = None,
    stride: options.Stride = None,
    batch_size: options.ClipsAtATime = 16,
    workers: options.LoaderProcesses = 2,
    device: options.Device = None,
    as_json: options.Json = False,
) -> int:
    """Accuracy of simple classifiers on a frozen encoder, layer by layer, beside random weights and pixels.

    Every layer, read-out and probe is fitted on train; what does best on val is tested once on test.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("probe works in one process", field="WORLD_SIZE", hint="start it without torchrun")
    if (checkpoint is None) == (during is None):
        raise ConfigError(
            "give either a checkpoint or a run", field="--checkpoint", hint="--checkpoint or --during"
        )
    if during is not None and features is not None:
        raise ConfigError("features are of one checkpoint", field="--features", hint="leave it out with --during")
    if plot is not None and (during is None or plot.suffix != ".svg"):
        raise ConfigError(
            "a curve is of the checkpoints of a run, and is drawn as SVG",
            field="--plot",
            hint="give it with --during, and a name that ends in .svg",
        )
    from vidkit.settings.probe import PROBES, ProbeConfig
    from vidkit.train.probe.run import How, check_readouts

    check_readouts(readout)
    if readout and "tokens" in readout and len(readout) > 1:
        raise ConfigError("tokens are read alone", field="--readout", hint="leave the other read-outs out")
    config = ProbeConfig(
        probes=tuple(probe or (PROBES if during is None else _QUICK)),  # type: ignore[arg-type]  # checked there
        readouts=tuple(readout) if readout else None,
        fit=fit,
        choose=choose,
        test=test,
        seed=seed,
    )
    how = How(
        layers=parse_layers(layers),
        readout="tokens" if readout == ["tokens"] else "slots-std",
        views=parse_views(views or "1x1"),
        stride=stride,
        batch_size=batch_size,
        workers=workers,
        device=device,
        quiet=as_json,
        tell=console(stderr=True).print,
    )
    with memory_told("use a smaller --batch-size, fewer --layers, or a smaller --readout"):
        if during is not None:
            return _during(data, during, config, how, as_json, plot)
        assert checkpoint is not None, "checked above"
        from vidkit.train.probe.run import probe as probed

        found = probed(data, checkpoint, config, how, features=features, baselines=baselines)
    if as_json:
        print_json(found.to_plain())
    else:
        from vidkit.cli.training import probe_report

        probe_report.render(found)
    return 0


def _during(data: Place, run: Path, config: ProbeConfig, how: How, as_json: bool, plot: Path | None) -> int:
    from vidkit.cli.training import probe_report
    from vidkit.files import save_whole
    from vidkit.train.probe.during import during

    said = None if as_json else probe_report.told
    points = during(data, run, config, how, done=said)
    if plot is not None:
        save_whole(plot, probe_report.drawn(points))
    if as_json:
        print_json([point.to_plain() for point in points])
    else:
        probe_report.render_curve(points)
    return 0

"""The command line of ablations and benchmarks. As in `cli`, imports live in the bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidkit.cli.options import Data, Device, Json


def ablate(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A built dataset; by default generated clips, built once in OUT/data.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(help="adaptive, tube, random or frame; may be repeated, as all of these.", show_default=False),
    ] = None,
    ratio: Annotated[
        list[float] | None, typer.Option(help="Share of tokens that is hidden.", show_default=False)
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="By default 0; 0, 1 and 2 for studies.", show_default=False)
    ] = None,
    decoder_depth: Annotated[
        list[int] | None, typer.Option(help="Blocks of the decoder.", show_default=False)
    ] = None,
    loss: Annotated[list[str] | None, typer.Option(help="mse-norm, mse, l1-norm or l1", show_default=False)] = None,
    sampler: Annotated[
        list[str] | None, typer.Option(help="mlp, mha-1, mha-1-half or mha-2-half", show_default=False)
    ] = None,
    epochs: Annotated[
        list[int] | None,
        typer.Option(
            help="Of pre-training. Each number is a run of its own: the schedule ends with the run.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[list[str] | None, typer.Option(help="tubelet or spt", show_default=False)] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="masks (four strategies at five ratios), or table1a to table1f: the paper's; may be repeated. "
            "Or a study: reconstruction, mask-ratio or meta.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="By default what fits the dataset; tiny for generated clips.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("vidkit-ablation"),
    split: Annotated[str, typer.Option(help="That is tested: train, val or test.")] = "val",
    batch: Annotated[int, typer.Option(help="Clips of the steps that are measured.", min=1)] = 16,
    steps: Annotated[
        int, typer.Option(help="Steps that are timed for each cell; 0: memory is predicted only.", min=0)
    ] = 5,
    jobs: Annotated[
        int, typer.Option(help="Cells at a time, each on a GPU of its own in turn; 0: one for each GPU.", min=0)
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on: cells with a result are not run again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and what they cost.")] = False,
    memory_only: Annotated[
        bool,
        typer.Option("--memory-only", help="A few steps, or a prediction without a GPU: no training, no data."),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the recipe, e.g. pretrain.optim.epochs=3; may be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Pre-train, fine-tune and test every combination, and print a table; as typed, on generated clips."""
    from vidkit.cli.bench import ablate as command
    from vidkit.settings.ablation import Grid, MeasureConfig

    lists: dict[str, Any] = {
        "masks": mask,
        "ratios": ratio,
        "decoder_depths": decoder_depth,
        "losses": loss,
        "samplers": sampler,
        "epochs": epochs,
        "tokenizers": tokenizer,
        "seeds": seed,
    }
    options = command.Options(
        data=data,
        out=out,
        grid=Grid(**{name: tuple(dict.fromkeys(values or ())) for name, values in lists.items()}),
        presets=tuple(preset or ()),
        recipe=recipe,
        split=split,
        measure=MeasureConfig(batch=batch, steps=steps),
        jobs=jobs,
        resume=resume,
        dry_run=dry_run,
        memory_only=memory_only,
        changes=tuple(set_ or ()),
        as_json=json,
    )
    raise typer.Exit(command.run(options))


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Results of `vidkit ablate`.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Of two DIRs: what changed from the first to the second.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write CSV.", show_default=False)] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Markdown.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write one page with the table, plots, and pictures of masks.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The dataset, for the pictures of --html; by default DIR/data, as without --data in `ablate`.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print the table of an ablation's results: mean and 95 % interval over seeds, each cell against the best
    other one, and the paper's figures beside.
    """
    from vidkit.cli.bench import report as command

    code = command.run(folders, csv=csv, markdown=markdown, html=html, as_json=json, compare=compare, data=data)
    raise typer.Exit(code)


def loader(
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    frames: Annotated[int, typer.Option(min=1)] = 16,
    stride: Annotated[int, typer.Option(min=1)] = 4,
    size: Annotated[
        int | None, typer.Option(help="Pixels; by default as stored.", min=1, show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    decoder: Annotated[
        list[str] | None, typer.Option(help="pyav or decord; may be repeated.", show_default=False)
    ] = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(help="By default 0 and one for each core; may be repeated.", min=0, show_default=False),
    ] = None,
    cache: Annotated[
        list[str] | None, typer.Option(help="none, host or device; may be repeated.", show_default=False)
    ] = None,
    batches: Annotated[int, typer.Option(help="That are timed.", min=1)] = 50,
    step_ms: Annotated[
        float, typer.Option(help="A pretended training step, to see what share of it waits.", min=0)
    ] = 100.0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure the loader: clips per second, and what share of a training step waits for data."""
    from vidkit.cli.bench import loader as command

    code = command.run(
        data,
        split=split,
        frames=frames,
        stride=stride,
        size=size,
        batch_size=batch_size,
        decoders=decoder,
        workers=workers,
        caches=cache,
        batches=batches,
        step_ms=step_ms,
        device=device,
        as_json=json,
    )
    raise typer.Exit(code)


def regress(
    baseline: Annotated[
        Path, typer.Option(metavar="FILE", help="What to compare with; --update writes it.")
    ] = Path("benchmarks/results/regress.json"),
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline anew, and show what is different.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="exact (what is deterministic) or ratios (of speed); both by default.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Has anything got worse: tokens, MACs, memory, shards, losses, and speed beside plain ways; 1 if so."""
    from vidkit.cli.bench import regress as command

    raise typer.Exit(command.run(baseline, update=update, only=only, as_json=json))


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    bench = typer.Typer(help="Measure parts of the way from shards to models.", no_args_is_help=True)
    bench.command()(loader)
    bench.command()(regress)
    for command in (ablate, report):
        app.command()(command)
    app.add_typer(bench, name="bench")

"""`vidkit ablate`: cells of a table, from the recipe to the table. Without data, on generated clips."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidkit.cli.bench.asked import DECIDED, Asked, check_changes, say, say_stopped
from vidkit.cli.options import Json, RayAddress
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.bench.ablate.cells import Job, Wanted
    from vidkit.bench.rows.schema import Contrast
    from vidkit.settings import Recipe
    from vidkit.settings.ablation import Measures

EXAMPLE = "vidkit ablate --data k400 --mask adaptive --mask tube --ratio 0.9 --seed 0 --seed 1 --out ablation"

#: In the folder of the results.
PAGE = "report.html"

_CELLS = "Cells"
_MEASURE = "Measurements"


def run(
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
        typer.Option(
            help="adaptive, tube, random, frame, motion, multi-block, green, error, oracle, anti-oracle, or your "
            "own as module:function; may be repeated, as all of these.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(help="Share of tokens that is hidden.", show_default=False, rich_help_panel=_CELLS),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="By default 0; 0, 1 and 2 for studies.", show_default=False, rich_help_panel=_CELLS),
    ] = None,
    decoder_depth: Annotated[
        list[int] | None,
        typer.Option(help="Blocks of the decoder.", show_default=False, rich_help_panel=_CELLS),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(help="mse-norm, mse, l1-norm or l1", show_default=False, rich_help_panel=_CELLS),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="mlp, mha-1, mha-1-half or mha-2-half", show_default=False, rich_help_panel=_CELLS),
    ] = None,
    epochs: Annotated[
        list[int] | None,
        typer.Option(
            help="Of pre-training. Each number is a run of its own: the schedule ends with the run.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    tokenizer: Annotated[
        list[str] | None, typer.Option(help="tubelet or spt", show_default=False, rich_help_panel=_CELLS)
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            help="Which hidden tokens are predicted: complement (all), running-cell or random.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    target_ratio: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the hidden tokens that is predicted, of targets other than complement.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    decoder: Annotated[
        list[str] | None,
        typer.Option(
            help="self, or cross: mask tokens attend to visible ones only.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="masks (four strategies at five ratios), verdicts (nine at 0.95 and six at 0.90, five paired "
            "seeds), or table1a to table1f: the paper's; may be repeated. Or a study: reconstruction, mask-ratio "
            "or meta.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    equal: Annotated[
        str,
        typer.Option(
            help="tokens: every arm has its epochs, and arms of one ratio see as many tokens. compute: epochs are "
            "chosen so that every arm costs the multiply-accumulates of random masks at the recipe's ratio.",
            rich_help_panel=_CELLS,
        ),
    ] = "tokens",
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A:B",
            help="Arms to compare, such as tube:random, tube@0.9:random@0.95 or trend:tube (over ratios); may be "
            'repeated. By default, and with "default" among them: each mask against random ones of its ratio, '
            "oracle against anti-oracle, each mask's trend.",
            show_default=False,
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="What arms are measured by, the deciding one first: finetune, finetune-10 (with 10 % of the "
            "labels; or another number), ridge, knn, attentive, common-error; may be repeated. By default "
            "finetune, ridge, knn and common-error; of verdicts finetune-10 and the last three.",
            show_default=False,
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    at: Annotated[
        list[float] | None,
        typer.Option(
            metavar="PERCENT",
            help="Of pre-training, where all but finetune is measured; 100 is always there. By default 10, 25, 50.",
            show_default=False,
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    common_ratio: Annotated[
        float,
        typer.Option(help="Of the random masks of common-error.", rich_help_panel=_MEASURE),
    ] = 0.9,
    recipe: Annotated[
        str | None,
        typer.Option(help="By default what fits the dataset; tiny-8 without --data.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("vidkit-ablation"),
    split: Annotated[
        str | None,
        typer.Option(
            help="That is tested: train, val or test; by default val, and test of generated clips.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Clips of the steps that are measured.", min=1, rich_help_panel=_MEASURE)
    ] = 16,
    steps: Annotated[
        int,
        typer.Option(
            help="Steps that are timed for each cell; 0: memory is predicted only.",
            min=0,
            rich_help_panel=_MEASURE,
        ),
    ] = 5,
    executor: Annotated[
        str, typer.Option(help="local: one cell after another; ray: one on each GPU of a cluster or this machine")
    ] = "local",
    ray_address: RayAddress = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on: cells with a result are not run again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and what they cost.")] = False,
    memory_only: Annotated[
        bool,
        typer.Option(
            "--memory-only",
            help="A few steps, or a prediction without a GPU: no training, no data.",
            rich_help_panel=_MEASURE,
        ),
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the recipe, e.g. pretrain.optim.epochs=3; may be repeated.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Pre-train, fine-tune and test every combination, and print a table; as typed, on generated clips.

    Exit 1 if a cell failed; the others have their rows nevertheless.
    """
    from vidkit.bench.rows.specs import chosen
    from vidkit.settings import Grid, MeasureConfig

    if equal not in ("tokens", "compute"):
        raise ConfigError(f"arms cannot have {equal!r} alike", field="--equal", hint="choose tokens or compute")
    lists: dict[str, Any] = {
        "masks": mask,
        "ratios": ratio,
        "decoder_depths": decoder_depth,
        "losses": loss,
        "samplers": sampler,
        "epochs": epochs,
        "tokenizers": tokenizer,
        "targets": targets,
        "target_ratios": target_ratio,
        "decoders": decoder,
        "seeds": seed,
    }
    studied = chosen(tuple(preset or ()))
    asked = Asked(
        data=data,
        out=out,
        grid=Grid(**{name: tuple(dict.fromkeys(values or ())) for name, values in lists.items()}),
        presets=tuple(preset or ()),
        recipe=recipe,
        split=split or ("test" if data is None and not studied else "val"),
        measure=MeasureConfig(batch=batch, steps=steps),
        executor=executor,
        ray_address=ray_address,
        measures=_measures(measure, at, common_ratio, preset),
        again=measure is not None,
        contrasts=tuple(contrast or ()),
        equal="compute" if equal == "compute" else "tokens",
        resume=resume,
        dry_run=dry_run,
        memory_only=memory_only,
        changes=tuple(changes or ()),
        as_json=as_json,
    )
    _check(asked)
    if studied is not None:
        from vidkit.cli.bench import studies

        return studies.run(asked, studied)
    return _cells(asked)


def _cells(asked: Asked) -> int:
    """
    Returns:
        0 done; 1 a cell failed; 130 interrupted.
    """
    from vidkit.bench.ablate.cells import plan

    name, recipe = _recipe(asked)
    wanted = _wanted(asked, recipe)
    if asked.data is None and not asked.memory_only:
        recipe = _with_tokens(wanted, recipe)
    jobs = plan(
        wanted,
        recipe,
        recipe_name=name,
        measure=asked.measure,
        memory_only=asked.memory_only,
        equal=asked.equal,
    )
    contrasts = _contrasts(asked, jobs)
    if asked.dry_run:
        from vidkit.cli.bench.dry_run import show_cells

        return show_cells(asked, name, jobs)
    return _run(asked, jobs, contrasts)


def _measures(
    names: list[str] | None, at: list[float] | None, common_ratio: float, presets: list[str] | None
) -> Measures:
    from vidkit.settings.ablation import VERDICT_MEASURES, Measures

    usual = Measures()
    if not names:
        names = list(VERDICT_MEASURES if presets and "verdicts" in presets else usual.names)
    shares = usual.shares if at is None else tuple(sorted({*(percent / 100 for percent in at), 1.0}))
    return Measures(names=tuple(names), shares=shares, common_ratio=common_ratio)


def _contrasts(asked: Asked, jobs: Sequence[Job]) -> tuple[Contrast, ...]:
    """Before anything runs. ConfigError: one that names no arm, or common masks that leave nothing visible."""
    from vidkit.bench.report.contrasts import named
    from vidkit.models.masking import num_visible

    if asked.memory_only:
        return ()
    if "common-error" in asked.measures.names:
        for grid in {job.config.pretrain.model.encoder.grid for job in jobs}:
            num_visible(grid, asked.measures.common_ratio)
    planned = [job.planned for job in jobs]
    return named.asked(asked.contrasts, planned) if asked.contrasts else named.default(planned)


def _check(asked: Asked) -> None:
    from vidkit.cluster import check_executor
    from vidkit.settings.ablation import Grid, check_preset

    check_executor(asked.executor, asked.ray_address)
    for name in asked.presets:
        check_preset(name)
    grid = asked.grid
    if asked.presets and grid != Grid(seeds=grid.seeds):
        raise ConfigError(
            "a preset has its own masks, ratios and the like", field="--preset", hint="give either, with --seed"
        )
    check_changes(asked.changes, DECIDED)


def _recipe(asked: Asked) -> tuple[str, Recipe]:
    from vidkit.cli.training.recipe import fitting, recipe_named
    from vidkit.settings import changed

    name = asked.recipe
    if name is None:
        if asked.data is not None:
            name = fitting(asked.data)
        else:
            paper = asked.memory_only and any(preset.startswith("table1") for preset in asked.presets)
            name = "adamae-ssv2" if paper else "tiny-8"
    recipe = changed(recipe_named(name), asked.changes)
    print(f"recipe {name}: {recipe.about}", file=sys.stderr)
    return name, recipe


def _with_tokens(wanted: Sequence[Wanted], recipe: Recipe) -> Recipe:
    """For generated clips: smaller patches, if a ratio needs them."""
    from vidkit.bench.ablate.cells import fitting

    made = fitting(wanted, recipe)
    before, now = recipe.pretrain.model.encoder, made.pretrain.model.encoder
    if now != before:
        print(
            f"patches of {now.patch} pixels instead of {before.patch}, in every cell: {before.tokens} tokens are "
            f"too few for a ratio of {max(one.cell.ratio for one in wanted):g}; now there are {now.tokens}",
            file=sys.stderr,
        )
    return made


def _wanted(asked: Asked, recipe: Recipe) -> tuple[Wanted, ...]:
    from vidkit.bench.ablate.cells import from_grid, preset

    if not asked.presets:
        return from_grid(asked.grid, recipe)
    return tuple(one for name in asked.presets for one in preset(name, recipe, asked.grid.seeds))


def _run(asked: Asked, jobs: Sequence[Job], contrasts: tuple[Contrast, ...]) -> int:
    from rich.markup import escape

    from vidkit.bench.ablate.journal import check_free, failures
    from vidkit.bench.ablate.run import run
    from vidkit.bench.ablate.runner import Ablation
    from vidkit.bench.report.table import plain, read_results
    from vidkit.bench.rows.files import RESULTS
    from vidkit.cli.bench import report, tables
    from vidkit.cli.datasets import embedded

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's "stop" is a Ctrl-C
    check_free(asked.out, resume=asked.resume)  # before anything is built
    data = None
    if not asked.memory_only:
        data = asked.data or embedded.motions(asked.out / "data", large="verdicts" in asked.presets)
    ablation = Ablation(
        jobs=tuple(jobs),
        data=data,
        out=asked.out,
        split=asked.split,
        measure=asked.measure,
        measures=asked.measures,
        again=asked.again,
        contrasts=contrasts,
    )
    try:
        rows = run(
            ablation,
            resume=asked.resume,
            quiet=asked.as_json,
            tell=say,
            executor=asked.executor,
            ray_address=asked.ray_address,
        )
    except KeyboardInterrupt:
        say_stopped("cells")
        return 130
    results = read_results([asked.out])
    page = asked.out / PAGE
    report.write_page(page, results, data)
    if asked.as_json:
        print_json({"out": str(asked.out), "page": str(page), **plain(results)})
    else:
        tables.show_results(results)
        console().print(
            f"rows: {escape(str(asked.out / RESULTS))}; page: {escape(str(page))}; "
            f"again: vidkit report {escape(str(asked.out))}"
        )
    return int(bool(failures(rows)))

"""`vidkit evaluate`: accuracy beside coverage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidkit.cli import options
from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import console, first_process, print_json
from vidkit.cli.training.inputs import default_split, parse_views
from vidkit.errors import ConfigError

EXAMPLE = "vidkit evaluate --data k400 --checkpoint runs/ft/checkpoints/best.pt --views 5x3"


def run(
    data: options.Data,
    checkpoint: options.Checkpoint,
    split: options.Split = None,
    views: options.Views = None,
    stride: options.Stride = None,
    crop_share: Annotated[
        float | None,
        typer.Option(help="Side of the crop as a share of the short side.", show_default=False),
    ] = None,
    batch_size: options.ClipsAtATime = 16,
    workers: options.LoaderProcesses = 2,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16")] = "fp32",
    device: options.Device = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write each clip's scores.", show_default=False),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Accuracy of a fine-tuned model on a split: every clip counts once, or is named."""
    if precision not in ("fp32", "bf16", "fp16"):
        raise ConfigError(f"precision is {precision!r}; expected fp32, bf16 or fp16", field="--precision")
    split = split or default_split(data)
    from vidkit.models import checkpoints
    from vidkit.train import evaluate
    from vidkit.train.inference import views_of

    settings = views_of(
        checkpoints.load(checkpoint).facts,
        views=parse_views(views or "1x1"),
        stride=stride,
        crop_share=1.0 if crop_share is None else crop_share,
        batch_size=batch_size,
    )
    with memory_told("use a smaller --batch-size: that many clips are tested at a time, with all their views"):
        found = evaluate.run(
            data,
            checkpoint,
            split=split,
            views=settings,
            workers=workers,
            precision=precision,  # type: ignore[arg-type]
            device=device,
            out=out,
            quiet=as_json,
        )
    if not first_process():
        return 0
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    table = Table(
        title=f"{found['dataset']}, split {found['split']}, {found['views'][0]} x {found['views'][1]} views"
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name in ("top1", "top5", "mean_class", "mAP", "f1"):
        if found.get(name) is not None:
            table.add_row(name, f"{100 * found[name]:.2f} %")
    table.add_row("coverage", f"{found['clips']:,} of {found['planned']:,} clips ({found['coverage']:.2%})")
    out.print(table)
    each = [
        (share, name) for share, name in zip(found["per_class"], found["classes"], strict=True) if share is not None
    ]
    if len(each) > 1:
        worst = ", ".join(f"{name} {100 * share:.0f} %" for share, name in sorted(each)[:5])
        out.print(f"lowest classes: {worst}")
    for clip in found["unusable"][:10]:
        out.print(f"  not evaluated: {clip['clip_id']}: {clip['error'] or clip['status']}: {clip['message']}")
    if len(found["unusable"]) > 10:
        out.print(f"  and {len(found['unusable']) - 10:,} more; --json lists them")

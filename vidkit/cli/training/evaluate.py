"""`vidkit evaluate`: accuracy beside coverage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.table import Table

from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import console, first_process, print_json
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError


def run(
    data: Path,
    checkpoint: Path,
    *,
    split: str | None,
    views: str | None,
    stride: int | None,
    crop_share: float | None,
    batch_size: int,
    workers: int,
    precision: str,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Evaluate and print."""
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


def default_split(data: Path) -> str:
    """ "val", or "test" where only that one has clips."""
    counts = open_dataset(data).facts["splits"]
    return next((split for split in ("val", "test") if counts.get(split, {}).get("ok")), "val")


def parse_views(text: str) -> tuple[int, int]:
    """
    >>> parse_views("5x3")
    (5, 3)
    """
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    if match is None:
        raise ConfigError(f"views is {text!r}; expected temporal x spatial, such as 5x3", field="--views")
    return int(match.group(1)), int(match.group(2))


def _print(found: dict[str, Any]) -> None:
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

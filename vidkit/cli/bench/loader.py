"""`vidkit bench loader`: clips per second, and what share of a training step waits for data."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vidkit.cli import options
from vidkit.cli.output import console, cores, print_json

if TYPE_CHECKING:
    from vidkit.data.load.loader import Cache

EXAMPLE = "vidkit bench loader --data k400 --workers 0 --workers 8 --cache none --cache host"


def run(
    data: options.Data,
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    frames: Annotated[int, typer.Option(min=1)] = 16,
    stride: Annotated[int, typer.Option(min=1)] = 4,
    size: Annotated[
        int | None, typer.Option(help="Pixels; by default as stored.", min=1, show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    decoders: Annotated[
        list[str] | None, typer.Option("--decoder", help="pyav or decord; may be repeated.", show_default=False)
    ] = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(help="By default 0 and one for each core; may be repeated.", min=0, show_default=False),
    ] = None,
    caches: Annotated[
        list[str] | None,
        typer.Option("--cache", help="none, host or device; may be repeated.", show_default=False),
    ] = None,
    batches: Annotated[int, typer.Option(help="That are timed.", min=1)] = 50,
    step_ms: Annotated[
        float, typer.Option(help="A pretended training step, to see what share of it waits.", min=0)
    ] = 100.0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> int:
    """Measure the loader: clips per second, and what share of a training step waits for data.

    By default PyAV without workers and with one for each core, no cache.
    """
    from vidkit.bench.measure import loader

    settings = loader.LoaderBench(
        data=data,
        split=split,
        frames=frames,
        stride=stride,
        size=size,
        batch_size=batch_size,
        decoders=tuple(decoders or ("pyav",)),
        workers=tuple(workers or (0, cores())),
        caches=cast("tuple[Cache, ...]", tuple(caches or ("none",))),  # checked there
        batches=batches,
        step_ms=step_ms,
        device=device,
    )
    found = loader.run(settings, None if as_json else _Filling())
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0


class _Filling:
    """Says on stderr how far a cache is, at every tenth of it."""

    def __init__(self) -> None:
        self._said = -1

    def __call__(self, way: str, done: int, of: int) -> None:
        tenth = 10 * done // of
        if tenth != self._said:
            self._said = tenth
            print(f"{way}: {done:,} of {of:,} clips decoded", file=sys.stderr)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    how, rows = found["settings"], found["rows"]
    step_ms = rows[0]["step_ms"]
    table = Table(
        title=f"{found['dataset']}, split {found['split']}, {found['clips']:,} clips: {how['frames']} frames of "
        f"{how['size']} px at stride {how['stride']}, {how['batch_size']} clips a batch"
    )
    for name in ("decoder", "workers", "cache"):
        table.add_column(name, justify="right" if name == "workers" else "left")
    waits = [f"a step of {step_ms:g} ms waits"] if step_ms else []
    for name in ("clips/s", "ms a batch", *waits, "first batch, s"):
        table.add_column(name, justify="right")
    cached = any(row["cache_bytes"] for row in rows)
    if cached:
        table.add_column("cache, GB", justify="right")
    for row in rows:
        words = [row["decoder"], str(row["workers"]), row["cache"]]
        words += [f"{row['clips_per_s']:,.1f}", f"{row['batch_ms']:,.1f}"]
        words += [f"{row['wait_share']:.1%}"] if step_ms else []
        words += [f"{row['start_s']:,.2f}"]
        words += [f"{row['cache_bytes'] / 1e9:,.2f}" if row["cache_bytes"] else ""] if cached else []
        table.add_row(*words)
    out.print(table)
    if step_ms:
        out.print(
            "Waiting is a share of step and wait together; a step that is longer than a batch takes hides it."
        )
    for row in rows:
        if row["bad"]:
            out.print(f"{row['decoder']}: {row['bad']:,} clips could not be decoded; see `vidkit verify`")
    machine = found["machine"]
    load, device = machine["load_average"][0], found["device"]["name"]
    out.print(f"{machine['cpu']}, {machine['cores']} cores, load {load:g}; batches on {device}")

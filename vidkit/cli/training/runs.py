"""What pre-training and fine-tuning share: options as changes of a recipe, the run, and its summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkit.cli.no_memory import memory_told
from vidkit.cli.output import command_line, console, first_process, print_json
from vidkit.cli.training.recipe import fitting, recipe_named

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place

_LESS_MEMORY = (
    "use a smaller --batch-size, or the same one in parts (--set optim.accumulate=2), --precision bf16, or keep "
    "less for the backward pass (--set model.recompute.encoder=full, in fine-tuning --set recompute=full)"
)


def chosen(name: str | None, data: Place) -> Any:
    """The recipe of that name, by default the one that fits the dataset; says which."""
    name = name or fitting(data)
    recipe = recipe_named(name)
    if first_process():
        print(f"recipe {name}: {recipe.about}", file=sys.stderr)
    return recipe


def assignments(named: dict[str, Any], more: Sequence[str] | None) -> tuple[str, ...]:
    """`key=value` of the options that were given, and then those of --set."""
    return (*(f"{name}={value}" for name, value in named.items() if value is not None), *(more or ()))


def common(
    epochs: int | None,
    batch_size: int | None,
    precision: str | None,
    seed: int | None,
    workers: int | None,
    cache: str | None,
    tracker: str | None,
) -> dict[str, Any]:
    """The settings that both commands have options for."""
    return {
        "optim.epochs": epochs,
        "optim.batch_size": batch_size,
        "optim.precision": precision,
        "seed": seed,
        "data.workers": workers,
        "data.cache": cache,
        "log.tracker": tracker,
    }


def carry_out(
    run: Callable[..., dict[str, Any]],
    config: Any,
    data: Place,
    out: Path,
    *,
    init: Path | None,
    resume: bool,
    as_json: bool,
) -> int:
    """Train, and print what came of it.

    Returns:
        0 done; 130 interrupted.
    """
    try:
        with memory_told(_LESS_MEMORY):
            summary = run(config, data, out, init=init, resume=resume, quiet=as_json)
    except KeyboardInterrupt:
        if first_process():
            words = command_line()
            again = words if "--resume" in words.split() else f"{words} --resume"
            kept = (out / "checkpoints" / "last.pt").exists()
            what = "a checkpoint was written" if kept else "before the first checkpoint"
            print(f"\nStopped; {what}. Go on with:\n  {again}", file=sys.stderr)
        return 130
    if not first_process():
        return 0
    if as_json:
        print_json(summary)
    else:
        _print(summary, out)
    return 0


def _print(summary: dict[str, Any], out: Path) -> None:
    screen = console()
    screen.print(
        f"{summary['steps']:,} steps, {summary['clips']:,} clips in {summary['seconds']:.0f} s "
        f"({summary['clips_per_s']:.1f} clips/s, {summary['data_wait']:.0%} waiting for data), "
        f"{summary['memory_gb']:.2f} GB" + ("" if summary["loss"] is None else f", loss {summary['loss']:.4f}")
    )
    for name, value in summary["metrics"].items():
        screen.print(f"  {name} {value:.4f}")
    if summary["left_out"]:
        some = "1 clip" if summary["left_out"] == 1 else f"{summary['left_out']:,} clips"
        screen.print(f"  left out, because not to be decoded: {some}")
    screen.print(f"checkpoints, log and summary: {out}")

"""A cell's measures on the way of its pre-training: fine-tuning with a part of the labels, probes, common error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidkit.bench.ablate.attempts import finetuned
from vidkit.bench.ablate.common import Looked
from vidkit.bench.ablate.held import Held
from vidkit.bench.rows.schema import CurvePoint, Row
from vidkit.settings.ablation import CellConfig, Measures
from vidkit.train import evaluate
from vidkit.train.loop import kept_steps
from vidkit.train.runs import RunFolder, write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a cell's runs lie, and what they are tested on."""

    data: Path
    split: str
    folder: Path
    """Of the cell."""
    quiet: bool


def checkpoints_of(run: RunFolder, shares: tuple[float, ...], total: int) -> dict[float, tuple[int, Path]]:
    """Step and weights at each share of a pre-training of `total` steps. Shares that were not kept are left out:
    runs from before there were curves have their end alone.
    """
    found: dict[float, tuple[int, Path]] = {}
    for share in shares:
        (step,) = kept_steps((share,), total) or (total,)
        path = run.last if step == total else run.step(step)
        if path.exists() and step not in {one for one, _ in found.values()}:
            found[share] = (step, path)
    return found


def curve(
    config: CellConfig, measures: Measures, run: RunFolder, total: int, place: Place, held: Callable[[], Held]
) -> tuple[tuple[CurvePoint, ...], Looked | None]:
    """A point for each share that was kept, by everything but fine-tuning with all labels; what the masks show at
    the end.

    Raises:
        VidkitError: as `Held.measured` and the runs.
    """
    points, looked = [], None
    for share, (step, path) in checkpoints_of(run, measures.shares, total).items():
        values: dict[str, float] = {}
        for name, part in measures.parts.items():
            values[name] = _tuned(config, part, path, place, f"{name}-at-{100 * share:g}")
        if measures.probes or "common-error" in measures.names:
            found, looked = held().measured(path, measures, config.pretrain.seed)
            values |= found
        points.append(
            CurvePoint(share=share, step=step, values={n: values[n] for n in measures.names if n in values})
        )
    return tuple(points), looked


def _tuned(config: CellConfig, part: float, init: Path, place: Place, name: str) -> float:
    """Top-1, or mean average precision, after fine-tuning with a share of the labels, 0 to 1."""
    folder = place.folder / name
    with_part = replace(config.finetune, data=replace(config.finetune.data, label_fraction=part))
    finetuned(with_part, place.data, folder, init=init, quiet=place.quiet)
    tested = evaluated(config, place, folder)
    write_json(folder / "test.json", tested)
    return float(tested["mAP"] if "mAP" in tested else tested["top1"])


def evaluated(config: CellConfig, place: Place, folder: Path, out: Path | None = None) -> dict[str, Any]:
    """The test of a fine-tuning; predictions go to `out`."""
    return evaluate.run(
        place.data,
        RunFolder(folder).last,
        split=place.split,
        views=config.test,
        workers=config.finetune.data.workers,
        precision=config.finetune.optim.precision,
        out=out,
        quiet=place.quiet,
    )


def fields(points: tuple[CurvePoint, ...], looked: Looked | None) -> dict[str, Any]:
    """Fields of a row."""
    last: Mapping[str, float] = points[-1].values if points else {}
    return {
        "metrics": {name: value for name, value in last.items() if name != "common-error"},
        "common_error": last.get("common-error"),
        "curve": points,
        "looked": {} if looked is None else looked.own(),
    }


def lacks(row: Row, measures: Measures) -> bool:
    """Whether a row was made without one of the measures."""
    known = {*row.metrics} | ({"common-error"} if row.common_error is not None else set())
    known |= {"finetune"} if {"top1", "mAP"} & known else set()
    return not known.issuperset(measures.names)

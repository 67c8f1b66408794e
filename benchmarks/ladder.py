"""How hard each level of the generated motions is: what supervised training on all labels reaches within a quarter
of an hour of one processor, and what pixels and random weights give a linear probe.

A level is of use where the first is high and the others are low: there is something to learn, and it is not given
away. Supervised training has the network of the recipe `tiny-8`, from scratch, and is tested with its last weights.
Probes are ridge regression on mean and deviation over space for each time step; layer and penalty by val.

    python -m benchmarks.ladder --work vidkit-ladder           # an hour and a half on one core
    python -m benchmarks.ladder --level 2 --work vidkit-ladder
    python -m benchmarks.ladder --quick                        # does it work at all

A level is a line of WORK/rows.jsonl as soon as it ends; begun again with the same --work, it goes on.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from vidkit.cli.datasets.embedded import generated

LEVELS = (1, 2, 3, 4, 5)
SHARES = (0.6, 0.04, 0.36)
RECIPE = "tiny-8"
LAST = "checkpoints/last.pt"
#: Encoders whose random weights are probed.
RANDOM = ("tiny", "tiny-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is done."""

    clips: int
    epochs: int
    base_lr: float = 8e-3


FULL = Size(clips=5600, epochs=20)
QUICK = Size(clips=200, epochs=1)


def supervised(data: Path, out: Path, size: Size) -> dict[str, float]:
    """Test accuracy after training on all labels from scratch, and the processor time of the training."""
    from vidkit.settings.recipes import RECIPES
    from vidkit.train import evaluate, finetune

    recipe = RECIPES[RECIPE]()
    optim = replace(recipe.finetune.optim, epochs=size.epochs, base_lr=size.base_lr, layer_decay=1.0)
    config = replace(recipe.finetune, optim=optim, val_epochs=size.epochs)
    started = time.process_time()
    finetune.run(config, data, out, init=None, quiet=True)
    seconds = time.process_time() - started
    found = evaluate.run(data, out / LAST, split="test", views=recipe.test, workers=0, quiet=True)
    return {"supervised": found["top1"], "cpu_seconds": round(seconds, 1)}


def probed(data: Path, trained: Path) -> dict[str, float]:
    """Test accuracy of a linear probe on pixels, and on random weights of each of `RANDOM`."""
    from vidkit.models import checkpoints
    from vidkit.settings.model import SIZES
    from vidkit.settings.probe import ProbeConfig
    from vidkit.train.features.readout import FULLEST
    from vidkit.train.probe import run as probes

    config, how = ProbeConfig(probes=("ridge",), readouts=(FULLEST,)), probes.How(workers=0, quiet=True)
    facts = checkpoints.load(trained).facts
    found = {}
    for name in RANDOM:
        shape = checkpoints.Checkpoint(config=SIZES[name](), model={}, facts=facts)
        untrained = probes.random_like(shape, seed=0)
        arms = probes.probe(data, untrained, config, how, baselines=False)
        found[f"random {name}"] = arms.encoder.test.value
    with tempfile.TemporaryDirectory() as folder:
        arm = probes.pixel_arm(data, Path(folder) / "pixels.parquet", config, how)
    return {"pixels": arm.test.value, **found}


def row(level: int, work: Path, size: Size) -> dict[str, Any]:
    """Everything of a level."""
    from vidkit.data.dataset import open_dataset

    data = generated(work / f"level-{level}", "motions", level=level, clips=size.clips, shares=SHARES)
    out = work / "supervised"
    shutil.rmtree(out, ignore_errors=True)
    built = open_dataset(data)
    clips = {split: found["ok"] for split, found in built.facts["splits"].items()}
    made = {
        "level": level,
        "classes": len(built.facts["label_map"]["classes"]),
        "clips": clips,
        **supervised(data, out, size),
    }
    made |= probed(data, out / LAST)
    shutil.rmtree(out)
    return made


def report(rows: list[dict[str, Any]]) -> str:
    """A table."""
    names = ("supervised", "pixels", *(f"random {name}" for name in RANDOM))
    shown = [
        [
            row["level"],
            row["classes"],
            100 / row["classes"],
            *(100 * row[name] for name in names),
            row["cpu_seconds"],
        ]
        for row in rows
    ]
    return common.table(["level", "classes", "chance, %", *(f"{name}, %" for name in names), "CPU s"], shown)


def main(
    quick: Annotated[bool, typer.Option(help="A few clips and one epoch: does it work at all.")] = False,
    level: Annotated[list[int] | None, typer.Option(help="Some of the levels; all by default.")] = None,
    work: Annotated[Path | None, typer.Option(help="Data and rows stay here; else temporary.")] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    size = QUICK if quick else FULL
    folder = work or Path(tempfile.mkdtemp(prefix="vidkit-ladder-"))
    folder.mkdir(parents=True, exist_ok=True)
    rows = common.Rows(folder / "rows.jsonl")
    try:
        for number in level or LEVELS:
            if rows.of(f"level {number}") is None:
                rows.add(f"level {number}", row(number, folder, size))
    finally:
        if work is None:
            shutil.rmtree(folder)
    found = sorted(rows.found.values(), key=lambda one: one["level"])
    print(report(found))
    result = {"machine": common.machine(), "epochs": size.epochs, "base_lr": size.base_lr, "rows": found}
    print(f"wrote {common.write_result('ladder', result, results).name}")


if __name__ == "__main__":
    typer.run(main)

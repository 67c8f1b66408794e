"""Does pre-training help: an encoder that was pre-trained against the same network from scratch, at a few shares of
the labels, and against random weights under a frozen probe. Paired by seed.

On generated clips whose class is how a shape moves (`vidkit synth motions --level 2`). A seed draws the weights,
the masks and order of a pre-training, the labelled clips and the order of a fine-tuning; both sides have the same
labelled clips. Each side gets the same tuning: for each share of labels the same rates are tried with the first
seed, the one with the best validation accuracy is taken for all seeds. Accuracies are of the test split, at the
epoch with the best validation accuracy. Intervals are of 95 % over the seeds (Student's t), and so are those of the
differences.

    make label-fraction
    python -m benchmarks.label_fraction --quick          # does it work

Every run is a line of WORK/rows.jsonl as soon as it ends; begun again with the same --work, it goes on.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from vidkit.bench.report.estimates import estimate
from vidkit.cli.datasets.embedded import generated

RATES = (1.2e-2, 2.4e-2)
FRACTIONS = (0.01, 0.05, 0.1, 0.3, 1.0)
#: Parts of the clips in train, val and test, and classes.
SHARES, CLASSES = (0.6, 0.04, 0.36), 8
#: Name of a side without pre-training.
SCRATCH = "from scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is done."""

    clips: int
    """Of the dataset."""
    lengths: tuple[int, ...]
    """Epochs of pre-training at which the encoder is tried; the last one is the whole run."""
    steps: int
    """Of a fine-tuning, at least."""
    epochs: int
    """Of a fine-tuning, at least."""
    fractions: tuple[float, ...] = FRACTIONS


FULL = Size(clips=5600, lengths=(30,), steps=420, epochs=16)
QUICK = Size(clips=320, lengths=(1, 2), steps=4, epochs=2, fractions=(0.1, 1.0))


def pretrained(data: Path, work: Path, seed: int, size: Size, changes: Sequence[str]) -> dict[str, Path]:
    """The checkpoints of one pre-training by the side that they make."""
    from vidkit.settings.plain import changed
    from vidkit.settings.recipes import RECIPES
    from vidkit.train import pretrain
    from vidkit.train.runs import RunFolder

    config = RECIPES["tiny"]().pretrain
    step = math.gcd(*size.lengths)
    config = replace(
        config,
        seed=seed,
        optim=replace(config.optim, epochs=size.lengths[-1]),
        log=replace(config.log, save_epochs=step, keep_epochs=step),
    )
    config = changed(config, changes)
    run = work / f"pretrain-seed{seed}"
    pretrain.run(config, data, run, resume=True, quiet=True)
    return {f"{epochs} epochs": RunFolder(run).epoch(epochs) for epochs in size.lengths}


def tuned(
    data: Path, out: Path, init: Path | None, *, rate: float, seed: int, fraction: float, size: Size
) -> dict[str, float]:
    """One fine-tuning: validation accuracy at its best epoch, and test accuracy with that epoch's weights."""
    from vidkit.settings.recipes import RECIPES
    from vidkit.train import evaluate, finetune

    recipe = RECIPES["tiny"]()
    labelled = max(CLASSES, round(fraction * size.clips * SHARES[0]))
    batch = min(24, labelled // 2)
    epochs = max(size.epochs, size.steps * batch // labelled)
    config = replace(
        recipe.finetune,
        seed=seed,
        optim=replace(
            recipe.finetune.optim, epochs=epochs, base_lr=rate, batch_size=batch, warmup_epochs=epochs / 12
        ),
        data=replace(recipe.finetune.data, label_fraction=None if fraction == 1 else fraction),
        val_epochs=max(1, epochs // 10),
    )
    shutil.rmtree(out, ignore_errors=True)
    started = time.process_time()
    summary = finetune.run(config, data, out, init=init, quiet=True)
    found = evaluate.run(data, out / "checkpoints/best.pt", split="test", views=recipe.test, workers=0, quiet=True)
    shutil.rmtree(out)
    seconds = time.process_time() - started
    return {"val": summary["best"], "test": found["top1"], "epochs": epochs, "cpu_seconds": round(seconds, 1)}


def probed(data: Path, checkpoint: Path, seed: int) -> dict[str, Any]:
    """Test accuracy of the probe, layer and read-out that do best on val: encoder, random weights of that seed's
    own beginning, and pixels.
    """
    from vidkit.settings.probe import ProbeConfig
    from vidkit.train.probe import run as probes

    config = ProbeConfig(probes=("knn", "ridge"), readouts=("mean", "slots", "slots-std"), seed=seed)
    how = probes.How(layers=None, workers=0, quiet=True, batch_size=32)
    found = probes.probe(data, checkpoint, config, how).to_plain()
    return {
        arm: {
            **{key: found[arm]["test"][key] for key in ("layer", "norm", "readout", "probe", "val")},
            "test": found[arm]["test"]["value"],
        }
        for arm in ("encoder", "random", "pixels")
    }


def run_all(data: Path, work: Path, seeds: int, size: Size, changes: Sequence[str]) -> common.Rows:
    """Everything that is not there yet, seed after seed."""
    rows = common.Rows(work / "rows.jsonl")
    best: dict[tuple[str, float], float] = {}
    for seed in range(seeds):
        sides: dict[str, Path | None] = {SCRATCH: None, **pretrained(data, work, seed, size, changes)}
        for side, init in sides.items():
            if init is not None:
                name = f"probe {side} seed {seed}"
                if rows.of(name) is None:
                    rows.add(name, {"side": side, "seed": seed, **probed(data, init, seed)})
        for fraction in size.fractions:
            for side, init in sides.items():
                # shorter pre-trainings take the rate of the whole one
                tuning = side if side == SCRATCH else f"{size.lengths[-1]} epochs"
                if (tuning, fraction) not in best:
                    tried = [
                        _run(rows, data, work, tuning, sides[tuning], fraction, 0, rate, size) for rate in RATES
                    ]
                    best[tuning, fraction] = max(tried, key=lambda row: row["val"])["rate"]
                _run(rows, data, work, side, init, fraction, seed, best[tuning, fraction], size)
    return rows


def _run(
    rows: common.Rows,
    data: Path,
    work: Path,
    side: str,
    init: Path | None,
    fraction: float,
    seed: int,
    rate: float,
    size: Size,
) -> dict[str, Any]:
    name = f"{side}, {fraction:g} of the labels, rate {rate:g}, seed {seed}"
    found = rows.of(name)
    if found is None:
        row = tuned(data, work / "finetune", init, rate=rate, seed=seed, fraction=fraction, size=size)
        found = rows.add(name, {"side": side, "fraction": fraction, "seed": seed, "rate": rate, **row})
    return found


# --- what it comes to ----------------------------------------------------------------------------


def shown(values: Sequence[float], sign: str = "") -> str:
    """Mean in percent, and half of its 95 % interval over seeds."""
    found = estimate(values)
    assert found is not None
    assert found.half is not None, "at least two seeds"
    return f"{100 * found.mean:{sign}.1f} ± {100 * found.half:.1f}"


def summary(rows: common.Rows, seeds: int, size: Size) -> dict[str, Any]:
    """For each share of labels: each side's test accuracies by seed, and the paired difference to scratch."""
    lengths = [f"{epochs} epochs" for epochs in size.lengths]
    fractions: dict[str, Any] = {}
    for fraction in size.fractions:
        sides = {}
        for side in (SCRATCH, *lengths):
            tuning = side if side == SCRATCH else lengths[-1]
            runs = [r for r in rows.found.values() if r.get("fraction") == fraction]
            tried = [r for r in runs if r["side"] == tuning and r["seed"] == 0]
            rate = max(tried, key=lambda row: row["val"])["rate"]
            chosen = sorted((r for r in runs if r["side"] == side and r["rate"] == rate), key=lambda r: r["seed"])
            sides[side] = {"rate": rate, "test": [run["test"] for run in chosen][:seeds]}
        fractions[f"{fraction:g}"] = sides
    probes = {
        f"{side}, {arm}": [rows.found[f"probe {side} seed {seed}"][arm]["test"] for seed in range(seeds)]
        for side in lengths
        for arm in ("encoder", "random", "pixels")
    }
    return {"fractions": fractions, "probes": probes}


def report(found: Mapping[str, Any]) -> str:
    """Two tables."""
    table = []
    for fraction, sides in found["fractions"].items():
        scratch = sides[SCRATCH]["test"]
        for side, runs in sides.items():
            row = [f"{100 * float(fraction):g} %", side, shown(runs["test"]), runs["rate"], ""]
            if side != SCRATCH:
                row[-1] = shown([one - other for one, other in zip(runs["test"], scratch, strict=True)], "+")
            table.append(row)
    probes = [[name, shown(values)] for name, values in found["probes"].items()]
    return "\n\n".join(
        [
            common.table(["labels", "pre-training", "test top-1, %", "rate", "less scratch, paired"], table),
            common.table(["frozen probe after", "test top-1, %"], probes),
        ]
    )


def main(
    quick: Annotated[bool, typer.Option(help="A few clips and epochs: does it work at all.")] = False,
    seeds: Annotated[int, typer.Option(min=2)] = 5,
    work: Annotated[Path | None, typer.Option(help="Data, runs and rows stay here; else temporary.")] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Of the pre-training's settings, as `vidkit pretrain --set`.")
    ] = None,
) -> None:
    size, seeds = (QUICK, 2) if quick else (FULL, seeds)
    folder = work or Path(tempfile.mkdtemp(prefix="vidkit-labels-"))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        data = generated(folder / f"data-{size.clips}", "motions", level=2, clips=size.clips, shares=SHARES)
        rows = run_all(data, folder, seeds, size, change or [])
    finally:
        if work is None:
            shutil.rmtree(folder)
    found = summary(rows, seeds, size)
    result = {
        "machine": common.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "clips": size.clips,
        "chance": 1 / CLASSES,
        "settings": change or [],
        "rates": RATES,
        "seconds": time.perf_counter() - started,
        "rows": list(rows.found.values()),
        **found,
    }
    print(report(found))
    print(f"wrote {common.write_result('label-fraction', result, results).name}")


if __name__ == "__main__":
    typer.run(main)

"""A pre-trained encoder against the same network from scratch, both fine-tuned with 10 % of the labels.

On generated clips of moving shapes. Both sides get the same tuning: the same rates are tried with one seed, the
one with the best validation accuracy is taken, and that is run with every seed. Accuracies are of the test split,
with 95 % intervals over the seeds (Student's t). Pre-training uses all training clips without labels, once.

    make label-fraction
    python -m benchmarks.label_fraction --quick          # does it work
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common

RATES = (1.2e-2, 2.4e-2, 4.8e-2)
FRACTION = 0.1
#: Student's t, two-sided 95 %, by the number of seeds
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def make_data(work: Path, clips: int) -> Path:
    """The demo dataset of `clips` clips, or the one that is there."""
    data = work / f"data-{clips}"
    if not data.exists():
        vidkit = common.program("vidkit")
        source = work / f"clips-{clips}"
        shutil.rmtree(source, ignore_errors=True)
        subprocess.run([*vidkit, "synth", "demo", "--out", source, "--clips", str(clips)], check=True)
        subprocess.run([*vidkit, "build-dataset", "demo", "--demo", source, "--out", data], check=True)
    return data


def pretrained(data: Path, work: Path, epochs: int) -> tuple[Path, dict[str, Any]]:
    from vidkit.settings.recipes import RECIPES
    from vidkit.train import pretrain

    config = RECIPES["tiny"]().pretrain
    config = replace(config, optim=replace(config.optim, epochs=epochs))
    summary = pretrain.run(config, data, work / "pretrain", resume=True)
    return work / "pretrain/checkpoints/last.pt", summary


def accuracy(data: Path, out: Path, init: Path | None, *, rate: float, seed: int, epochs: int) -> dict[str, float]:
    """Of one fine-tuning: validation at its best epoch, and the test split with that epoch's weights."""
    from vidkit.settings.recipes import RECIPES
    from vidkit.train import evaluate, finetune

    recipe = RECIPES["tiny"]()
    config = replace(
        recipe.finetune,
        seed=seed,
        optim=replace(recipe.finetune.optim, epochs=epochs, base_lr=rate, batch_size=24, warmup_epochs=epochs / 12),
        data=replace(recipe.finetune.data, label_fraction=FRACTION),
        val_epochs=max(1, epochs // 10),
    )
    summary = finetune.run(config, data, out, init=init, quiet=True)
    found = evaluate.run(data, out / "checkpoints/best.pt", split="test", views=recipe.test, workers=0, quiet=True)
    result = {"rate": rate, "seed": seed, "val_top1": summary["best"], "test_top1": found["top1"]}
    print(f"  {out.name}: {result}", file=sys.stderr)
    return result


def side(name: str, data: Path, work: Path, init: Path | None, seeds: int, epochs: int) -> dict[str, Any]:
    tried = [
        accuracy(data, work / f"{name}-rate{number}", init, rate=rate, seed=0, epochs=epochs)
        for number, rate in enumerate(RATES)
    ]
    best = max(tried, key=lambda run: run["val_top1"])
    runs = [best]
    for seed in range(1, seeds):
        runs.append(accuracy(data, work / f"{name}-seed{seed}", init, rate=best["rate"], seed=seed, epochs=epochs))
    values = [run["test_top1"] for run in runs]
    mean = sum(values) / seeds
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (seeds - 1))
    return {"tried": tried, "runs": runs, "mean": mean, "interval": T95[seeds] * spread / math.sqrt(seeds)}


def main(
    quick: Annotated[bool, typer.Option(help="A few clips and epochs: does it work at all.")] = False,
    clips: Annotated[int, typer.Option(help="Of the dataset; 70 % are for training.")] = 1200,
    seeds: Annotated[int, typer.Option(min=2, max=5)] = 3,
    work: Annotated[Path | None, typer.Option(help="Data and runs stay here; else temporary.")] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    clips, seeds, pre, epochs = (280, 2, 1, 2) if quick else (clips, seeds, 50, 120)
    folder = work or Path(tempfile.mkdtemp(prefix="vidkit-labels-"))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        data = make_data(folder, clips)
        init, summary = pretrained(data, folder, pre)
        sides = {"pre-trained": side("pretrained", data, folder, init, seeds, epochs)}
        sides["from scratch"] = side("scratch", data, folder, None, seeds, epochs)
    finally:
        if work is None:
            shutil.rmtree(folder)
    result = {
        "machine": common.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "clips": clips,
        "label_fraction": FRACTION,
        "chance": 1 / 12,
        "epochs": {"pretrain": pre, "finetune": epochs},
        "rates": RATES,
        "pretrain": summary,
        "sides": sides,
        "seconds": time.perf_counter() - started,
    }
    print(report(result))
    print(f"wrote {common.write_result('label-fraction', result, results).name}")


def report(result: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{100 * found['mean']:.1f} ± {100 * found['interval']:.1f}",
            found["runs"][0]["rate"],
            len(found["runs"]),
        ]
        for name, found in result["sides"].items()
    ]
    return common.table(["10 % of the labels", "test top-1, %", "rate chosen", "seeds"], rows)


if __name__ == "__main__":
    typer.run(main)

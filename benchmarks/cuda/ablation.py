"""A small ablation of masks, whole: pre-trained, fine-tuned and tested, on generated clips told by motion alone.

Four masks at ratios 0.90 and 0.95 with three seeds each, then at 0.80 and 0.98; every strategy sees the same number
of tokens and has the same budget. One seed of all masks comes before the next seed, so that whatever is done when
time runs out can be compared. Clips are read from the device's memory. It goes on where it was stopped, in short
pieces of time if need be (`--for-s`; it exits with 3 while cells are left), and everything but the table lies in
`--work`.

Beside the table: how often patches of the moving shape are visible, against all others, and what probability the
sampler gives them. Where the shape is, is known, as the clips are drawn.

    python -m benchmarks.cuda.ablation --work DIR --for-s 540
    python -m benchmarks.cuda.ablation --quick          # two cells of a tiny model; on a CPU as well
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks import common
from benchmarks.cuda.data import cores, motions
from benchmarks.cuda.tables import hardware
from vidkit.bench.ablate.cells import Job, Wanted, fitting, from_grid, plan
from vidkit.bench.ablate.run import run
from vidkit.bench.ablate.runner import Ablation
from vidkit.bench.measure import facts
from vidkit.bench.report.table import markdown, plain, read_results
from vidkit.bench.rows.schema import Row
from vidkit.cli.bench.asked import say
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.synth.clips import ClipLook
from vidkit.data.synth.motions import FPS, NAMES, places
from vidkit.files import save_whole
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import mask_generator
from vidkit.settings.ablation import Grid, MeasureConfig
from vidkit.settings.model import Strategy, ViTConfig
from vidkit.settings.plain import to_plain
from vidkit.settings.recipes import RECIPES, Recipe
from vidkit.settings.train import Cache
from vidkit.train.pictures import mask_picture
from vidkit.train.runs import RunFolder

MASKS: tuple[Strategy, ...] = ("adaptive", "tube", "random", "frame")
RATIOS = ((0.95, 0.90), (0.80, 0.98))
SEEDS = (0, 1, 2)

#: Points of a curve in the result.
POINTS = 60


def recipe(epochs: int, tune_epochs: int, cache: Cache, *, quick: bool) -> Recipe:
    """`small-64` over whole clips, without what would change a motion (flips are off in the dataset) or mix two."""
    base = RECIPES["tiny" if quick else "small-64"]()
    pretrain, finetune = base.pretrain, base.finetune
    data: dict[str, Any] = {"mode": "segments", "cache": cache, "workers": 0 if quick else min(8, cores())}
    return replace(
        base,
        pretrain=replace(
            pretrain,
            optim=replace(pretrain.optim, epochs=epochs, warmup_epochs=min(5, epochs / 2)),
            data=replace(pretrain.data, **data),
            log=replace(pretrain.log, every=20, save_epochs=max(1, epochs // 6)),
        ),
        finetune=replace(
            finetune,
            optim=replace(finetune.optim, epochs=tune_epochs, warmup_epochs=min(3, tune_epochs / 2)),
            data=replace(finetune.data, augment="none" if quick else "pretrain", **data),
            log=replace(finetune.log, every=20, save_epochs=max(1, tune_epochs // 4)),
            mixup=0.0,
            cutmix=0.0,
        ),
        test=replace(base.test, mode="segments", views=(1, 1), batch_size=32 if quick else 256),
    )


def wanted(how: Recipe, *, quick: bool) -> Iterator[Wanted]:
    """In the order in which cells are run."""
    if quick:
        yield from from_grid(Grid(masks=("adaptive", "random"), ratios=(0.9,), seeds=(0,)), how)
        return
    for ratios in RATIOS:
        for seed in SEEDS:
            for ratio in ratios:
                yield from from_grid(Grid(masks=MASKS, ratios=(ratio,), seeds=(seed,)), how)


# --- the moving shape ----------------------------------------------------------------------------


def moving_tokens(
    clip_id: str, frames: Sequence[int], length: int, vit: ViTConfig, seed: int
) -> np.ndarray[Any, Any]:
    """(T, H, W): which tokens of a generated clip the moving shape touches, in any frame of theirs.

    Args:
        clip_id: `motions/SPLIT/CLASS/NUMBER`.
        frames: numbers of the frames that the model sees.
        length: frames of the whole clip.
        seed: of the generated dataset.
    """
    name, number = clip_id.split("/")[-2:]
    look = ClipLook(class_index=NAMES.index(name), width=vit.size, height=vit.size, frames=length, fps=FPS)
    found = places(look, seed=seed, index=int(number))[list(frames)]
    time_, height, width = vit.grid
    edges = np.arange(height) * vit.patch, np.arange(width) * vit.patch
    touched: np.ndarray[Any, Any] = np.ones((len(found), height, width), bool)
    for t, (x, y, radius) in enumerate(found):
        # the nearest point of each patch to the centre, in a picture whose edges join
        away = []
        for edge, centre in zip(edges, (y, x), strict=True):
            offset = (centre - (edge + vit.patch / 2) + vit.size / 2) % vit.size - vit.size / 2
            away.append(np.maximum(np.abs(offset) - vit.patch / 2, 0))
        touched[t] = np.hypot(away[0][:, None], away[1]) < radius
    return np.asarray(touched.reshape(time_, vit.tubelet, height, width).any(axis=1))


@torch.no_grad()
def on_the_mover(checkpoint: Path, data: Path, clips: int, device: str, seed: int = 0) -> dict[str, float]:
    """How a pre-trained model's masks treat the moving shape, over clips of the test split.

    `visible_over_chance`: the share of the mover's tokens that are visible, over that of all tokens.
    `probability_over_uniform`: of the mover's tokens, and of the others; only where there is a sampler.
    """
    loaded = checkpoints.load(checkpoint)
    model: Any = checkpoints.build(loaded)
    assert isinstance(model, AdaMAE)
    model.to(device)
    vit = model.config.encoder
    mode: Any = loaded.facts["mode"]
    dataset = ClipDataset(
        data, "test", frames=vit.frames, stride=loaded.facts["stride"], mode=mode, training=False, size=vit.size
    )
    shown, moving, likely = [], [], []
    for i in np.linspace(0, len(dataset) - 1, min(clips, len(dataset))).astype(int).tolist():
        sample = dataset[i]
        seen = model.predict(sample.video.to(device), mask_generator(seed, i, 0, device))
        shown.append(seen.visible[0].cpu().numpy())
        length = int(dataset.clips.frames[i])
        moving.append(moving_tokens(str(dataset.clips.clip_id[i]), sample.frames[0].tolist(), length, vit, seed))
        if seen.probability is not None:
            likely.append(seen.probability[0].cpu().numpy() * vit.tokens)
    on, visible = np.stack(moving), np.stack(shown)
    found = {"clips": len(on), "mover_share": on.mean(), "visible_over_chance": visible[on].mean() / visible.mean()}
    if likely:
        probability = np.stack(likely)
        found["mover_probability_over_uniform"] = probability[on].mean()
        found["other_probability_over_uniform"] = probability[~on].mean()
    return {name: round(float(value), 4) for name, value in found.items()}


# --- a run ---------------------------------------------------------------------------------------


def curve(folder: Path) -> dict[str, list[float]]:
    """What a pre-training logged, thinned out."""
    rows = [row for row in RunFolder(folder).rows() if "loss" in row]
    rows = rows[:: max(1, -(-len(rows) // POINTS))]
    names = ("epoch", "reconstruction_loss", "sampler_entropy", "motion_overlap", "clips_per_s", "data_wait")
    return {name: [round(row[name], 5) for row in rows] for name in names if rows and name in rows[0]}


def looked_at(row: Row, job: Job, work: Path, data: Path, device: str, clips: int) -> dict[str, Any]:
    """A cell's curve, its masks on the moving shape and, for the first seed of a trained sampler, a picture.

    Kept in a file of its own, so that it outlives the checkpoints.
    """
    kept = work / "seen" / f"{job.planned.config_hash}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    cell, folder = job.planned.in_grid.settings, work / "ablation" / row.runs["pretrain"]
    found = {
        "run": f"{cell.mask} {cell.ratio:g} seed {cell.seed}",
        "curve": curve(folder),
        "mover": on_the_mover(RunFolder(folder).last, data, clips, device),
    }
    if cell.mask == "adaptive" and cell.seed == 0:
        picture = work / "seen" / f"masks-{cell.ratio:g}.png"
        mask_picture(RunFolder(folder).last, picture, data=data, split="test", clips=6, device=device)
    save_whole(kept, json.dumps(found, indent=1) + "\n")
    return found


def slimmed(row: Row, work: Path) -> None:
    """Leave of a finished cell what its rows and curves need: logs and settings, not its weights."""
    for run_folder in (row.runs["pretrain"], row.runs["finetune"]):
        shutil.rmtree(work / "ablation" / run_folder / "checkpoints", ignore_errors=True)


def main(
    work: Annotated[
        Path | None, typer.Option(help="Clips, dataset and runs; kept from one call to the next.")
    ] = None,
    clips: Annotated[
        int, typer.Option(help="Generated clips, a part of them for training: 70 %.", min=40)
    ] = 12_000,
    classes: Annotated[int, typer.Option(min=2, max=len(NAMES))] = 40,
    epochs: Annotated[int, typer.Option(help="Of pre-training.", min=1)] = 60,
    tune_epochs: Annotated[int, typer.Option(help="Of fine-tuning.", min=1)] = 30,
    cache: Annotated[str, typer.Option(help="device, host or none")] = "device",
    for_s: Annotated[float | None, typer.Option(help="Stop after so many seconds; --work is kept.")] = None,
    slim: Annotated[
        bool, typer.Option(help="Delete the weights of finished cells, so that --work is small.")
    ] = False,
    quick: Annotated[bool, typer.Option(help="Two cells of a tiny model.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        raise SystemExit("torch sees no CUDA device\n  -> --quick runs two cells of a tiny model on a CPU")
    if work is None and not quick:
        raise SystemExit("nothing could be gone on with\n  -> name a folder by --work")
    if quick:
        clips, classes, epochs, tune_epochs = 120, 3, 2, 2
    # as the command line does: a stop is a Ctrl-C, after which a run leaves a checkpoint
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    alarm = threading.Timer(for_s or 0, os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    if for_s is not None:
        alarm.start()
    caching: Any = cache
    how = recipe(epochs, tune_epochs, caching, quick=quick)
    cells = tuple(wanted(how, quick=quick))
    how = fitting(cells, how)  # the same patches for all cells, small enough for the largest ratio
    jobs = plan(cells, how, recipe_name="tiny" if quick else "small-64")
    with tempfile.TemporaryDirectory() as spare:
        work = work or Path(spare)
        seen: list[dict[str, Any]] = []
        failed: list[str] = []
        stopped = False
        try:
            data = motions(work, clips, classes)
            for number, job in enumerate(jobs, start=1):
                row = cell(job, f"cell {number} of {len(jobs)}", data, work, device, quick=quick)
                if row.status == "ok":
                    seen.append(looked_at(row, job, work, data, device, 12 if quick else 400))
                    if slim:
                        slimmed(row, work)
                else:
                    failed.append(str(row.reason))
        except KeyboardInterrupt:
            print("stopped; go on with the same command", file=sys.stderr)
            stopped = True
        finally:
            alarm.cancel()
        if seen:
            about = {"clips": clips, "classes": classes, "recipe": to_plain(how), "cells_planned": len(jobs)}
            write(about, seen, failed, work, results)
    raise typer.Exit(3 if stopped else int(bool(failed)))


def cell(job: Job, number: str, data: Path, work: Path, device: str, *, quick: bool) -> Row:
    """One cell, or its row of an earlier call."""
    measure = MeasureConfig(batch=16, steps=5 if device == "cuda" else 0)
    ablation = Ablation(jobs=(job,), data=data, out=work / "ablation", split="test", measure=measure)
    (row,) = run(ablation, resume=True, quiet=quick, tell=lambda words: say(words.replace("cell 1 of 1", number)))
    return row


def write(
    about: Mapping[str, Any], seen: Sequence[dict[str, Any]], failed: Sequence[str], work: Path, results: Path
) -> None:
    """The table on stdout, and the result's file: of what is done so far."""
    found = read_results([work / "ablation"])
    print(markdown(found))
    header = ["run", "mover visible / chance", "p(mover) N", "p(other) N"]
    print(common.table(header, [_line(one) for one in seen]))
    result = {
        "theme": "cuda-ablation",
        "date": time.strftime("%Y-%m-%d"),
        "machine": common.machine(),
        "device": facts.accelerator() or {"name": "cpu"},
        "versions": facts.versions(),
        **about,
        "table": plain(found)["lines"],
        "cells": list(seen),
        "failed": list(failed),
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"cuda-ablation-{hardware()}-{time.strftime('%Y-%m-%d')}.json"
    save_whole(path, json.dumps(result, indent=1) + "\n")
    print(f"wrote {path.name}; pages: vidkit report DIR --html FILE, of the folder `ablation`", file=sys.stderr)


def _line(seen: Mapping[str, Any]) -> list[object]:
    mover = seen["mover"]
    return [
        seen["run"],
        mover["visible_over_chance"],
        mover.get("mover_probability_over_uniform", ""),
        mover.get("other_probability_over_uniform", ""),
    ]


if __name__ == "__main__":
    typer.run(main)

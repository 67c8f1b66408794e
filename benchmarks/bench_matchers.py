"""Few-shot episodes from cached features: CPU time of 10,000 of them, for every learner that compares clips.

Features are random numbers of the size that an encoder gives (2,400 clips of 8 steps x 768, as in the test part of
SSv2-Small). Drawing the episodes is measured too, once. CPU time counts all threads: half of it is what two cores
need at best.

    python -m benchmarks.bench_matchers             # some minutes
    python -m benchmarks.bench_matchers --quick     # does it work at all
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks import common
from vidkit.fewshot.episodes.draw import EpisodeSettings, draw_episodes
from vidkit.fewshot.episodes.pool import EpisodePool
from vidkit.fewshot.learners.table import LEARNERS
from vidkit.fewshot.learners.training import EpisodeRows, predict_all, stack
from vidkit.fewshot.learners.trx import TrxLearner
from vidkit.settings.fewshot import FewshotConfig

CLASSES, CLIPS, STEPS, WIDTH = 24, 100, 8, 768
NAMES = ("proto", "nn", "linear", "simpleshot", "cosine", "diagonal", "chamfer", "otam", "baseline++", "trx")
LIMIT_S = 120.0


def pool(settings: EpisodeSettings) -> EpisodePool[EpisodeSettings]:
    """24 classes of 100 clips, each of a video of its own; there is no dataset behind them."""
    members = {i: np.arange(i * CLIPS, (i + 1) * CLIPS) for i in range(CLASSES)}
    return EpisodePool(
        clips=cast(Any, None),
        settings=settings,
        split=None,
        meta_split=None,
        classes=tuple(str(i) for i in members),
        usable=np.arange(CLASSES),
        unusable=(),
        members=members,
        group=list(range(CLASSES * CLIPS)),
        sizes={i: dict.fromkeys(rows.tolist(), 1) for i, rows in members.items()},
    )


def learner_of(name: str, config: FewshotConfig) -> Any:
    made: Any = LEARNERS[name](config)  # type: ignore[index]
    if isinstance(made, TrxLearner):  # its weights' values change no time
        made.model = made.make((STEPS, WIDTH), torch.Generator().manual_seed(0))
    return made


def timed(name: str, features: Tensor, rows: EpisodeRows, shot: int) -> dict[str, Any]:
    learner = learner_of(name, FewshotConfig(shot=shot, query=1))
    table = features.flatten(1) if name in ("proto", "nn", "linear") else features
    cpu, wall = time.process_time(), time.perf_counter()
    guesses = predict_all(learner, table, rows)
    found = {"cpu_s": round(time.process_time() - cpu, 2), "seconds": round(time.perf_counter() - wall, 2)}
    return {"learner": name, "shot": shot, "episodes": len(guesses), **found}


def main(
    episodes: Annotated[int, typer.Option(help="Of each learner and shot.")] = 10_000,
    quick: Annotated[bool, typer.Option(help="40 episodes.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    count = 40 if quick else episodes
    features = torch.randn(CLASSES * CLIPS, STEPS, WIDTH, generator=torch.Generator().manual_seed(0))
    runs, drawing = [], {}
    for shot in (1, 5):
        cpu = time.process_time()
        rows = stack(draw_episodes(pool(EpisodeSettings(shot=shot, query=1)), count))
        drawing[f"{shot}-shot"] = round(time.process_time() - cpu, 2)
        runs += [timed(name, features, rows, shot) for name in NAMES]
    by = {(run["learner"], run["shot"]): run for run in runs}
    print(common.table(
        ["learner", "1-shot, CPU s", "5-shot, CPU s"],
        [[name, *(float(by[name, shot]["cpu_s"]) for shot in (1, 5))] for name in NAMES],
    ))  # fmt: skip
    slow = [f"{run['learner']} {run['shot']}-shot" for run in runs if run["cpu_s"] > 2 * LIMIT_S]
    shape = {"clips": CLASSES * CLIPS, "steps": STEPS, "width": WIDTH, "way": 5, "queries a class": 1}
    result = {"features": shape, "episodes": count, "drawing_cpu_s": drawing, "runs": runs, "over_limit": slow}
    common.write_result("matchers", result, results)


if __name__ == "__main__":
    typer.run(main)

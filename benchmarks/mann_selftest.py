"""The long self-test of the memory-augmented network, beside the published figures.

A MANN, an LSTM of equal size and nearest neighbour in pixels on generated stroke characters: 5-way, 10 instances of
each class, on characters that no training saw. The published column is Santoro et al. 2016, Table 1, on Omniglot:
other characters and far more training, so it is the shape that can be compared.

    make mann-selftest
    python -m benchmarks.mann_selftest --quick          # does it work
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common

#: Per cent correct by instance number on Omniglot.
PUBLISHED = {
    "mann": {1: 36.4, 2: 82.8, 3: 91.0, 4: 92.6, 5: 94.9, 10: 98.1},
    "lstm": {1: 24.4, 2: 49.5, 3: 55.3, 4: 61.0, 5: 63.6, 10: 62.5},
}
LEARNERS = ("mann", "lstm", "pixels")
#: Student's t, two-sided 95 %, by the number of seeds
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def one_seed(seed: int, preset: str, work: Path | None) -> dict[str, Any]:
    """Of the folder `work`, where an earlier run has left it there."""
    from vidkit.fewshot.selftest import run as selftest

    kept = None if work is None else work / f"{preset}-{seed}.json"
    if kept is not None and kept.exists():
        earlier: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return earlier

    def told(progress: Any) -> None:
        if progress.step % max(1, progress.steps // 10) == 0:
            words = f"seed {seed}, {progress.learner}: step {progress.step:,} of {progress.steps:,}"
            print(f"  {words}, loss {progress.loss:.3f}", file=sys.stderr)

    result = selftest.run(preset, seed=seed, device="cpu", progress=told)
    print(selftest.table(result), file=sys.stderr)
    found: dict[str, Any] = json.loads(selftest.to_json(result))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def accuracies(found: dict[str, Any], learner: str) -> list[float]:
    """In per cent, by instance number."""
    return [100 * row["accuracy"] for row in found["rows"] if row["learner"] == learner]


def said(values: Sequence[float]) -> str:
    """Mean, and half of the 95 % interval over seeds where there are several."""
    mean = statistics.fmean(values)
    if len(values) not in T95:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values)):.1f}"


def report(runs: Sequence[dict[str, Any]]) -> str:
    by_learner = {name: list(zip(*(accuracies(run, name) for run in runs), strict=True)) for name in LEARNERS}
    rows = []
    for instance in range(1, len(by_learner["mann"]) + 1):
        ours = [said(by_learner[name][instance - 1]) for name in LEARNERS]
        quoted = [str(PUBLISHED[name].get(instance, "")) for name in ("mann", "lstm")]
        rows.append([instance, *ours, *quoted])
    header = ["instance", "MANN", "LSTM", "nearest in pixels", "MANN, published", "LSTM, published"]
    return common.table(header, rows)


def main(
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated; by default 0.")] = None,
    quick: Annotated[bool, typer.Option(help="The smaller task, as in the tests.")] = False,
    work: Annotated[Path | None, typer.Option(help="Keep what a seed gave here, and go on from it.")] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    import torch

    started = time.perf_counter()
    runs = [one_seed(number, "quick" if quick else "full", work) for number in seed or [0]]
    print(report(runs))
    result = {
        "threads": torch.get_num_threads(),
        "chance": 100 / 5,
        "published": PUBLISHED,
        "runs": runs,
        "seconds": time.perf_counter() - started,
    }
    common.write_result("mann-selftest", result, results)
    faults = [fault for run in runs for fault in run["faults"]]
    if faults:
        raise SystemExit("goal missed: " + "; ".join(faults))


if __name__ == "__main__":
    typer.run(main)

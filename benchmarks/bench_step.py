"""Steps of pre-training on a CPU: the `tiny` recipe's before and after a change, and what smaller decoders save.

Each contender is a process of its own that takes a few steps (forward, backward, AdamW, float32) on clips made of
noise, laid out as the loader gives them; contenders take turns. CPU time of the steps alone, and the peak memory of
the process.

    python -m benchmarks.bench_step --before 0d53b06        # against an earlier commit of this repository
    python -m benchmarks.bench_step --decoders              # ViT-B at 95 %: smaller decoders
    python -m benchmarks.bench_step --quick                 # does it work at all
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common

ROOT = Path(__file__).parents[1]

#: Changes of the decoder: all targets as today, half of them, and mask tokens that attend to visible ones alone.
DECODERS: dict[str, dict[str, Any]] = {
    "self, all targets": {},
    "self, half of the targets": {"targets": "random", "target_ratio": 0.5},
    "cross, a quarter of the targets": {"targets": "random", "target_ratio": 0.25, "kind": "cross"},
}


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Take the steps of one contender. Imports whatever vidkit PYTHONPATH has: older ones lack some of it."""
    import resource

    import torch

    from vidkit.models.adamae import AdaMAE
    from vidkit.settings import model as sizes
    from vidkit.train import setup

    if hasattr(setup, "keep_freed_memory"):
        setup.keep_freed_memory()
    if job.get("onednn") is False:
        from vidkit.models import products

        products.onednn_is_faster = lambda: False  # type: ignore[assignment]
    config = sizes.SIZES[job["size"]]()
    mask = {name: job[name] for name in ("strategy", "ratio", "targets", "target_ratio") if name in job}
    config = replace(config, mask=replace(config.mask, **mask))
    if "kind" in job:
        config = replace(config, decoder=replace(config.decoder, kind=job["kind"]))
    model = AdaMAE(config, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    vit = config.encoder
    torch.manual_seed(0)
    shape = (job["batch"], vit.frames, vit.size, vit.size, vit.channels)
    video = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    losses = []
    for step in range(job["warm"] + job["steps"]):
        if step == job["warm"]:
            started, wall = time.process_time(), time.perf_counter()
        loss = model(video, torch.Generator().manual_seed(step)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {
        "cpu_ms": (time.process_time() - started) / job["steps"] * 1e3,
        "ms": (time.perf_counter() - wall) / job["steps"] * 1e3,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": losses[:3],
    }


def contender(root: Path, job: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    """A process that imports the vidkit of `root`."""

    def run(turn: int) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(ROOT)])},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


def before_and_after(commit: str, rounds: int, steps: int) -> dict[str, Any]:
    job = {"size": "tiny", "batch": 32, "warm": 3, "steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        old = common.checkout(commit, Path(folder) / "before")
        runs = common.take_turns(
            {
                "before": contender(old, job),
                "after": contender(ROOT, job),
                "after, products by MKL": contender(ROOT, {**job, "onednn": False}),
            },
            rounds,
            said="tiny",
        )
    return {"before": commit, "job": job, "runs": runs, **compared(runs, "before")}


def decoders(size: str, batch: int, rounds: int, steps: int) -> dict[str, Any]:
    job = {"size": size, "batch": batch, "warm": 1, "steps": steps, "strategy": "random", "ratio": 0.95}
    contenders = {name: contender(ROOT, {**job, **changes}) for name, changes in DECODERS.items()}
    runs = common.take_turns(contenders, rounds, said=size)
    return {"job": job, "runs": runs, **compared(runs, next(iter(DECODERS)))}


def compared(runs: dict[str, list[dict[str, Any]]], first: str) -> dict[str, Any]:
    """How many times as fast as the first, turn by turn, and medians."""
    times = {name: [run["cpu_ms"] for run in found] for name, found in runs.items()}
    return {
        "cpu_ms": {name: common.median(values) for name, values in times.items()},
        "peak_mb": {name: common.median([run["peak_mb"] for run in found]) for name, found in runs.items()},
        "times_as_fast": {name: common.ratios(times[first], values) for name, values in times.items()},
    }


def report(found: dict[str, Any]) -> str:
    rows = [
        [name, found["cpu_ms"][name], found["times_as_fast"][name]["median"], found["peak_mb"][name]]
        for name in found["cpu_ms"]
    ]
    return common.table(["step", "CPU ms", "times as fast", "peak MB"], rows)


def main(
    before: Annotated[str | None, typer.Option(metavar="COMMIT", help="Compare `tiny` with this commit.")] = None,
    with_decoders: Annotated[bool, typer.Option("--decoders", help="ViT-B with smaller decoders.")] = False,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option(help="Few steps of small models: does it work at all.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
    job: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    if job is not None:
        print(json.dumps(work(json.loads(job))))
        return
    result: dict[str, Any] = {"threads": os.environ.get("OMP_NUM_THREADS")}
    if before is not None:
        result["tiny"] = before_and_after(before, 1 if quick else rounds, 2 if quick else 30)
    if with_decoders or quick:
        result["decoders"] = decoders(*("tiny", 2, 1, 1) if quick else ("vit-base", 2, rounds, 2))
    parts = [part for part in ("tiny", "decoders") if part in result]
    if not parts:
        raise SystemExit("nothing to measure: give --before COMMIT, --decoders, or both")
    print("\n\n".join(report(result[part]) for part in parts))
    common.write_result("step", result, results)


if __name__ == "__main__":
    typer.run(main)

"""A pre-training step of AdaMAE on the CPU: vidkit against the released model and the written-out reference.

ViT-B, 4 clips of 16x224x224, float32: forward, backward, AdamW. Each contender runs in a process of its own, which
imports what it needs, makes a model and takes a few whole steps; its memory is the highest resident memory of that
process, imports and all. First, all contenders compute the loss and its gradients of the same clips with the same
weights and the same mask: it stops where they differ.

The released code is not part of this repository. `--released` names a checkout, or a bare clone, of
github.com/wgcban/adamae; without one that contender is left out, and the reference, which costs about as much,
stands for it.

    python -m benchmarks.bench_pretrain --released DIR    # about six minutes on two quiet cores
    python -m benchmarks.bench_pretrain --contenders "vidkit, plain;vidkit;vidkit, full" --theme pretrain-options
    python -m benchmarks.bench_pretrain --quick           # does it work at all
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common

#: What is measured unless --contenders says otherwise; `pretrain_steps` knows more.
USUAL = ("released", "reference", "vidkit, plain", "vidkit")
OURS = "vidkit"
OPPONENTS = ("released", "reference")

#: At least so many times faster, with at most this share of the memory.
FASTER, LEANER = 1.5, 0.5

#: Relative difference of losses and of gradient norms that float32 sums in another order may make.
CLOSE = 1e-4


def released_tree(path: Path, work: Path) -> tuple[Path, str | None]:
    """(a folder with the released code, its commit), from a checkout or a bare clone.

    Raises:
        SystemExit: it is neither.
    """
    code = Path("models/pretrain/vit.py")
    if (path / code).exists():
        return path.resolve(), _git(path, "rev-parse", "HEAD")
    commit = _git(path, "rev-parse", "HEAD")
    packed = subprocess.run(["git", "-C", path, "archive", "HEAD", "models"], capture_output=True, check=False)
    if packed.returncode:
        raise SystemExit(f"{path}: neither a checkout nor a clone of the released code (no {code})")
    tree = work / "released"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree, commit


def _git(path: Path, *words: str) -> str | None:
    found = subprocess.run(["git", "-C", path, *words], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The row of a job in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.parts.pretrain_steps", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job['contender']} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def timed(job: dict[str, Any]) -> dict[str, Any]:
    load = os.getloadavg()[0]
    row = run(job)
    return {"step_s": common.median(row["seconds"]), "load": round(load, 2), **row}


def check_parity(found: dict[str, dict[str, float]]) -> None:
    """Raises SystemExit where a contender computes something else."""
    expected = found[next(iter(found))]
    for name, figures in found.items():
        for what, value in figures.items():
            if not abs(value - expected[what]) <= CLOSE * abs(expected[what]):
                raise SystemExit(f"{name}: {what} is {value}, not {expected[what]} as with {next(iter(found))}")


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians by contender, and vidkit's ratios to each other contender, turn by turn."""
    ours = runs[OURS]
    others = [name for name in runs if name != OURS]

    def values(rows: list[dict[str, Any]], key: str) -> list[float]:
        return [row[key] for row in rows]

    return {
        "medians": {
            name: {key: round(common.median(values(rows, key)), 3) for key in ("step_s", "peak_gb", "imports_gb")}
            for name, rows in runs.items()
        },
        "speed_over": {
            name: common.ratios(values(runs[name], "step_s"), values(ours, "step_s")) for name in others
        },
        "memory_of": {
            name: common.ratios(values(ours, "peak_gb"), values(runs[name], "peak_gb")) for name in others
        },
    }


def report(found: dict[str, Any], parity: dict[str, dict[str, float]], *, targets: bool) -> str:
    rows = []
    for name, medians in found["medians"].items():
        speed, share = (found[key].get(name, {}).get("median", "") for key in ("speed_over", "memory_of"))
        figures = parity.get(name, {})
        same = [f"{figures[key]:.6f}" if figures else "" for key in ("loss", "gradient_norm")]
        rows.append((name, medians["step_s"], medians["peak_gb"], speed, share, *same))
    header = ("by", "s/step", "peak GB", "vidkit is faster by", "vidkit's share of memory", "loss", "gradient norm")
    lines = [common.table(header, rows)]
    for name in OPPONENTS:
        if targets and name in found["speed_over"]:
            speed, share = found["speed_over"][name]["median"], found["memory_of"][name]["median"]
            met = "met" if speed >= FASTER and share <= LEANER else "NOT met"
            lines.append(f"at least {FASTER} times as fast as {name}, at most {LEANER} of its memory: {met}")
    return "\n".join(lines)


def main(
    released: Annotated[
        Path | None,
        typer.Option(help="Checkout or bare clone of the released code.", envvar="VIDKIT_RELEASED_ADAMAE"),
    ] = None,
    contenders: Annotated[str, typer.Option(help="Separated by semicolons.")] = ";".join(USUAL),
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    steps: Annotated[int, typer.Option(help="Measured in each process, after a first one.", min=1)] = 4,
    batch: Annotated[int, typer.Option(help="Clips.", min=1)] = 4,
    threads: Annotated[int, typer.Option(help="0: as many as there are cores.", min=0)] = 0,
    quick: Annotated[bool, typer.Option(help="A tiny model, one round.")] = False,
    theme: Annotated[str, typer.Option(help="First part of the result file's name.")] = "pretrain",
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    names = contenders.split(";")
    if released is None:
        names = [name for name in names if not name.startswith("released")]
        print("no --released folder: the released model is left out", file=sys.stderr)
    if OURS not in names:
        raise SystemExit(f"without {OURS!r} there is nothing to compare")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as work:
        tree, commit = (None, None) if released is None else released_tree(released, Path(work))
        job = {
            "size": "quick" if quick else "vit-base",
            "batch": batch,
            "steps": 1 if quick else steps,
            "threads": threads or cores,
            "released": None if tree is None else os.fspath(tree),
            "work": work,
        }
        parity = run({**job, "contender": "parity"})
        check_parity(parity)
        turns = {name: lambda turn, n=name: timed({**job, "contender": n}) for name in names}
        runs = common.take_turns(turns, 1 if quick else rounds, said="pre-training step")  # type: ignore[arg-type]
    found = summary(runs)
    print(report(found, parity, targets=not quick))
    about = {key: job[key] for key in ("size", "batch", "steps", "threads")}
    from vidkit.bench.measure.facts import versions

    facts = {**about, "released_commit": commit, "versions": versions(), "parity": parity}
    common.write_result(theme, {**facts, **found, "runs": runs}, results)


if __name__ == "__main__":
    typer.run(main)

"""Who makes the shards: `local` as it was and as it is, and Ray on two nodes with a processor each, in turns.

The whole command counts, from its start to a finished dataset; a cluster runs already, as clusters do. What a start
costs is measured in each round too, by a build of two clips, and ratios are given with and without it. All of them
must come to the same bytes.

Then what the driver of a cluster costs: plans of many shards that hold one empty file each, so that nearly all the
time is the driver's and the disk's.

    python -m benchmarks.bench_executors --before 0d53b06    # five minutes on two idle cores
    python -m benchmarks.bench_executors --times 3           # three times the clips: ten minutes
    python -m benchmarks.bench_executors --part driver --shards 1000 --shards 2000 --shards 4000
    python -m benchmarks.bench_executors --part cells        # two cells of an ablation, at a time and in turn
    python -m benchmarks.bench_executors --quick             # does it work at all

A cluster of its own is started for it, unless `--ray-address` names one that runs on this machine: then the CPU
time of its processes is counted as long as they descend from its raylets and GCS.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from benchmarks.bench_build import JOBS, MIX, WORKERS, vidkit_command
from benchmarks.parts.sources import make_sources

ROOT = Path(__file__).parents[1]

#: Clips of each source in a round.
CLIPS = {"kinetics": 200, "tinyvirat": 1000}
FEW = 2

SHARDS = (2_500, 5_000, 10_000)


def program(code: Path) -> list[str]:
    """vidkit of a checkout."""
    return ["env", f"PYTHONPATH={code}", sys.executable, "-m", "vidkit"]


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster on this machine: its address, and the processes that all others of it descend from."""

    address: str
    roots: list[int]


def there_already(address: str) -> Running:
    """A cluster that somebody started here."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().partition(b"\0")[0].endswith(PROGRAMS):
                found.append(int(entry.name))
    if not found:
        raise SystemExit("--ray-address: no process of Ray runs on this machine")
    return Running(address, found)


#: Of Ray, on each node and on the head.
PROGRAMS = (b"/raylet", b"/gcs_server")


@contextmanager
def cluster() -> Iterator[Running]:
    """A head without processors and a node with one for each worker."""
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.fspath(ROOT)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # by default Ray's workers are at niceness 15, and would wait for whatever else runs here
    os.environ.update({"RAY_worker_niceness": "0"})
    small = {"object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(10):  # Ray gives up on a node that takes 30 s to start
        if len(made.worker_nodes) < WORKERS:
            with suppress(Exception):
                made.add_node(num_cpus=1, **small)
    nodes = [made.head_node, *made.worker_nodes]
    roots = [p.process.pid for node in nodes for found in node.all_processes.values() for p in found]
    try:
        yield Running(made.address, roots)
    finally:
        made.shutdown()


class ClusterUse:
    """CPU seconds of a cluster's processes, sampled: what one takes after its last sample is lost."""

    EVERY_S = 0.5  # every tenth of a second, looking took 3 % of what was left for the build

    def __init__(self, made: Running) -> None:
        self._roots = made.roots
        self._seen: dict[int, int] = {}
        self._done = threading.Event()
        self._before = sum(self._look().values())
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _look(self) -> dict[int, int]:
        for pid in _tree(self._roots):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            self._seen[pid] = int(fields[11]) + int(fields[12])
        return self._seen

    def _watch(self) -> None:
        while not self._done.wait(self.EVERY_S):
            self._look()

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return (sum(self._look().values()) - self._before) / os.sysconf("SC_CLK_TCK")


def _tree(roots: list[int]) -> set[int]:
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid in found:
            continue
        found.add(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def measured(command: list[Any], made: Running | None) -> dict[str, Any]:
    """What a command takes, and its cluster with it."""
    use = ClusterUse(made) if made is not None else None
    row = common.measure(command).row()
    if use is not None:
        row["driver_cpu_s"], row["cpu_s"] = row["cpu_s"], round(row["cpu_s"] + use.stop(), 4)
    return row


def build(command: list[str], out: Path, clips: int, made: Running | None = None) -> dict[str, Any]:
    """Seconds and CPU time of one build, its cluster's included, and a checksum over all that it wrote."""
    row = measured([*command, "--out", out], made)
    digest = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.name != ".lock":
            digest.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    from vidkit.data.dataset import open_dataset

    rows = open_dataset(out).ledger().num_rows
    shutil.rmtree(out)
    if rows != clips:
        raise SystemExit(f"{rows} clips were built, not {clips}")
    return {**row, "sha256": digest.hexdigest()[:16]}


# --- the same build by each ---------------------------------------------------------------------------


def measure_source(
    source: str, work: Path, rounds: int, clips: int, before: Path | None, made: Running
) -> dict[str, Any]:
    """Rounds of all contenders on one source."""
    job = JOBS[source]
    folder = work / f"{source}-{clips}"
    make_sources(job.source, folder, clips=clips, distinct=min(8, clips), real=False, workers=WORKERS)
    common.warm(folder)
    words = vidkit_command(job, folder, work / "bench.toml", clips)[len(common.program("vidkit")) :]
    few = min(FEW, clips)
    start = ["--limit", str(few), "--clips-per-shard", "1"]
    ray = ["--executor", "ray", "--ray-address", made.address]
    out = work / "out"
    ways: dict[str, tuple[list[str], Running | None]] = {"local": ([*program(ROOT), *words], None)}
    if before is not None:
        ways["local before"] = ([*program(before), *words], None)
    ways["ray"] = ([*program(ROOT), *words, *ray], made)
    contenders: dict[str, Callable[[int], dict[str, Any]]] = {}
    for name, (command, on) in ways.items():
        contenders[name] = lambda turn, c=command, o=on: build(c, out, clips, o)  # type: ignore[misc]
        contenders[f"{name}, 2 clips"] = lambda turn, c=command, o=on: build([*c, *start], out, few, o)  # type: ignore[misc]
    runs = common.take_turns(contenders, rounds, said=source)
    for name in ways:
        if {run["sha256"] for run in runs[name]} != {runs["local"][0]["sha256"]}:
            if name != "local before":
                raise SystemExit(f"{source}: {name} wrote other bytes than local")
            print(f"{source}: local before wrote other bytes: another version of vidkit?", file=sys.stderr)
    return {"title": job.title, "clips": clips, "runs": runs, "few": few}


def compared(found: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    """Ratios on the composite mix, turn by turn: others' cost over local's, above 1 where local is cheaper.

    Args:
        key: "seconds" or "cpu_s".
    """

    def costs(name: str, *, bare: bool) -> list[float]:
        """Of all clips of the mix; `bare`: beyond a build of two clips."""
        total: list[float] = []
        for source, result in found.items():
            each = [run[key] for run in result["runs"][name]]
            if bare:
                first = [run[key] for run in result["runs"][f"{name}, 2 clips"]]
                each = [a - b for a, b in zip(each, first, strict=True)]
            clips = result["clips"] - (result["few"] if bare else 0)
            share = [MIX[source] * cost / max(1, clips) for cost in each]
            total = [a + b for a, b in zip(total, share, strict=True)] if total else share
        return total

    names = [name for name in next(iter(found.values()))["runs"] if not name.endswith("2 clips")]
    every = sum(MIX.values())
    return {
        name: {
            "clips_per_unit": round(every / common.median(costs(name, bare=False)), 3),
            "clips_per_unit_without_start_up": round(every / common.median(costs(name, bare=True)), 3),
            "local_over_it": common.ratios(costs("local", bare=False), costs(name, bare=False)),
            "local_over_it_without_start_up": common.ratios(costs("local", bare=True), costs(name, bare=True)),
        }
        for name in names
    }


# --- the driver ---------------------------------------------------------------------------------------


def empty_source(folder: Path, shards: int) -> Path:
    """A list of empty files, and one clip, as a build without any is an error."""
    from vidkit.data.synth.layouts import write_layout

    (folder / "train").mkdir(parents=True)
    write_layout("demo", folder / "drawn", clips=1, classes=1, workers=1)
    drawn = next((folder / "drawn").rglob("*.mp4"))
    names = [f"train/{i:06d}.mp4" for i in range(shards)]
    for name in names[1:]:
        (folder / name).touch()
    shutil.copyfile(drawn, folder / names[0])
    shutil.rmtree(folder / "drawn")
    (folder / "train.csv").write_text("".join(f"{name} 0\n" for name in names))
    spec = folder.parent / "empty.toml"
    spec.write_text(
        'name = "empty"\ntitle = "empty"\nclips_per_shard = 1\n[encode]\nsize = 32\nmax_frames = 4\n'
        '[[sources]]\nname = "lists"\nkind = "listfile"\nclasses = "names.txt"\n'
    )
    (folder.parent / "names.txt").write_text("a\nb\n")
    return spec


def measure_driver(work: Path, shards: int, made: Running) -> dict[str, Any]:
    """One build of so many shards on the cluster."""
    source = work / f"empty-{shards}"
    spec = empty_source(source, shards)
    words = ["build-dataset", os.fspath(spec), "--source", f"lists={source}", "--max-failures", "100"]
    row = build(
        [*program(ROOT), *words, "--executor", "ray", "--ray-address", made.address], work / "out", shards, made
    )
    print(f"  {shards} shards: {row}", file=sys.stderr)
    shutil.rmtree(source)
    return {
        "shards": shards,
        **row,
        "ms_per_shard": round(1000 * row["seconds"] / shards, 3),
        "driver_cpu_ms_per_shard": round(1000 * row["driver_cpu_s"] / shards, 3),
    }


# --- cells of an ablation -----------------------------------------------------------------------------


def measure_cells(work: Path, rounds: int, made: Running, *, quick: bool) -> dict[str, Any]:
    """Two cells with one pre-training each: in turn in one process, and at a time on two nodes."""
    from benchmarks.bench_loader import make_source
    from benchmarks.bench_store import build as build_dataset
    from benchmarks.bench_store import plan

    clips, epochs = (40, 1) if quick else (96, 20)
    make_source(work / "source", clips, real=False)
    (work / "source" / "others").mkdir()  # a second class
    for path in sorted((work / "source" / "clips").iterdir())[::2]:
        path.rename(work / "source" / "others" / path.name)
    build_dataset(plan(work / "source", clips), work / "data")
    command = [*program(ROOT), "ablate", "--data", os.fspath(work / "data"), "--split", "train", "--recipe", "tiny"]
    command += ["--mask", "tube", "--mask", "random", "--seed", "0", "--epochs", str(epochs), "--steps", "0"]
    command += ["--measure", "finetune", "--set", f"finetune.optim.epochs={max(1, epochs // 4)}"]

    def run(more: list[str], on: Running | None) -> dict[str, Any]:
        row = measured([*command, *more, "--out", work / "cells"], on)
        shutil.rmtree(work / "cells")
        return row

    ray = ["--executor", "ray", "--ray-address", made.address]
    runs = common.take_turns(
        {"in turn": lambda turn: run([], None), "ray": lambda turn: run(ray, made)}, rounds, said="cells"
    )
    over = {
        key: common.ratios([one[key] for one in runs["ray"]], [one[key] for one in runs["in turn"]])
        for key in ("seconds", "cpu_s")
    }
    return {"clips": clips, "epochs": epochs, "runs": runs, "ray_over_in_turn": over}


def report_cells(cells: dict[str, Any]) -> str:
    rows = [
        (name, *(common.median([run[key] for run in runs]) for key in ("seconds", "cpu_s")))
        for name, runs in cells["runs"].items()
    ]
    return common.table(("two cells", "seconds", "CPU seconds"), rows)


def report_mix(mixes: dict[str, dict[str, Any]]) -> str:
    seconds, cpu = mixes["seconds"], mixes["cpu_s"]
    rows = [
        (
            name,
            seconds[name]["clips_per_unit"],
            seconds[name]["local_over_it"]["median"],
            seconds[name]["local_over_it_without_start_up"]["median"],
            cpu[name]["local_over_it"]["median"],
            cpu[name]["local_over_it_without_start_up"]["median"],
        )
        for name in seconds
    ]
    clips, work = "clips/s, of local's", "clips a CPU second, of local's"
    return common.table(("by", "clips/s", clips, "start-up apart", work, "start-up apart"), rows)


def report_driver(driver: list[dict[str, Any]]) -> str:
    rows = [
        [entry[key] for key in ("shards", "ms_per_shard", "driver_cpu_ms_per_shard", "peak_mb")] for entry in driver
    ]
    return common.table(("shards", "ms each", "driver's CPU ms each", "driver's MB"), rows)


def main(
    before: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Measure `local` of this commit, too.")
    ] = None,
    part: Annotated[
        str, typer.Option(help="mix; driver: what it costs for each shard; cells: of an ablation.")
    ] = "mix",
    times: Annotated[int, typer.Option(help="So many times the clips: start-up weighs less.", min=1)] = 1,
    shards: Annotated[
        list[int] | None, typer.Option(help="Of the plans of --part driver.", show_default=False)
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A cluster that runs on this machine, with as many processors as workers.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option(help="A few clips, one round.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    if part not in ("mix", "driver", "cells"):
        raise SystemExit(f"--part is {part!r}; expected mix, driver or cells")
    running = nullcontext(there_already(ray_address)) if ray_address else cluster()
    with tempfile.TemporaryDirectory() as temporary, running as made:
        work = Path(temporary)
        if part == "driver":
            driver = [measure_driver(work, n, made) for n in shards or ((10, 20) if quick else SHARDS)]
            print(report_driver(driver))
            common.write_result("executors-driver", {"ray": _ray_version(), "driver": driver}, results)
            return
        if part == "cells":
            cells = measure_cells(work, 1 if quick else rounds, made, quick=quick)
            print(report_cells(cells))
            common.write_result("executors-cells", {"ray": _ray_version(), "cells": cells}, results)
            return
        code = common.checkout(before, work / "before") if before else None
        found = {
            source: measure_source(source, work, 1 if quick else rounds, 6 if quick else times * clips, code, made)
            for source, clips in CLIPS.items()
        }
    mixes = {key: compared(found, key) for key in ("seconds", "cpu_s")}
    print(report_mix(mixes))
    result = {"workers": WORKERS, "before": before, "ray": _ray_version(), "sources": found, "mix": mixes}
    common.write_result("executors" if times == 1 else f"executors-{times}x", result, results)


def _ray_version() -> str:
    import ray

    return str(ray.__version__)


if __name__ == "__main__":
    typer.run(main)

"""Who makes the shards: `local` as it was and as it is, and Ray on two nodes with a processor each, in turns.

The whole command counts, from its start to a finished dataset; a cluster runs already, as clusters do. What a start
costs is measured in each round too, by a build of two clips, and ratios are given with and without it. All of them
must come to the same bytes.

Then what the driver of a cluster costs: plans of many shards that hold one empty file each, so that nearly all the
time is the driver's and the disk's.

    python -m benchmarks.bench_executors --before 0d53b06    # ten minutes on two idle cores
    python -m benchmarks.bench_executors --part driver       # likewise
    python -m benchmarks.bench_executors --quick             # does it work at all
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from benchmarks.bench_build import JOBS, MIX, WORKERS, vidkit_command
from benchmarks.sources import make_sources

ROOT = Path(__file__).parents[1]

#: Clips of each source in a round.
CLIPS = {"kinetics": 200, "tinyvirat": 1000}
FEW = 2

SHARDS = (2_500, 5_000, 10_000)


def program(code: Path) -> list[str]:
    """vidkit of a checkout."""
    return ["env", f"PYTHONPATH={code}", sys.executable, "-m", "vidkit"]


@contextmanager
def cluster() -> Iterator[Any]:
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
    try:
        yield made
    finally:
        made.shutdown()


class ClusterUse:
    """CPU seconds of a cluster's processes, sampled: what one takes after its last sample is lost."""

    EVERY_S = 0.1

    def __init__(self, made: Any) -> None:
        nodes = [made.head_node, *made.worker_nodes]
        self._roots = [p.process.pid for node in nodes for found in node.all_processes.values() for p in found]
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


def build(command: list[str], out: Path, clips: int, made: Any = None) -> dict[str, Any]:
    """Seconds and CPU time of one build, its cluster's included, and a checksum over all that it wrote."""
    use = ClusterUse(made) if made is not None else None
    used = common.measure([*command, "--out", out])
    row = used.row()
    if use is not None:
        row["driver_cpu_s"], row["cpu_s"] = row["cpu_s"], round(row["cpu_s"] + use.stop(), 4)
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
    source: str, work: Path, rounds: int, clips: int, before: Path | None, made: Any
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
    ways: dict[str, tuple[list[str], Any]] = {"local": ([*program(ROOT), *words], None)}
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


def measure_driver(work: Path, shards: int, made: Any) -> dict[str, Any]:
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
    part: Annotated[str, typer.Option(help="mix, or driver: what it costs for each shard.")] = "mix",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option(help="A few clips, one round.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    with tempfile.TemporaryDirectory() as temporary, cluster() as made:
        work = Path(temporary)
        if part == "driver":
            driver = [measure_driver(work, shards, made) for shards in ((10, 20) if quick else SHARDS)]
            print(report_driver(driver))
            common.write_result("executors-driver", {"ray": _ray_version(), "driver": driver}, results)
            return
        code = common.checkout(before, work / "before") if before else None
        found = {
            source: measure_source(source, work, 1 if quick else rounds, 6 if quick else clips, code, made)
            for source, clips in CLIPS.items()
        }
    mixes = {key: compared(found, key) for key in ("seconds", "cpu_s")}
    print(report_mix(mixes))
    result = {"workers": WORKERS, "before": before, "ray": _ray_version(), "sources": found, "mix": mixes}
    common.write_result("executors", result, results)


def _ray_version() -> str:
    import ray

    return str(ray.__version__)


if __name__ == "__main__":
    typer.run(main)

"""A real Ray cluster on this machine: a head without processors and nodes with one each, which die now and then."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.data import builds
from tests.data.build.test_packed_build import packed
from tests.data.builds import listed_spec, listed_tree, snapshot
from vidkit import cluster
from vidkit.cluster import RayPool, connected
from vidkit.errors import BuildError, ConfigError, VidkitError

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'vidkit[ray]'")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked for in /proc")

CLIPS = 26

#: Nothing here takes a tenth of it, unless the machine has much else to do.
HANG_S = 120


@dataclass
class Nodes:
    """A cluster, always with two nodes that can work."""

    cluster: Any

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def fill(self) -> list[Any]:
        while len(self.workers) < 2:
            patient(lambda: self.cluster.add_node(num_cpus=1, **SMALL))
        return self.workers

    @property
    def workers(self) -> list[Any]:
        return sorted(self.cluster.worker_nodes, key=lambda node: node.node_id)

    def children(self, node: Any) -> set[int]:
        """Processes that decode on a node."""
        (raylet,) = node.all_processes["raylet"]
        below = builds.descendants(raylet.process.pid)
        return {
            pid for pid in below if "clip_worker" in _read(pid, "cmdline") and "libavcodec" in _read(pid, "maps")
        }


SMALL: dict[str, Any] = {"object_store_memory": 80 << 20, "include_dashboard": False}


def patient(start: Callable[[], Any]) -> Any:
    """Ray gives up on a node that takes 30 s to start, as it may on a machine with much else to do."""
    for _ in range(3):
        with contextlib.suppress(Exception):
            return start()
    return start()


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    patched = pytest.MonkeyPatch()
    patched.setenv("PYTHONPATH", builds.environment()["PYTHONPATH"])
    patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patched.setenv("VIDKIT_CACHE", str(tmp_path_factory.mktemp("cache of nodes")))
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 0}
    made = patient(
        lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, **SMALL})
    )
    yield made
    made.shutdown()
    patched.undo()


@pytest.fixture
def nodes(running: Any) -> Nodes:
    found = Nodes(running)
    found.fill()
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    listed_spec(folder, per_shard=2)
    return listed_tree(folder / "t", CLIPS, missing=1, broken=1)


def words(source: Path, out: Path, *more: str) -> list[str]:
    spec = source.parent / "mine2.toml"
    given = ["build-dataset", spec, "--out", out, "--source", f"lists={source}", "--max-failures", "100"]
    return [*map(str, given), *more]


@pytest.fixture(scope="module")
def want(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `local` with one worker makes."""
    out = tmp_path_factory.mktemp("local") / "out"
    assert builds.vidkit(*words(source, out, "--workers", "1")).returncode == 0
    return snapshot(out)


Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def start(nodes: Nodes, source: Path) -> Iterator[Start]:
    """Begin a build on the cluster; what a failed test leaves of it ends with the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(out: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            builds.command(*words(source, out, "--executor", "ray", "--ray-address", nodes.address)),
            env=builds.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


def held(process: subprocess.Popen[str], nodes: Nodes) -> list[set[int]]:
    """Wait until both nodes work, and stop their decoders in the middle of a clip; returns those of each."""
    deadline = time.monotonic() + HANG_S
    found: list[set[int]] = []
    while not found or not all(found):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        found = [nodes.children(node) for node in nodes.workers]
        for pid in set().union(*found):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.01)
    return found


def go_on(pids: set[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def gone(pids: set[int], within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(builds.is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(builds.is_alive, pids))


# --- builds ------------------------------------------------------------------------------------------


@linux
def test_a_node_that_dies_in_the_middle_changes_nothing(
    nodes: Nodes, start: Start, want: dict[str, str], tmp_path: Path
) -> None:
    process = start(tmp_path / "out")
    stays, dies = held(process, nodes)
    nodes.cluster.remove_node(nodes.workers[1], allow_graceful=False)
    assert gone(dies), "what decoded on the dead node outlived it"
    go_on(stays)
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, said
    assert snapshot(tmp_path / "out") == want
    last = said.strip().splitlines()[-1]
    assert f"building: {CLIPS}/{CLIPS} clips" in last
    assert "failed 2  missing 2" in last
    assert "node" in last  # one, as soon as the cluster has noticed
    assert "1 begun again" in last
    assert "clips/s" in last


@pytest.mark.parametrize(
    "kind", [pytest.param("tars", marks=pytest.mark.slow), pytest.param("zip", marks=pytest.mark.slow), "parts"]
)
def test_sources_still_packed_are_read_on_nodes_that_have_not_seen_them(
    kind: str, nodes: Nodes, source: Path, want: dict[str, str], tmp_path: Path
) -> None:
    """The driver's cache is its own, as another machine's is. What is inflated goes where --scratch says."""
    root, out, room = packed(source, tmp_path / "packed", kind), tmp_path / "out", tmp_path / "room"
    more = ["--executor", "ray", "--ray-address", nodes.address]
    cache = {"VIDKIT_CACHE": str(tmp_path / "cache"), "VIDKIT_SCRATCH": str(tmp_path / "driver")}
    given = words(source, out, *more)
    given[given.index(f"lists={source}")] = f"lists={root}"
    planned = builds.vidkit(*given, "--dry-run", **cache)  # inflates for the driver
    assert planned.returncode == 0, planned.stderr
    done = builds.vidkit(*given, "--scratch", "room", cwd=tmp_path, **cache)
    assert done.returncode == 0, done.stderr
    found = snapshot(out)
    shards = {name for name in want if name.endswith((".tar", "shards.json"))}
    assert {name: found[name] for name in shards} == {name: want[name] for name in shards}
    inflated = [path for path in room.glob("*") if path.suffix == ".inflated"]
    assert len(inflated) == (kind == "parts")


@linux
def test_a_worker_that_dies_leaves_no_child(
    nodes: Nodes, start: Start, want: dict[str, str], tmp_path: Path
) -> None:
    process = start(tmp_path / "out")
    first, second = held(process, nodes)
    (child,) = first
    worker = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    assert gone(first)
    go_on(second)
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, said
    assert snapshot(tmp_path / "out") == want


@linux
def test_a_killed_driver_takes_its_tasks_along_and_resumes(
    nodes: Nodes, start: Start, want: dict[str, str], tmp_path: Path
) -> None:
    process = start(tmp_path / "out")
    children = set().union(*held(process, nodes))
    process.kill()
    process.communicate()
    assert gone(children, HANG_S), "tasks of a dead build went on"
    assert builds.facts(tmp_path / "out")["status"] == "building"
    process = start(tmp_path / "out")
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, said
    assert snapshot(tmp_path / "out") == want


@linux
def test_a_stop_takes_seconds_and_local_goes_on(
    nodes: Nodes, start: Start, source: Path, want: dict[str, str], tmp_path: Path
) -> None:
    process = start(tmp_path / "out")
    children = set().union(*held(process, nodes))
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=HANG_S)
    assert time.monotonic() - started < 20  # it takes one or two where nothing else runs
    assert process.returncode == 130, said
    assert output == ""
    assert "Stopped. What is done is kept; go on with the same command:" in said
    assert "Traceback" not in said
    assert gone(children)
    assert builds.vidkit(*words(source, tmp_path / "out")).returncode == 0
    assert snapshot(tmp_path / "out") == want


def test_local_builds_import_no_ray(source: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from vidkit.cli.app import main\n"
        "try: main()\n"
        "finally: print([name for name in sys.modules if name.split('.')[0] == 'ray'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words(source, tmp_path / "out", "--dry-run")],
        env=builds.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


# --- ablations ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cell_on_a_node_gives_the_row_of_this_process(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alone: a worker takes seconds to load what it needs."""
    from tests.bench.ablate.test_run import ablation, jobs
    from tests.bench.interrupted import learnt
    from tests.train import small
    from vidkit.bench.ablate import run as ablate
    from vidkit.bench.rows.files import read_rows

    one = jobs(masks=("tube",), seeds=(3,))
    data = small.dataset(tmp_path / "data", train=9, val=6)
    here = ablate.run(ablation(data, tmp_path / "here", one), quiet=True)
    monkeypatch.chdir(tmp_path)
    todo = ablation(Path("data"), Path("out"), one)
    told: list[str] = []
    rows = ablate.run(todo, quiet=True, executor="ray", ray_address=nodes.address, tell=told.append)
    assert learnt(rows) == learnt(here)
    assert read_rows(tmp_path / "out") == rows
    assert told[0] == "1 cell on 2 nodes"
    assert told[1].endswith(": ok")


# --- tasks -------------------------------------------------------------------------------------------


@pytest.fixture
def pool(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayPool]:
    monkeypatch.setattr(cluster, "_PAUSE_S", 0.01)
    with connected(nodes.address), RayPool({}) as made:
        yield made


def nap(seconds: float) -> None:
    time.sleep(seconds)


def fails_at_first(folder: str, times: int, number: int) -> int:
    begun = len(list(Path(folder).iterdir()))
    Path(folder, str(begun)).touch()
    if begun < times:
        raise OSError(number, os.strerror(number))
    return begun


def dies(folder: str) -> None:
    begun = len(list(Path(folder).iterdir()))
    Path(folder, str(begun)).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def refuses() -> None:
    raise BuildError("no such thing", file="a.csv", row=3, field="path", hint="try another")


def is_wrong() -> None:
    raise KeyError("a bug")


def leaves_word(folder: str) -> None:
    Path(folder, "begun").touch()
    try:
        for _ in range(1000):  # it is between two lines of Python that a task can be interrupted
            time.sleep(0.1)
    except KeyboardInterrupt:
        Path(folder, "stopped").touch()
        raise


def square(number: int) -> int:
    return number * number


def test_results_and_errors_come_back_as_they_are(pool: RayPool) -> None:
    futures = [pool.submit(square, i) for i in range(40)]
    refused, wrong = pool.submit(refuses), pool.submit(is_wrong)
    assert [future.result(HANG_S) for future in futures] == [i * i for i in range(40)]
    with pytest.raises(BuildError) as caught:
        refused.result(HANG_S)
    error = caught.value
    assert str(error) == "a.csv, row 3, field 'path': no such thing\n  -> try another"
    assert (error.message, error.row, error.hint) == ("no such thing", 3, "try another")
    with pytest.raises(KeyError, match="in is_wrong"):  # with the node's traceback
        wrong.result(HANG_S)


def test_errors_that_may_pass_are_tried_again_and_others_are_not(pool: RayPool, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("passes", "stays", "full")]
    for folder in folders:
        folder.mkdir()
    passes = pool.submit(fails_at_first, str(folders[0]), 2, errno.EIO)
    stays = pool.submit(fails_at_first, str(folders[1]), 99, errno.ESTALE)
    full = pool.submit(fails_at_first, str(folders[2]), 99, errno.ENOSPC)
    assert passes.result(HANG_S) == 2
    with pytest.raises(OSError, match=r"Stale"):
        stays.result(HANG_S)
    with pytest.raises(OSError, match="No space left"):
        full.result(HANG_S)
    assert [len(list(folder.iterdir())) for folder in folders] == [3, cluster.TRIES, 1]


@linux
def test_a_task_that_kills_its_workers_is_an_error(pool: RayPool, tmp_path: Path) -> None:
    with pytest.raises(VidkitError, match=f"begun {cluster.TRIES} times") as caught:
        pool.submit(dies, str(tmp_path)).result(HANG_S)
    assert "ray status" in str(caught.value)
    assert len(list(tmp_path.iterdir())) == cluster.TRIES


@pytest.mark.parametrize("grace_s", [0.0, 20.0])
def test_tasks_that_are_stopped_may_have_time_to_leave_word(
    grace_s: float, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a training does, which writes a checkpoint. What has ended is not killed, too: Ray 2.60 may then abort."""
    killed: list[Any] = []

    def cancel(ref: Any, *, force: bool) -> None:
        killed.extend([ref] if force else [])
        really(ref, force=force)

    really = ray.cancel
    monkeypatch.setattr(ray, "cancel", cancel)
    with connected(nodes.address), RayPool({}, grace_s=grace_s) as pool:
        futures = [pool.submit(leaves_word, str(tmp_path)) for _ in range(20)]
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        started = time.monotonic()
        pool.shutdown(cancel_futures=True)
        assert time.monotonic() - started < 15, "before the time is up"
    assert (tmp_path / "stopped").exists() == (grace_s > 0)
    assert bool(killed) == (grace_s == 0)
    for future in futures:
        with pytest.raises(cluster.TaskStopped):
            future.result(1)


def test_where_no_cluster_is_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"no Ray cluster to use at 127\.0\.0\.1:1") as caught,
        connected("127.0.0.1:1"),
    ):
        pass
    assert "ray start --head" in str(caught.value)


@linux
@pytest.mark.slow
def test_a_start_that_takes_too_long_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first node's 30 s are over at once; what it had started ends before the next one is begun."""
    from ray._private import node, services

    left_behind: set[int] = set()
    asked = 0

    def not_yet(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > 1:
            return get_node(*arguments)
        left_behind.update(builds.descendants(os.getpid()))
        monkeypatch.setattr(
            node, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 31, sleep=time.sleep)
        )
        raise RuntimeError("no such node")

    get_node = services.get_node
    monkeypatch.setattr(services, "get_node", not_yet)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = builds.descendants(os.getpid())
    with connected(None, cpus=1), RayPool({}) as pool:
        monkeypatch.setattr(node, "time", time)
        assert "trying again" in caplog.text
        assert left_behind - before
        assert gone(left_behind - before)
        assert pool.submit(square, 7).result(HANG_S) == 49


def test_a_cluster_that_never_starts_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def fails(**how: Any) -> None:
        begun.append(how["address"])
        raise RuntimeError("The current node timed out during startup.\nMore.")

    monkeypatch.setattr(ray, "init", fails)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = "no Ray cluster could be started on this machine"
    with pytest.raises(ConfigError, match=said) as caught, connected(None):
        pass
    assert begun == ["local"] * cluster.STARTS
    assert "--ray-address" in str(caught.value)
    assert "timed out during startup" in str(caught.value)


def test_ray_is_handed_what_there_is_room_for(pool: RayPool) -> None:
    """And more for ten seconds of each minute, as clusters grow by what waits."""
    assert [cluster.window(8, seconds) for seconds in (0, 49, 51, 59, 61, 115)] == [8, 8, 18, 18, 8, 18]
    assert cluster.window(0, 0) == 2
    futures = [pool.submit(nap, 0.3) for _ in range(12)]
    most = 0
    while not all(future.done() for future in futures):
        most = max(most, len(pool._flying))
        time.sleep(0.01)
    assert most == pool.look().at_once


def test_a_function_that_no_cluster_takes_is_an_error_of_its_own(pool: RayPool) -> None:
    with pytest.raises(TypeError):
        pool.submit(pow, 2, 3).result(HANG_S)
    assert pool.submit(square, 3).result(HANG_S) == 9


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs the package ray") as caught, connected(None):
        pass
    assert cluster.INSTALL in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--executor", "slurm"], "expected local or ray"),
        (["--ray-address", "a:1"], "add --executor ray"),
    ],
)
def test_flags_that_do_not_fit(given: list[str], said: str, source: Path, tmp_path: Path) -> None:
    done = builds.vidkit(*words(source, tmp_path / "out", *given))
    assert done.returncode == 2
    assert said in done.stderr


# --- what is told on the way -------------------------------------------------------------------------


def tells_and_waits(task: Any, tools: Any) -> Any:
    """A shard's work without a shard."""
    from vidkit.data.build.task import Made

    for _ in range(3):
        tools.on_clip("ok")
        time.sleep(0.6)
    while not Path(task.out).exists():
        time.sleep(0.05)
    return Made(number=task.number)


def test_progress_is_shown_within_a_shard_and_by_no_process_of_its_own(nodes: Nodes, tmp_path: Path) -> None:
    from ray.experimental import internal_kv

    from vidkit.data.build.make_shard import ShardSettings
    from vidkit.data.build.on_ray import RayExecutor
    from vidkit.data.build.task import ShardTask
    from vidkit.data.progress import Progress
    from vidkit.settings.encode import EncodeSettings

    progress = Progress("building", 3, quiet=True)
    settings = ShardSettings(roots={}, encode=EncodeSettings())
    with RayExecutor(nodes.address, None, progress) as executor:
        # others may be at work in the cluster
        before = len(internal_kv._internal_kv_list("", namespace="vidkit"))
        future = executor.submit(
            tells_and_waits, ShardTask(out=str(tmp_path / "go on"), number=5, settings=settings)
        )
        deadline = time.monotonic() + HANG_S
        while progress.done < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert progress.done >= 2
        assert not future.done()
        own = {pid for pid in builds.descendants(os.getpid()) if "Tally" in _read(pid, "cmdline")}
        assert not own
        (tmp_path / "go on").touch()
        assert future.result(HANG_S).worked == {"ok": 3}
        assert progress.done == 3
        assert len(internal_kv._internal_kv_list("", namespace="vidkit")) == before


def test_the_board_is_read_in_turns(pool: RayPool) -> None:
    from collections import Counter

    from vidkit.data.build.on_ray import _Board

    board, other = _Board("one"), _Board("other")
    for number in range(5):
        board.write(number, Counter({(True, "ok"): number, (False, "failed"): 1}))
    other.write(7, Counter())
    assert board.read(0, 2) == {n: Counter({(True, "ok"): n, (False, "failed"): 1}) for n in (0, 1)}
    assert set(board.read(4, 3)) == {4, 0, 1}
    board.wipe(4)
    assert set(board.read(0, 64)) == {0, 1, 2, 3}
    board.wipe()
    assert board.read(0, 64) == {}
    assert set(other.read(0, 64)) == {7}
    other.wipe()

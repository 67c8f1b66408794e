"""Attempts with scratch of their own: whichever is published, whenever it was killed, the bytes are the same."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data import builds
from tests.data.build.crashes import Crash, crash_after, crash_everywhere
from tests.data.builds import LISTED, InProcess, listed_tree, plan, run, snapshot
from vidkit.data.build import attempts, executors, task
from vidkit.data.build.make_shard import ShardSettings
from vidkit.data.build.state import BuildState
from vidkit.data.build.task import Made, ShardTask, Tools, run_task
from vidkit.data.plan.planning import Prepared
from vidkit.data.shards import ShardWriter
from vidkit.errors import BuildError

pytestmark = pytest.mark.usefixtures("in_process")

names = itertools.count()


class Apart(executors.LocalExecutor):
    """As a task on another node has it: scratch of its own, published by the build."""

    def _run(self, work: Any, one: ShardTask) -> Made:
        def apart(one: ShardTask, tools: Tools) -> Made:
            one = pickle.loads(pickle.dumps(one))
            return work(one, replace(tools, attempt=f"attempt{next(names)}"))

        return super()._run(apart, one)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return plan(LISTED, listed_tree(tmp_path_factory.mktemp("source") / "t", 13, missing=1, broken=1))


@pytest.fixture
def want(prepared: Prepared, tmp_path: Path) -> dict[str, str]:
    run(prepared, tmp_path / "whole")
    return snapshot(tmp_path / "whole")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, want: object) -> None:
    monkeypatch.setattr("vidkit.data.build.build.LocalExecutor", Apart)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("workers", [1, 3])
def test_scratch_of_their_own_makes_no_difference(
    workers: int, prepared: Prepared, want: dict[str, str], tmp_path: Path
) -> None:
    run(prepared, tmp_path / "out", workers=workers)
    assert snapshot(tmp_path / "out") == want


@pytest.mark.usefixtures("apart")
def test_killed_before_any_step(
    prepared: Prepared,
    want: dict[str, str],
    tmp_path: Path,
    crash_at: Callable[[int | None], None],
) -> None:
    steps = crash_everywhere(crash_at, lambda out: None, lambda out: run(prepared, out), want, tmp_path)
    assert steps > 60


@pytest.mark.usefixtures("apart")
def test_a_retry_replaces_shards_through_attempts(tmp_path: Path, crash_at: Callable[[int | None], None]) -> None:
    source = listed_tree(tmp_path / "t", 9, missing=1, broken=1)
    run(plan(LISTED, source), tmp_path / "before")
    for split, first in (("train", 0), ("val", 1000)):
        for i in range(2):
            builds.write_clip(source / split / f"{split}{i}.mp4", first=first + i)
    after = plan(LISTED, source)
    run(after, tmp_path / "right")

    def begin(out: Path) -> None:
        shutil.copytree(tmp_path / "before", out)

    def attempt(out: Path) -> None:
        run(after, out, retry_failed=True)

    assert crash_everywhere(crash_at, begin, attempt, snapshot(tmp_path / "right"), tmp_path) > 30


@pytest.mark.parametrize(("first", "second"), [(Apart, executors.LocalExecutor), (executors.LocalExecutor, Apart)])
def test_half_a_shard_is_taken_over_whoever_goes_on(
    first: type, second: type, prepared: Prepared, want: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    with monkeypatch.context() as patched:
        crash_after(6, patched)
        patched.setattr("vidkit.data.build.build.LocalExecutor", first)
        with pytest.raises(Crash):
            run(prepared, tmp_path / "out")
    monkeypatch.setattr("vidkit.data.build.build.LocalExecutor", second)
    assert run(prepared, tmp_path / "out").made == 13 - 6
    assert snapshot(tmp_path / "out") == want


# --- two attempts at one shard ---------------------------------------------------------------------------


@pytest.fixture
def begun(prepared: Prepared, tmp_path: Path) -> tuple[BuildState, ShardTask]:
    """A build of which no shard is made yet, and the task of its first."""
    facts = {"format": 1, "vidkit": task.vidkit.__version__, "encoder": task.encoder_of("pyav"), "settings": {}}
    state = BuildState(tmp_path / "out")
    state.out.mkdir()
    state.begin(prepared.table, facts)
    settings = ShardSettings(roots=prepared.roots, encode=prepared.spec.encode)
    return state, ShardTask(out=str(state.out), number=0, settings=settings)


def _tools(attempt: str) -> Tools:
    def nothing(status: str) -> None:
        pass

    worker: Any = InProcess(1.0, lambda: False)
    return Tools(worker=worker, on_clip=nothing, on_found=nothing, should_stop=lambda: False, attempt=attempt)


def test_of_two_attempts_one_is_published_and_none_in_part(
    begun: tuple[BuildState, ShardTask], prepared: Prepared, want: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one's clip failed, say as its node was slow: its journal does not fit the other's tar."""
    state, one = begun
    slot = task.open_plan(state.plan).planned[0]
    run_task(one, _tools("first"))
    real = InProcess.run
    monkeypatch.setattr(InProcess, "run", lambda self, job: replace(real(self, job), clip=None, error="timeout"))
    run_task(one, _tools("second"))
    state.publish(slot, "first")
    state.publish(slot, "second")
    state.publish(slot, "first")
    rows, facts = state.outcomes(slot)
    assert [row["error"] for row in rows] == [row["error"] for row in rows if row["error"] != "timeout"]
    assert facts is not None
    assert facts.sha256 == want[slot.name]
    assert snapshot(state.out)[slot.name] == want[slot.name]
    assert not list((state.work / "attempts").rglob("*.tar"))


def test_an_attempt_that_was_given_up_and_goes_on_changes_nothing(
    begun: tuple[BuildState, ShardTask], prepared: Prepared, want: dict[str, str]
) -> None:
    state, one = begun
    slot = task.open_plan(state.plan).planned[0]
    lost = attempts.scratch(state.work, slot, "lost")
    row = {"key": prepared.table["key"][0].as_py(), "status": "failed", "nbytes": None}
    with ShardWriter(*lost, slot.split) as still_running:
        still_running.add({**row, "error": "timeout", "path": None}, None, None)
        before = lost[1].with_name(lost[1].name + ".part").read_bytes()
        run_task(one, _tools("other"))
        state.publish(slot, "other")
        published = snapshot(state.out)[slot.name]
        assert lost[1].with_name(lost[1].name + ".part").read_bytes() == before
        still_running.add({**row, "error": "timeout"}, None, None)
        still_running.finish()
    assert snapshot(state.out)[slot.name] == published


def test_what_a_node_said_it_made_must_be_there(begun: tuple[BuildState, ShardTask]) -> None:
    state, _ = begun
    slot = task.open_plan(state.plan).planned[0]
    with pytest.raises(BuildError, match=r"had made train/000000.tar, but .* is not there") as caught:
        state.publish(slot, "elsewhere")
    assert "all nodes share" in str(caught.value)


# --- a worker that does not fit --------------------------------------------------------------------------


def test_a_worker_with_another_encoder_refuses_and_names_both(begun: tuple[BuildState, ShardTask]) -> None:
    state, one = begun
    path = state.out / "dataset.json"
    about = json.loads(path.read_text())
    mine = about["encoder"]["x264"]
    path.write_text(json.dumps({**about, "encoder": {**about["encoder"], "x264": "999"}, "vidkit": "0.0.1"}))
    state.plan.touch()  # as another build would
    with pytest.raises(BuildError) as caught:
        run_task(one, _tools("a"))
    said = str(caught.value)
    assert f"encoder.x264: '999' there, {mine!r} here" in said
    assert f"vidkit: '0.0.1' there, {task.vidkit.__version__!r} here" in said
    assert "the worker" in said
    assert "leave this node out" in said
    assert not (state.work / "attempts").exists(), "nothing was begun"


@pytest.mark.parametrize("mounted", [True, False])
def test_sources_that_are_not_mounted_are_no_missing_clips(
    mounted: bool, begun: tuple[BuildState, ShardTask], tmp_path: Path
) -> None:
    state, one = begun
    (tmp_path / "point").mkdir()
    root = tmp_path / ("point" if mounted else "nowhere")
    with pytest.raises(BuildError, match=r"sees nothing in .*, where lists lies") as caught:
        run_task(replace(one, settings=replace(one.settings, roots={"lists": str(root)})), _tools("a"))
    assert "at the same place on every node" in str(caught.value)
    assert not (state.work / "attempts").exists()


def test_a_worker_that_does_not_see_the_folder_says_so(begun: tuple[BuildState, ShardTask], tmp_path: Path) -> None:
    _, one = begun
    with pytest.raises(BuildError, match=r"does not see .*plan\.parquet") as caught:
        run_task(replace(one, out=str(tmp_path / "not mounted")), _tools("a"))
    assert "all nodes share" in str(caught.value)

"""What a worker is told of a shard, and what it does about it: read the rows, make the shard, say what it came to.

A task is where the plan lies, the number of a shard, and settings: it is the same for a thread of this process
and for another machine, which sees the same folders.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vidkit
from vidkit.data import dataset as folder
from vidkit.data.build import attempts
from vidkit.data.build.clip_worker import ClipWorker
from vidkit.data.build.lease import holder
from vidkit.data.build.make_shard import ShardSettings, ShardWork, make_shard
from vidkit.data.build.plan_file import PLAN, PlanFile, open_plan
from vidkit.data.build.state import BuildState, differences
from vidkit.data.build.store_state import StoreState
from vidkit.data.plan.layout import Slot
from vidkit.data.shards import ShardFacts
from vidkit.data.storage.places import StorePath, place
from vidkit.data.storage.upload import abilities
from vidkit.errors import BuildError


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """A shard to make."""

    out: str
    """Where the dataset is built, with its plan."""
    number: int
    """Of the shard, counted through the plan."""
    settings: ShardSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What an executor lends a task."""

    worker: ClipWorker
    on_clip: Callable[[str], None]
    """Told what became of a clip that was worked on."""
    on_found: Callable[[str], None]
    """Likewise, of one that an earlier attempt had finished."""
    should_stop: Callable[[], bool]
    attempt: str = ""
    """Name of the attempt, which then works in scratch of its own; none where the build's lock keeps others out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A shard that is whole, and waits to be published if the attempt has a name."""

    number: int
    attempt: str = ""
    worked: Mapping[str, int] = field(default_factory=Counter)
    """Status -> clips that the attempt worked on."""
    found: Mapping[str, int] = field(default_factory=Counter)


#: (task, tools) -> what it came to
Work = Callable[[ShardTask, Tools], Made]


def run_task(task: ShardTask, tools: Tools) -> Made:
    """Make a shard from the plan that lies where it is built.

    Raises:
        BuildError: this worker would not make the same bytes, or does not see the folders.
        Stopped, OSError: as of `make_shard`.
    """
    opened = _opened(task)
    state, slot = opened.state, opened.plan.planned[task.number]
    rows = opened.plan.rows(slot)  # read when a shard's turn comes: memory does not grow with the plan
    if tools.attempt:
        _must_see(rows, task.settings.roots)
    if isinstance(state, StoreState):  # made here, and published from here
        with tempfile.TemporaryDirectory(prefix="vidkit-shard-") as scratch:
            tar, journal = Path(scratch) / Path(slot.name).name, Path(scratch) / slot.journal
            facts = _make(task, tools, state, slot, rows, tar, journal)
            state.publish_made(slot, tar if facts else None, journal)
        return Made(number=task.number)
    tar, journal = state.out / slot.name, state.journal(slot)
    if tools.attempt:
        tar, journal = attempts.scratch(state.work, slot, tools.attempt)
    attempts.take_over(state.work, slot, tar, journal)
    _make(task, tools, state, slot, rows, tar, journal)
    return Made(number=task.number, attempt=tools.attempt)


def _make(
    task: ShardTask,
    tools: Tools,
    state: BuildState,
    slot: Slot,
    rows: list[dict[str, Any]],
    tar: Path,
    journal: Path,
) -> ShardFacts | None:
    return make_shard(
        ShardWork(
            rows=rows,
            split=slot.split,
            tar=tar,
            journal=journal,
            settings=task.settings,
            kept=state.kept(slot),
            stored=state.out / slot.name,
        ),
        tools.on_clip,
        tools.on_found,
        tools.should_stop,
        tools.worker,
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    state: BuildState
    plan: PlanFile


_opening = threading.Lock()


def _opened(task: ShardTask) -> _Opened:
    """The build that a task is of, opened and checked before a worker's first shard of it."""
    out = place(task.out)
    if isinstance(out, StorePath):
        with _opening:
            return _open_in_store(os.getpid(), out, _holder(out), task.settings.transcoder)
    state = BuildState(out)
    try:
        found = state.plan.stat()
    except FileNotFoundError:
        raise BuildError(
            f"{_here()} does not see {state.plan}",
            hint="give an --out that lies on a file system which all nodes share, at the same place",
        ) from None
    with _opening:
        return _open(task.out, (found.st_ino, found.st_mtime_ns, found.st_size), task.settings.transcoder)


@functools.lru_cache(maxsize=1)
def _open(out: str, version: tuple[int, ...], transcoder: str) -> _Opened:
    """`version` tells a plan from one that was there before."""
    state = BuildState(Path(out))
    _must_make_the_same(folder.read_facts(state.out), transcoder)
    return _Opened(state, open_plan(state.plan))


def _holder(out: StorePath) -> str:
    """Tells a build in a store from one that was there before."""
    found = holder(out / folder.BUILD_STATE)
    if found is None:
        raise BuildError(
            f"{_here()} sees no build at work in {out}", hint="run the same command again; what is done is kept"
        )
    return found


@functools.lru_cache(maxsize=1)
def _open_in_store(process: int, out: StorePath, holder: str, transcoder: str) -> _Opened:
    """The plan is copied once for each process and build."""
    _must_make_the_same(folder.read_facts(out), transcoder)
    scratch = Path(tempfile.mkdtemp(prefix="vidkit-plan-"))
    state = StoreState(out, abilities(out / folder.BUILD_STATE), scratch)
    weakref.finalize(state, shutil.rmtree, scratch, ignore_errors=True)
    state.plan.download(scratch / PLAN)
    return _Opened(state, open_plan(scratch / PLAN))


def _must_make_the_same(facts: Mapping[str, Any], transcoder: str) -> None:
    lines = differences({**facts, "settings": {}}, {"settings": {}, "encoder": encoder_of(transcoder)})
    if facts.get("vidkit") != vidkit.__version__:
        lines.append(f"vidkit: {facts.get('vidkit')!r} there, {vidkit.__version__!r} here")
    if lines:
        raise BuildError(
            f"{_here()} would make other bytes than the build that it works for:\n    " + "\n    ".join(lines),
            hint="install the same vidkit, av and ffmpeg on every node, or leave this node out",
        )


def _must_see(rows: Iterable[Mapping[str, Any]], roots: Mapping[str, str]) -> None:
    """A folder that is not mounted on this node would make all its clips missing, which they are not."""
    for source in sorted({row["source"] for row in rows if row["path"] is not None and row["error"] is None}):
        root = roots[source]
        if "://" in root or os.path.isfile(root):
            continue
        try:
            with os.scandir(root) as entries:
                there = any(True for _ in entries)
        except OSError:
            there = False
        if not there:
            raise BuildError(
                f"{_here()} sees nothing in {root}, where {source} lies",
                hint="mount the sources' folders at the same place on every node, or leave this node out",
            )


def encoder_of(transcoder: str) -> dict[str, str]:
    """Versions of what encodes here: the fingerprint that stands in dataset.json.

    Raises:
        ConfigError: the transcoder is not installed.
    """
    if transcoder == "ffmpeg":
        from vidkit.data.media.transcode_ffmpeg import fingerprint

        return dict(fingerprint())
    from vidkit.data.media.transcode import encoder_fingerprint

    return encoder_fingerprint()


def _here() -> str:
    return f"the worker {os.getpid()} on {platform.node()}"

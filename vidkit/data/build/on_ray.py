"""Shards as tasks of a Ray cluster, one task a shard, with the same killable child process as everywhere."""

from __future__ import annotations

import contextlib
import json
import platform
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from vidkit.cluster import Nodes, RayPool, connected
from vidkit.data.build.clip_worker import ClipWorker
from vidkit.data.build.task import Made, ShardTask, Tools, Work
from vidkit.data.progress import Progress

#: A worker tells so often what it has done.
_TELL_S = 1.0

#: The driver looks so often, and at so many shards at a time: each is a request.
_HEAR_S = 1.0
_HEARD = 64


class RayExecutor(Executor):
    """Tasks on the nodes of a cluster, in scratch of their own.

    Args:
        address: see `cluster.connected`.
        cpus: likewise.
        progress: told of clips about once a second; of a shard whose node is lost they are taken back.
    """

    def __init__(self, address: str | None, cpus: int | None, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._shown: dict[int, Counter[tuple[bool, str]]] = {}
        self._over: set[int] = set()
        self._open = ExitStack()
        self._open.enter_context(connected(address, cpus=cpus))
        self._build = uuid.uuid4().hex
        self._board = _Board(self._build)
        self._heard_at, self._turn = 0.0, 0
        self._pool = RayPool({}, on_nodes=self._note, on_tick=self._hear, on_lost=self._take_back)

    def submit(self, work: Work, task: ShardTask, /) -> Future[Made]:  # type: ignore[override]
        """Have `work(task, tools)` done on some node."""
        future: Future[Made] = self._pool.submit(do, work, task, self._build)
        future.add_done_callback(self._ended)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the shards at work, or end them at once (`cancel_futures`), and leave the cluster."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing left to wipe
            self._board.wipe()
        self._open.close()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()

    # --- progress; of the pool's thread ---

    def _note(self, nodes: Nodes) -> None:
        self._progress.note = str(nodes)

    def _hear(self) -> None:
        """Show what workers wrote."""
        now = time.monotonic()
        if now - self._heard_at < _HEAR_S:
            return
        self._heard_at = now
        with contextlib.suppress(Exception):  # a cluster that is busy, or is ending: totals come with each shard
            for number, counts in self._board.read(self._turn, _HEARD).items():
                self._show(number, counts)
        self._turn += _HEARD

    def _ended(self, future: Future[Made]) -> None:
        if not future.cancelled() and future.exception() is None:
            made = future.result()
            self._show(made.number, _counts(made.worked, made.found), over=True)

    def _take_back(self, arguments: tuple[Any, ...]) -> None:
        with contextlib.suppress(Exception):
            self._board.wipe(arguments[1].number)
        self._show(arguments[1].number, Counter())

    def _show(self, number: int, counts: Counter[tuple[bool, str]], *, over: bool = False) -> None:
        """Bring what is shown of a shard to these totals; what is told of it once it is over comes too late."""
        with self._lock:
            if number in self._over:
                return
            before = self._shown.pop(number, Counter())
            for worked, status in sorted({*before, *counts}):
                if by := counts[worked, status] - before[worked, status]:
                    (self._progress.advance if worked else self._progress.already)(status, by)
            if over:
                self._over.add(number)
            else:
                self._shown[number] = counts


def _counts(worked: Any, found: Any) -> Counter[tuple[bool, str]]:
    return Counter({(True, s): n for s, n in worked.items()} | {(False, s): n for s, n in found.items()})


class _Board:
    """Where workers write what they have done of a shard, and the driver reads it: the cluster's own table of keys.

    An actor would do, too, and cost a process with all that Ray loads in one.
    """

    SPACE = "vidkit"

    def __init__(self, build: str) -> None:
        self._build = build

    def _key(self, number: int | str) -> str:
        return f"{self._build}/{number}"

    def write(self, number: int, counts: Counter[tuple[bool, str]]) -> None:
        """Totals of the attempt that is at work on a shard."""
        from ray.experimental import internal_kv

        value = json.dumps([[*which, count] for which, count in counts.items()]).encode()
        internal_kv._internal_kv_put(self._key(number), value, overwrite=True, namespace=self.SPACE)

    def read(self, skip: int, most: int) -> dict[int, Counter[tuple[bool, str]]]:
        """What stands there of `most` shards, beginning with another one each time."""
        from ray.experimental import internal_kv

        keys = sorted(internal_kv._internal_kv_list(self._key(""), namespace=self.SPACE))
        found = {}
        for at in range(min(most, len(keys))):
            key = keys[(skip + at) % len(keys)]
            value = internal_kv._internal_kv_get(key, namespace=self.SPACE)
            if value is not None:
                number = int(key.rpartition(b"/")[2])
                found[number] = Counter({(worked, status): n for worked, status, n in json.loads(value)})
        return found

    def wipe(self, number: int | str = "") -> None:
        """Take what stands there of a shard, or of all."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(self._key(number), del_by_prefix=number == "", namespace=self.SPACE)


# --- on a node ---------------------------------------------------------------------------------------

#: The child process of this worker, kept from shard to shard. It dies with the thread that started it.
_child: ClipWorker | None = None


def do(work: Work, task: ShardTask, build: str = "") -> Made:
    """Do a shard's work in this worker of a cluster; runs in its main thread.

    Args:
        build: under which name it tells what it has done; none: it tells nothing.

    Raises:
        BuildError, OSError: as of `run_task`.
    """
    global _child
    if threading.current_thread() is not threading.main_thread():  # whose end would be the child's
        raise RuntimeError("a shard's work belongs in a worker's main thread")
    if _child is None or _child.timeout_s != task.settings.timeout_s:
        _close()
        _child = ClipWorker(task.settings.timeout_s)
    worked, found = Counter[str](), Counter[str]()
    board = _Board(build) if build else None
    told = begun = time.monotonic()

    def tell(kind: Counter[str], status: str) -> None:
        nonlocal told
        kind[status] += 1
        if board is not None and time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            with contextlib.suppress(Exception):  # what nobody hears of is done all the same
                board.write(task.number, _counts(worked, found))

    tools = Tools(
        worker=_child,
        on_clip=lambda status: tell(worked, status),
        on_found=lambda status: tell(found, status),
        should_stop=lambda: False,  # who stops a task of a cluster ends its process
        attempt=f"{platform.node()}-{uuid.uuid4().hex[:12]}",
    )
    try:
        made = work(task, tools)
    except BaseException:
        _close()  # it may be in the middle of a clip, whose answer nobody awaits any more
        raise
    if board is not None and told > begun:
        with contextlib.suppress(Exception):
            board.wipe(task.number)
    return replace(made, worked=worked, found=found)


def _close() -> None:
    global _child
    if _child is not None:
        _child.close()
        _child = None

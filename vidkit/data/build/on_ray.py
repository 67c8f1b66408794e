"""Shards as tasks of a Ray cluster, one task a shard, with the same killable child process as everywhere."""

from __future__ import annotations

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
        import ray  # it is there, or the line before has said how to install it

        self._tally: Any = ray.remote(Tally).options(num_cpus=0, max_restarts=-1).remote()
        self._told: Any = None
        self._pool = RayPool({}, on_nodes=self._note, on_tick=self._hear, on_lost=self._take_back)

    def submit(self, work: Work, task: ShardTask, /) -> Future[Made]:  # type: ignore[override]
        """Have `work(task, tools)` done on some node."""
        future: Future[Made] = self._pool.submit(do, work, task, self._tally)
        future.add_done_callback(self._ended)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the shards at work, or end them at once (`cancel_futures`), and leave the cluster."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._open.close()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()

    # --- progress; of the pool's thread ---

    def _note(self, nodes: Nodes) -> None:
        self._progress.note = str(nodes)

    def _hear(self) -> None:
        """Take what the workers told, if the answer is there, and ask again. Nothing waits for it."""
        import ray
        from ray.exceptions import RayError

        if self._told is not None:
            if not ray.wait([self._told], timeout=0)[0]:
                return
            try:
                for number, counts in ray.get(self._told).items():
                    self._show(number, counts)
            except RayError:  # its node was lost: it begins anew elsewhere, and totals come with each shard
                self._told = None
        self._told = self._tally.take.remote()

    def _ended(self, future: Future[Made]) -> None:
        if not future.cancelled() and future.exception() is None:
            made = future.result()
            self._show(made.number, _counts(made.worked, made.found), over=True)

    def _take_back(self, arguments: tuple[Any, ...]) -> None:
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


class Tally:
    """An actor that hears what workers have done, and says so when it is asked."""

    def __init__(self) -> None:
        self._news: dict[int, Counter[tuple[bool, str]]] = {}

    def add(self, number: int, counts: Counter[tuple[bool, str]]) -> None:
        """Totals of the attempt that is at work on a shard."""
        self._news[number] = counts

    def take(self) -> dict[int, Counter[tuple[bool, str]]]:
        """What is new since the last time."""
        news, self._news = self._news, {}
        return news


# --- on a node ---------------------------------------------------------------------------------------

#: The child process of this worker, kept from shard to shard. It dies with the thread that started it.
_child: ClipWorker | None = None


def do(work: Work, task: ShardTask, tally: Any = None) -> Made:
    """Do a shard's work in this worker of a cluster; runs in its main thread.

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
    told = time.monotonic()

    def tell(kind: Counter[str], status: str) -> None:
        nonlocal told
        kind[status] += 1
        if tally is not None and time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            tally.add.remote(task.number, _counts(worked, found))

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
    return replace(made, worked=worked, found=found)


def _close() -> None:
    global _child
    if _child is not None:
        _child.close()
        _child = None

"""Who makes the shards: an executor takes tasks, and gives back futures, as in `concurrent.futures`.

`LocalExecutor` is this machine's; `on_ray` has the one of a cluster. Nothing but `build` knows which it is.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event, local
from typing import Any

from vidkit.data.build.clip_worker import ClipWorker, Stopped
from vidkit.data.build.task import Made, ShardTask, Tools, Work
from vidkit.data.progress import Progress


class LocalExecutor(Executor):
    """A thread for each shard at work, which waits for the killable child process that does its work.

    The first failure stops the others, which stay resumable: their futures raise `Stopped`.

    Args:
        workers: shards at a time.
        timeout_s: see `ClipWorker`.
        progress: told of each clip as it ends.
    """

    def __init__(self, workers: int, timeout_s: float, progress: Progress) -> None:
        self._timeout_s, self._progress = timeout_s, progress
        self._stop = Event()
        self._mine = local()
        self._children = ExitStack()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="shard")

    def submit(self, work: Work, task: ShardTask, /) -> Future[Made]:  # type: ignore[override]
        """Have `work(task, tools)` done, in the order in which it was asked for."""
        return self._pool.submit(self._run, work, task)

    def _run(self, work: Work, task: ShardTask) -> Made:
        if self._stop.is_set():
            raise Stopped
        if not hasattr(self._mine, "tools"):
            self._mine.tools = Tools(
                worker=self._children.enter_context(ClipWorker(self._timeout_s, self._stop.is_set)),
                on_clip=self._progress.advance,
                on_found=self._progress.already,
                should_stop=self._stop.is_set,
            )
        try:
            return work(task, self._mine.tools)
        except BaseException:
            self._stop.set()  # here, before this thread takes up another shard
            raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the work at hand, or stop it (`cancel_futures`) within a second, and end the child processes."""
        if cancel_futures:
            self._stop.set()
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._children.close()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()

"""Cells of an ablation side by side, each in a process with a GPU of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from vidkit.bench.ablate.cells import Job
from vidkit.bench.rows.schema import Row
from vidkit.data.processes import die_with
from vidkit.errors import TrainingError
from vidkit.settings.plain import config_hash

VISIBLE = "CUDA_VISIBLE_DEVICES"

Work = Callable[[Job], Row]


def places(jobs: int) -> tuple[str | None, ...]:
    """What each of the processes may see: one GPU in turn, or None where there is no GPU.

    Args:
        jobs: processes; 0: as many as there are GPUs, at least one.
    """
    count = torch.cuda.device_count()
    if count == 0:
        return (None,) * max(1, jobs)
    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    names = named[:count] if len(named) >= count else [str(i) for i in range(count)]
    return tuple(names[i % count] for i in range(jobs or count))


def side_by_side(work: Work, jobs: Iterable[Job], where: Sequence[str | None]) -> Iterator[Row]:
    """Rows in the order in which cells end. Cells that share a pre-training run one after another.

    Args:
        work: makes a row; goes to each process once.
        where: what each process may see; see `places`.

    Raises:
        TrainingError: a process was ended from outside.
        KeyboardInterrupt: Ctrl-C. The runs at work have left checkpoints.
    """
    queues: dict[str, list[Job]] = {}
    for job in jobs:
        shared = config_hash(job.memory if job.planned.in_grid.kind == "memory" else job.config.pretrain)
        queues.setdefault(shared, []).append(job)
    context = multiprocessing.get_context("spawn")  # a process that has used CUDA cannot be forked
    free: Any = context.SimpleQueue()
    for place in where:
        free.put(place)
    threads = max(1, torch.get_num_threads() // len(where))
    pool = ProcessPoolExecutor(len(where), context, _begin, (free, work, threads, os.getpid()))
    running: dict[Future[Row], list[Job]] = {}
    try:
        for queue in queues.values():
            running[pool.submit(_row, queue.pop(0))] = queue
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                queue = running.pop(future)
                if queue:
                    running[pool.submit(_row, queue.pop(0))] = queue
                yield future.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a process that ran a cell was ended from outside, perhaps for lack of memory",
            hint="go on with --resume; fewer --jobs need less memory",
        ) from error
    finally:
        if running:  # Ctrl-C or a fault: the cells at work write a checkpoint, the others do not begin
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGINT)
        pool.shutdown()


_work: Work | None = None


def _begin(free: Any, work: Work, threads: int, parent: int) -> None:
    """Of each process: where it works, and what."""
    global _work
    die_with(parent)
    os.setpgrp()  # Ctrl-C in a terminal goes to the parent, which hands it on, once
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = free.get()
    if place is not None:
        os.environ[VISIBLE] = place  # nothing has asked for a GPU yet
    torch.set_num_threads(threads)
    _work = work


def _row(job: Job) -> Row:
    assert _work is not None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _work(job)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

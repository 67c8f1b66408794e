"""Processes that begin with torch and vidkit loaded: a fork takes milliseconds, importing them five seconds.

They come from a server that has done nothing but import: a process that has run tests cannot be forked, as torch's
threads would be missing in its child.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: One server for all tests of a process: what is loaded is said before it starts, and then it is too late.
CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.train.two_processes",
        "tests.data.build.test_resume",
        "vidkit.cli.datasets.plan_report",
        "vidkit.data.build.planned",
        "pandas",
    ]
)


@contextmanager
def running(function: Callable[..., object], *args: object, says: Path) -> Iterator[Any]:
    """Call `function` in a child that leads a group of its own, with `says` as its stdout and stderr.

    It exits with 1 where `function` raises, a KeyboardInterrupt too. What is left of the group after the block is
    killed.
    """
    says.touch()
    process = CONTEXT.Process(target=_call, args=(function, args, says))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            process.kill()
        process.join()


def _call(function: Callable[..., object], args: tuple[object, ...], says: Path) -> None:
    os.setsid()
    handle = os.open(says, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(handle, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*args)

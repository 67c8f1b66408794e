"""Processes that begin with all that this one has loaded: a fork takes milliseconds, importing torch seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path


@contextmanager
def running(function: Callable[..., object], *args: object, says: Path) -> Iterator[BaseProcess]:
    """Call `function` in a child that leads a group of its own, with `says` as its stdout and stderr.

    It exits with 1 where `function` raises, a KeyboardInterrupt too. What is left of the group after the block is
    killed.
    """
    says.touch()
    process = multiprocessing.get_context("fork").Process(target=_call, args=(function, args, says))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
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

"""A process that ends between any two steps, and begins again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.builds import snapshot
from vidkit.data.shards import ShardWriter


class Crash(BaseException):
    """The process ends here."""


def crash_after(clips: int, patched: pytest.MonkeyPatch) -> None:
    """From now on the process ends after so many more stored clips."""
    left = [clips]
    real = ShardWriter.add

    def add(self: Any, *args: Any) -> None:
        real(self, *args)
        left[0] -= 1
        if not left[0]:
            raise Crash

    patched.setattr(ShardWriter, "add", add)


STEPS = ("replace", "unlink", "rmdir", "mkdir", "fsync")


def crash_everywhere(
    crash_at: Callable[[int | None], None],
    begin: Callable[[Path], None],
    attempt: Callable[[Path], None],
    want: dict[str, str],
    tmp_path: Path,
) -> int:
    """`attempt` dies at its Nth step and is made again, for every N; returns how many steps there are."""
    for number in range(10_000):
        out = tmp_path / f"at{number}"
        begin(out)
        crash_at(number)
        try:
            attempt(out)
        except Crash:
            crash_at(None)
            attempt(out)
            assert snapshot(out) == want, f"killed before step {number + 1}"
            shutil.rmtree(out)
        else:
            crash_at(None)
            assert snapshot(out) == want
            return number
    raise AssertionError("it never came to an end")

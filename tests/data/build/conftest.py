"""Processes that end at a step of one's choice."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.data.build.crashes import STEPS, Crash


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], None]]:
    """Call with N: everything that touches the folder fails from its Nth step on, as in a dead process."""
    left: list[int | None] = [None]

    def patch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise Crash(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, step)

    for name in STEPS:
        patch(os, name)
        if hasattr(pathlib, "_normal_accessor") and name != "fsync":  # Python 3.10 keeps its own references
            patch(pathlib._normal_accessor, name)

    def at(number: int | None) -> None:
        left[0] = number

    yield at
    left[0] = None

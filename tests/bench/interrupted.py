"""Runs that are stopped in a step that a test names, and rows without what differs between two such runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from vidkit.bench.rows.schema import Row
from vidkit.train import pretrain

#: Of a row: how long it took, and where it ran.
TIMES: dict[str, Any] = {"clips_per_s": None, "step_clips_per_s": None, "seconds": {}, "machine": {}, "git": None}


def learnt(rows: Iterable[Row]) -> list[Row]:
    return [replace(row, **TIMES) for row in rows]


def stop_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C in the given step of pre-training, counted over all runs from here on."""
    made = pretrain._losses
    steps = iter(range(1, 1000))

    def stopping(*args: Any) -> Callable[..., Any]:
        losses = made(*args)

        def counted(*inner: Any) -> Any:
            if next(steps) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return losses(*inner)

        return counted

    monkeypatch.setattr(pretrain, "_losses", stopping)

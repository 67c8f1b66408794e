"""Plans of many shards: what the driver of a build holds does not grow with them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.data.builds import LISTED, listed_tree, plan, run, snapshot
from vidkit.data.build import build as module
from vidkit.data.build.task import Made


def test_shards_are_begun_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    waiting: list[Future[Made]] = []
    most = 0

    def begin() -> Iterator[Future[Made]]:
        nonlocal most
        for _ in range(100):
            waiting.append(Future())
            most = max(most, len(waiting))
            yield waiting[-1]

    chance = random.Random(0)
    numbers = iter(range(100))

    def end_one() -> None:
        if waiting:
            waiting.pop(chance.randrange(len(waiting))).set_result(Made(number=next(numbers)))

    made = [found.number for found in module._ended(begin(), end_one)]
    assert made == list(range(100))
    assert most == 7


@pytest.mark.usefixtures("in_process")
def test_the_ledger_is_gathered_in_few_tables_and_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = plan(LISTED, listed_tree(tmp_path / "t", 40, missing=1, broken=1), clips_per_shard=1)
    run(prepared, tmp_path / "whole")
    monkeypatch.setattr(module, "_JOINED", 4)
    pieces: list[int] = []
    concat = module.pa.concat_tables

    def counted(tables: list[Any], *args: Any) -> Any:
        pieces.append(len(tables))
        return concat(tables, *args)

    monkeypatch.setattr(module.pa, "concat_tables", counted)
    run(prepared, tmp_path / "joined")
    assert snapshot(tmp_path / "joined") == snapshot(tmp_path / "whole")
    assert len(pieces) > 5
    assert max(pieces[:-1]) == 4
    assert pieces[-1] <= len(pieces) + 2

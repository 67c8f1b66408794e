"""Keys and shards follow from the plan alone: seed and clips, not the order in which they were found."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from vidkit.data.plan.composite import PLAN_SCHEMA
from vidkit.data.plan.layout import Slot, lay_out, plan_sha256, slots


def table(count: int, *, shuffle: int | None = None, **changed: Any) -> pa.Table:
    """A plan of `count` clips: every fifth in val, every seventh in test."""
    rows = []
    for i in range(count):
        split = "val" if i % 5 == 4 else "test" if i % 7 == 6 else "train"
        row = {
            "clip_id": f"mine/{i:04d}",
            "source": "mine",
            "path": f"{i}.mp4",
            "split": split,
            "labels": ["a", "b"][: 1 + i % 2],
            "group": None,
            "class_id": i % 3,
            "class_name": "abc"[i % 3],
            "multi_hot": [i % 3],
        }
        rows.append({**dict.fromkeys(PLAN_SCHEMA.names), **row})
    if changed:
        rows[0] = {**rows[0], **changed}
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


def rows(laid: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = laid.to_pylist()
    return found


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("per_shard", [1, 3, 1000])
def test_every_clip_has_one_key_and_one_slot(count: int, per_shard: int) -> None:
    laid = lay_out(table(count), clips_per_shard=per_shard, seed=0)
    found = rows(laid)
    assert sorted(row["clip_id"] for row in found) == [f"mine/{i:04d}" for i in range(count)]
    assert [row["key"] for row in found] == [f"{i:08d}" for i in range(count)]
    order = [row["split"] for row in found]
    assert order == sorted(order, key=["train", "val", "test"].index)
    by_split: dict[str, list[str]] = {}
    for row in found:
        by_split.setdefault(row["split"], []).append(row["shard"])
    for split, shards in by_split.items():
        assert shards == [f"{split}/{i // per_shard:06d}.tar" for i in range(len(shards))]


def test_slots_cover_the_table_in_order() -> None:
    laid = lay_out(table(50), clips_per_shard=8, seed=3)
    planned = slots(laid)
    assert planned[0].start == 0
    assert sum(slot.rows for slot in planned) == 50
    for slot, after in zip(planned, [*planned[1:], Slot("", 0, 50, 0)], strict=True):
        assert slot.start + slot.rows == after.start
        assert set(laid["shard"].slice(slot.start, slot.rows).to_pylist()) == {slot.name}
        assert slot.journal == f"{slot.split}-{slot.number:06d}.jsonl"
    assert len({slot.name for slot in planned}) == len(planned)


def test_the_order_of_the_input_does_not_matter() -> None:
    want = rows(lay_out(table(60), clips_per_shard=8, seed=1))
    for seed in range(3):
        assert rows(lay_out(table(60, shuffle=seed), clips_per_shard=8, seed=1)) == want


def test_the_seed_does() -> None:
    orders = {tuple(r["clip_id"] for r in rows(lay_out(table(60), clips_per_shard=8, seed=s))) for s in range(4)}
    assert len(orders) == 4
    assert tuple(f"mine/{i:04d}" for i in range(60)) not in orders, "shards are fair samples, not slices"


def test_a_limit_takes_a_part_of_every_split() -> None:
    whole = rows(lay_out(table(210), clips_per_shard=8, seed=0))
    part = rows(lay_out(table(210), clips_per_shard=8, seed=0, limit=70))
    assert len(part) == 70
    assert {row["split"] for row in part} == {"train", "val", "test"}
    assert {row["clip_id"] for row in part} <= {row["clip_id"] for row in whole}
    assert [row["key"] for row in part] == [f"{i:08d}" for i in range(70)]
    assert len(rows(lay_out(table(5), clips_per_shard=8, seed=0, limit=70))) == 5


def test_an_empty_plan_has_no_slot() -> None:
    laid = lay_out(table(0), clips_per_shard=8, seed=0)
    assert (laid.num_rows, slots(laid)) == (0, [])


@pytest.mark.parametrize(
    "change",
    [
        {"clip_id": "mine/9999"},
        {"split": "test"},
        {"labels": ["a", "c"]},
        {"labels": []},
        {"class_id": 2},
        {"class_id": None},
        {"multi_hot": [0, 1]},
    ],
    ids=str,
)
def test_the_plans_hash_tells_what_is_built(change: dict[str, Any]) -> None:
    base = plan_sha256(lay_out(table(20), clips_per_shard=8, seed=0))
    assert plan_sha256(lay_out(table(20, **change), clips_per_shard=8, seed=0)) != base


def test_the_plans_hash_is_not_of_places() -> None:
    base = plan_sha256(lay_out(table(20), clips_per_shard=8, seed=0))
    for change in ({"path": "elsewhere/0.mp4"}, {"path": None, "error": "missing", "message": "gone"}):
        assert plan_sha256(lay_out(table(20, **change), clips_per_shard=8, seed=0)) == base
    assert plan_sha256(lay_out(table(20, shuffle=1), clips_per_shard=8, seed=0)) == base
    assert plan_sha256(lay_out(table(20), clips_per_shard=9, seed=0)) != base
    assert plan_sha256(lay_out(table(20), clips_per_shard=8, seed=1)) != base


def test_names_that_look_like_separators_do_not_collide() -> None:
    one = plan_sha256(lay_out(table(3, labels=["a", "b"]), clips_per_shard=8, seed=0))
    other = plan_sha256(lay_out(table(3, labels=["a', 'b"]), clips_per_shard=8, seed=0))
    assert one != other

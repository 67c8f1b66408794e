"""Filters, orders and counts of a ledger, beside a loop over its rows."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.view import made
from vidkit.errors import ConfigError
from vidkit.view.clips import query as asking
from vidkit.view.clips.opened import Opened, read


@pytest.fixture(scope="module")
def opened(seen: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return read(made.many(tmp_path_factory.mktemp("many") / "many", seen, 700))


def slow(row: dict[str, Any], asked: dict[str, list[str]], but: str | None = None) -> bool:
    """Whether a row passes, filter by filter."""
    text = " ".join(str(row[name] or "") for name in ("clip_id", "class_name", "group", "path", "message")).lower()
    values = {
        "split": row["split"],
        "class": row["class_name"],
        "status": row["status"],
        "error": row["error"],
        "size": f"{row['width']}x{row['height']}",
        "warned": str(int(bool(row["warnings"]))),
        "group": row["group"],
    }
    for name, wanted in asked.items():
        if name == but:
            continue
        if name in values and values[name] not in wanted:
            return False
        if name == "q" and not all(word in text for word in wanted[0].lower().split()):
            return False
        if name == "seconds":
            low, high = wanted[0].split("..")
            value = row["duration_s"]
            below = value is not None and (
                not high or (value < float(high[1:]) if high[0] == "<" else value <= float(high))
            )
            if value is None or not below or (low and value < float(low)):
                return False
    return True


def some_query(draw: random.Random) -> dict[str, list[str]]:
    every: dict[str, list[str]] = {
        "split": draw.sample(["train", "val", "test"], 2),
        "class": [f"class {draw.randrange(99):02d}" for _ in range(40)],
        "status": draw.sample(["ok", "failed", "missing"], 2),
        "error": ["truncated", "empty"],
        "size": ["96x96"],
        "warned": ["1"],
        "group": [f"video {draw.randrange(100)}"],
        "q": [draw.choice(["MADE 00", "boat", "video 1", "moov atom", "nowhere"])],
        "seconds": [draw.choice(["2..5", "..3", "4.5..", "1..<2.5"])],
    }
    return {name: every[name] for name in draw.sample(sorted(every), draw.randrange(4))}


@pytest.mark.parametrize("seed", range(12))
def test_filters_and_counts(opened: Opened, seed: int) -> None:
    rows = opened.ledger.to_pylist()
    asked = some_query(random.Random(seed))
    query = asking.parse([(name, value) for name, values in asked.items() for value in values])
    found = asking.masks(opened.index, query, None)
    mask = asking.together(found, opened.index.clips)
    assert mask.tolist() == [slow(row, asked) for row in rows]
    counts = asking.counts(opened.index, query, found)
    for name, column in (("split", "split"), ("class", "class_name"), ("status", "status"), ("error", "error")):
        for value, count in counts[name].items():
            assert count == sum(row[column] == value and slow(row, asked, but=name) for row in rows), (name, value)


@pytest.mark.parametrize(
    ("sort", "column"), [("seconds", "duration_s"), ("class", "class_name"), ("id", "clip_id")]
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_orders(opened: Opened, sort: str, column: str, sign: str) -> None:
    rows = opened.ledger.to_pylist()
    query = asking.parse([("sort", sign + sort)])
    mask = asking.together({}, opened.index.clips)
    order = asking.order(opened.index, query, mask, None).tolist()
    assert sorted(order) == list(range(len(rows))), "every clip once"
    values = [rows[i][column] for i in order]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=bool(sign))
    assert values[len(known) :] == [None] * (len(values) - len(known)), "what has no value comes last, either way"
    for one, other in pairwise(order):
        assert rows[one][column] != rows[other][column] or one < other, "equal ones as the plan has them"


def test_keys_of_marked_clips(opened: Opened) -> None:
    from dataclasses import replace

    query = replace(asking.parse([("status", "ok")]), keys=frozenset({"00000000", "00000699", "99999999"}))
    mask = asking.together(asking.masks(opened.index, query, None), opened.index.clips)
    keys = [row["key"] for row, chosen in zip(opened.ledger.to_pylist(), mask, strict=True) if chosen]
    assert keys == [key for key in ("00000000", "00000699") if opened.row(int(key))["status"] == "ok"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seconds", "short", "10..20"),
        ("seconds", "1..2..3", "10..20"),
        ("sort", "colour", "expected one of id, class"),
        ("right", "maybe", "yes or no"),
    ],
)
def test_addresses_that_mean_nothing(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")) as caught:
        asking.parse([(name, value)])
    assert caught.value.field == name


def test_several_labels(opened: Opened) -> None:
    """Under the multi-hot rule a clip is in each of its labels, and without any in a place of its own."""
    import pyarrow as pa

    from vidkit.view.clips.index import NO_CLASS, Index

    labels = [["b", "a"], [], ["c"], ["a"]] * 175
    table = opened.ledger.set_column(
        opened.ledger.schema.get_field_index("labels"), "labels", pa.array(labels, pa.list_(pa.string()))
    )
    facet = Index(table, "multi-hot").facets["class"]
    assert facet.names == (NO_CLASS, "a", "b", "c")
    assert facet.counts(facet.among(["a", "c"])) == {NO_CLASS: 0, "a": 350, "b": 175, "c": 175}
    assert facet.among([NO_CLASS]).tolist() == [False, True, False, False] * 175
    assert set(facet.of(0)) == {"a", "b"}

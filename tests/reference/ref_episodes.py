"""Slow, obvious versions of what episodes promise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product
from typing import Any


def divisible(sizes: Sequence[int], shot: int, query: int) -> bool:
    """Whether videos with so many clips can be given to support and query, every way tried."""
    for sides in product((0, 1), repeat=len(sizes)):
        support = sum(size for size, side in zip(sizes, sides, strict=True) if side == 0)
        if support >= shot and sum(sizes) - support >= query:
            return True
    return False


def videos(ledger: Sequence[dict[str, Any]]) -> list[object]:
    """What each clip shows; a clip of unknown origin shows something of its own."""
    return [
        (row["source"], row["group"]) if row["group"] is not None else ("alone", i) for i, row in enumerate(ledger)
    ]


def check_episode(ledger: Sequence[dict[str, Any]], episode: Any, settings: Any, allowed: Sequence[str]) -> None:
    """Holds an episode to its promises, clip by clip. `ledger` has the rows that the episode numbers."""
    shown = videos(ledger)
    classes = [int(i) for i in episode.class_ids]
    assert len(classes) == len(set(classes)) == settings.way
    used = []
    for rows, slots, each in (
        (episode.support, episode.support_slots, settings.shot),
        (episode.query, episode.query_slots, settings.query),
    ):
        assert len(rows) == len(slots) == settings.way * each
        for slot in range(settings.way):
            assert sum(int(s) == slot for s in slots) == each
        for row, slot in zip(rows, slots, strict=True):
            assert ledger[row]["class_id"] == classes[slot]
            assert ledger[row]["class_name"] in allowed
            assert ledger[row]["status"] == "ok"
            assert row not in used
            used.append(row)
    if not settings.allow_shared_groups:
        for support in episode.support:
            for query in episode.query:
                assert shown[support] != shown[query]


def check_sequence(ledger: Sequence[dict[str, Any]], sequence: Any, settings: Any) -> None:
    shown = videos(ledger)
    seen: dict[int, int] = {}
    used: list[int] = []
    for row, slot, instance in zip(sequence.rows, sequence.slots, sequence.instance, strict=True):
        assert ledger[row]["class_id"] == sequence.class_ids[slot]
        assert row not in used
        assert settings.allow_shared_groups or shown[row] not in [shown[other] for other in used]
        seen[slot] = seen.get(slot, 0) + 1
        assert instance == seen[slot]
        used.append(row)
    assert seen == dict.fromkeys(range(settings.way), settings.instances)


def class_order(names: Sequence[str], label_map_sha256: str, seed: int) -> list[str]:
    """The order in which classes go to meta-train, meta-val and meta-test."""
    digests = {name: hashlib.sha256(f"{label_map_sha256}\n{seed}\n{name}".encode()).hexdigest() for name in names}
    return sorted(names, key=digests.__getitem__)

"""The merge of clip tables, one row and one set at a time: slow, and plain to check by eye.

Rows are dicts with source, clip_id, split, labels, group and error. `single` and `multi` map the names of
single-label and multi-label sources to their class lists; all names are taken to be different.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def trusted(row: Row) -> bool:
    return row["error"] is None or row["error"] == "missing"


def ranked_sets(rows: list[Row], multi: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Label sets by falling number of clips, ties by name."""
    counts: dict[tuple[str, ...], int] = {}
    for row in rows:
        if row["source"] in multi and trusted(row) and row["labels"]:
            labels = tuple(sorted(set(row["labels"])))
            counts[labels] = counts.get(labels, 0) + 1
    order = []
    while counts:
        best = None
        for labels in counts:
            if (
                best is None
                or counts[labels] > counts[best]
                or (counts[labels] == counts[best] and "+".join(labels) < "+".join(best))
            ):
                best = labels
        order.append(best)
        del counts[best]
    return order


def classes_of(
    rows: list[Row], single: dict[str, list[str]], multi: dict[str, list[str]], most: int | None
) -> list[str]:
    names = sorted(name for listed in single.values() for name in listed)
    for labels in ranked_sets(rows, multi):
        if most is None or len(names) < most:
            names.append("+".join(labels))
    return names


def class_of(row: Row, classes: list[str], sets: list[tuple[str, ...]], multi: dict[str, list[str]]) -> str | None:
    """Class name of a row under the rule "label-set"; None: withheld, unusable or not kept."""
    if not trusted(row) or not row["labels"]:
        return None
    if row["source"] not in multi:
        return row["labels"][0] if len(set(row["labels"])) == 1 else None
    labels = set(row["labels"])
    best = None
    for kept in sets:
        if "+".join(kept) in classes and set(kept) <= labels and (best is None or len(kept) > len(best)):
            best = kept
    return None if best is None else "+".join(best)


def multi_hot_of(row: Row, base: list[str]) -> list[int]:
    if not trusted(row):
        return []
    return [i for i, name in enumerate(base) if name in row["labels"]]


def leaks_of(rows: list[Row]) -> set[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    found = set()
    for row in rows:
        same = [
            other
            for other in rows
            if trusted(other) and (other["source"], other["group"]) == (row["source"], row["group"])
        ]
        splits = {other["split"] for other in same}
        if row["group"] is not None and trusted(row) and len(splits) > 1:
            ids = sorted(other["clip_id"] for other in same)
            found.add((row["source"], row["group"], tuple(sorted(splits)), tuple(ids)))
    return found

"""Whether the records of a dataset agree: ledger rows with themselves and the label map, counts with the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vidkit.data.dataset import CLIPS_PARQUET, DATASET_JSON
from vidkit.data.plan.labels import make_label_map
from vidkit.data.tables import LEDGER_SCHEMA, SPLITS
from vidkit.data.verify.report import Report
from vidkit.errors import CLIP_ERRORS, clean_message

#: What only a stored clip has.
_STORED = ("offset", "nbytes", "frames", "fps", "duration_s", "width", "height")

_RULES = ("single", "label-set", "multi-hot")


@dataclass(frozen=True, slots=True)
class Labels:
    """The label map as it stands in dataset.json, once its parts have the right types."""

    rule: str
    classes: Sequence[str]
    base_labels: Sequence[str]
    base_set: frozenset[str] = field(repr=False)


def at(facts: Any, *path: str) -> Any:
    """`facts[a][b]...`, or None where something on the way is missing or no object."""
    for name in path:
        if not isinstance(facts, Mapping) or name not in facts:
            return None
        facts = facts[name]
    return facts


def check_label_map(facts: Mapping[str, Any], report: Report) -> Labels | None:
    """Types, repeated names and the digest, recomputed."""
    rule, sha256 = at(facts, "label_map", "rule"), at(facts, "label_map", "sha256")
    lists = at(facts, "label_map", "classes"), at(facts, "label_map", "base_labels")
    if rule not in _RULES or not all(isinstance(names, list) and _are_strings(names) for names in lists):
        message = f"expected a rule ({', '.join(_RULES)}) and two lists of names; the rule is {rule!r}"
        report.add("label-map", f"{DATASET_JSON}: label_map", message)
        return None
    classes, base_labels = lists
    for name, names in (("classes", classes), ("base_labels", base_labels)):
        twice = sorted(n for n, count in Counter(names).items() if count > 1)
        if twice:
            report.add("label-map", f"{DATASET_JSON}: label_map.{name}", f"{twice[0]!r} is there more than once")
    found = make_label_map(rule, classes, base_labels).sha256
    settings = at(facts, "settings", "label_map") or found
    for where, recorded in (("label_map.sha256", sha256), ("settings.label_map", settings)):
        if recorded != found:
            report.add("label-map", f"{DATASET_JSON}: {where}", f"recorded {recorded}; the names give {found}")
    report.checks["classes"] += len(base_labels if rule == "multi-hot" else classes)
    return Labels(rule, classes, base_labels, frozenset(base_labels))


def _are_strings(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def with_right_types(ledger: pa.Table, report: Report) -> pa.Table | None:
    """The ledger in its own schema; None where a column cannot be read as its type."""
    for column in LEDGER_SCHEMA:
        found = ledger.schema.field(column.name).type
        if found != column.type:
            message = f"column {column.name} holds {found}; expected {column.type}"
            report.add("ledger", CLIPS_PARQUET, message)
    nullable = pa.schema([column.with_nullable(True) for column in LEDGER_SCHEMA])
    try:
        ledger = ledger.select(LEDGER_SCHEMA.names).cast(nullable)
        ledger.validate(full=True)  # text that is no UTF-8, lists that point outside
    except pa.ArrowException as error:
        report.add("unreadable-file", CLIPS_PARQUET, f"damaged columns: {clean_message(str(error))}")
        return None
    return ledger


class RowChecks:
    """Checks ledger rows one after another, and counts them for `check_counts`."""

    def __init__(self, labels: Labels | None, report: Report) -> None:
        self.labels, self.report = labels, report
        self.keys: set[str] = set()
        self.clip_ids: set[str] = set()
        self.status: Counter[tuple[str, str, str]] = Counter()
        """(split, source, status) -> rows"""
        self.errors: Counter[str] = Counter()
        self.frames = self.with_warnings = 0

    def check(self, row: Mapping[str, Any]) -> None:
        """Take one row of the ledger, and report where it contradicts itself, the label map or a row before it."""
        where = f"{CLIPS_PARQUET}: key {row['key']} ({row['clip_id']})"
        for message in self._contradictions(row):
            self.report.add("ledger", where, message)
        for message in self._label_faults(row):
            self.report.add("label", where, message)
        for name, seen in (("key", self.keys), ("clip_id", self.clip_ids)):
            if row[name] in seen:
                self.report.add("duplicate-key", where, f"{name} {row[name]!r} stands in several rows")
            seen.add(row[name])
        self.status[str(row["split"]), str(row["source"]), str(row["status"])] += 1
        if row["error"] is not None:
            self.errors[row["error"]] += 1
        self.frames += row["frames"] or 0
        self.with_warnings += bool(row["warnings"])

    def _contradictions(self, row: Mapping[str, Any]) -> list[str]:
        found = []
        status, error = row["status"], row["error"]
        if row["split"] not in SPLITS:
            found.append(f"split is {row['split']!r}; expected one of {', '.join(SPLITS)}")
        if row["shard"] is None or not row["shard"].startswith(f"{row['split']}/"):
            found.append(f"shard is {row['shard']!r}; expected one of split {row['split']!r}")
        if status not in ("ok", "failed", "missing"):
            found.append(f"status is {status!r}; expected ok, failed or missing")
        elif status == "ok":
            found += [f"error is {error!r}, though the status is ok"] if error is not None else []
            lacking = [name for name in _STORED if row[name] is None]
            found += [f"a stored clip without {', '.join(lacking)}"] if lacking else []
        else:
            if error not in CLIP_ERRORS:
                found.append(f"error is {error!r}; expected a known code, since the status is {status}")
            elif (error == "missing") != (status == "missing"):
                found.append(f"status {status} does not go with error {error!r}")
            if row["offset"] is not None or row["nbytes"] is not None:
                found.append(f"has a place in a shard, though the status is {status}")
        return found

    def _label_faults(self, row: Mapping[str, Any]) -> list[str]:
        labels = self.labels
        if labels is None:
            return []
        found = []
        class_id, class_name, hot = row["class_id"], row["class_name"], row["multi_hot"] or []
        names = row["labels"] or []
        if class_id is None:
            if class_name is not None:
                found.append(f"class_name is {class_name!r} without a class_id")
            if row["status"] == "ok" and names and labels.rule != "multi-hot":
                found.append(f"has labels ({', '.join(names)}) and no class_id")
        elif labels.rule == "multi-hot":
            found.append(f"class_id is {class_id}; the rule multi-hot has none")
        elif not 0 <= class_id < len(labels.classes):
            found.append(f"class_id {class_id} is outside the label map (0 to {len(labels.classes) - 1})")
        elif class_name != labels.classes[class_id]:
            found.append(f"class_name is {class_name!r}; class {class_id} is {labels.classes[class_id]!r}")
        outside = [i for i in hot if not 0 <= i < len(labels.base_labels)]
        if outside:
            found.append(f"multi-hot id {outside[0]} is outside the label map (0 to {len(labels.base_labels) - 1})")
        elif sorted(set(hot)) != hot:
            found.append(f"multi_hot is {hot}; expected distinct ids, ascending")
        elif row["status"] == "ok":
            # a name that two class lists have is told apart by its source
            full = [f"{row['source']}:{name}" for name in names]
            unknown = [n for n, f in zip(names, full, strict=True) if not {n, f} & labels.base_set]
            meant = [labels.base_labels[i] for i in hot]
            if unknown:
                found.append(f"label {unknown[0]!r} is outside the label map")
            elif len(meant) != len(set(names)) or not {*names, *full}.issuperset(meant):
                found.append(f"multi_hot means {meant}; the labels are {names}")
        return found


def check_counts(
    facts: Mapping[str, Any], rows: RowChecks, shards: Sequence[Mapping[str, Any]] | None, report: Report
) -> None:
    """Every count in dataset.json, taken again from the ledger's rows and from shards.json."""

    def expect(found: Any, *path: str) -> None:
        recorded = at(facts, *path)
        if recorded != found:
            message = f"recorded {recorded}; the records give {found}"
            report.add("counts", f"{DATASET_JSON}: {'.'.join(path)}", message)

    def tally(index: int | None, name: str, *path: str) -> None:
        mine = {k: n for k, n in rows.status.items() if index is None or k[index] == name}
        expect(sum(mine.values()), *path, "planned")
        for status in ("ok", "failed", "missing"):
            expect(sum(n for k, n in mine.items() if k[2] == status), *path, status)
        parts = [at(facts, *path, status) for status in ("ok", "failed", "missing")]
        planned = at(facts, *path, "planned")
        if all(isinstance(part, int) for part in parts) and planned != sum(parts):
            message = f"planned is {planned}; ok + failed + missing is {sum(parts)}"
            report.add("counts", f"{DATASET_JSON}: {'.'.join(path)}", message)

    tally(None, "", "counts")
    for index, name in enumerate(("splits", "sources")):
        recorded = at(facts, name)
        known = set(recorded) if isinstance(recorded, Mapping) else set()
        for one in sorted(known | {k[index] for k in rows.status}):
            tally(index, one, name, one)
    expect(rows.with_warnings, "counts", "with_warnings")
    expect(rows.frames, "counts", "frames")
    expect(dict(sorted(rows.errors.items())), "errors")
    if shards is not None:
        expect(len(shards), "counts", "shards")
        expect(sum(shard["bytes"] for shard in shards), "counts", "bytes")

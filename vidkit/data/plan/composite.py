"""Clip tables of several sources -> one plan: class ids, split leaks, and found beside expected.

Nothing is lost on the way: the plan has a row for every row of its sources, in the order of the spec.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.plan import exclusions
from vidkit.data.plan.exclusions import Excluded
from vidkit.data.plan.labels import Decision, Folded, LabelMap, LabelRule, LabelSet, base_labels
from vidkit.data.sources import SourceResult
from vidkit.data.tables import CLIP_SCHEMA, TRIES_FIELD, Matching
from vidkit.errors import ConfigError
from vidkit.settings.encode import DatasetSpec, SourceOptions

PLAN_SCHEMA = pa.schema(
    [
        *CLIP_SCHEMA,
        pa.field("class_id", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("multi_hot", pa.list_(pa.int32()), nullable=False),  # ids over the base labels, ascending
    ]
)

_SEPARATOR = "\x1f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Clips of one source that must not be in different splits, and are."""

    kind: str
    """"group": the same YouTube video, surveillance video or file number."""
    source: str
    value: str
    splits: tuple[str, ...]
    clip_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Absent:
    """What a full dataset would have and this one does not, and why."""

    classes: tuple[str, ...]
    """Classes (base labels under "multi-hot") without any clip on disk."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that a build carries out, before any video is opened."""

    table: pa.Table
    """`PLAN_SCHEMA`: sources in the order of the spec, each sorted by clip_id. Also `TRIES_FIELD` where a clip has
    several files."""
    label_map: LabelMap
    matching: tuple[Matching, ...]
    leaks: tuple[Leak, ...]
    folded: tuple[Folded, ...]
    absent: Absent
    roots: Mapping[str, Path]
    """Source -> what its paths are relative to."""
    annotations: Mapping[str, Mapping[str, str]]
    """Source -> annotation file -> sha256."""
    versions: Mapping[str, str | None]
    """Source -> the release that was found."""
    excluded: Excluded | None = None
    """None: no list was given."""

    def __repr__(self) -> str:
        return f"Plan({self.table.num_rows} clips, {self.label_map!r}, {len(self.leaks)} leaks)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciled:
    """A published count beside the one that was found."""

    what: str
    expected: int
    found: int
    where: str
    version: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether as many were found as were published."""
        return self.expected == self.found


def merge(
    spec: DatasetSpec,
    results: Mapping[str, SourceResult],
    options: SourceOptions,
    exclude: Mapping[str, tuple[Path, int]] | None = None,
) -> Plan:
    """Merge the tables of sources (by name) under the spec's label rule.

    A label set's rank counts planned clips, missing ones among them, so that a copy that lacks files has the label
    map of a full one. Rows that failed otherwise have no label to trust, and count for nothing; they, too, are in
    the plan, without class id and multi-hot ids. A row that is missing keeps that error whatever its labels.

    Args:
        exclude: clips that are left out, and where that was asked for (`exclusions.read`). Label maps are made
            before: a list moves no class's id. Leaks are looked for after: a list may take one away.

    Raises:
        ConfigError: a required source is not there, the label rule has no room for the classes, or no clip is
            called as those that are to be left out.
    """
    for source in spec.sources:
        if source.required and source.name not in results:
            raise ConfigError(
                f"{spec.name} needs source {source.name!r}", hint=f"give its folder with --{source.name} DIR"
            )
    present = {source.name: results[source.name] for source in spec.sources if source.name in results}
    base = base_labels(spec, {name: result.classes for name, result in present.items()})
    encoded = {name: _encode_labels(result.table) for name, result in present.items()}
    multi_label = {source.name for source in spec.sources if source.multi_label}
    counts = _count_sets(
        {name: encoded[name] for name in present if name in multi_label},
        {name: present[name].table for name in present},
        base.of_source,
    )
    rule = LabelRule(spec, base, counts)
    tables = [_with_classes(name, result.table, encoded[name], rule) for name, result in present.items()]
    table = pa.concat_tables(tables, promote_options="default").combine_chunks() if tables else None
    table = PLAN_SCHEMA.empty_table() if table is None else table
    excluded = None
    if exclude:
        table, excluded = exclusions.apply(table, exclude)
    return Plan(
        table=table,
        label_map=rule.label_map,
        matching=tuple(result.matching for result in present.values()),
        leaks=find_leaks(table),
        folded=rule.folded(counts),
        absent=_absent(spec, rule, table, options, counts),
        roots={name: result.root for name, result in present.items()},
        annotations={name: dict(result.annotations) for name, result in present.items()},
        versions={name: result.version for name, result in present.items()},
        excluded=excluded,
    )


def usable(table: pa.Table) -> pa.Array:
    """Mask of rows whose labels can be trusted: no error, or only the file is missing."""
    return pc.or_(pc.is_null(table["error"]), pc.fill_null(pc.equal(table["error"], "missing"), False))


def _encode_labels(table: pa.Table) -> tuple[pa.Array, list[tuple[str, ...]]]:
    """(position of each row's label list among the distinct ones, those lists): few, however many rows."""
    joined = pc.binary_join(table["labels"], _SEPARATOR)
    if isinstance(joined, pa.ChunkedArray):
        joined = joined.combine_chunks()
    coded = joined.dictionary_encode()
    distinct = [tuple(text.split(_SEPARATOR)) if text else () for text in coded.dictionary.to_pylist()]
    return coded.indices, distinct


def _count_sets(
    encoded: Mapping[str, tuple[pa.Array, list[tuple[str, ...]]]],
    tables: Mapping[str, pa.Table],
    of_source: Mapping[str, Mapping[str, str]],
) -> Counter[LabelSet]:
    counts: Counter[LabelSet] = Counter()
    for name, (indices, distinct) in encoded.items():
        mask = usable(tables[name])
        mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
        for item in pc.value_counts(indices.filter(mask)).to_pylist():
            labels = distinct[item["values"]]
            if labels and all(label in of_source[name] for label in labels):
                counts[tuple(sorted({of_source[name][label] for label in labels}))] += item["counts"]
    return counts


def _with_classes(
    source: str, table: pa.Table, encoded: tuple[pa.Array, list[tuple[str, ...]]], rule: LabelRule
) -> pa.Table:
    indices, distinct = encoded
    decisions = [rule.decide(source, labels) for labels in distinct]
    # rows that cannot be used take a decision of their own: nothing
    nothing = len(decisions)
    decisions.append(Decision())
    rows = pc.if_else(usable(table), indices, pa.scalar(nothing, pa.int32()))

    def column(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(rows)

    good = pc.is_null(table["error"])
    error = pc.if_else(good, column([d.error for d in decisions], pa.string()), table["error"])
    message = pc.if_else(good, column([d.message for d in decisions], pa.string()), table["message"])
    columns = {name: table[name] for name in CLIP_SCHEMA.names} | {
        "error": error,
        "message": message,
        "class_id": column([d.class_id for d in decisions], pa.int32()),
        "class_name": column([d.class_name for d in decisions], pa.string()),
        "multi_hot": column([list(d.multi_hot) for d in decisions], pa.list_(pa.int32())),
    }
    plan = pa.table([columns[name] for name in PLAN_SCHEMA.names], schema=PLAN_SCHEMA)
    if TRIES_FIELD.name not in table.column_names:
        return plan
    return plan.append_column(TRIES_FIELD, table[TRIES_FIELD.name])


def find_leaks(table: pa.Table) -> tuple[Leak, ...]:
    """Groups with clips in more than one split, within one source; rows that failed by annotation do not count."""
    table = table.select(["clip_id", "source", "split", "group", "error"])
    table = table.filter(pc.and_(usable(table), pc.is_valid(table["group"])))
    splits = table.group_by(["source", "group"]).aggregate([("split", "count_distinct")])
    splits = splits.filter(pc.greater(splits["split_count_distinct"], 1))
    if not splits.num_rows:
        return ()

    def key(rows: pa.Table) -> Any:
        return pc.binary_join_element_wise(rows["source"], rows["group"], _SEPARATOR)

    leaking = table.filter(pc.is_in(key(table), value_set=key(splits).combine_chunks()))
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in leaking.to_pylist():
        found.setdefault((row["source"], row["group"]), []).append((row["clip_id"], row["split"]))
    return tuple(
        Leak(
            kind="group",
            source=source,
            value=value,
            splits=tuple(sorted({split for _, split in clips})),
            clip_ids=tuple(sorted(clip_id for clip_id, _ in clips)),
        )
        for (source, value), clips in sorted(found.items())
    )


def reconcile(
    spec: DatasetSpec, table: pa.Table, *, classes: int | None, versions: Mapping[str, str | None] | None = None
) -> tuple[Reconciled, ...]:
    """Expected counts of the spec beside those found in `table`, a plan or a ledger.

    A clip is found if the plan knows no error of it, or if the ledger's status is "ok".

    Args:
        spec: with `expect`.
        table: columns source, split, and status or error.
        classes: size of the label map.
        versions: source -> release found; expectations for other releases are left out.
    """
    if "status" in table.column_names:
        there = table.filter(pc.equal(table["status"], "ok"))
    else:
        there = table.filter(pc.is_null(table["error"]))
    grouped = there.group_by(["source", "split"]).aggregate([([], "count_all")]).to_pylist()
    releases = set((versions or {}).values())
    names = {source.name for source in spec.sources}
    found = []
    for item in spec.expect:
        if item.version is not None and item.version not in releases:
            continue
        if item.what == "classes":
            number = classes if classes is not None else 0
        else:
            parts = item.what.split("/")[1:]
            source = parts.pop(0) if parts and parts[0] in names else None
            split = parts[0] if parts else None
            number = sum(
                row["count_all"]
                for row in grouped
                if source in (None, row["source"]) and split in (None, row["split"])
            )
        found.append(
            Reconciled(what=item.what, expected=item.value, found=number, where=item.where, version=item.version)
        )
    return tuple(found)


def _absent(
    spec: DatasetSpec, rule: LabelRule, table: pa.Table, options: SourceOptions, counts: Mapping[LabelSet, int]
) -> Absent:
    """Classes without a clip, and in words why there are fewer classes, or more label sets, than expected."""
    there = table.filter(pc.is_null(table["error"]))
    names = rule.label_map.names
    if rule.rule == "multi-hot":
        ids = set(pc.unique(pc.list_flatten(there["multi_hot"])).to_pylist())
    else:
        ids = set(pc.unique(there["class_id"]).to_pylist())
    empty = tuple(name for i, name in enumerate(names) if i not in ids)
    notes = _explain_classes(spec, rule, options, counts)
    if empty:
        shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        notes.append(f"{len(empty)} of {len(names)} classes have no clip on disk: {shown}")
    return Absent(classes=empty, notes=tuple(notes))


def _explain_classes(
    spec: DatasetSpec, rule: LabelRule, options: SourceOptions, counts: Mapping[LabelSet, int]
) -> list[str]:
    most = spec.labels.max_classes
    if rule.rule != "label-set" or most is None:
        return []
    notes = []
    kept, found, single = len(rule.kept), len(rule.ranked), len(rule.single)
    chosen = f" (--kinetics-classes {options.kinetics_classes})" if options.kinetics_classes != "all" else ""
    if single + kept < most:
        notes.append(
            f"{single + kept} classes, not {most}: {single} of single-label sources{chosen} and {found} label "
            f"sets, where {most} would take {most - single} label sets"
        )
    if found > kept:
        folded = rule.folded(counts)
        into = [item for item in folded if item.into is not None]
        lost = [item for item in folded if item.into is None]
        notes.append(
            f"{found} label sets were found and {kept} kept, as {single} other classes leave room for no more of "
            f"{most}: {len(into)} sets ({sum(item.clips for item in into)} clips) go to kept subsets, {len(lost)} "
            f"sets ({sum(item.clips for item in lost)} clips) have none and fail"
        )
    return notes

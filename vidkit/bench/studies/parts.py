"""Parts of a built dataset as datasets of their own: a ledger of some of its clips, over the same shards.

A part is a folder with dataset.json, clips.parquet, shards.json and links to the shards' folders. Whatever trains
on a built dataset trains on it; nothing is decoded or copied. Labels and their ids are those of the whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidkit.data.dataset import CLIPS_PARQUET, DATASET_JSON, SHARDS_JSON, BuiltDataset, open_dataset, read_facts
from vidkit.data.shards import write_json
from vidkit.data.tables import SPLITS
from vidkit.errors import ConfigError, DatasetError, TrainingError
from vidkit.fewshot.episodes.class_split import split_classes
from vidkit.fewshot.episodes.labelled import open_labelled
from vidkit.files import write_whole

#: Of the classes, where a dataset has one source: two thirds are "larger", one third is "small".
CLASS_SHARES = (2 / 3, 0.0, 1 / 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Which clips: those of these sources, or of these classes."""

    name: str
    sources: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.sources) == bool(self.classes):
            raise ConfigError(f"part {self.name!r} needs either sources or classes")

    def __str__(self) -> str:
        what = self.sources or self.classes
        kind = "source" if self.sources else "class" if len(what) == 1 else "classe"
        shown = ", ".join(what[:6]) + (f" and {len(what) - 6} more" if len(what) > 6 else "")
        return f"{len(what)} {kind}{'s' if len(what) > 1 else ''} ({shown})"


def larger_and_small(data: Path) -> tuple[Part, Part]:
    """How a dataset is divided into a larger set and a small one.

    With several sources, the larger is the one with most training clips and the small one is all others: on the
    composite of arXiv 2308.01916 these are Kinetics and TinyVIRAT. With one source, classes are divided, two thirds
    and one third, by the hash that also divides them for few-shot learning (`data.class_split`, seed 0).

    Raises:
        ConfigError: one source, and fewer than three classes.
        DatasetError: one source, and clips that have no single class.
    """
    dataset = open_dataset(data)
    table = dataset.ledger(["source", "split", "status"])
    table = table.filter(pc.and_(pc.equal(table["status"], "ok"), pc.equal(table["split"], "train")))
    counts = {item["values"]: item["counts"] for item in pc.value_counts(table["source"]).to_pylist()}
    if len(counts) > 1:
        first, *others = sorted(counts, key=lambda name: (-counts[name], name))
        return Part(name="larger", sources=(first,)), Part(name="small", sources=tuple(sorted(others)))
    split = split_classes(open_labelled(data), shares=CLASS_SHARES)
    if not split.train or not split.test:
        raise ConfigError(
            f"{dataset.facts['name']!r} has one source and {len(split.train) + len(split.test)} classes: too few "
            "to be divided into a larger and a small part",
            file=data,
            hint="give a dataset with several sources, or with 3 classes or more",
        )
    return Part(name="larger", classes=split.train), Part(name="small", classes=split.test)


def write_part(data: Path, part: Part, out: Path) -> Path:
    """The part of the dataset at `data` as the folder `out`. One that is there already is checked and left.

    Raises:
        ConfigError: `out` holds another part.
        DatasetError: no clip is in the part.
        TrainingError: the folder cannot be written.
    """
    dataset = open_dataset(data)
    identity = _identity(dataset, part)
    if (out / DATASET_JSON).exists():
        if read_facts(out).get("part_sha256") != identity:
            raise ConfigError(
                f"{out} holds another part of a dataset", hint="delete the folder, or give another --out"
            )
        return out
    ledger = _rows_of(dataset, part)
    facts = {
        **dataset.facts,
        "name": f"{dataset.facts['name']}, {part.name}",
        "part": {"name": part.name, "sources": list(part.sources), "classes": list(part.classes)},
        "part_sha256": identity,
        "plan_sha256": identity,
        "splits": _splits(ledger),
        "counts": _counts(ledger),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            shards = data.resolve() / split
            if shards.is_dir() and not (out / split).is_symlink():
                (out / split).symlink_to(shards, target_is_directory=True)
        sink = pa.BufferOutputStream()
        pq.write_table(ledger, sink, compression="zstd")
        write_whole(out / CLIPS_PARQUET, sink.getvalue().to_pybytes())
        write_json(out / SHARDS_JSON, dataset.shards)
        write_json(out / DATASET_JSON, facts)  # last: with it the part is whole
    except OSError as error:
        raise TrainingError(
            f"cannot write: {error.strerror}", file=out, hint="make room or choose another folder"
        ) from error
    return out


def _identity(dataset: BuiltDataset, part: Part) -> str:
    """Of the clips: two parts that share it hold the same."""
    whole = dataset.facts.get("plan_sha256") or dataset.facts["label_map"]["sha256"]
    text = json.dumps([whole, part.name, part.sources, part.classes])
    return hashlib.sha256(text.encode()).hexdigest()


def _rows_of(dataset: BuiltDataset, part: Part) -> pa.Table:
    table = dataset.ledger()
    if part.sources:
        mask = pc.is_in(table["source"], value_set=pa.array(part.sources))
    else:
        ids = _class_ids(dataset, part.classes)
        mask = pc.fill_null(pc.is_in(table["class_id"], value_set=pa.array(ids, table["class_id"].type)), False)
    found = table.filter(mask)
    if not pc.any(pc.equal(found["status"], "ok")).as_py():
        raise DatasetError(
            f"no usable clip of {dataset.facts['name']!r} is in its {part.name} part: {part}", file=dataset.root
        )
    return found


def _class_ids(dataset: BuiltDataset, names: Sequence[str]) -> list[int]:
    number = {name: i for i, name in enumerate(dataset.facts["label_map"]["classes"])}
    return [number[name] for name in names]


def _counts(ledger: pa.Table) -> dict[str, int]:
    status = np.array(ledger["status"].to_pylist(), dtype=object)
    counts = {name: int((status == name).sum()) for name in ("ok", "failed", "missing")}
    return {"planned": len(status), **counts}


def _splits(ledger: pa.Table) -> dict[str, Any]:
    parts = {split: ledger.filter(pc.equal(ledger["split"], split)) for split in SPLITS}
    return {split: _counts(part) for split, part in parts.items() if part.num_rows}

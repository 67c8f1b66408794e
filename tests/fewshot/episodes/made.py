"""Datasets for tests of episodes: ledgers without shards, since drawing episodes reads nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidkit.data.tables import LEDGER_SCHEMA

SPLITS = ("train", "val", "test")


def clip(
    name: str | None, group: str | None = None, *, split: str = "train", source: str = "made", status: str = "ok"
) -> dict[str, Any]:
    """One planned clip of class `name`; None: without a label."""
    return {"class_name": name, "group": group, "split": split, "source": source, "status": status}


def of_class(name: str, videos: Iterable[tuple[str | None, int]], **more: Any) -> list[dict[str, Any]]:
    """Clips of a class, from (video, number of clips)."""
    return [clip(name, group, **more) for group, count in videos for _ in range(count)]


def alone(name: str, count: int, **more: Any) -> list[dict[str, Any]]:
    """Clips of a class, each of a video of its own."""
    return [clip(name, f"{name} {i}", **more) for i in range(count)]


def write(
    root: Path,
    clips: Sequence[dict[str, Any]],
    *,
    classes: Sequence[str] | None = None,
    rule: str = "single",
    name: str = "few",
    first_key: int = 0,
    plan: str | None = "p" * 64,
) -> Path:
    """A dataset folder as `open_labelled` reads it. Clips go by split, otherwise in the order given."""
    root.mkdir(parents=True, exist_ok=True)
    names = list(classes) if classes is not None else sorted({c["class_name"] for c in clips if c["class_name"]})
    rows = []
    ordered = sorted(enumerate(clips), key=lambda item: SPLITS.index(item[1]["split"]))
    for key, (i, given) in enumerate(ordered, first_key):
        row: dict[str, Any] = dict.fromkeys(LEDGER_SCHEMA.names)
        row |= {"clip_id": f"{given['source']}/{i}", "labels": [], "multi_hot": [], "warnings": []}
        row |= {**given, "key": f"{key:08d}", "shard": f"{given['split']}/000000.tar"}
        if given["class_name"] is not None and rule != "multi-hot":
            row["class_id"] = names.index(given["class_name"])
        if given["status"] != "ok":
            row["error"] = "missing" if given["status"] == "missing" else "decode-error"
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), root / "clips.parquet")
    facts = {
        "format": 1,
        "status": "complete",
        "name": name,
        "flip": True,
        "label_map": {
            "rule": rule,
            "classes": [] if rule == "multi-hot" else names,
            "base_labels": names,
            "sha256": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
        },
        "plan_sha256": plan,
    }
    (root / "dataset.json").write_text(json.dumps(facts))
    (root / "shards.json").write_text("[]")
    return root

"""A small built dataset written by hand, from shards, transcoder and Arrow alone: a check on the build itself.

Eleven planned clips, label sets over two sources, a failure, a missing file, and the gaps these leave.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.badmedia import CASES
from vidkit.data.media.transcode import encoder_fingerprint, transcode
from vidkit.data.shards import ShardFacts, ShardWriter
from vidkit.data.tables import LEDGER_SCHEMA
from vidkit.errors import ClipError
from vidkit.settings.encode import EncodeSettings

ENCODE = EncodeSettings(size=64, max_frames=12, preset="ultrafast")
CLASSES = ["air drumming", "crawling baby", "Pulling", "Riding+walking", "視頻"]
BASE = ["air drumming", "crawling baby", "Pulling", "Riding", "walking", "視頻"]
PER_SHARD = 3


class Planned(NamedTuple):
    source: str
    name: str
    split: str
    case: str | None
    """A key of `badmedia.CASES`; None: no file."""
    labels: tuple[str, ...]


PLAN = (
    Planned("kinetics", "AbCdEfGhIjK_000012", "train", "with-audio", ("air drumming",)),
    Planned("kinetics", "-bCdEfGhIjK_000001", "train", "vp9", ("crawling baby",)),
    Planned("tinyvirat", "7", "train", "one-frame", ("Pulling",)),
    Planned("tinyvirat", "8", "train", "truncated-60", ("Pulling",)),
    Planned("tinyvirat", "9", "train", "rotated-90", ("walking", "Riding")),
    Planned("tinyvirat", "10", "train", "flipped-bits", ("視頻",)),
    Planned("kinetics", "gone_______000003", "train", None, ("crawling baby",)),
    Planned("kinetics", "only_______000003", "val", "variable-rate", ("crawling baby",)),
    Planned("kinetics", "gone_______000004", "val", None, ("air drumming",)),
    Planned("tinyvirat", "11", "test", "avi-mpeg4", ("Riding", "walking")),
    Planned("tinyvirat", "12", "test", "mkv", ()),
)


def build(root: Path) -> Path:
    """Write the dataset into `root`, which may not exist yet."""
    rows: list[dict[str, Any]] = []
    shards: list[ShardFacts] = []
    for split in ("train", "val", "test"):
        mine = [(k, planned) for k, planned in enumerate(PLAN) if planned.split == split]
        for number in range(0, len(mine), PER_SHARD):
            name = f"{number // PER_SHARD:06d}"
            with ShardWriter(
                root / split / f"{name}.tar", root / ".build" / f"{split}-{name}.jsonl", split
            ) as writer:
                for k, planned in mine[number : number + PER_SHARD]:
                    _add(writer, k, planned, root)
                rows += writer.rows
                facts = writer.finish()
            shards += [facts] if facts else []
    table = pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)
    pq.write_table(table, root / "clips.parquet")
    (root / "shards.json").write_text(json.dumps([asdict(shard) for shard in shards], indent=2))
    facts_of_dataset = _facts(rows, shards)
    (root / "dataset.json").write_text(json.dumps(facts_of_dataset, ensure_ascii=False, indent=2))
    for journal in (root / ".build").iterdir():
        journal.unlink()
    (root / ".build").rmdir()
    return root


def _add(writer: ShardWriter, k: int, planned: Planned, root: Path) -> None:
    row: dict[str, Any] = dict.fromkeys(LEDGER_SCHEMA.names)
    labels = list(planned.labels)
    name = "+".join(sorted(labels))
    row |= {
        "clip_id": f"{planned.source}/{planned.name}",
        "source": planned.source,
        "path": f"{planned.name}.mp4" if planned.case else None,
        "split": planned.split,
        "labels": labels,
        "group": planned.name.split("_")[0],
        "class_id": CLASSES.index(name) if name else None,
        "class_name": name or None,
        "multi_hot": sorted(BASE.index(label) for label in labels),
        "status": "missing",
        "warnings": [],
        "shard": writer.name,
        "key": f"{k:08d}",
        "error": "missing",
        "message": "the file was not found",
    }
    if planned.case is None:
        writer.add(row, None, None)
        return
    path = root / f"source{CASES[planned.case].suffix}"
    CASES[planned.case].write(path)
    data = path.read_bytes()
    path.unlink()
    row |= {"source_sha256": hashlib.sha256(data).hexdigest(), "source_bytes": len(data)}
    try:
        clip = transcode(data, ENCODE)
    except ClipError as error:
        writer.add({**row, "status": "failed", "error": error.code, "message": error.message}, None, None)
        return
    row |= {"status": "ok", "error": None, "message": None, "warnings": list(clip.warnings)}
    row |= {name: value for name, value in asdict(clip).items() if name in row and name != "warnings"}
    repeated = ("clip_id", "source", "split", "labels", "class_id", "class_name", "multi_hot", "group")
    stored = ("frames", "fps", "duration_s", "width", "height")
    writer.add(row, clip.data, {name: row[name] for name in (*repeated, *stored)})


def _tally(rows: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(row["status"] for row in rows)
    return {"planned": len(rows), **{status: counts[status] for status in ("ok", "failed", "missing")}}


def _facts(rows: list[dict[str, Any]], shards: list[ShardFacts]) -> dict[str, Any]:
    sha256 = hashlib.sha256(json.dumps(CLASSES, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
    return {
        "format": 1,
        "status": "complete",
        "name": "tiny",
        "title": "Tiny",
        "description": "Clips that show their own number.",
        "synthetic": True,
        "flip": False,
        "notes": ["Label sets | with a bar, and <b>markup</b>"],
        "vidkit": "0.1.0",
        "label_map": {"rule": "label-set", "classes": CLASSES, "base_labels": BASE, "sha256": sha256},
        "counts": {
            **_tally(rows),
            "with_warnings": sum(bool(row["warnings"]) for row in rows),
            "frames": sum(row["frames"] or 0 for row in rows),
            "bytes": sum(shard.bytes for shard in shards),
            "shards": len(shards),
        },
        "splits": {s: _tally([r for r in rows if r["split"] == s]) for s in ("train", "val", "test")},
        "sources": {
            name: {
                **_tally([r for r in rows if r["source"] == name]),
                "version": version,
                "annotations": {f"{name}.csv": "0" * 64},
                "matching": {
                    "layout": "flat",
                    "counts": {"matched": 5, "annotated but missing": 2},
                    "examples": {"annotated but missing": ["gone_______000003"]},
                    "notes": [],
                },
            }
            for name, version in (("kinetics", None), ("tinyvirat", "v1"))
        },
        "errors": dict(sorted(Counter(row["error"] for row in rows if row["error"]).items())),
        "reconciliation": [
            {"what": "classes", "expected": 5, "planned": 5, "found": 5, "where": "a paper"},
            {"what": "clips", "expected": 12, "planned": 9, "found": 8, "where": "inferred: 6 | 6"},
        ],
        "leaks": [
            {
                "kind": "group",
                "source": "tinyvirat",
                "value": "VIRAT_S_000001",
                "splits": ["train", "test"],
                "clip_ids": ["tinyvirat/7", "tinyvirat/11"],
            }
        ],
        "folded": [
            {"label_set": "Opening+Pulling", "into": "Pulling", "clips": 2},
            {"label_set": "Opening", "into": None, "clips": 1},
        ],
        "absent": {"classes": ["abseiling"], "notes": ["tinyvirat: 1 of 26 labels has no clip"]},
        "settings": {
            "spec": "tiny",
            **{f"encode.{name}": value for name, value in asdict(ENCODE).items()},
            "clips_per_shard": PER_SHARD,
            "label_map": sha256,
            "seed": 0,
        },
        "encoder": encoder_fingerprint(),
        "plan_sha256": "0" * 64,
    }

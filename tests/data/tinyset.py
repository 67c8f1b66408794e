"""Small built datasets whose frames show their own numbers, laid out as a finished build leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.indexclips import indexed_clip
from vidkit.data.shards import end_of_tar, sample_bytes, sha256_file
from vidkit.data.tables import LEDGER_SCHEMA


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One planned clip. Frame k shows number `first + k`."""

    labels: tuple[str, ...] = ("a",)
    split: str = "train"
    frames: int = 24
    width: int = 64
    height: int = 64
    first: int = 0
    status: str = "ok"
    payload: bytes | None = None
    """Stored instead of the clip."""


def encoded(clip: Clip, folder: Path) -> bytes:
    """An MP4 with B-frames and groups of 10."""
    path = folder / "clip.mp4"
    indexed_clip(path, clip.frames, clip.width, clip.height, clip.first, options={"g": "10", "preset": "fast"})
    data = path.read_bytes()
    path.unlink()
    return data


def build(
    root: Path,
    clips: Sequence[Clip],
    *,
    rule: str = "single",
    flip: bool = True,
    per_shard: int = 5,
    size: int = 64,
    name: str = "tiny",
) -> Path:
    """Write a dataset; keys number the clips in the order given, which must go by split."""
    root.mkdir(parents=True, exist_ok=True)
    base = sorted({label for clip in clips for label in clip.labels})
    rows: list[dict[str, Any]] = []
    tars: dict[str, bytearray] = {}
    samples: dict[str, int] = {}
    in_split: dict[str, int] = {}
    for i, clip in enumerate(clips):
        number = in_split.setdefault(clip.split, 0)
        in_split[clip.split] += 1
        shard, key = f"{clip.split}/{number // per_shard:06d}.tar", f"{i:08d}"
        row: dict[str, Any] = dict.fromkeys(LEDGER_SCHEMA.names)
        row |= {"clip_id": f"made/{i}", "source": "made", "split": clip.split, "labels": list(clip.labels)}
        row |= {"multi_hot": sorted(map(base.index, clip.labels)), "status": clip.status, "warnings": []}
        row |= {"shard": shard, "key": key}
        if rule != "multi-hot" and clip.labels:
            row |= {"class_id": base.index(clip.labels[0]), "class_name": clip.labels[0]}
        if clip.status == "ok":
            data = encoded(clip, root) if clip.payload is None else clip.payload
            facts = {"frames": clip.frames, "width": clip.width, "height": clip.height, "fps": 25.0}
            names = ("clip_id", "source", "split", "labels", "class_id", "class_name", "multi_hot", "group")
            meta = {**{name: row[name] for name in names}, **facts, "duration_s": clip.frames / 25}
            member, start = sample_bytes(key, data, meta)
            tar = tars.setdefault(shard, bytearray())
            row |= {"offset": len(tar) + start, "nbytes": len(data), "duration_s": clip.frames / 25, **facts}
            tar += member
            samples[shard] = samples.get(shard, 0) + 1
        else:
            row |= {"error": clip.status if clip.status == "missing" else "decode-error", "message": "made so"}
        rows.append(row)
    shards = []
    for shard, tar in tars.items():
        path = root / shard
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tar + end_of_tar(len(tar)))
        sha256, nbytes = sha256_file(path)
        shards.append({"shard": shard, "split": shard.split("/")[0], "samples": samples[shard], "bytes": nbytes})
        shards[-1]["sha256"] = sha256
    pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), root / "clips.parquet")
    counts = {
        split: {
            "planned": in_split[split],
            "ok": sum(clip.split == split and clip.status == "ok" for clip in clips),
        }
        for split in in_split
    }
    classes = [] if rule == "multi-hot" else base
    facts = {
        "format": 1,
        "status": "complete",
        "name": name,
        "title": name,
        "flip": flip,
        "label_map": {
            "rule": rule,
            "classes": classes,
            "base_labels": base,
            "sha256": hashlib.sha256(json.dumps(classes or base).encode()).hexdigest(),
        },
        "splits": counts,
        "settings": {"encode.size": size},
    }
    (root / "dataset.json").write_text(json.dumps(facts))
    (root / "shards.json").write_text(json.dumps(shards))
    return root


def many(count: int, *, split: str = "train", classes: int = 3, frames: int = 24, **more: Any) -> list[Clip]:
    """Clips of different lengths, so that they can be told apart; four encodings in all."""
    return [
        Clip(labels=(f"class {i % classes}",), split=split, frames=frames + i % 4, first=100 * (i % 4), **more)
        for i in range(count)
    ]

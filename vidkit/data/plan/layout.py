"""Which clip goes into which shard under which key: fixed by the plan alone, before any video is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.tables import SPLITS

#: Columns that decide what is built. Where a file lies may change between two runs of one build (a
#: download that went on); which clips there are, and what they mean, may not.
_IDENTITY = ("clip_id", "split", "labels", "class_id", "multi_hot", "key", "shard")


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned shard: rows `start` to `start + rows` of the laid-out table."""

    split: str
    number: int
    start: int
    rows: int

    @property
    def name(self) -> str:
        """Of the shard's file, relative to the dataset: "train/000000.tar"."""
        return f"{self.split}/{self.number:06d}.tar"

    @property
    def journal(self) -> str:
        """Of its journal, within the build's working folder: "train-000000.jsonl"."""
        return f"{self.split}-{self.number:06d}.jsonl"


def lay_out(table: pa.Table, *, clips_per_shard: int, seed: int, limit: int | None = None) -> pa.Table:
    """Order the plan and add `key` and `shard`.

    Splits come in the order train, val, test. Within a split clips are shuffled, so that each shard
    is a fair sample and costs about the same: seeded, and independent of the order of the input.

    Args:
        table: a plan, with unique clip_ids.
        clips_per_shard: planned clips in a shard; clips that fail leave gaps.
        limit: keep only so many clips, drawn from all splits alike.
    """
    table = table.take(pc.sort_indices(table["clip_id"]))
    order = np.random.default_rng(seed).permutation(table.num_rows)[:limit]
    splits = np.array(table["split"].to_pylist(), dtype=object)[order]
    picked: list[np.ndarray] = [order[splits == split] for split in SPLITS]
    table = table.take(pa.array(np.concatenate(picked), pa.int64()))
    keys = [f"{i:08d}" for i in range(table.num_rows)]
    shards: list[str] = []
    for split, rows in zip(SPLITS, picked, strict=True):
        shards += [f"{split}/{i // clips_per_shard:06d}.tar" for i in range(len(rows))]
    return table.append_column("key", pa.array(keys, pa.string())).append_column(
        "shard", pa.array(shards, pa.string())
    )


def slots(table: pa.Table) -> list[Slot]:
    """The planned shards of a laid-out table, in order."""
    found: list[Slot] = []
    runs = pc.run_end_encode(table["shard"].combine_chunks()) if table.num_rows else None
    if runs is None:
        return found
    start = 0
    for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        split, file = name.split("/")
        found.append(Slot(split, int(file.removesuffix(".tar")), start, end - start))
        start = end
    return found


def plan_sha256(table: pa.Table) -> str:
    """What the plan says, as one number; paths are left out (see `_IDENTITY`)."""
    digest = hashlib.sha256()
    for batch in table.select(list(_IDENTITY)).to_batches(max_chunksize=10_000):
        for row in _rows(batch):
            digest.update(row.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _rows(batch: pa.RecordBatch) -> Iterator[str]:
    for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        yield "\x1e" + "\x1f".join(map(repr, values))

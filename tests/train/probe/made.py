"""Files of features whose clips say as much of their classes as a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidkit.train.features.file import FORMAT, FeatureFile, open_features, schema_of
from vidkit.train.features.readout import Reading

CLASSES = ("a", "b", "c")
READINGS = (Reading(1, norm=False), Reading(2, norm=True))


def labels_of(count: int, rule: str) -> list[list[int]]:
    if rule == "single":
        return [[i % 3] for i in range(count)]
    return [[i % 3, (i + 1) % 3] if i % 2 else [i % 3] for i in range(count)]


def drawn(
    labels: Sequence[Sequence[int]], steps: int, width: int, signal: float, seed: int
) -> npt.NDArray[np.float32]:
    """(n, T, 2 W): a class is a step in which some numbers are higher."""
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((len(labels), steps, 2 * width))
    for row, mine in enumerate(labels):
        for label in mine:
            array[row, label % steps, label % width] += signal
    array[..., width:] = np.abs(array[..., width:])
    return array.astype(np.float32)


def write(
    path: Path,
    *,
    counts: dict[str, int] | None = None,
    labels: dict[str, list[list[int]]] | None = None,
    signals: Sequence[float] = (0.0, 6.0),
    steps: int = 3,
    width: int = 4,
    rule: str = "single",
    **changes: Any,
) -> FeatureFile:
    """A file of two layers, the second of which tells classes apart.

    Args:
        counts: clips of each split.
        signals: of each layer.
        changes: of the facts.
    """
    counts = counts or {"train": 60, "val": 30, "test": 30}
    labels = labels or {split: labels_of(count, rule) for split, count in counts.items()}
    facts = {
        "format": FORMAT,
        "dataset": "made",
        "ledger_sha256": "0" * 64,
        "shards_sha256": "1" * 64,
        "label_map_sha256": "2" * 64,
        "rule": rule,
        "classes": list(CLASSES),
        "splits": list(labels),
        "checkpoint": "a.pt",
        "checkpoint_sha256": "3" * 64,
        "readings": [{"layer": one.layer, "norm": one.norm, "column": one.column} for one in READINGS],
        "readout": "slots-std",
        "steps": steps,
        "width": 2 * width,
        **changes,
    }
    schema = schema_of(READINGS, steps * 2 * width, facts)
    tables = []
    for number, (split, mine) in enumerate(labels.items()):
        arrays = [drawn(mine, steps, width, signal, 10 * number + i) for i, signal in enumerate(signals)]
        class_id = [one[0] if rule == "single" and one else None for one in mine]
        columns = [
            pa.array([f"{split}{i}" for i in range(len(mine))]),
            pa.array([f"made/{split}{i}" for i in range(len(mine))]),
            pa.repeat(split, len(mine)),
            pa.array(class_id, pa.int32()),
            pa.array(mine, pa.list_(pa.int32())),
            *(pa.FixedSizeListArray.from_arrays(pa.array(a.astype(np.float16).ravel()), a[0].size) for a in arrays),
        ]
        both = zip(columns, schema, strict=True)
        tables.append(pa.table([column.cast(field.type) for column, field in both], schema=schema))
    pq.write_table(pa.concat_tables(tables), path)
    return open_features(path)

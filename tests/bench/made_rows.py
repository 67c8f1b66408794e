"""Rows of results made by hand, for tables whose numbers are known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidkit.bench.rows.schema import GridCell, Kind, PaperFigures, Planned, Row
from vidkit.settings.ablation import Cell

DEFAULT = PaperFigures(table="1a", row=6, top1=70.04, top5=92.7, memory_gb=14.4)


def planned(*, seed: int = 0, kind: Kind = "full", paper: tuple[PaperFigures, ...] = (), **cell: Any) -> Planned:
    settings = Cell(**{"decoder_depth": 4, "loss": "mse-norm", "epochs": 2, **cell, "seed": seed})
    group = hashlib.sha256(repr(sorted(cell.items())).encode()).hexdigest()[:16]
    of_grid = GridCell(
        kind=kind,
        settings=settings,
        visible=12,
        tokens=256,
        parameters=1_500_000,
        forward_macs=126_000_000,
        training_macs=351_000_000,
        paper=paper,
    )
    return Planned(
        config_hash=hashlib.sha256(f"{group}{seed}".encode()).hexdigest()[:16],
        group=group,
        seed=seed,
        recipe="tiny",
        cell=of_grid,
    )


def row(plan: Planned, **values: Any) -> Row:
    metrics = {name: values.pop(name) for name in ("top1", "top5", "mAP", "f1") if name in values}
    known: dict[str, Any] = {"status": "ok", "dataset": "d", "label_map_sha256": "0f" * 32, "metrics": metrics}
    return Row(plan=plan, **{**known, **values})


def predictions(
    folder: Path, plan: Planned, right: Sequence[bool], *, clips: Sequence[str] | None = None, classes: int = 3
) -> dict[str, Any]:
    """A file of predictions of which these are right, in a mixed order. Returns what the row says of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    clips = [f"d/{i}" for i in range(len(right))] if clips is None else clips
    label = [i % classes for i in range(len(right))]
    choice = [number if hit else (number + 1) % classes for number, hit in zip(label, right, strict=True)]
    scores = [[0.8 if k == number else 0.1 for k in range(classes)] for number in choice]
    order = np.random.default_rng(plan.seed + len(plan.group)).permutation(len(right)).tolist()
    keys = [f"{i:06d}" for i in order]
    table = pa.table(
        {
            "key": keys,
            "clip_id": [clips[i] for i in order],
            "labels": pa.array([[label[i]] for i in order], pa.list_(pa.int64())),
            "scores": pa.array([scores[i] for i in order], pa.list_(pa.float32())),
        }
    )
    name = f"cells/{plan.config_hash}/predictions.parquet"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)
    text = "\n".join(f"{key} {choice[i]}" for key, i in zip(keys, order, strict=True))
    return {
        "top1": sum(right) / len(right),
        "counts": {"clips": len(right)},
        "predictions_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "runs": {"predictions": name},
    }

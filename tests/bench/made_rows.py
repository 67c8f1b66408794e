"""Rows of results made by hand, for tables whose numbers are known."""

from __future__ import annotations

import hashlib
from typing import Any

from vidkit.ablation_config import Cell
from vidkit.bench.rows import Kind, PaperFigures, PlannedCell, Row

DEFAULT = PaperFigures(table="1a", row=6, top1=70.04, top5=92.7, memory_gb=14.4)


def planned(
    *, seed: int = 0, kind: Kind = "full", paper: tuple[PaperFigures, ...] = (), **cell: Any
) -> PlannedCell:
    settings = Cell(**{"decoder_depth": 4, "loss": "mse-norm", "epochs": 2, **cell, "seed": seed})
    group = hashlib.sha256(repr(sorted(cell.items())).encode()).hexdigest()[:16]
    return PlannedCell(
        config_hash=hashlib.sha256(f"{group}{seed}".encode()).hexdigest()[:16],
        group=group,
        kind=kind,
        cell=settings,
        recipe="tiny",
        visible=12,
        tokens=256,
        parameters=1_500_000,
        forward_macs=126_000_000,
        training_macs=351_000_000,
        paper=paper,
    )


def row(plan: PlannedCell, **values: Any) -> Row:
    metrics = {name: values.pop(name) for name in ("top1", "top5", "mAP", "f1") if name in values}
    known: dict[str, Any] = {"status": "ok", "dataset": "d", "label_map_sha256": "0f" * 32, "metrics": metrics}
    return Row(plan=plan, **{**known, **values})

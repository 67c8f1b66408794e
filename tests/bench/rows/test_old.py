"""Results of schema 1 open as those of today: what they say is the same, in other places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidkit.bench.report import table as report
from vidkit.bench.rows.files import holds_results, read_plan, read_rows, write_plan, write_rows
from vidkit.bench.rows.schema import SCHEMA

LABELS = "0f" * 32

CELL: dict[str, Any] = {
    "config_hash": "c0",
    "group": "g0",
    "kind": "full",
    "cell": {"mask": "tube", "ratio": 0.9, "decoder_depth": 2, "loss": "mse", "epochs": 3, "seed": 4},
    "recipe": "tiny",
    "visible": 12,
    "tokens": 128,
    "parameters": 5,
    "forward_macs": 6,
    "training_macs": 7,
    "paper": [{"table": "1a", "row": 2, "top1": 69.3, "top5": 92.3, "memory_gb": 14.7}],
}
GRID_ROW: dict[str, Any] = {
    "schema": 1,
    "status": "ok",
    "plan": CELL,
    "metrics": {"top1": 0.5},
    "clips": 180,
    "pretrain_s": 60.0,
    "finetune_s": 30.0,
    "test_s": None,
    "predictions_sha256": "ab",
    "dataset": "demo",
    "label_map_sha256": LABELS,
}
GRID = {
    "schema": 1,
    "dataset": "demo",
    "label_map_sha256": LABELS,
    "plan_sha256": "cd" * 32,
    "cells": [CELL, {**CELL, "config_hash": "c1", "cell": {**CELL["cell"], "seed": 5}}],
}

ARM: dict[str, Any] = {
    "config_hash": "a0",
    "arm": "0.8",
    "seed": 2,
    "about": "80% dropped",
    "quoted": {"top5": 0.76},
}
STUDY_ROW: dict[str, Any] = {
    "kind": "vidkit-study",
    "schema": 1,
    "study": "mask-ratio",
    "plan": ARM,
    "status": "ok",
    "metrics": {"top1": 0.5, "top5": 0.75},
    "half_widths": {"top1": 0.01},
    "counts": {"clips": 180, "visible": 26},
    "found": {"finetune_loss": 0.25, "predictions_sha256": "ab", "more": 1},
    "seconds": 90.0,
    "dataset": "demo",
    "label_map_sha256": LABELS,
    "plan_sha256": "cd" * 32,
}
STUDY = {
    "kind": "vidkit-study",
    "schema": 1,
    "study": "mask-ratio",
    "recipe": "tiny",
    "split": "val",
    "settings_sha256": "ef" * 32,
    "dataset": "demo",
    "label_map_sha256": LABELS,
    "plan_sha256": "cd" * 32,
    "notes": ["A note."],
    "arms": [ARM],
}


def folder(path: Path, name: str, plan: dict[str, Any], row: dict[str, Any]) -> Path:
    (path / name).write_text(json.dumps(plan))
    (path / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert holds_results(path)
    return path


def test_a_grid(tmp_path: Path) -> None:
    path = folder(tmp_path, "ablation.json", GRID, GRID_ROW)
    (row,) = read_rows(path)
    assert (row.schema, row.plan.config_hash, row.plan.group, row.plan.seed) == (SCHEMA, "c0", "g0", 4)
    cell = row.plan.in_grid
    assert (cell.kind, cell.settings.mask, cell.settings.epochs, cell.visible) == ("full", "tube", 3, 12)
    assert cell.paper[0].name == "1a.2"
    assert (row.clips, row.seconds, row.wall_s) == (180, {"pretrain": 60.0, "finetune": 30.0}, 90.0)
    assert (row.metrics, row.predictions_sha256, row.dataset) == ({"top1": 0.5}, "ab", "demo")
    plan = read_plan(path)
    assert plan is not None
    assert (plan.study, plan.plan_sha256, [one.seed for one in plan.planned]) == (None, "cd" * 32, [4, 5])
    assert plan.planned[0] == row.plan


def test_a_study(tmp_path: Path) -> None:
    path = folder(tmp_path, "study.json", STUDY, STUDY_ROW)
    (row,) = read_rows(path)
    arm = row.plan.in_study
    assert (row.plan.config_hash, row.plan.group, row.plan.seed) == ("a0", "0.8", 2)
    assert (arm.study, arm.name, arm.about, arm.quoted) == ("mask-ratio", "0.8", "80% dropped", {"top5": 0.76})
    assert (row.clips, row.wall_s, row.half_widths) == (180, 90.0, {"top1": 0.01})
    assert (row.finetune_loss, row.predictions_sha256, row.found) == (0.25, "ab", {"more": 1})
    plan = read_plan(path)
    assert plan is not None
    assert (plan.study, plan.split, plan.notes, plan.planned[0].recipe) == (
        "mask-ratio",
        "val",
        ("A note.",),
        "tiny",
    )


@pytest.mark.parametrize(
    ("name", "plan", "row"), [("ablation.json", GRID, GRID_ROW), ("study.json", STUDY, STUDY_ROW)]
)
def test_written_anew_they_say_the_same(
    name: str, plan: dict[str, Any], row: dict[str, Any], tmp_path: Path
) -> None:
    path = folder(tmp_path, name, plan, row)
    before = report.markdown(report.read_results([path]))
    rows, planned = read_rows(path), read_plan(path)
    assert planned is not None
    write_rows(path, rows)
    write_plan(path, planned)
    assert sorted(file.name for file in path.iterdir()) == ["plan.json", "results.jsonl"]
    assert json.loads((path / "results.jsonl").read_text())["schema"] == SCHEMA
    assert (read_rows(path), read_plan(path)) == (rows, planned)
    assert report.markdown(report.read_results([path])) == before

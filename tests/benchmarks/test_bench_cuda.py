"""The benchmarks for a GPU: the whole of them on the CPU with tiny models, and the sums that they do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.cuda import ablation, tables
from benchmarks.cuda.ablation import MASKS, RATIOS, SEEDS, moving_tokens, recipe, wanted
from benchmarks.cuda.measure import Settings
from benchmarks.cuda.report import name_of, report, targets
from benchmarks.cuda.tables import Job, Result, jobs, run_jobs
from tests.benchmarks.test_benchmarks import ROOT, run
from vidkit.bench.ablate.table1 import read_table1
from vidkit.data.synth.clips import ClipLook
from vidkit.data.synth.motions import FPS, NAMES, places
from vidkit.errors import TrainingError
from vidkit.settings.model import ViTConfig

USUAL = name_of(next(row for row in read_table1() if not row.changed))


def settings(tmp_path: Path, **changes: Any) -> Settings:
    how: dict[str, Any] = {
        "device": "cuda",
        "quick": False,
        "steps": 10,
        "warmup": 3,
        "released": tmp_path,
        "videomae": tmp_path,
        "data": None,
        "clips": 100,
        "work": tmp_path,
    }
    return Settings(**how | changes)


# --- tables ------------------------------------------------------------------------------------------


def test_every_row_of_the_paper_is_planned_in_every_precision(tmp_path: Path) -> None:
    keys = [job.key for job in jobs(settings(tmp_path))]
    for row in read_table1():
        for precision in ("fp32", "fp16", "bf16"):
            assert f"ours/{name_of(row)}/{precision}" in keys
    released = {key for key in keys if key.startswith("released/")}
    # six settings of ratio, four of depth less the usual one, two of normalisation less the usual one
    assert {key.split("/")[1].split()[0] for key in released} == {"adaptive"}
    assert len({key.split("/")[1] for key in released}) == 9
    assert {key.split("/")[1] for key in keys if key.startswith("videomae/")} == {
        name_of(row) for row in read_table1() if row.mask == "tube"
    }
    assert f"released script/{USUAL}/fp16" in keys
    assert keys.index(f"released/{USUAL}/bf16") < keys.index("fast/eager/64") < keys.index("largest/none")
    alone = [job.key for job in jobs(settings(tmp_path, released=None, videomae=None))]
    assert not any(key.startswith(("released", "videomae")) for key in alone)


def test_a_run_goes_on_and_keeps_what_failed(tmp_path: Path) -> None:
    path, calls = tmp_path / "rows.json", []

    def works(name: str) -> dict[str, Any]:
        calls.append(name)
        return {"clips_per_s": 2.0}

    def fails() -> dict[str, Any]:
        raise TrainingError("out of memory: of 139.8 GB", hint="less")

    plan = [Job(key="a", run=lambda: works("a")), Job(key="b", run=fails), Job(key="c", run=lambda: works("c"))]
    assert not run_jobs(plan, Result(path, {"device": "x"}), for_s=-1)
    assert not path.exists()
    assert run_jobs(plan, Result(path, {"device": "x"}), for_s=60)
    rows = json.loads(path.read_text())["rows"]
    assert rows["b"]["error"] == "out of memory: of 139.8 GB"
    assert run_jobs(plan, Result(path, {"device": "x"}), for_s=60)
    assert calls == ["a", "c"]
    with pytest.raises(SystemExit, match="rows of other settings or another card"):
        Result(path, {"device": "y"})


def test_targets_are_judged_by_the_rows() -> None:
    rows: dict[str, dict[str, Any]] = {
        f"released/{USUAL}/fp16": {"batch": 16, "clips_per_s": 100.0, "allocated_bytes": 10_000},
        f"ours/{USUAL}/bf16": {
            "batch": 16,
            "clips_per_s": 290.0,
            "measured_bytes": 3_000,
            "predicted_over_measured": 1.04,
        },
        "recompute/cheap/16": {
            "batch": 16,
            "clips_per_s": 310.0,
            "measured_bytes": 3_400,
            "predicted_over_measured": 0.97,
        },
        "fast/compiled/16": {"batch": 16, "clips_per_s": 400.0, "allocated_bytes": 4_000},
        "fast/cuda graph/64": {"batch": 64, "clips_per_s": 900.0, "allocated_bytes": 4_000, "tflops": 300.0},
        "rate/bf16": {"matrix_flops": 600e12},
    }
    said = targets(rows)
    assert f"ours/{USUAL}/bf16: 2.90 x the released model's clips/s, 0.30 of its memory: not met" in said
    assert "recompute/cheap/16: 3.10 x the released model's clips/s, 0.34 of its memory: met" in said
    assert "fast/compiled/16: 4.00 x the released model's clips/s, 0.40 of its memory: not met" in said
    assert any(line.startswith("predicted memory is within 4.0% of measured over 2 rows") for line in said)
    assert any(line.startswith("fast/cuda graph/64: 50.0% of the measured rate") for line in said)
    assert targets({}) == []
    assert len(report({}, ["bf16"]).splitlines()) == 2 + 27


@pytest.mark.slow
def test_tables_quick(tmp_path: Path) -> None:
    found, printed = run("cuda.tables", tmp_path)
    rows = found["rows"]
    assert not [key for key, row in rows.items() if "error" in row]
    assert rows[f"ours/{USUAL}/fp32"]["device"] == found["about"]["device"]["name"] == "cpu"
    assert rows["fast/compiled/2"]["loss"] > 0
    assert 0 <= rows["training/64/device"]["wait_share"] <= 1
    assert "| 1f 4 | adaptive 0.95 4 mse-norm mha-2-half | 17.1 |" in printed


# --- ablation ----------------------------------------------------------------------------------------


def test_cells_come_in_an_order_that_can_be_cut_anywhere() -> None:
    how = recipe(60, 30, "device", quick=False)
    cells = [one.cell for one in wanted(how, quick=False)]
    assert len(cells) == len(set(cells)) == len(MASKS) * 4 * len(SEEDS)
    first = cells[: len(MASKS) * 2 * len(SEEDS)]
    assert {cell.ratio for cell in first} == set(RATIOS[0]) == {0.9, 0.95}
    for start in range(0, len(cells), 4):
        group = cells[start : start + 4]
        assert {cell.mask for cell in group} == set(MASKS)
        assert len({(cell.ratio, cell.seed) for cell in group}) == 1
    assert how.pretrain.data.cache == how.finetune.data.cache == "device"
    assert how.finetune.mixup == how.finetune.cutmix == 0


def test_tokens_of_the_mover_are_those_that_its_disc_touches() -> None:
    """Against every pixel of every patch, in nine copies of the picture."""
    vit = ViTConfig(frames=8, size=64, patch=8, width=32, depth=1, heads=2)
    frames = list(range(0, 32, 4))
    for index, name in enumerate(("moving right", "growing", "circling clockwise", "stop and go up and left")):
        found = moving_tokens(f"motions/test/{name}/{index:06d}", frames, 32, vit, seed=3)
        look = ClipLook(class_index=NAMES.index(name), width=64, height=64, frames=32, fps=FPS)
        expected = np.zeros((8, 8, 8), bool)
        ys, xs = np.mgrid[0:64.25:0.25, 0:64.25:0.25]
        for t, (x, y, radius) in enumerate(places(look, seed=3, index=index)[frames]):
            inside = np.zeros(ys.shape, bool)
            for dy in (-64, 0, 64):
                for dx in (-64, 0, 64):
                    inside |= np.hypot(xs - x - dx, ys - y - dy) < radius
            for row in range(8):
                for column in range(8):
                    patch = inside[32 * row : 32 * row + 33, 32 * column : 32 * column + 33]
                    expected[t, row, column] = patch.any()
        steps = expected.reshape(4, 2, 8, 8).any(axis=1)
        assert found.shape == (4, 8, 8)
        assert (found >= steps).all()
        assert (found != steps).mean() < 0.03, "the grid of points misses what a disc just touches"


@pytest.mark.slow
def test_ablation_quick(tmp_path: Path) -> None:
    found, printed = run("cuda.ablation", tmp_path / "results")
    assert [one["run"] for one in found["cells"]] == ["adaptive 0.9 seed 0", "random 0.9 seed 0"]
    mover = found["cells"][0]["mover"]
    share = mover["mover_share"]
    mean = share * mover["mover_probability_over_uniform"] + (1 - share) * mover["other_probability_over_uniform"]
    assert mean == pytest.approx(1, rel=0.01)
    assert found["failed"] == []
    assert "| adaptive 0.9 seed 0 |" in printed


@pytest.mark.slow
def test_an_ablation_goes_on_where_it_was_stopped_even_without_its_weights(tmp_path: Path) -> None:
    words = ("--work", str(tmp_path / "work"), "--slim")
    program = (sys.executable, "-m", "benchmarks.cuda.ablation")
    stopped = subprocess.run(
        [*program, "--quick", "--results", str(tmp_path / "x"), *words, "--for-s", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 3, stopped.stderr[-2000:]
    first, _ = run("cuda.ablation", tmp_path / "one", *words)
    assert not list((tmp_path / "work").rglob("*.pt"))
    again, _ = run("cuda.ablation", tmp_path / "two", *words)
    assert again["cells"] == first["cells"]
    assert again["table"] == first["table"]
    assert (tmp_path / "work" / "seen" / "masks-0.9.png").stat().st_size > 1000


@pytest.mark.parametrize("main", [tables.main, ablation.main], ids=["tables", "ablation"])
def test_without_a_gpu_they_say_so(main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"torch sees no CUDA device\n  -> --quick"):
        main(results=tmp_path)
    assert not list(tmp_path.iterdir())

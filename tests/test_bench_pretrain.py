"""The benchmark of a pre-training step: all contenders do the same arithmetic, and its figures are what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import bench_pretrain, pretrain_steps

JOB: dict[str, Any] = {"size": "quick", "batch": 2, "steps": 2, "released": None}


def test_contenders_compute_the_same(tmp_path: Path) -> None:
    found = pretrain_steps.parity({**JOB, "work": str(tmp_path)})
    assert set(found) == {"reference", "vidkit, plain", "vidkit"}
    bench_pretrain.check_parity(found)
    found["vidkit"]["gradient_norm"] *= 1.001
    with pytest.raises(SystemExit, match=r"vidkit: gradient_norm is .* as with reference"):
        bench_pretrain.check_parity(found)


@pytest.mark.parametrize("name", ["reference", "vidkit, plain", "vidkit"])
def test_steps_train(name: str) -> None:
    step = pretrain_steps.CONTENDERS[name](JOB)
    losses = torch.stack([step() for _ in range(4)])
    assert losses.isfinite().all()
    assert losses[-1] < losses[0]


def test_ratios_are_taken_turn_by_turn() -> None:
    def rows(seconds: list[float], peak: float) -> list[dict[str, float]]:
        return [{"step_s": s, "peak_gb": peak, "imports_gb": 0.5} for s in seconds]

    found = bench_pretrain.summary({"released": rows([4, 6, 8], 6), "vidkit": rows([2, 4, 4], 3)})
    assert found["medians"]["vidkit"] == {"step_s": 4, "peak_gb": 3, "imports_gb": 0.5}
    assert found["speed_over"]["released"]["median"] == 2
    assert found["memory_of"]["released"]["median"] == 0.5
    told = bench_pretrain.report(found, {}, targets=True)
    assert "at least 1.5 times as fast as released, at most 0.5 of its memory: met" in told


def test_a_folder_without_the_released_code(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="neither a checkout nor a clone of the released code"):
        bench_pretrain.released_tree(tmp_path, tmp_path)

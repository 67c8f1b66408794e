"""One configuration measured on this machine's CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.bench.small import small
from vidkit.bench.measure.flops import cost
from vidkit.bench.measure.measure import matrix_rate, measure, time_steps
from vidkit.bench.measure.memory import predict_peak
from vidkit.bench.measure.step import TrainStep
from vidkit.errors import ConfigError
from vidkit.settings.model import ClassifierConfig, MaskConfig, ViTConfig

MINI = replace(
    small(), encoder=ViTConfig(frames=4, size=32, patch=8, width=48, depth=1, heads=4), mask=MaskConfig(ratio=0.75)
)


def test_numbers_follow_from_each_other() -> None:
    found = measure(MINI, 2, steps=3, warmup=1, device="cpu", memory=False)
    assert len(found.seconds) == 3
    assert found.step_seconds == sorted(found.seconds)[1]
    assert found.clips_per_s == pytest.approx(2 / found.step_seconds)
    assert found.tflops == pytest.approx(2 * cost(MINI).training * found.clips_per_s / 1e12)
    assert found.matrix_tflops is not None
    assert found.share_of_peak == pytest.approx(found.tflops / found.matrix_tflops)
    assert (found.model, found.device, found.batch, found.precision) == ("adamae", "cpu", 2, "fp32")
    assert (found.tokens, found.visible) == (32, 8)
    assert found.predicted_bytes == predict_peak(MINI, 2, device="cpu").total_bytes
    assert found.measured_bytes is found.predicted_over_measured is found.reserved_bytes is None


def test_memory_and_rows_are_plain() -> None:
    config = ClassifierConfig(encoder=MINI.encoder, classes=3)
    found = measure(config, 2, "bf16", steps=1, warmup=0, device="cpu", probe=False)
    row = found.row()
    assert json.loads(json.dumps(row)) == row
    assert row["model"] == "classifier"
    assert row["measured_bytes"] > 0
    assert row["predicted_over_measured"] == row["predicted_bytes"] / row["measured_bytes"]
    assert row["matrix_tflops"] is row["share_of_peak"] is None


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"batch": 1, "steps": 0}, "steps is 0; expected at least 1"),
        ({"batch": 1, "precision": "fp16", "device": "cpu"}, "fp16 needs a CUDA device"),
        ({"batch": 1, "precision": "fp8", "device": "cpu"}, "precision is 'fp8'"),
        ({"batch": 1, "device": "mps"}, "device is 'mps'; expected one of cuda, cpu"),
        pytest.param(
            {"batch": 1, "device": "cuda"},
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_bad_settings(words: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        measure(MINI, **words)


def test_warm_up_is_not_timed() -> None:
    assert len(time_steps(MINI, 1, "fp32", 2, 3, "cpu")) == 2


def test_rate_of_matrix_products() -> None:
    assert matrix_rate("cpu", "fp32", size=64, repeats=3) > 0


def test_a_step_trains() -> None:
    """The measured step is a real one: every parameter moves."""
    torch.manual_seed(0)
    step = TrainStep(MINI, batch=2, device="cpu")
    before = {name: value.clone() for name, value in step.model.named_parameters()}
    step.run()
    assert all(p.grad is None for p in step.model.parameters())
    still = [name for name, value in step.model.named_parameters() if torch.equal(value, before[name])]
    assert not still

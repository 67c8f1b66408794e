"""Predicted memory against the allocator's own count on the GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vidkit.bench.measure.measure import measure
from vidkit.bench.measure.memory import measure_peak, predict_peak
from vidkit.errors import TrainingError
from vidkit.settings.model import RecomputeConfig, vit_base
from vidkit.settings.train import Precision

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("strategy", "ratio"), [("adaptive", 0.95), ("tube", 0.75)])
def test_predicted_is_within_a_tenth_of_measured(strategy: Any, ratio: float, precision: Precision) -> None:
    base = vit_base()
    config = replace(base, mask=replace(base.mask, strategy=strategy, ratio=ratio))
    predicted, found = predict_peak(config, 8, precision, "cuda"), measure_peak(config, 8, precision, "cuda")
    assert 0.9 <= predicted.total_bytes / found.total_bytes <= 1.1, found


@pytest.mark.parametrize("recompute", ["cheap", "light", "full"])
def test_so_it_is_with_recomputation(recompute: Any) -> None:
    how = RecomputeConfig(encoder=recompute, decoder=recompute, sampler=recompute)
    config = replace(vit_base(), recompute=how)
    predicted, found = predict_peak(config, 8, "bf16", "cuda"), measure_peak(config, 8, "bf16", "cuda")
    assert 0.9 <= predicted.total_bytes / found.total_bytes <= 1.1, found


def test_a_measurement_is_whole() -> None:
    found = measure(vit_base(), 2, "bf16", steps=3, device="cuda")
    assert found.device == "cuda"
    assert found.measured_bytes is not None
    assert found.reserved_bytes is not None
    assert found.reserved_bytes >= found.measured_bytes > 0
    assert found.clips_per_s > 0
    assert found.share_of_peak is not None
    assert 0 < found.share_of_peak < 1
    assert found.backward_bytes is not None
    assert found.measured_bytes >= found.backward_bytes


def test_too_large_a_batch_says_what_was_to_be_expected() -> None:
    with pytest.raises(TrainingError, match=r"out of memory: a step of 100000 clips in bf16 is predicted to need"):
        measure_peak(vit_base(), 100_000, "bf16", "cuda")

"""Predicted peaks: against hand counts, against what a process holds, and how they move with the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.bench.measure.hand_steps import block, mlp
from tests.bench.small import small
from vidkit.bench.measure.attention import kernel_storage
from vidkit.bench.measure.memory import PeakMemory, measure_peak, predict_peak, track_step
from vidkit.bench.measure.step import ModelConfig, build_model
from vidkit.bench.measure.tracker import StorageTracker
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import layers
from vidkit.settings.model import (
    AdaMAEConfig,
    ClassifierConfig,
    MaskConfig,
    RecomputeConfig,
    SamplerConfig,
    small_64,
)


def check_sums(peak: PeakMemory) -> None:
    parts = (peak.weights, peak.gradients, peak.optimizer_states, peak.inputs, peak.activations, peak.temporaries)
    assert peak.total_bytes == sum(parts)
    assert peak.total_bytes == max(peak.forward_bytes, peak.backward_bytes, peak.update_bytes)
    assert min(parts) >= 0


def test_hand_count_of_a_perceptron() -> None:
    """n rows, d -> h -> k, float32."""
    n, d, h, k = 1000, 20, 64, 10
    with FakeTensorMode():
        peak = track_step(mlp(n, d, h, k), StorageTracker())
    weights = 4 * (d * h + h + h * k + k)
    states = 2 * weights + 4 * 4  # two moments, and a step count for each of the four tensors
    standing = weights + states + 4 * n * d
    # kept: the hidden layer before and after GELU, and the loss
    assert peak.kept_bytes == 4 * (2 * n * h) + 4
    # the highest moment of the forward pass: those, and the output
    assert peak.forward_bytes == standing + peak.kept_bytes + 4 * n * k
    # of the backward pass, in the second layer: both hidden layers, the gradient of one, the layer's own gradients,
    # the loss and its gradient
    assert peak.backward_bytes == standing + 4 * (3 * n * h) + 4 * (h * k + k) + 8
    # the update has all gradients and no activations
    assert peak.update_bytes == standing + weights
    assert (peak.weights, peak.optimizer_states, peak.inputs) == (weights, states, 4 * n * d)
    check_sums(peak)


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
def test_hand_count_of_a_transformer_block(half: torch.dtype | None) -> None:
    """What a pre-norm block with fused attention keeps for its backward pass."""
    batch, tokens, width, heads = 3, 50, 64, 4
    with FakeTensorMode(), kernel_storage():
        peak = track_step(block(batch, tokens, width, heads, half), StorageTracker())
    size = 4 if half is None else 2
    # norm 1 for the qkv product, q, k, v, the mixed values, norm 2 for the MLP, its hidden layer before and after
    products = (1 + 3 + 1 + 1 + 4 + 4) * width * size
    residual = width * 4  # the second norm's input stays float32; the first one's is the block's own input
    statistics = (2 + 2 + heads) * 4  # mean and deviation of both norms, attention's sum of exponentials
    copies = 0 if half is None else 12 * width * width * size  # of the weights, for the gradients of the inputs
    assert peak.kept_bytes == batch * tokens * (products + residual + statistics) + copies + 4
    check_sums(peak)


def test_matrices_of_attention_cost_their_size() -> None:
    """Without fused kernels: the softmax in float32, and under autocast its half copy. Queries, keys and values are
    copied for the products, but their originals are not kept.
    """
    batch, tokens, width, heads = 2, 128, 32, 4
    for half, bytes_per_score in ((None, 4), (torch.bfloat16, 4 + 2)):
        kept = {}
        for attention in ("fused", "matrices"):
            with FakeTensorMode(), kernel_storage(attention):  # type: ignore[arg-type]
                kept[attention] = track_step(block(batch, tokens, width, heads, half), StorageTracker()).kept_bytes
        scores = batch * heads * tokens * tokens * bytes_per_score
        log_sums = batch * heads * tokens * 4
        assert kept["matrices"] - kept["fused"] == scores - log_sums


def test_a_step_is_that_of_the_models() -> None:
    """The parts of the total that need no tracker."""
    config = small()
    peak = predict_peak(config, 4)
    sizes = [4 * p.numel() for p in build_model(config).parameters()]
    without = predict_peak(config, 4, optimizer=False)
    assert without.optimizer_states == 0
    # positions and colours are buffers, without states; each parameter has two moments and a step count
    assert peak.optimizer_states == sum(2 * (-(-size // 512) * 512) + 512 for size in sizes)
    assert peak.inputs == 4 * 3 * 8 * 64 * 64
    assert peak.total_bytes % 512 == 0
    for found in (peak, without):
        check_sums(found)
    assert 0 < peak.total_bytes - without.total_bytes <= peak.optimizer_states


def test_deterministic() -> None:
    assert predict_peak(small(), 2, "bf16") == predict_peak(small(), 2, "bf16")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_activations_grow_with_the_batch_and_weights_do_not(device: str) -> None:
    found = [predict_peak(small(), batch, "fp32", device) for batch in (8, 16, 24)]  # type: ignore[arg-type]
    assert len({peak.weights for peak in found}) == 1
    step = found[1].kept_bytes - found[0].kept_bytes
    assert found[2].kept_bytes - found[1].kept_bytes == pytest.approx(step, rel=0.01)
    assert found[0].kept_bytes == pytest.approx(step, rel=0.05)


def test_what_saves_memory_saves_it() -> None:
    base = small()
    usual = predict_peak(base, 16).total_bytes
    cheaper: dict[str, ModelConfig] = {
        "light": replace(base, recompute=RecomputeConfig(encoder="light", decoder="light", sampler="light")),
        "no sampler": replace(base, mask=MaskConfig(strategy="tube", ratio=0.9)),
        "small sampler": replace(base, sampler=SamplerConfig(width_divisor=2)),
        "shallow decoder": replace(base, decoder=replace(base.decoder, depth=1)),
    }
    for name, config in cheaper.items():
        assert predict_peak(config, 16).total_bytes < usual, name
    full = replace(base, recompute=RecomputeConfig(encoder="full", decoder="full", sampler="full"))
    assert predict_peak(full, 16).kept_bytes < predict_peak(cheaper["light"], 16).kept_bytes
    assert predict_peak(base, 16, "bf16").total_bytes < 0.8 * usual
    assert predict_peak(base, 16, "fp16") == predict_peak(base, 16, "bf16")
    assert predict_peak(base, 16, attention="matrices").total_bytes > 1.2 * usual


def test_masks_of_one_size_cost_the_same() -> None:
    """Matched rounding shows the same tokens; what strategies differ in is index tensors."""
    found = [
        predict_peak(replace(small(), mask=MaskConfig(strategy=strategy, ratio=0.9)), 8).total_bytes
        for strategy in ("tube", "random", "frame")
    ]
    assert max(found) < 1.01 * min(found)


def test_code_for_the_cpu_is_predicted_for_the_cpu_only() -> None:
    """On a CPU recomputed parts are worked on a few clips at a time, which lowers the peak."""
    config = replace(small(), recompute=RecomputeConfig(encoder="light", decoder="light", sampler="light"))
    before = layers.CPU_TOKENS
    cpu, cuda = predict_peak(config, 16, device="cpu"), predict_peak(config, 16, device="cuda")
    assert cpu.backward_bytes < cuda.backward_bytes
    assert before == layers.CPU_TOKENS


def test_the_patch_is_taken_back_after_an_error() -> None:
    before = layers.CPU_TOKENS
    with pytest.raises(ConfigError, match="no token visible"):
        predict_peak(replace(small(), mask=MaskConfig(ratio=0.999)), 2)
    assert before == layers.CPU_TOKENS


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"batch": 0}, "batch is 0; expected at least 1"),
        ({"batch": 1, "precision": "int8"}, "precision is 'int8'; expected one of fp32, bf16, fp16"),
        ({"batch": 1, "device": "tpu"}, "device is 'tpu'; expected one of cuda, cpu"),
        ({"batch": 1, "attention": "flash"}, "attention is 'flash'; expected one of fused, matrices"),
    ],
)
def test_bad_settings(words: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        predict_peak(small(), **words)  # type: ignore[arg-type]


BOTH: dict[str, tuple[ModelConfig, int]] = {
    "adamae": (small_64(), 24),
    "classifier": (ClassifierConfig(encoder=small_64().encoder, classes=10), 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
def test_predicted_is_near_measured_on_the_cpu(name: str) -> None:
    """Within 10 %: what a process holds has its kernels' buffers and the allocator's pages on top."""
    config, batch = BOTH[name]
    predicted = predict_peak(config, batch, device="cpu")
    measured = measure_peak(config, batch, device="cpu", warmup=1)
    assert predicted.total_bytes / measured.total_bytes == pytest.approx(1, abs=0.10)
    assert measured.reserved_bytes is None
    if measured.backward_bytes is not None:
        phases = (measured.forward_bytes, measured.backward_bytes, measured.update_bytes)
        assert measured.total_bytes == max(phase for phase in phases if phase is not None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_measuring_on_a_gpu_needs_one() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        measure_peak(small(), 1, device="cuda")


def test_a_process_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidkit.bench.measure.cpu_peak.sys.executable", "false")
    with pytest.raises(TrainingError, match="a step of 2 clips in fp32 ended with 1"):
        measure_peak(small(), 2, device="cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicted_is_near_measured_on_a_gpu(precision: str) -> None:
    config: AdaMAEConfig = small_64()
    predicted = predict_peak(config, 32, precision)  # type: ignore[arg-type]
    measured = measure_peak(config, 32, precision)  # type: ignore[arg-type]
    assert predicted.total_bytes / measured.total_bytes == pytest.approx(1, abs=0.15)
    assert measured.reserved_bytes is not None
    assert measured.reserved_bytes >= measured.total_bytes

"""A training step on the GPU: fused kernels compute what plain ones do, in every precision, without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.cuda.steps import our_step
from tests.bench.small import small
from vidkit.bench.measure.step import TrainStep
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import mask_generator
from vidkit.settings.model import AdaMAEConfig, RecomputeConfig, vit_base
from vidkit.settings.train import Precision

pytestmark = pytest.mark.cuda

STRATEGIES = ("adaptive", "tube", "random", "frame")


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def masked(strategy: Any) -> AdaMAEConfig:
    return replace(small(), mask=replace(small().mask, strategy=strategy))


def clips(config: AdaMAEConfig, batch: int = 4) -> Tensor:
    vit = config.encoder
    shape = (batch, 3, vit.frames, vit.size, vit.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def keep_of(config: AdaMAEConfig, batch: int = 4) -> Tensor:
    visible = AdaMAE(config).num_visible
    noise = torch.rand(batch, config.encoder.tokens, generator=torch.Generator().manual_seed(2))
    return noise.topk(visible).indices.sort().values


def losses(
    config: AdaMAEConfig, device: str, backend: SDPBackend | None, *, fused: bool, steps: int = 4
) -> list[float]:
    """Losses of a few whole steps from the same weights, with the same masks and without dropout."""
    model = AdaMAE(config, torch.Generator().manual_seed(0)).to(device).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused, foreach=False if not fused else None)
    video, keep = clips(config).to(device), keep_of(config).to(device)
    found = []
    for _ in range(steps):
        with nullcontext() if backend is None else sdpa_kernel([backend]):
            loss = model(video, keep_BV=keep).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def test_fused_steps_are_those_of_plain_kernels_and_of_the_cpu() -> None:
    config = small()
    fused = losses(config, "cuda", SDPBackend.EFFICIENT_ATTENTION, fused=True)
    plain = losses(config, "cuda", SDPBackend.MATH, fused=False)
    there = losses(config, "cpu", None, fused=True)
    assert fused == pytest.approx(plain, rel=2e-4)
    assert fused == pytest.approx(there, rel=1e-3)
    assert fused[-1] < fused[0]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_finite_and_near_single(strategy: str, half: torch.dtype) -> None:
    config = masked(strategy)
    model = AdaMAE(config, torch.Generator().manual_seed(0)).cuda().eval()
    video, keep = clips(config).cuda(), keep_of(config).cuda()
    exact = model(video, keep_BV=keep)
    with torch.autocast("cuda", dtype=half):
        out = model(video, keep_BV=keep)
    out.loss.backward()
    assert bool(out.finite)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    assert float(out.reconstruction_loss) == pytest.approx(float(exact.reconstruction_loss), rel=0.02)
    assert out.loss.dtype == torch.float32


@pytest.mark.parametrize("recompute", ["cheap", "light", "full"])
def test_recomputation_changes_nothing(recompute: Any) -> None:
    config = small()
    again = replace(config, recompute=RecomputeConfig(encoder=recompute, decoder=recompute, sampler=recompute))
    found = []
    for one in (config, again):
        model = AdaMAE(one, torch.Generator().manual_seed(0)).cuda().eval()
        loss = model(clips(config).cuda(), keep_BV=keep_of(config).cuda()).loss
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((loss.item(), nn.utils.get_total_norm(gradients).item()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_on_the_gpu_are_masks_and_repeat(strategy: str) -> None:
    config = masked(strategy)
    model = AdaMAE(config, torch.Generator().manual_seed(0)).cuda().eval()
    keeps = [model(clips(config).cuda(), mask_generator(0, step, 0, "cuda")).keep.cpu() for step in (0, 0, 1)]
    assert torch.equal(keeps[0], keeps[1])
    assert not torch.equal(keeps[0], keeps[2])
    for keep in keeps:
        assert keep.shape == (4, model.num_visible)
        assert bool((keep.diff(dim=1) > 0).all())
        assert 0 <= int(keep.min()) <= int(keep.max()) < config.encoder.tokens


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_step_does_not_wait_for_the_gpu(strategy: str, precision: Precision) -> None:
    step = TrainStep(masked(strategy), batch=4, precision=precision, device="cuda")
    for _ in range(2):  # kernels are loaded, and the optimiser makes its state
        step.run()
    with waiting_is_an_error():
        step.run()
    torch.cuda.synchronize()


def test_a_step_as_one_cuda_graph_draws_new_masks_and_goes_on() -> None:
    step = our_step(small(), 4, "bf16", "cuda", graph=True)
    found = [step().item() for _ in range(20)]
    assert all(value == value for value in found)
    assert len(set(found)) > 10


def test_a_compiled_step_learns_what_an_eager_one_does() -> None:
    video, keep = clips(small()).cuda(), keep_of(small()).cuda()
    found = []
    for compiled in (False, True):
        model = AdaMAE(small(), torch.Generator().manual_seed(0)).cuda().eval()
        if compiled:
            model.compile()
        loss = model(video, keep_BV=keep).loss
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((loss.item(), nn.utils.get_total_norm(gradients).item()))
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_vit_base_in_bf16_takes_a_step() -> None:
    step = TrainStep(vit_base(), batch=2, precision="bf16", device="cuda")
    step.run()
    assert all(bool(p.isfinite().all()) for p in step.model.parameters())

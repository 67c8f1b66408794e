"""Both losses and the collapse figures against loops over samples and tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.reference import ref_adamae
from vidkit.models import losses, products
from vidkit.models.losses import (
    entropy,
    motion_overlap,
    patch_statistics,
    patch_targets,
    sampling_loss,
    token_errors,
)
from vidkit.models.masking import masked_indices, visible_mask
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import AdaMAEConfig, DecoderConfig, LossConfig, MaskConfig, ViTConfig

VIT = ViTConfig(frames=4, size=32, patch=8, width=24, heads=2)


def test_sampling_loss_equals_the_loop() -> None:
    """At the paper's size, to 1e-6, value and gradient."""
    torch.manual_seed(0)
    logits = (torch.randn(4, 1568) * 3).requires_grad_()
    keep = torch.rand(4, 1568).topk(80).indices.sort(dim=1).values
    masked = masked_indices(keep, 1568)
    errors = torch.rand(4, 1488)
    got = sampling_loss(logits.log_softmax(dim=1).gather(1, masked), errors)
    (gradient,) = torch.autograd.grad(got, logits)
    log_probs = logits.double().log_softmax(dim=1)
    losses = [
        ref_adamae.sampling_loss(log_probs[b], errors[b].double(), ~visible_mask(keep, 1568)[b]) for b in range(4)
    ]
    expected = sum(losses[1:], losses[0]) / 4
    (reference,) = torch.autograd.grad(expected, logits)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (gradient - reference).abs().max() <= 1e-6 * reference.abs().max()


def test_sampling_loss_sends_nothing_into_the_errors() -> None:
    errors = torch.rand(2, 5, requires_grad=True)
    log_probs = torch.rand(2, 5, requires_grad=True)
    sampling_loss(log_probs, errors).backward()
    assert errors.grad is None
    assert log_probs.grad is not None
    assert torch.allclose(log_probs.grad, -errors.detach() / 10)


@pytest.mark.parametrize("normalize", [True, False])
def test_targets_equal_the_loop(normalize: bool) -> None:
    config = AdaMAEConfig(
        encoder=VIT,
        decoder=DecoderConfig(width=12, depth=1, heads=1),
        mask=MaskConfig(strategy="tube", ratio=0.5),
        loss=LossConfig(normalize=normalize),
    )
    video = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    got = patch_targets(patchify(video, VIT), 3, normalize)
    for clip, rows in zip(video, got, strict=True):
        assert torch.allclose(rows, ref_adamae.targets(config, clip.float() / 255), atol=1e-5)


def test_normalised_targets_have_unit_unbiased_variance() -> None:
    patches = torch.rand(2, 3, 2 * 8 * 8 * 3)
    target = patch_targets(patches, 3, True)
    mean, deviation = patch_statistics(target, 3)
    assert mean.abs().max() < 1e-5
    assert torch.allclose(deviation, torch.ones_like(deviation), atol=1e-4)


def test_flat_patches_give_flat_targets() -> None:
    target = patch_targets(torch.full((1, 2, 384), 100, dtype=torch.uint8), 3, True)
    assert target.isfinite().all()
    assert target.abs().max() < 0.2  # rounding, divided by the 1e-6 that stands in for no deviation


@pytest.mark.parametrize("kind", ["mse", "l1"])
def test_token_errors_are_means_over_the_patch(kind: Any) -> None:
    predicted, target = torch.randn(2, 3, 7, dtype=torch.bfloat16), torch.randn(2, 3, 7)
    errors = token_errors(predicted, target, kind)
    assert errors.dtype == torch.float32
    for b in range(2):
        for token in range(3):
            gaps = [abs(float(p) - float(t)) for p, t in zip(predicted[b, token], target[b, token], strict=True)]
            expected = sum(gap**2 if kind == "mse" else gap for gap in gaps) / 7
            assert float(errors[b, token]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["mse", "l1"])
@pytest.mark.parametrize("normalize", [True, False])
def test_errors_of_few_rows_at_a_time_equal_those_of_all(
    kind: Any, normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients, where the last rows are fewer than the others."""
    torch.manual_seed(0)
    monkeypatch.setattr(products, "CACHED_VALUES", 1)  # 16 rows, the fewest
    settings = LossConfig(kind=kind, normalize=normalize)
    head = nn.Linear(10, VIT.patch_values)
    patches = patchify(torch.randint(0, 256, (3, 3, 4, 32, 32), dtype=torch.uint8), VIT)[:, :7]
    tail, slope = torch.randn(3, 7, 10, requires_grad=True), torch.rand(3, 7)
    whole = token_errors(head(tail), patch_targets(patches, 3, normalize), kind)
    parts = losses.head_errors(tail, head, patches, 3, settings)
    torch.testing.assert_close(parts, whole)
    sides = [tail, *head.parameters()]
    for one, other in zip(
        torch.autograd.grad(parts, sides, slope), torch.autograd.grad(whole, sides, slope), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_entropy_of_even_and_collapsed_distributions() -> None:
    even = torch.zeros(1, 50).log_softmax(dim=1)
    collapsed = torch.tensor([[200.0] + [0.0] * 49]).log_softmax(dim=1)
    assert entropy(even).item() == pytest.approx(math.log(50))
    assert entropy(collapsed).item() == pytest.approx(0.0, abs=1e-6)
    assert entropy(even).exp().item() == pytest.approx(50, rel=1e-5)


def test_motion_overlap_counts_shared_tokens() -> None:
    energy = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.1, 0.2, 0.3, 0.4]])
    shown = visible_mask(torch.tensor([[0, 1], [2, 3]]), 4)
    assert motion_overlap(shown, energy, 2).item() == pytest.approx((0.5 + 1.0) / 2)

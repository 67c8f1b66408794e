"""The sampler's objectives: against a slow reference, and against every draw there is."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from tests.models.test_adamae import MINI, build, clips, gradients
from tests.reference import ref_sampler
from vidkit.models.masking import gumbel_order, mask_generator
from vidkit.models.objectives import drawn_set_loss, entropy_shortfall, plackett_luce_log_prob
from vidkit.settings.model import AdaMAEConfig, RecomputeConfig

DRAWN = replace(MINI, loss=replace(MINI.loss, objective="plackett-luce", sampling_weight=1.0))


def test_values_and_gradients_equal_the_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(3, 7, generator=generator)).requires_grad_()
    log_probs = logits.log_softmax(dim=1)
    orders = [gumbel_order(log_probs.detach(), 4, generator) for _ in range(2)]
    errors = torch.rand(2, 3, generator=generator)
    fast = drawn_set_loss(torch.stack([plackett_luce_log_prob(log_probs, one) for one in orders]), errors)
    slow = ref_sampler.drawn_set_loss(log_probs, [one.tolist() for one in orders], errors)
    torch.testing.assert_close(fast, slow.float())
    (got,) = torch.autograd.grad(fast, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(slow, logits)
    torch.testing.assert_close(got, wanted)


def test_probabilities_too_small_for_float32_have_a_log_probability() -> None:
    log_probs = torch.tensor([[0.0, -200.0, -400.0, -600.0]])
    found = plackett_luce_log_prob(log_probs, torch.tensor([[1, 0, 2]]))
    assert found.item() == pytest.approx(-200.0)


def test_the_gradient_is_unbiased_over_all_pairs_of_draws() -> None:
    """Five tokens, two drawn: 20 orders, 400 pairs of masks, each with its probability."""
    logits = torch.tensor([0.3, -0.5, 1.0, 0.0, -1.2], dtype=torch.float64, requires_grad=True)
    log_probs = logits.log_softmax(dim=0)
    orders = list(itertools.permutations(range(5), 2))
    error = {frozenset(pair): 0.1 + 0.37 * pair[0] * pair[1] % 1 for pair in itertools.combinations(range(5), 2)}
    chance = torch.stack([ref_sampler.log_prob_of_order(log_probs, list(order)) for order in orders]).exp()
    assert chance.sum().item() == pytest.approx(1)
    reward = torch.tensor([error[frozenset(order)] for order in orders], dtype=torch.float64)
    (wanted,) = torch.autograd.grad(-(chance * reward).sum(), logits, retain_graph=True)
    every = plackett_luce_log_prob(log_probs.expand(20, -1), torch.tensor(orders))
    torch.testing.assert_close(every, chance.log())
    first, second = (torch.tensor(index) for index in zip(*itertools.product(range(20), repeat=2), strict=True))
    weight = (chance[first] * chance[second]).detach()
    pairs = torch.stack([first, second])
    each = [drawn_set_loss(every[pairs[:, [i]]], reward[pairs[:, [i]]]) for i in range(400)]
    (got,) = torch.autograd.grad((weight * torch.stack(each)).sum(), logits)
    torch.testing.assert_close(got, wanted)


def test_the_floor_pulls_only_where_entropy_lies_below_it() -> None:
    even = torch.zeros(1, 8).log_softmax(dim=1)
    assert entropy_shortfall(even, 0.9).item() == 0
    logits = torch.tensor([[9.0, 0, 0, 0, 0, 0, 0, 0]], requires_grad=True)
    short = entropy_shortfall(logits.log_softmax(dim=1), 0.9)
    assert 0 < short.item() < 0.9 * math.log(8)
    short.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0, "a step down the gradient lowers the peak"


def test_a_step_uses_two_masks_and_trains_the_sampler() -> None:
    model = build(DRAWN)
    torch.manual_seed(0)
    out = model(clips(DRAWN, batch=4), mask_generator(0, 0, 0))
    assert out.sampling_loss is not None
    assert out.loss.item() == pytest.approx(out.reconstruction_loss.item() + out.sampling_loss.item(), rel=1e-5)
    out.loss.backward()
    found = gradients(model)
    assert found["sampler.score.weight"].abs().max() > 0
    plain = build(MINI)
    plain.load_state_dict(model.state_dict())
    torch.manual_seed(0)
    assert torch.equal(plain(clips(MINI, batch=4), mask_generator(0, 0, 0)).keep, out.keep)
    assert model.eval()(clips(DRAWN)).sampling_loss is None, "evaluation needs no second mask"


def test_gradients_taken_early_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(config: AdaMAEConfig) -> dict[str, torch.Tensor]:
        model = build(config)
        torch.manual_seed(0)
        model(clips(config, batch=3), mask_generator(0, 0, 0)).loss.backward()
        return gradients(model)

    wanted = step(DRAWN)
    monkeypatch.setattr("vidkit.models.layers.CPU_TOKENS", 40)
    got = step(replace(DRAWN, recompute=RecomputeConfig(decoder="cheap")))
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-6, msg=name)

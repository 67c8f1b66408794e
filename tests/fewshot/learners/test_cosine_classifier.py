"""Baseline++'s gradient steps against autograd's, one episode at a time."""

from __future__ import annotations

import torch
from torch import nn

from vidkit.fewshot.learners.cosine_classifier import SCALE, fit_cosine
from vidkit.fewshot.learners.plain import class_means
from vidkit.fewshot.matchers.similarity import unit


def test_steps_are_those_of_sgd_on_the_cosine_classifier() -> None:
    draw = torch.Generator().manual_seed(2)
    support = unit(torch.randn(3, 6, 7, generator=draw, dtype=torch.float64))
    slots = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2]])
    found = fit_cosine(support, slots, 3, steps=25, rate=0.1, decay=0.01)
    for b in range(3):
        weights = unit(class_means(support[b : b + 1], slots[b : b + 1], 3))[0].requires_grad_()
        optimiser = torch.optim.SGD([weights], lr=0.1, momentum=0.9, weight_decay=0.01)
        for _ in range(25):
            optimiser.zero_grad()
            logits = SCALE * support[b] @ unit(weights).T
            nn.functional.cross_entropy(logits, slots[b]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        assert torch.allclose(found[b], weights.detach())


def test_fitting_lowers_the_loss_and_episodes_do_not_meet() -> None:
    draw = torch.Generator().manual_seed(3)
    support, slots = unit(torch.randn(2, 9, 5, generator=draw)), torch.arange(3).repeat(2, 3)

    def loss(weights: torch.Tensor) -> float:
        logits = SCALE * support @ unit(weights).transpose(1, 2)
        return nn.functional.cross_entropy(logits.flatten(0, 1), slots.flatten()).item()

    assert loss(fit_cosine(support, slots, 3)) < loss(fit_cosine(support, slots, 3, steps=0))
    alone = fit_cosine(support[1:], slots[1:], 3)
    assert torch.allclose(alone[0], fit_cosine(support, slots, 3)[1], atol=1e-6)

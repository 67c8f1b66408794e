"""The sampler's objectives, one draw and one clip at a time."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def log_prob_of_order(log_probs: Tensor, order: list[int]) -> Tensor:
    """log of p(first) * p(second) / (1 - p(first)) * ..., in float64."""
    probabilities = log_probs.double().exp()
    total, left = torch.zeros((), dtype=torch.float64), probabilities.sum()
    for token in order:
        total = total + (probabilities[token] / left).log()
        left = left - probabilities[token]
    return total


def drawn_set_loss(log_probs: Tensor, orders: list[list[list[int]]], errors: Tensor) -> Tensor:
    """`orders[k][b]` and `errors[k, b]` of mask k of clip b."""
    total, masks, clips = torch.zeros((), dtype=torch.float64), len(orders), len(orders[0])
    for mask, clip in itertools.product(range(masks), range(clips)):
        others = [float(errors[other, clip]) for other in range(masks) if other != mask]
        advantage = float(errors[mask, clip]) - sum(others) / len(others)
        total = total - log_prob_of_order(log_probs[clip], orders[mask][clip]) * advantage
    return total / (masks * clips)

"""k nearest training clips by cosine. Shapes: n training clips, m other ones, D width, K classes or labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vidkit.train.probe.linear import deviations

#: Neighbours to choose from.
NEIGHBOURS = (1, 3, 5, 10, 20, 50)

#: Of the weights exp(cosine / temperature), as in DINO's evaluation (Caron et al. 2021).
TEMPERATURE = 0.07

#: Clips that are compared with all training clips at a time.
PART = 1024


def neighbours(train_nD: Tensor, x_mD: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` nearest training clips of each, nearest first: cosines and rows, (m, count) each.

    Every number is taken less its mean over the training clips, by its deviation: cosines of raw features are all
    near 1, and of centred ones a few numbers decide (on generated clips, top-1 by mean and deviation for each step:
    0.16 to 0.35 centred, 0.33 to 0.56 standardised, whatever the encoder).
    """
    mean_D, spread_D = train_nD.mean(dim=0), deviations(train_nD)
    base_nD = normalize((train_nD - mean_D) / spread_D, dim=1)
    parts = [
        (normalize((part - mean_D) / spread_D, dim=1) @ base_nD.T).topk(count, dim=1)
        for part in torch.split(x_mD, PART)
    ]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def votes(cosine_mk: Tensor, row_mk: Tensor, targets_nK: Tensor, k: int) -> Tensor:
    """Scores (m, K): each class's or label's share of the k nearest, weighted by exp(cosine / temperature)."""
    weight_mk = torch.exp((cosine_mk[:, :k] - cosine_mk[:, :1]) / TEMPERATURE)
    scores_mK = torch.einsum("mk,mkc->mc", weight_mk, targets_nK[row_mk[:, :k]].to(weight_mk.dtype))
    return scores_mK / weight_mk.sum(dim=1, keepdim=True)

"""Cosines between the steps of clips, and scores of classes from those of their clips.

Shapes: B episodes, Q query clips, S support clips, K classes (`way`), T steps of a query, U steps of a support
clip, D width of a step.
"""

from __future__ import annotations

from torch import Tensor, nn


def unit(x_D: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension; one of length 0 stays so."""
    return nn.functional.normalize(x_D, dim=-1)


def step_cosines(query_BQTD: Tensor, support_BSUD: Tensor) -> Tensor:
    """Cosine of each step of each query with each step of each support clip, (B, Q, S, T, U).

    Raises:
        ValueError: steps of other widths.
    """
    if query_BQTD.shape[-1] != support_BSUD.shape[-1]:
        raise ValueError(f"steps of {query_BQTD.shape[-1]} and of {support_BSUD.shape[-1]} numbers")
    batch, queries, time, _ = query_BQTD.shape
    supports, other = support_BSUD.shape[1:3]
    one, two = unit(query_BQTD).flatten(1, 2), unit(support_BSUD).flatten(1, 2)
    found = one @ two.transpose(1, 2)  # (B, Q * T, S * U)
    return found.view(batch, queries, time, supports, other).transpose(2, 3)


def class_scores(scores_BQS: Tensor, slots_BS: Tensor, way: int) -> Tensor:
    """Mean score of a query with the clips of each class, (B, Q, K).

    As OTAM and TSN++ have it: similarities are averaged over a class's shots, not its clips.
    """
    one_hot_BSK = nn.functional.one_hot(slots_BS, way).to(scores_BQS.dtype)
    return scores_BQS @ (one_hot_BSK / one_hot_BSK.sum(dim=1, keepdim=True))

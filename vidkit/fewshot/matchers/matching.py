"""Matchers of two clips: from the cosines of their steps (B, Q, S, T, U) to one score for each pair, (B, Q, S).

Higher is more alike. Shapes: B episodes, Q query clips, S support clips, T steps of a query, U of a support clip.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

#: Of the soft minimum in `otam` (Cao et al. 2020, section 3.3); 0 would be the minimum itself.
SMOOTH = 0.1

Matcher = Callable[[Tensor], Tensor]


def mean(cosines_BQSTU: Tensor) -> Tensor:
    """Mean of all cosines: time has no part in it. The plainest of all, to compare the others with."""
    return cosines_BQSTU.mean(dim=(3, 4))


def diagonal(cosines_BQSTU: Tensor) -> Tensor:
    """Mean cosine of steps at the same time.

    Raises:
        ValueError: clips of different lengths.
    """
    time, other = cosines_BQSTU.shape[3:]
    if time != other:
        raise ValueError(f"clips of {time} and {other} steps have no diagonal")
    return cosines_BQSTU.diagonal(dim1=3, dim2=4).mean(dim=3)


def chamfer(cosines_BQSTU: Tensor) -> Tensor:
    """Each step with its most alike step of the other clip, in any order, both ways (HyRSM's Bi-MHM, 2022)."""
    forth = cosines_BQSTU.amax(dim=4).mean(dim=3)
    back = cosines_BQSTU.amax(dim=3).mean(dim=3)
    return (forth + back) / 2


def otam(cosines_BQSTU: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Ordered temporal alignment with free ends (Cao et al. 2020): minus the mean cost of both directions.

    One clip's steps are laid on the other's in order. The other's steps before the first and after the last one
    that is met cost nothing, so that a short action is found in a long clip. Each clip is the other one once.
    """
    cost = 1 - cosines_BQSTU
    return -(aligned_cost(cost, smooth) + aligned_cost(cost.transpose(3, 4), smooth)) / 2


def aligned_cost(cost_XTU: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Least cost of a path through all columns of (..., T, U) in order, (...); OTAM, section 3.3.

    A column of zeros is put before the first and behind the last one. A path goes from a cell to the next one in
    its row, or to the next one in the next row; in the two added columns and in the first of the others also
    straight down. So rows before it begins and after it ends cost nothing. `smooth` is lambda of the soft minimum
    `-lambda * log sum exp(-x / lambda)`, through which every path has a part in the cost and in the gradient.
    """
    padded = nn.functional.pad(cost_XTU, (1, 1))
    rows, columns = padded.shape[-2:]
    least = _minimum if smooth == 0 else _soft_minimum
    before: list[Tensor] = []
    for row in range(rows):
        now: list[Tensor] = []
        for column in range(columns):
            here = padded[..., row, column]
            from_left = now[column - 1] if column else None
            if row == 0:
                now.append(here if from_left is None else here + from_left)
                continue
            if from_left is None:  # the free beginning: zeros, one above the other
                now.append(here + before[0])
                continue
            ways = [before[column - 1], from_left]
            if column in (1, columns - 1):
                ways.append(before[column])
            now.append(here + least(torch.stack(ways), smooth))
        before = now
    return before[-1]


def _soft_minimum(ways_WX: Tensor, smooth: float) -> Tensor:
    return -smooth * torch.logsumexp(-ways_WX / smooth, dim=0)


def _minimum(ways_WX: Tensor, smooth: float) -> Tensor:
    return ways_WX.amin(dim=0)


#: Those that need no training, by name.
MATCHERS: dict[str, Matcher] = {"mean": mean, "diagonal": diagonal, "chamfer": chamfer, "otam": otam}

"""Tests of a difference, written out: every permutation is tried, every density is summed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def permutation_p(differences: Sequence[float]) -> float:
    """Both sides, over all 2^n signs."""
    seen = abs(sum(differences))
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(value >= seen - 1e-9 for value in sums) / len(sums)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact, both sides: a coin for each clip on which one of two models alone is right."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def student_tail(t: float, freedom: float, width: float = 2000.0, steps: int = 2_000_000) -> float:
    """The density from `t` on, by rectangles; for 3 or more degrees of freedom (what lies beyond `width` is left
    out).
    """
    import numpy as np

    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    edges = abs(t) + np.linspace(0.0, width ** (1 / 3), steps) ** 3
    middle, step = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    density = np.exp(log - (freedom + 1) / 2 * np.log1p(middle**2 / freedom))
    return float(2 * (density * step).sum())

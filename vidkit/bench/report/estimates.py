"""Means with intervals, and Student's t: few lines, so that no statistics library is needed."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: In tables, for what is not there.
NOTHING = "–"

#: Points of Simpson's rule; odd.
_POINTS = 2001

#: Degrees of freedom from which the normal distribution is taken: the quantile differs by less than 0.02 %.
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    half: float | None
    """Half of the 95 % interval; None for a single value."""
    count: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """
    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, half=2.4841377, count=3)
    """
    if not values:
        return None
    count, mean = len(values), statistics.fmean(values)
    if count == 1:
        return Estimate(mean, None, 1)
    return Estimate(mean, round(quantile(count - 1) * statistics.stdev(values) / math.sqrt(count), 7), count)


def written(value: Estimate | None, digits: int = 2) -> str:
    """Mean, and half of the interval if there is one."""
    if value is None:
        return NOTHING
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:.{digits}f}{half}"


def written_p(p: float | None) -> str:
    """
    >>> written_p(0.04567), written_p(0.0012), written_p(1e-9)
    ('0.046', '0.0012', '<0.0001')
    """
    if p is None:
        return NOTHING
    if p < 0.0001:
        return "<0.0001"
    return f"{p:.3f}" if p >= 0.01 else f"{p:.4f}"


def tail(t: float, freedom: float) -> float:
    """The chance that Student's t lies at least as far from 0 as `t` does; both sides.

    Args:
        freedom: degrees of freedom, 1 or more; need not be whole.

    With t = sqrt(freedom) tan(a), the density is proportional to cos(a)^(freedom - 1), from a = 0 to pi / 2.
    """
    if freedom > _MANY:
        return math.erfc(abs(t) / math.sqrt(2))
    return _area(math.atan(abs(t) / math.sqrt(freedom)), freedom) / _area(0.0, freedom)


def _area(start: float, freedom: float) -> float:
    """Of cos(a)^(freedom - 1) from `start` to pi / 2, by Simpson's rule in v, where a = pi / 2 - v^2: between 1 and
    2 degrees of freedom the density ends in a root, which would spoil the rule in a.
    """
    v, step = np.linspace(0.0, math.sqrt(max(0.0, math.pi / 2 - start)), _POINTS, retstep=True)
    y = np.sin(v**2) ** (freedom - 1) * 2 * v
    return float(step / 3 * (y[0] + 4 * y[1:-1:2].sum() + 2 * y[2:-2:2].sum() + y[-1]))


@functools.lru_cache(maxsize=1024)
def quantile(freedom: float) -> float:
    """That |t| stays below in 95 of 100 cases.

    >>> round(quantile(10), 3)
    2.228
    """
    low, high = 1.9, 13.0
    for _ in range(36):  # to 10 digits
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, freedom) > 0.05 else (low, middle)
    return (low + high) / 2


def welch_freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances (Welch and Satterthwaite), from (variance, freedom) of each; at
    least one of the variances is above 0.
    """
    whole = sum(variance for variance, _ in parts)
    return whole**2 / sum(variance**2 / freedom for variance, freedom in parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Of two means, with half of its 95 % interval."""

    value: float
    half: float
    p: float


def welch(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """Mean of `second` less mean of `first`, by Welch's t test. None where a side has fewer than two values, or
    neither has any spread: nothing is known of the noise then.
    """
    if min(len(first), len(second)) < 2:
        return None
    parts = [(statistics.variance(values) / len(values), len(values) - 1.0) for values in (first, second)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return None
    value, freedom = statistics.fmean(second) - statistics.fmean(first), welch_freedom(parts)
    error = math.sqrt(variance)
    return Difference(value=value, half=quantile(freedom) * error, p=tail(value / error, freedom))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979), in the order given.

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    found, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        found[i] = highest
    return found

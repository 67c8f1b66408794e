"""Means with intervals, and their differences.

The distributions are scipy's, which is imported when the first number is asked for: a table of one seed needs none.
"""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

#: In tables, for what is not there.
NOTHING = "–"


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
        freedom: degrees of freedom, above 0; need not be whole.
    """
    from scipy import special  # what scipy.stats.t calls; to import that takes half a second more

    return float(2 * special.stdtr(freedom, -abs(t)))


@functools.lru_cache(maxsize=1024)
def quantile(freedom: float) -> float:
    """That |t| stays below in 95 of 100 cases.

    >>> round(quantile(10), 3)
    2.228
    """
    from scipy import special

    return float(special.stdtrit(freedom, 0.975))


def welch_freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances (Welch and Satterthwaite), from (variance, freedom) of each; at
    least one of the variances is above 0. scipy has it for two samples only, inside its t test.
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
    if statistics.variance(first) == statistics.variance(second) == 0:
        return None
    from scipy import stats

    with warnings.catch_warnings():
        # a side without any spread is not a loss of precision here, but what was measured
        warnings.filterwarnings("ignore", message="Precision loss occurred", category=RuntimeWarning)
        found = stats.ttest_ind(second, first, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return Difference(
        value=statistics.fmean(second) - statistics.fmean(first),
        half=float(high - low) / 2,
        p=float(found.pvalue),
    )


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979), in the order given. scipy corrects for false discoveries
    only, which promises less.

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    found, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        found[i] = highest
    return found

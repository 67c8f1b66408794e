"""Differences paired by seed: their mean with an interval, p, a verdict, and how many seeds would decide.

Arms of one seed share weights, clips, order and augmentations. What these do to both is not in the difference.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidkit.bench.report.estimates import quantile, tail

#: Points of percent, or percent of an error, within which two arms are called alike.
MARGIN = 2.0
#: Of errors of the first kind, over all contrasts of a measure together.
LEVEL = 0.05
#: With which a difference of `MARGIN` would be found.
POWER = 0.8
#: Seeds that are looked at.
MOST_SEEDS = 1000

Verdict = Literal["apart", "alike within 2 points", "undecided"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """A mean of differences."""

    difference: float
    half: float | None
    """Half of its 95 % interval (Student's t); None for a single seed, or without any spread over seeds."""
    p: float | None
    """Two-sided, of the paired t test; None likewise."""
    spread: float | None
    """Deviation of the differences."""
    seeds: int


def paired(differences: Sequence[float]) -> Paired:
    """
    >>> found = paired([1.0, 2.0, 3.0])
    >>> found.difference, round(found.half or 0, 3), round(found.p or 0, 4)
    (2.0, 2.484, 0.0742)
    """
    count, mean = len(differences), statistics.fmean(differences)
    spread = statistics.stdev(differences) if count > 1 else None
    if spread is None or spread < 1e-12 * max(1.0, abs(mean)):
        # without any spread nothing is known of the noise
        return Paired(difference=mean, half=None, p=None, spread=spread, seeds=count)
    error = spread / math.sqrt(count)
    return Paired(
        difference=mean,
        half=quantile(count - 1) * error,
        p=tail(mean / error, count - 1),
        spread=spread,
        seeds=count,
    )


def verdict(found: Paired, corrected: float | None) -> Verdict:
    """
    Args:
        corrected: p after the correction for the number of contrasts.

    "apart": corrected p below 0.05. "alike": not so, and the whole 95 % interval lies within the margin, which is
    two one-sided tests at 2.5 %. Arms that give the same figures in every seed are alike.
    """
    if corrected is not None and corrected < LEVEL:
        return "apart"
    if found.half is not None and abs(found.difference) + found.half <= MARGIN:
        return "alike within 2 points"
    if found.half is None and found.seeds > 1 and found.difference == 0:
        return "alike within 2 points"
    return "undecided"


@functools.lru_cache(maxsize=1024)
def seeds_needed(spread: float, contrasts: int) -> int | None:
    """Pairs of seeds with which a true difference of `MARGIN` would be found in 80 of 100 cases, if differences
    spread as they did; tested at 5 % over all `contrasts` (Bonferroni). None: more than `MOST_SEEDS`.

    >>> seeds_needed(2.0, 1)
    10
    """
    from scipy import special

    count = np.arange(2, MOST_SEEDS + 1)
    freedom = count - 1.0
    shift = MARGIN / spread * np.sqrt(count)
    limit = special.stdtrit(freedom, 1 - LEVEL / contrasts / 2)
    # the other tail is beyond all counting; where the shift is far above the limit, the function underflows
    power = np.where(shift > limit + 10, 1.0, 1 - special.nctdtr(freedom, np.minimum(shift, limit + 10), limit))
    enough = np.flatnonzero(power >= POWER)
    return int(count[enough[0]]) if len(enough) else None

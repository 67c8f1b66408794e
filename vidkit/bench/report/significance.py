"""Whether two cells differ on the clips that both were tested on.

Two things are left to chance: which clips were tested, and how each training ran (its seed). Seeds share the clips,
so answers of several seeds on one clip are no independent samples: the clip is the unit, with its answers averaged.

p_clips: a permutation test over clips. If two cells are alike, either could have given either's answers on a clip;
    of all 2^N ways to swap them, how many give a difference as large? Exact with as many seeds of either (else
    nearly: averages of few and of many answers cannot quite be swapped); with one seed it is McNemar's exact test.
    It speaks of the models that were trained: other clips, the same models.
p_seeds: Welch's t with the spread over seeds added to that over clips, as in studies with several readers and
    cases. It speaks of training again, too. The answers' spread from training to training is in both parts, so it
    errs towards no difference. Needs two seeds of each cell.

Shapes: S seeds, N clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidkit.bench.report.estimates import quantile, tail, welch_freedom

Right = npt.NDArray[np.bool_]

#: Sums of clips' differences beyond which their distribution is taken as normal: 4 million numbers, 0.2 s.
_MOST = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """A difference in accuracy, as shares from -1 to 1."""

    difference: float
    half: float
    """Half of the 95 % interval: over clips, and over seeds as well where `p_seeds` is known."""
    p_clips: float
    p_seeds: float | None
    clips: int


def paired(first_SN: Right, second_SN: Right) -> Paired:
    """Accuracy of `first` less that of `second`, on the same N clips in the same order. The numbers of seeds may
    differ.
    """
    clips = first_SN.shape[1]
    if clips == 0 or second_SN.shape[1] != clips:
        raise ValueError(f"{first_SN.shape} against {second_SN.shape}: expected the same clips, at least one")
    each_N = first_SN.mean(axis=0) - second_SN.mean(axis=0)
    difference = float(first_SN.mean() - second_SN.mean())
    parts = [(_clip_variance(each_N), clips + 1.0)]
    several = min(len(first_SN), len(second_SN)) > 1
    if several:
        for right_SN in (first_SN, second_SN):
            seeds = len(right_SN)
            parts.append((float(right_SN.mean(axis=1).var(ddof=1)) / seeds, seeds - 1.0))
    error, freedom = math.sqrt(sum(variance for variance, _ in parts)), welch_freedom(parts)
    return Paired(
        difference=difference,
        half=quantile(freedom) * error,
        p_clips=permutation_p(_whole_differences(first_SN, second_SN)),
        p_seeds=tail(difference / error, freedom) if several else None,
        clips=clips,
    )


def _clip_variance(each_N: npt.NDArray[np.floating[Any]]) -> float:
    """Of the mean difference. One clip more for either side (Bonett and Price, 2012): where all clips agree, the
    interval would otherwise have no width.
    """
    more = np.concatenate([each_N, [1.0, -1.0]])
    return float(more.var(ddof=1)) / len(more)


def _whole_differences(first_SN: Right, second_SN: Right) -> npt.NDArray[np.int64]:
    """Each clip's difference as the smallest whole numbers, (N,)."""
    one, other = len(first_SN), len(second_SN)
    common = math.gcd(one, other)
    found: npt.NDArray[np.int64] = first_SN.sum(axis=0) * (other // common) - second_SN.sum(axis=0) * (
        one // common
    )
    return found


def permutation_p(differences_N: npt.NDArray[np.int64]) -> float:
    """Of 2^N choices of signs of N whole numbers, the share whose sum is at least as far from 0. Exact to 1e-13.

    scipy's `permutation_test` tries every choice, or draws some of them: 2^N is too many from N = 20 on. With
    numbers 0 and 1 alone this is its `binomtest`, a coin for each clip on which one of two models is right.

    A number m with either sign has the characteristic function cos(m w). The sum has their product; one Fourier
    transform turns that into the chance of each sum.
    """
    sizes, counts = np.unique(np.abs(differences_N[differences_N != 0]), return_counts=True)
    seen, farthest = abs(int(differences_N.sum())), int((sizes * counts).sum())
    if seen == 0:
        return 1.0
    if farthest > _MOST:
        from scipy import special

        return float(2 * special.ndtr(-seen / math.sqrt(float((sizes**2 * counts).sum()))))
    length = 2 * farthest + 1
    w = 2 * np.pi * np.arange(farthest + 1) / length
    product = np.ones_like(w)
    for size, count in zip(sizes, counts, strict=True):
        product *= np.cos(size * w) ** count
    chance = np.fft.irfft(product, n=length)  # of sums 0, 1, ... farthest, and then of the negative ones
    return float(min(1.0, max(0.0, 2 * chance[seen : farthest + 1].sum())))

"""Figures of a probe: accuracy with its interval, and how much of the features' variance is between classes.

Shapes: n clips, D width, K classes or labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidkit.train.metrics import multi_label, single_label

#: Draws of an interval that is bootstrapped.
DRAWS = 200


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Labels:
    """Of some clips."""

    class_id: npt.NDArray[np.int64]
    """(n,); -1 where a clip can have several."""
    hot: Tensor
    """(n, K) float32: 1 for each that a clip has."""
    several: bool

    def __len__(self) -> int:
        return len(self.hot)

    @property
    def metric(self) -> str:
        """What `figure` gives."""
        return "mAP" if self.several else "top1"


def figure(scores_nK: Tensor, labels: Labels) -> float:
    """Top-1 accuracy, or mean average precision; of equal scores the first counts."""
    if labels.several:
        found = multi_label(scores_nK.float().numpy(), labels.hot.numpy())["mAP"]
        return float("nan") if found is None else float(found)
    return float((scores_nK.argmax(dim=1).numpy() == labels.class_id).mean())


def whole(scores_nK: Tensor, labels: Labels) -> dict[str, Any]:
    """As `vidkit evaluate` gives them: with the confusion matrix, or each label's average precision."""
    scores = scores_nK.float().numpy()
    return multi_label(scores, labels.hot.numpy()) if labels.several else single_label(scores, labels.class_id)


def interval(scores_nK: Tensor, labels: Labels, seed: int) -> tuple[float, float]:
    """95 % interval: Wilson's of an accuracy; for mAP the middle 95 % of figures on clips that are drawn anew."""
    if not labels.several:
        from scipy.stats import binomtest

        right = int((scores_nK.argmax(dim=1).numpy() == labels.class_id).sum())
        found = binomtest(right, len(labels)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(DRAWS):
        rows = torch.from_numpy(rng.integers(0, len(labels), len(labels)))
        drawn = Labels(class_id=labels.class_id[rows.numpy()], hot=labels.hot[rows], several=True)
        values.append(figure(scores_nK[rows], drawn))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def against(scores_nK: Tensor, other_nK: Tensor, labels: Labels) -> dict[str, Any] | None:
    """Clips that either probe alone gets right, and the exact p (McNemar); None where a clip has several labels."""
    if labels.several:
        return None
    from scipy.stats import binomtest

    one, other = (scores.argmax(dim=1).numpy() == labels.class_id for scores in (scores_nK, other_nK))
    better, worse = int((one & ~other).sum()), int((other & ~one).sum())
    p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return {"better": better, "worse": worse, "p": p}


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How clips differ in some features."""

    share: float
    """Mean squared distance from the mean clip, as a share of the mean squared length: near 0 in a collapsed
    encoder, in which all clips look alike."""
    between: float | None
    """Share of the variance that is between classes; None where a clip can have several labels."""
    within: float | None
    chance: float | None
    """What `between` is on average where features know nothing of classes: (classes - 1) / (clips - 1)."""


def spread(x_nD: Tensor, labels: Labels) -> Spread:
    """Of features (n, D) of labelled clips, as they are, not standardised."""
    x_nD = x_nD.double()
    mean_D = x_nD.mean(dim=0)
    total = float((x_nD - mean_D).square().sum())
    length = float(x_nD.square().sum())
    share = total / length if length else 0.0
    if labels.several or total == 0 or len(labels) < 2:
        return Spread(share=share, between=None, within=None, chance=None)
    hot_nK = labels.hot.double()
    count_K = hot_nK.sum(dim=0)
    held = count_K > 0
    means_KD = (hot_nK.T @ x_nD)[held] / count_K[held, None]
    between = float((count_K[held, None] * (means_KD - mean_D).square()).sum()) / total
    return Spread(
        share=share, between=between, within=1 - between, chance=(int(held.sum()) - 1) / (len(labels) - 1)
    )

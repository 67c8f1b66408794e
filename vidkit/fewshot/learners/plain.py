"""Learners without a network of their own: nearest clip, ridge regression, prototypes.

Shapes: n clips, D width of a feature, B episodes, K classes (`way`), S support clips, Q query clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.fewshot.learners.training import Pool, Report, TrainedLearner
from vidkit.settings.fewshot import FewshotConfig


def class_means(support_BSD: Tensor, slots_BS: Tensor, way: int) -> Tensor:
    """Mean support feature by slot, (B, K, D)."""
    one_hot_BSK = nn.functional.one_hot(slots_BS, way).to(support_BSD.dtype)
    return one_hot_BSK.transpose(1, 2) @ support_BSD / one_hot_BSK.sum(dim=1)[..., None]


def squared_distances(a_BQD: Tensor, b_BKD: Tensor) -> Tensor:
    """Squared Euclidean distances, (B, Q, K)."""
    squares = a_BQD.square().sum(dim=2)[..., None] + b_BKD.square().sum(dim=2)[:, None]
    return squares - 2 * a_BQD @ b_BKD.transpose(1, 2)


class Untrained:
    """A learner without weights."""

    def __init__(self, config: FewshotConfig) -> None:
        self.way = config.way

    def fit(
        self, features_nD: Tensor, train: Pool | None, val: Pool | None, seed: int, report: Report | None
    ) -> dict[str, Any]:
        """There is nothing to learn."""
        return {}


class Nearest(Untrained):
    """The slot of the support clip with the highest cosine."""

    def predict(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Slots (B, Q)."""
        one, other = (nn.functional.normalize(x, dim=2) for x in (query_BQD, support_BSD))
        return slots_BS.gather(1, (one @ other.transpose(1, 2)).argmax(dim=2))


class Ridge(Untrained):
    """A linear classifier of each episode by ridge regression on one-hot labels, in closed form.

    With X (S, D) the support features less their mean and Y the one-hot labels less 1/K, the scores of a query x
    are `x X' (X X' + c I)^-1 Y`: as many equations as support clips, whatever the width.
    """

    def __init__(self, config: FewshotConfig) -> None:
        super().__init__(config)
        self.ridge = config.ridge

    def predict(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Slots (B, Q)."""
        mean_B1D = support_BSD.mean(dim=1, keepdim=True)
        x_BSD = support_BSD - mean_B1D
        gram_BSS = x_BSD @ x_BSD.transpose(1, 2)
        diagonal_BS = torch.diagonal(gram_BSS, dim1=1, dim2=2)
        # the penalty goes with the scale of the features; equal support clips would leave none at all
        penalty_B11 = (self.ridge * diagonal_BS.mean(dim=1) + 1e-8)[:, None, None]
        eye_SS = torch.eye(x_BSD.shape[1], device=x_BSD.device, dtype=x_BSD.dtype)
        targets_BSK = nn.functional.one_hot(slots_BS, self.way).to(x_BSD.dtype) - 1 / self.way
        weights_BSK = torch.linalg.solve(gram_BSS + penalty_B11 * eye_SS, targets_BSK)
        scores_BQK: Tensor = ((query_BQD - mean_B1D) @ x_BSD.transpose(1, 2)) @ weights_BSK
        return scores_BQK.argmax(dim=2)


class Prototypes(TrainedLearner[nn.Linear]):
    """Prototypical networks (Snell et al. 2017): the class whose mean support feature is nearest.

    With `project` a linear map to that width is learned on episodes of meta-train; otherwise nothing is.
    """

    name = "proto"

    def make(self, shape: Sequence[int], generator: torch.Generator) -> nn.Linear:
        """An orthogonal projection to `project` numbers."""
        projection = nn.Linear(shape[-1], self.config.project, bias=False)
        nn.init.orthogonal_(projection.weight, generator=generator)
        return projection

    def fit(
        self, features_nD: Tensor, train: Pool | None, val: Pool | None, seed: int, report: Report | None
    ) -> dict[str, Any]:
        """Train the projection, where there is one."""
        return super().fit(features_nD, train, val, seed, report) if self.config.project else {}

    def scores(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Minus squared distances; where something is trained, their mean over the width, so that losses start
        small.
        """
        if self.model is not None:
            support_BSD, query_BQD = self.model(support_BSD), self.model(query_BQD)
        distances = squared_distances(query_BQD, class_means(support_BSD, slots_BS, self.config.way))
        return -distances / (support_BSD.shape[2] if self.config.project or self.config.tune else 1)

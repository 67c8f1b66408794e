"""Learners on clips as T steps: SimpleShot, cosine prototypes, and matchers, which nothing is trained for.

They see steps less their mean over meta-train clips, each step by its own mean: an encoder's positions are in it,
and would otherwise make the steps of any two clips alike along the diagonal.

Shapes: n clips, T steps of a clip, D width of a step, B episodes, K classes (`way`), S support clips, Q query
clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.fewshot.learners.plain import Untrained, class_means
from vidkit.fewshot.learners.training import Pool, Report, TrainedLearner
from vidkit.fewshot.matchers.matching import MATCHERS, Matcher
from vidkit.fewshot.matchers.similarity import class_scores, step_cosines, unit
from vidkit.settings.fewshot import FewshotConfig

#: Where the temperature of cosine prototypes begins (Meta-Baseline's code).
TEMPERATURE = 10.0


class SimpleShot(Untrained):
    """Centred mean features of length 1, and the class whose mean of those is nearest (Wang et al. 2019, "CL2N").

    Means are brought to length 1 as well: with several shots, distances otherwise prefer classes whose clips
    differ.
    """

    def predict(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Slots (B, Q)."""
        support, query = (unit(x.mean(dim=2)) for x in (support_BSTD, query_BQTD))
        means_BKD = unit(class_means(support, slots_BS, self.way))
        return (query @ means_BKD.transpose(1, 2)).argmax(dim=2)


class Temperature(nn.Module):
    """A factor on cosines before the softmax: cosines alone could not say more than e^2 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(TEMPERATURE)))

    def forward(self, cosines: Tensor) -> Tensor:
        """Logits, of the same shape."""
        return cosines * self.log.exp()


class CosinePrototypes(TrainedLearner[Temperature]):
    """The class whose mean support feature has the highest cosine; clips keep their lengths until then.

    With `tune` the temperature of the cosines learns together with the encoder; on the encoder of a classifier of
    the meta-train classes that is Meta-Baseline (Chen et al. 2021). Without, a temperature would change nothing.
    """

    name = "cosine"

    def make(self, shape: Sequence[int], generator: torch.Generator) -> Temperature:
        """A temperature that has learned nothing."""
        return Temperature()

    def fit(
        self, features_nTD: Tensor, train: Pool | None, val: Pool | None, seed: int, report: Report | None
    ) -> dict[str, Any]:
        """Nothing is learned on fixed features."""
        if self.config.tune:  # on fixed features it would change no answer
            self.model = Temperature().to(features_nTD.device)
        return {}

    def scores(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Cosines, or logits where an encoder learns, (B, Q, K)."""
        support, query = (x.mean(dim=2) for x in (support_BSTD, query_BQTD))
        means_BKD = class_means(support, slots_BS, self.config.way)
        cosines_BQK = unit(query) @ unit(means_BKD).transpose(1, 2)
        return cosines_BQK if self.model is None else self.model(cosines_BQK)


class Matching(Untrained):
    """The class whose clips a matcher finds most alike, on the mean over its shots."""

    def __init__(self, config: FewshotConfig, matcher: str) -> None:
        super().__init__(config)
        self.matcher: Matcher = MATCHERS[matcher]

    def predict(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Slots (B, Q)."""
        cosines = step_cosines(query_BQTD, support_BSTD)
        return class_scores(self.matcher(cosines), slots_BS, self.way).argmax(dim=2)

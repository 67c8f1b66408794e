"""Baseline++ (Chen et al. 2019): a classifier of cosines, fitted on the support of each episode.

The classifier that its features come from, of the meta-train classes, is `vidkit finetune --class-split`.

Shapes: n clips, T steps of a clip, D width of a feature, B episodes, K classes (`way`), S support clips, Q query
clips.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidkit.fewshot.learners.plain import Untrained, class_means
from vidkit.fewshot.matchers.similarity import unit

#: Factor on cosines before the softmax: cosines alone could not say more than e^2 to 1.
SCALE = 10.0

#: Steps on the support, their rate and their decay of weights, as published for video (Zhu et al. 2021).
STEPS, RATE, DECAY = 100, 0.01, 1e-3


class BaselinePlusPlus(Untrained):
    """Weights begin at the classes' means and take gradient steps on the support, all episodes of a batch at once.

    Each episode has weights of its own, and none shares a gradient with another.
    """

    def predict(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Slots (B, Q)."""
        support, query = (unit(x.mean(dim=2)) for x in (support_BSTD, query_BQTD))
        weights_BKD = fit_cosine(support, slots_BS, self.way)
        return (query @ unit(weights_BKD).transpose(1, 2)).argmax(dim=2)


def fit_cosine(
    support_BSD: Tensor, slots_BS: Tensor, way: int, *, steps: int = STEPS, rate: float = RATE, decay: float = DECAY
) -> Tensor:
    """Weights (B, K, D) of `SCALE * cosine(weight, feature)` after gradient steps with momentum 0.9.

    Args:
        support_BSD: of length 1 along D.
    """
    weights = unit(class_means(support_BSD, slots_BS, way))
    speed = torch.zeros_like(weights)
    target_BSK = nn.functional.one_hot(slots_BS, way).to(weights.dtype)
    for _ in range(steps):
        length = weights.norm(dim=2, keepdim=True).clamp_min(1e-12)
        directions = weights / length
        logits_BSK = SCALE * support_BSD @ directions.transpose(1, 2)
        error_BSK = (logits_BSK.softmax(dim=2) - target_BSK) / support_BSD.shape[1]
        slope = SCALE * error_BSK.transpose(1, 2) @ support_BSD
        # through the division by the length: what lies along the weight itself changes nothing
        slope = (slope - directions * (slope * directions).sum(dim=2, keepdim=True)) / length + decay * weights
        speed = 0.9 * speed + slope
        weights = weights - rate * speed
    return weights

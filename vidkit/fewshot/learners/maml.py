"""MAML on fixed features: initial weights from which a few gradient steps on the support make a classifier.

First-order (Finn et al. 2017, section 5.2): the steps' gradients are taken as constants, so that the outer gradient
is that at the adapted weights. Where the features hold a gradient, it is that of the queries alone.

Shapes: n clips, D width of a feature, B episodes, K classes (`way`), S support clips, Q query clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vidkit.fewshot.learners.training import TrainedLearner

#: Gradient steps on the support, in training and in tests.
INNER_STEPS = 5

#: The steps' first rate; it is learned with the weights.
INNER_RATE = 0.1

Weights = dict[str, Tensor]


class Head(nn.Module):
    """One hidden layer, a linear layer that starts at 0 so that no slot is preferred, and the inner rate."""

    def __init__(self, inputs: int, hidden: int, way: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.last = nn.Linear(hidden, way)
        self.log_rate = nn.Parameter(torch.tensor(math.log(INNER_RATE)))
        nn.init.xavier_uniform_(self.first.weight, generator=generator)
        for zero in (self.first.bias, self.last.weight, self.last.bias):
            nn.init.zeros_(zero)

    def forward(self, x_XD: Tensor) -> Tensor:
        """(X, D) to logits (X, K)."""
        scores: Tensor = self.last(self.first(x_XD).relu())
        return scores


class MamlLearner(TrainedLearner[Head]):
    """Initial weights and the rate of the steps are learned on episodes of meta-train."""

    name = "maml"

    def make(self, shape: Sequence[int], generator: torch.Generator) -> Head:
        """A hidden layer as wide as `hidden`."""
        return Head(shape[-1], self.config.hidden, self.config.way, generator)

    def scores(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Logits (B, Q, K) after the steps on each episode's support."""
        model = self.network
        weights: Weights = {name: value for name, value in model.named_parameters() if name != "log_rate"}
        rate = model.log_rate.exp()

        def loss(weights: Weights, x_SD: Tensor, slots_S: Tensor) -> Tensor:
            return nn.functional.cross_entropy(torch.func.functional_call(model, weights, (x_SD,)), slots_S)

        def one(x_SD: Tensor, slots_S: Tensor, query_QD: Tensor) -> Tensor:
            own = weights
            for _ in range(INNER_STEPS):
                slopes = torch.func.grad(loss)(own, x_SD, slots_S)
                own = {name: value - rate * slopes[name].detach() for name, value in own.items()}
            scores: Tensor = torch.func.functional_call(model, own, (query_QD,))
            return scores

        found: Tensor = torch.func.vmap(one)(support_BSD, slots_BS, query_BQD)
        return found

"""The attentive probe: one trained query that reads a clip's sequence, and a linear layer on what it read.

Standardised steps get a trained position each, since attention alone knows no order. Shapes: n clips, B some of
them, T steps, W numbers of a step, H heads, K classes or labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, scaled_dot_product_attention

from vidkit.settings.probe import ProbeConfig
from vidkit.train.descent import Descent, descend, one_thread
from vidkit.train.probe.linear import deviations


class AttentivePool(nn.Module):
    """Sequences (B, T, W) -> scores (B, K)."""

    mean: Tensor
    spread: Tensor

    def __init__(
        self, steps: int, width: int, outputs: int, heads: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        # as many heads as divide the width
        self.heads = math.gcd(width, heads)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.position = nn.Parameter(torch.zeros(steps, width))
        self.query = nn.Parameter(torch.empty(width))
        self.key_value = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.query, std=1.0, generator=generator)
        nn.init.xavier_uniform_(self.key_value.weight, generator=generator)
        for zero in (self.key_value.bias, self.head.weight, self.head.bias):
            nn.init.zeros_(zero)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """As the class says; raw scores."""
        x_BTW = (x_BTW - self.mean) / self.spread + self.position
        key_BHTX, value_BHTX = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.key_value(x_BTW).chunk(2, dim=2)
        )
        query_BH1X = self.query.view(self.heads, 1, -1).expand(len(x_BTW), -1, -1, -1)
        pooled_BW = scaled_dot_product_attention(query_BH1X, key_BHTX, value_BHTX).flatten(1)
        scores: Tensor = self.head(pooled_BW)
        return scores


def fit(
    x_nTW: Tensor,
    targets_nK: Tensor,
    config: ProbeConfig,
    *,
    several: bool,
    judge: Callable[[Callable[[Tensor], Tensor]], float],
) -> tuple[Callable[[Tensor], Tensor], Descent]:
    """Train with Adam; of ten states the one that `judge` (of a function from features to scores) likes best stays.

    Returns:
        From features (m, T, W) to scores (m, K), and how the training went.

    Raises:
        TrainingError: a loss that is not finite.
    """
    generator = torch.Generator().manual_seed(config.seed)
    count, steps, width = x_nTW.shape
    model = AttentivePool(steps, width, targets_nK.shape[1], config.heads, generator)
    model.mean.copy_(x_nTW.mean(dim=(0, 1)))
    model.spread.copy_(deviations(x_nTW.flatten(0, 1)))
    targets_nK = targets_nK.float()
    batch = min(config.batch, count)
    order = torch.cat(
        [torch.randperm(count, generator=generator) for _ in range(-(-config.steps * batch // count))]
    )

    def loss_of(step: int) -> Tensor:
        rows = order[step * batch : (step + 1) * batch]
        logits_BK, wanted_BK = model(x_nTW[rows]), targets_nK[rows]
        if several:
            return binary_cross_entropy_with_logits(logits_BK, wanted_BK, reduction="none").sum(dim=1).mean()
        return cross_entropy(logits_BK, wanted_BK)

    @torch.no_grad()
    def scores(x_mTW: Tensor) -> Tensor:
        return torch.cat([model(part) for part in torch.split(x_mTW, 4096)])

    with one_thread():
        done = descend(
            loss_of,
            [{"params": list(model.parameters()), "lr": config.learning_rate, "weight_decay": config.weight_decay}],
            name="the attentive probe",
            steps=config.steps,
            clip=10.0,
            modules=[model],
            judge=lambda: judge(scores),
        )
    return scores, done

"""Training steps so small that every tensor of them is known."""

from __future__ import annotations

import torch
from torch import nn

from vidkit.bench.measure.step import TrainStep
from vidkit.models.layers import make_blocks


class HandStep(TrainStep):
    """`model(x).sum()`, with AdamW."""

    def __init__(self, model: nn.Module, x: torch.Tensor, half: torch.dtype | None = None) -> None:
        self.model, self.clips, self.targets, self.half = model, x, None, half
        self.optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        self.loss = None

    def forward(self) -> None:
        with self._precision():
            self.loss = self.model(self.clips).sum()


def mlp(rows: int, inputs: int, hidden: int, outputs: int) -> HandStep:
    layers = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
    return HandStep(layers, torch.zeros(rows, inputs))


def block(batch: int, tokens: int, width: int, heads: int, half: torch.dtype | None = None) -> HandStep:
    (one,) = make_blocks(1, width, heads, 4.0)
    return HandStep(one, torch.zeros(batch, tokens, width), half)

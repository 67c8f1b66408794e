"""A MANN written out slowly: one episode at a time, one head and one memory row after another.

Works on the parameters of a `vidkit.models.memory.mann.Mann` by name and shares no code with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vidkit.settings.model import MannConfig


class Episode:
    """The state of one episode, and its steps."""

    def __init__(self, weights: Mapping[str, Tensor], config: MannConfig) -> None:
        self.weights, self.config = weights, config
        kind = weights["hidden"].dtype
        self.hidden, self.cell = weights["hidden"], weights["cell"]
        self.seen = weights["read"]
        self.rows = [torch.full((config.width,), 1e-6, dtype=kind) for _ in range(config.slots)]
        self.read_weights = [
            [torch.zeros((), dtype=kind) for _ in range(config.slots)] for _ in range(config.reads)
        ]
        self.usage = [0.0] * config.slots

    def step(self, x: Tensor, label: Tensor) -> Tensor:
        """Input (D,) and the label beside it (K,) -> logits (K,)."""
        weights, config = self.weights, self.config
        pre = weights["gates_x.weight"] @ torch.cat([x, label]) + weights["gates_x.bias"]
        pre = pre + weights["gates_h.weight"] @ torch.cat([self.hidden, self.seen])
        size = config.controller
        enter, forget, new, leave = (pre[k * size : (k + 1) * size] for k in range(4))
        self.cell = sigmoid(forget) * self.cell + sigmoid(enter) * torch.tanh(new)
        self.hidden = sigmoid(leave) * torch.tanh(self.cell)

        out = weights["interface.weight"] @ self.hidden + weights["interface.bias"]
        heads, width = config.reads, config.width
        keys = [torch.tanh(out[h * width : (h + 1) * width]) for h in range(heads)]
        values = [torch.tanh(out[(heads + h) * width : (heads + h + 1) * width]) for h in range(heads)]
        gates = [sigmoid(out[2 * heads * width + h]) for h in range(heads)]
        strengths = [torch.ones(()) for _ in range(heads)]
        if config.sharpness == "learned":
            strengths = [1 + torch.log1p(torch.exp(out[2 * heads * width + heads + h])) for h in range(heads)]

        written = self.write(values, gates)
        read = []
        for head in range(heads):
            self.read_weights[head] = softmax([strengths[head] * cosine(keys[head], row) for row in self.rows])
            total = torch.zeros_like(self.rows[0])
            for weight, row in zip(self.read_weights[head], self.rows, strict=True):
                total = total + weight * row
            read.append(total)
        for row in range(config.slots):
            self.usage[row] *= config.gamma
            for head in range(heads):
                self.usage[row] += float(self.read_weights[head][row].detach() + written[head][row].detach())
        self.seen = torch.cat(read)
        return weights["head.weight"] @ torch.cat([self.hidden, self.seen]) + weights["head.bias"]

    def write(self, values: list[Tensor], gates: list[Tensor]) -> list[list[Tensor]]:
        order = sorted(range(self.config.slots), key=lambda row: (self.usage[row], row))
        least = order[: self.config.reads]
        written = []
        for head, gate in enumerate(gates):
            weights = [gate * weight for weight in self.read_weights[head]]
            weights[least[head]] = weights[least[head]] + (1 - gate)
            written.append(weights)
        for row in range(self.config.slots):
            start = torch.zeros_like(self.rows[row]) if row in least else self.rows[row]
            for head, value in enumerate(values):
                start = start + written[head][row] * value
            self.rows[row] = start
        return written


def sequence(weights: Mapping[str, Tensor], config: MannConfig, inputs: Tensor, labels: Tensor) -> Tensor:
    """Inputs (B, T, D) and labels (B, T) -> logits (B, T, K); labels are late by one step."""
    batch = []
    for items, truths in zip(inputs, labels.tolist(), strict=True):
        episode, late, logits = Episode(weights, config), None, []
        for x, truth in zip(items, truths, strict=True):
            logits.append(episode.step(x, one_hot(late, config.way, x)))
            late = truth
        batch.append(torch.stack(logits))
    return torch.stack(batch)


def classify(
    weights: Mapping[str, Tensor], config: MannConfig, support: Tensor, labels: Tensor, query: Tensor
) -> Tensor:
    """The whole support is read again for every query."""
    batch = []
    for items, truths, asked in zip(support, labels.tolist(), query, strict=True):
        logits = []
        for question in asked:
            episode = Episode(weights, config)
            for x, truth in zip(items, truths, strict=True):
                episode.step(x, one_hot(truth, config.way, x))
            logits.append(episode.step(question, one_hot(None, config.way, question)))
        batch.append(torch.stack(logits))
    return torch.stack(batch)


def one_hot(label: int | None, way: int, like: Tensor) -> Tensor:
    return torch.tensor([1.0 if k == label else 0.0 for k in range(way)], dtype=like.dtype)


def cosine(key: Tensor, row: Tensor) -> Tensor:
    return (key * row).sum() / ((key * key).sum().sqrt() * (row * row).sum().sqrt() + 1e-3)


def softmax(scores: list[Tensor]) -> list[Tensor]:
    highest = max(float(score.detach()) for score in scores)
    powers = [torch.exp(score - highest) for score in scores]
    total = sum(powers[1:], powers[0])
    return [power / total for power in powers]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def lstm(
    weights: Mapping[str, Tensor], x: Tensor, hidden: Tensor, cell: Tensor, layer: int
) -> tuple[Tensor, Tensor]:
    """One step of one layer of torch's LSTM."""
    pre = weights[f"lstm.weight_ih_l{layer}"] @ x + weights[f"lstm.bias_ih_l{layer}"]
    pre = pre + weights[f"lstm.weight_hh_l{layer}"] @ hidden + weights[f"lstm.bias_hh_l{layer}"]
    enter, forget, new, leave = pre.chunk(4)
    cell = sigmoid(forget) * cell + sigmoid(enter) * torch.tanh(new)
    return sigmoid(leave) * torch.tanh(cell), cell


def blackbox(
    weights: Mapping[str, Tensor], way: int, layers: int, support: Tensor, labels: Tensor, query: Tensor
) -> Tensor:
    """Stacked LSTMs over the support with its labels, then one query with zeros."""
    batch = []
    for items, truths, asked in zip(support, labels.tolist(), query, strict=True):
        logits = []
        for question in asked:
            state = [(weights["hidden"][k], weights["cell"][k]) for k in range(layers)]
            steps = [*zip(items, truths, strict=True), (question, None)]
            out = question
            for x, truth in steps:
                out = torch.cat([x, one_hot(truth, way, x)])
                for layer in range(layers):
                    state[layer] = lstm(weights, out, *state[layer], layer)
                    out = state[layer][0]
            logits.append(weights["head.weight"] @ out + weights["head.bias"])
        batch.append(torch.stack(logits))
    return torch.stack(batch)

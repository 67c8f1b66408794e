"""Learners that read an episode as a sequence: the two protocols, and the LSTM learners.

Shapes: B batch of episodes, T steps, S support items, Q query items, D width of an input, K classes (`way`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.settings.model import LSTMConfig

#: The state between two steps: tensors with the batch first.
State = Sequence[Tensor]


class EpisodicLearner(nn.Module):
    """Reads inputs with one-hot labels beside them, and gives raw logits at every step.

    A subclass has `width_in` (D), `way`, `start` and `advance`.
    """

    width_in: int
    way: int

    @abstractmethod
    def start(self, batch: int) -> State:
        """The state before the first step of `batch` episodes."""

    @abstractmethod
    def advance(self, x_BTI: Tensor, state: State) -> tuple[Tensor, State]:
        """Steps of inputs with labels, I = D + K: (logits (B, T, K), state after the last step)."""

    def forward(self, inputs_BTD: Tensor, labels_BT: Tensor) -> Tensor:
        """The sequence protocol (Santoro et al. 2016, section 2): raw logits (B, T, K).

        The label of step t arrives with the input of step t + 1; the first step has no label. The logits of step t
        therefore depend on the inputs up to t and the labels before t.

        Raises:
            ConfigError: shapes that do not fit each other or the model.
        """
        self._check(inputs_BTD, "inputs")
        self._check_labels(inputs_BTD, labels_BT)
        late_BTK = nn.functional.pad(self.one_hot(labels_BT, inputs_BTD)[:, :-1], (0, 0, 1, 0))
        logits_BTK, _ = self.advance(torch.cat([inputs_BTD, late_BTK], dim=2), self.start(inputs_BTD.shape[0]))
        return logits_BTK

    def classify(self, support_BSD: Tensor, labels_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """The support and query protocol: raw logits (B, Q, K) of the queries.

        Support items come with their own labels, in the order given; a query's label is zeros. Every query starts
        from the state after the support, so that no query sees another and their order does not matter.

        Raises:
            ConfigError: shapes that do not fit each other or the model.
        """
        self._check(support_BSD, "support")
        self._check(query_BQD, "query")
        self._check_labels(support_BSD, labels_BS)
        batch, queries, _ = query_BQD.shape
        if support_BSD.shape[0] != batch:
            raise ConfigError(f"support has {support_BSD.shape[0]} episodes and query {batch}; expected the same")
        known_BSI = torch.cat([support_BSD, self.one_hot(labels_BS, support_BSD)], dim=2)
        _, state = self.advance(known_BSI, self.start(batch))
        each = [part.repeat_interleave(queries, dim=0) for part in state]
        asked_X1I = nn.functional.pad(query_BQD.reshape(batch * queries, 1, -1), (0, self.way))
        logits_X1K, _ = self.advance(asked_X1I, each)
        return logits_X1K.reshape(batch, queries, self.way)

    def one_hot(self, labels_BT: Tensor, like: Tensor) -> Tensor:
        """(B, T) -> (B, T, K), the dtype of `like`."""
        zeros_BTK = like.new_zeros(*labels_BT.shape, self.way)
        return zeros_BTK.scatter_(2, labels_BT[..., None], 1.0)

    def _check(self, items: Tensor, name: str) -> None:
        if items.ndim != 3 or items.shape[2] != self.width_in or not items.is_floating_point():
            raise ConfigError(
                f"{name} are {items.dtype} of shape {tuple(items.shape)}; "
                f"the learner takes floating point (episodes, items, {self.width_in})",
                field=name,
                hint="flatten each item to one row, and make the learner with that width",
            )

    def _check_labels(self, items: Tensor, labels_BT: Tensor) -> None:
        if labels_BT.shape != items.shape[:2] or labels_BT.dtype != torch.int64:
            raise ConfigError(
                f"labels are {labels_BT.dtype} of shape {tuple(labels_BT.shape)}; "
                f"expected int64 of shape {tuple(items.shape[:2])}, one below {self.way} for each item",
                field="labels",
            )


class LSTMLearner(EpisodicLearner):
    """LSTM layers and a linear head, without an external memory. The initial state is learned.

    With two layers and the support and query protocol it is the simplified MANN of arXiv 2308.01916 (`BlackBox`).
    """

    def __init__(self, config: LSTMConfig, generator: torch.Generator | None = None) -> None:
        """Weights are drawn from `generator`, or from torch's own."""
        super().__init__()
        self.config, self.width_in, self.way = config, config.inputs, config.way
        self.lstm = nn.LSTM(config.inputs + config.way, config.hidden, config.layers, batch_first=True)
        self.head = nn.Linear(config.hidden, config.way)
        self.hidden = nn.Parameter(torch.zeros(config.layers, config.hidden))
        self.cell = nn.Parameter(torch.zeros(config.layers, config.hidden))
        with torch.no_grad():
            for layer in range(config.layers):
                init_gates(getattr(self.lstm, f"weight_ih_l{layer}"), generator)
                init_gates(getattr(self.lstm, f"weight_hh_l{layer}"), generator)
                bias = getattr(self.lstm, f"bias_ih_l{layer}")
                bias.zero_()[config.hidden : 2 * config.hidden] = 1.0
                getattr(self.lstm, f"bias_hh_l{layer}").zero_()
            init_linear(self.head, generator)

    def start(self, batch: int) -> State:
        """The state before the first step, learned: (batch, layers, hidden) each of hidden and cell."""
        return [part.expand(batch, -1, -1) for part in (self.hidden, self.cell)]

    def advance(self, x_BTI: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, T, classes) of T steps of input, and the state after them."""
        # torch has the layers first in its states, whatever batch_first says.
        before = tuple(part.transpose(0, 1).contiguous() for part in state)
        out_BTH, after = self.lstm(x_BTI, before)
        return self.head(out_BTH), [part.transpose(0, 1) for part in after]


class BlackBox(LSTMLearner):
    """Two stacked LSTMs over support, then query with its labels zeroed: the simplified MANN of arXiv 2308.01916.

    Its second LSTM is as wide as the first, with a linear head: an LSTM that gives the scores itself keeps them
    between -1 and 1. Used through `classify`.
    """

    def __init__(self, config: LSTMConfig, generator: torch.Generator | None = None) -> None:
        if config.layers != 2:
            raise ConfigError(
                f"layers is {config.layers}; expected 2",
                field="layers",
                hint="make the settings with vidkit.settings.model.blackbox",
            )
        super().__init__(config, generator)


def init_gates(weight: Any, generator: torch.Generator | None) -> None:
    """Xavier uniform for each of the four gates of an LSTM by itself: (4 H, inputs)."""
    for gate in weight.chunk(4):
        nn.init.xavier_uniform_(gate, generator=generator)


def init_linear(layer: nn.Linear, generator: torch.Generator | None) -> None:
    """Xavier uniform, bias 0."""
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)

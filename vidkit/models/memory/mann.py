"""MANN: an LSTM controller with an external memory (Santoro et al. 2016, arXiv 1605.06065).

Shapes: B batch of episodes, T steps, D width of an input, K classes (`way`), I = D + K, H controller, R heads,
M slots, W width of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vidkit.models.memory.episodic import EpisodicLearner, State, init_gates, init_linear
from vidkit.models.memory.memory import Memory, access, empty_memory
from vidkit.settings.model import LSTMConfig, MannConfig


class Mann(EpisodicLearner):
    """Controller, memory, and a linear head over the controller's state and what was read: raw logits.

    At each step the LSTM sees the input, the late label and what was read before. Its state gives, for each head:
    a key (tanh), a value to write (tanh), the gate between the two places to write to (the sigmoid of alpha in the
    paper) and the strength of the softmax over cosines. The paper writes the key itself; here the value has
    weights of its own, so that what is stored (the last input and its label) and what is looked for (the present
    input) need not be one vector.

    Submodules: `gates_x` (inputs and labels to the LSTM's gates), `gates_h` (state and reads to them), `interface`,
    `head`; the initial `hidden`, `cell` and `read` are learned. Episodes do not see each other.
    """

    def __init__(self, config: MannConfig, generator: torch.Generator | None = None) -> None:
        """Weights are drawn from `generator`, or from torch's own."""
        super().__init__()
        self.config, self.width_in, self.way = config, config.inputs, config.way
        hidden, reads = config.controller, config.reads * config.width
        self.sizes = [reads, reads, config.reads] + [config.reads] * (config.sharpness == "learned")
        self.gates_x = nn.Linear(config.inputs + config.way, 4 * hidden)
        self.gates_h = nn.Linear(hidden + reads, 4 * hidden, bias=False)
        self.interface = nn.Linear(hidden, sum(self.sizes))
        self.head = nn.Linear(hidden + reads, config.way)
        self.hidden = nn.Parameter(torch.zeros(hidden))
        self.cell = nn.Parameter(torch.zeros(hidden))
        self.read = nn.Parameter(torch.zeros(reads))
        self.init_weights(generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """All initial values.

        - gates: Xavier uniform, each gate by itself; biases 0, that of the forget gate 1
        - interface and head: Xavier uniform, biases 0 but for two: a strength starts near 5, so that reading is
          neither uniform nor a choice of one row, and a gate near 0.12, so that most is written to least used rows
          (on generated characters the loss leaves ln K in a quarter fewer steps than from 0.5)
        - initial hidden state, cell and read: 0
        """
        hidden = self.config.controller
        init_gates(self.gates_x.weight, generator)
        init_gates(self.gates_h.weight, generator)
        self.gates_x.bias.zero_()[hidden : 2 * hidden] = 1.0
        init_linear(self.interface, generator)
        init_linear(self.head, generator)
        reads = self.config.reads
        gate = 2 * reads * self.config.width
        self.interface.bias[gate : gate + reads] = -2.0
        self.interface.bias[gate + reads :] = 4.0

    def start(self, batch: int) -> State:
        """The state before the first step: learned hidden, cell and read vectors, and an empty memory."""
        config = self.config
        memory = empty_memory(batch, config.slots, config.width, config.reads, like=self.hidden)
        return [*(part.expand(batch, -1) for part in (self.hidden, self.cell, self.read)), *memory]

    def advance(self, x_BTI: Tensor, state: State, touched: Sequence[bool] | None = None) -> tuple[Tensor, State]:
        """Logits (B, T, classes) of T steps of input, and the state after them.

        Args:
            touched: (T,) whether the memory is written and read at a step; None: at all. At the others the
                controller goes on with what was read last.
        """
        hidden_BH, cell_BH, read_BX, *parts = state
        memory = Memory(*parts)
        # The one large product does not depend on the state: it is done for all steps at once.
        gates_TBG = self.gates_x(x_BTI).transpose(0, 1)
        seen = []
        for step, gates_BG in enumerate(gates_TBG.unbind()):
            hidden_BH, cell_BH = self.control(gates_BG, hidden_BH, cell_BH, read_BX)
            if touched is None or touched[step]:
                read_BX, memory = self.remember(hidden_BH, memory)
            seen.append(torch.cat([hidden_BH, read_BX], dim=1))
        return self.head(torch.stack(seen, dim=1)), [hidden_BH, cell_BH, read_BX, *memory]

    def control(
        self, gates_BG: Tensor, hidden_BH: Tensor, cell_BH: Tensor, read_BX: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step of the LSTM: hidden state and cell. Gates in torch's order: input, forget, cell, output."""
        gates_BG = torch.addmm(gates_BG, torch.cat([hidden_BH, read_BX], dim=1), self.gates_h.weight.t())
        enter, forget, new, leave = gates_BG.chunk(4, dim=1)
        cell_BH = forget.sigmoid() * cell_BH + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * cell_BH.tanh(), cell_BH

    def remember(self, hidden_BH: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One access to the memory: what the heads read, side by side (B, R W), and the memory after it."""
        config = self.config
        keys, values, gate, *strength = self.interface(hidden_BH).split(self.sizes, dim=1)
        read_BRW, memory = access(
            memory,
            keys_BRW=keys.tanh().view(-1, config.reads, config.width),
            values_BRW=values.tanh().view(-1, config.reads, config.width),
            gate_BR=gate.sigmoid(),
            strength_BR=1 + nn.functional.softplus(strength[0]) if strength else None,
            gamma=config.gamma,
        )
        return read_BRW.flatten(1), memory


def equal_lstm(config: MannConfig) -> LSTMConfig:
    """An LSTM of one layer for the same task, as wide as brings its parameters nearest to those of the MANN."""
    with torch.device("meta"):
        target = parameter_count(Mann(config))

        def distance(hidden: int) -> int:
            lstm = LSTMConfig(inputs=config.inputs, way=config.way, hidden=hidden)
            return abs(lstm_parameters(lstm) - target)

        # The count grows with the width: the best is where it passes the target.
        widest = next(width for width in range(1, target) if 4 * width * width > target)
        hidden = min(range(1, widest + 1), key=distance)
    return LSTMConfig(inputs=config.inputs, way=config.way, hidden=hidden)


def lstm_parameters(config: LSTMConfig) -> int:
    """Parameters of an `LSTMLearner`."""
    hidden, total = config.hidden, 0
    for layer in range(config.layers):
        inputs = hidden if layer else config.inputs + config.way
        total += 4 * hidden * (inputs + hidden + 2) + 2 * hidden
    return total + hidden * config.way + config.way


def parameter_count(model: nn.Module) -> int:
    """Trained numbers and others, together."""
    return sum(parameter.numel() for parameter in model.parameters())

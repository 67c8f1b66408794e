"""TRX (Perrett et al. 2021): a query's ordered pairs and triples of steps attend to those of each class.

Shapes: B episodes, Q query clips, S support clips, K classes (`way`), T steps, D width of a step, C tuples of a
clip (28 pairs or 56 triples of 8 steps), A width of the attention, P numbers of a projected step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.fewshot.learners.training import TrainedLearner
from vidkit.models.layers import sincos_table

#: Pairs and triples, as in the paper's full model.
CARDINALITIES = (2, 3)

#: Clips that are projected at a time.
PART = 500


class TupleAttention(nn.Module):
    """Queries' tuples of one cardinality against those of each class (section 3.3)."""

    index: Tensor

    def __init__(self, steps: int, inputs: int, width: int, cardinality: int) -> None:
        super().__init__()
        chosen = list(combinations(range(steps), cardinality))
        self.register_buffer("index", torch.tensor(chosen), persistent=False)
        self.places = cardinality
        self.key = nn.Linear(cardinality * inputs, width)
        self.value = nn.Linear(cardinality * inputs, width)
        self.norm = nn.LayerNorm(width)
        self.scale = math.sqrt(width)

    def project(self, clips_XTD: Tensor) -> Tensor:
        """What each step adds to the keys and values of tuples, by its place in them, (..., T, 2 * places * A).

        A map of steps side by side is the sum of maps of each step: so every step of a clip is mapped once for each
        place in a tuple, not once for each tuple, and for all episodes at once.
        """
        by_place = [torch.cat(torch.split(linear.weight, clips_XTD.shape[-1], dim=1)) for linear in self.linears]
        return nn.functional.linear(clips_XTD, torch.cat(by_place))

    def forward(self, support_BSTP: Tensor, slots_BS: Tensor, query_BQTP: Tensor, way: int) -> Tensor:
        """Minus the mean squared distance of a query's tuples from what each class answers, (B, Q, K).

        Args:
            support_BSTP, query_BQTP: of `project`.
        """
        batch, queries = query_BQTP.shape[:2]
        keys_BSCA, values_BSCA = self._both(support_BSTP)
        asked_BQCA, wanted_BQCA = self._both(query_BQTP)
        found = []
        # an episode's support is balanced: sorted by slot, its rows divide into R for each class
        order_BKR = slots_BS.argsort(dim=1, stable=True).view(batch, way, -1)
        for rows_BR in order_BKR.unbind(dim=1):
            keys, values = (_rows(x, rows_BR).flatten(1, 2) for x in (keys_BSCA, values_BSCA))  # (B, R * C, A)
            weights = (asked_BQCA.flatten(1, 2) @ keys.transpose(1, 2) / self.scale).softmax(dim=2)
            answer_BQCA = (weights @ values).view_as(wanted_BQCA)
            found.append(-(wanted_BQCA - answer_BQCA).square().sum(dim=3).mean(dim=2))
        return torch.stack(found, dim=2).view(batch, queries, way)

    @property
    def linears(self) -> tuple[nn.Linear, nn.Linear]:
        """Of keys, and of values."""
        return self.key, self.value

    def _both(self, steps_BXTP: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all tuples, (B, X, C, A) each."""
        keys, values = (
            sum(
                place[:, :, steps_C]
                for place, steps_C in zip(part.chunk(self.places, 3), self.index.T, strict=True)
            )
            + linear.bias
            for part, linear in zip(steps_BXTP.chunk(2, 3), self.linears, strict=True)
        )
        return self.norm(keys), values


class TrxNetwork(nn.Module):
    """One attention for each cardinality; their scores are averaged."""

    positions: Tensor

    def __init__(self, steps: int, inputs: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("positions", sincos_table(torch.arange(steps), inputs).float(), persistent=False)
        self.attentions = nn.ModuleList(
            TupleAttention(steps, inputs, width, tuples) for tuples in CARDINALITIES if tuples <= steps
        )
        self.widths = [2 * tuples * width for tuples in CARDINALITIES if tuples <= steps]
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def project(self, clips_XTD: Tensor) -> Tensor:
        """What of clips does not depend on an episode, (..., T, P): that of all attentions, side by side."""
        placed = clips_XTD + self.positions
        return torch.cat([attention.project(placed) for attention in self.attentions], dim=-1)  # type: ignore[operator]

    def compare(self, support_BSTP: Tensor, slots_BS: Tensor, query_BQTP: Tensor, way: int) -> Tensor:
        """Scores (B, Q, K) of projected clips."""
        parts = zip(*(torch.split(x, self.widths, dim=3) for x in (support_BSTP, query_BQTP)), strict=True)
        scores = [
            attention(support, slots_BS, query, way)
            for attention, (support, query) in zip(self.attentions, parts, strict=True)
        ]
        return torch.stack(scores).mean(dim=0)

    def forward(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor, way: int) -> Tensor:
        """Scores (B, Q, K)."""
        return self.compare(self.project(support_BSTD), slots_BS, self.project(query_BQTD), way)


class TrxLearner(TrainedLearner[TrxNetwork]):
    """TRX on fixed features of each step; trained on episodes of meta-train like every network here."""

    name = "trx"

    def make(self, shape: Sequence[int], generator: torch.Generator) -> TrxNetwork:
        """Attentions as wide as `hidden`.

        Raises:
            ConfigError: clips of one step.
        """
        steps, width = shape
        if steps < min(CARDINALITIES):
            raise ConfigError(
                f"trx compares pairs of a clip's steps, and features have {steps}",
                field="learner",
                hint="choose another learner, or features with steps (--readout slots-std)",
            )
        return TrxNetwork(steps, width, self.config.hidden, generator)

    def scores(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Scores (B, Q, K)."""
        found: Tensor = self.network(support_BSTD, slots_BS, query_BQTD, self.config.way)
        return found

    def prepare(self, features_nTD: Tensor) -> Tensor:
        """Clips projected, some at a time."""
        return torch.cat([self.network.project(part) for part in torch.split(features_nTD, PART)])

    def predict_prepared(self, support_BSTP: Tensor, slots_BS: Tensor, query_BQTP: Tensor) -> Tensor:
        """Slots (B, Q)."""
        return self.network.compare(support_BSTP, slots_BS, query_BQTP, self.config.way).argmax(dim=2)


def _rows(x_BSCA: Tensor, rows_BR: Tensor) -> Tensor:
    """The clips that `rows` name in each episode, (B, R, C, A)."""
    episode_B1 = torch.arange(len(x_BSCA), device=x_BSCA.device)[:, None]
    return x_BSCA[episode_B1, rows_BR]

"""Training on episodes of fixed features, and predictions for many of them.

Shapes: n clips, D width of a feature, B episodes, K classes (`way`), S support clips, Q query clips.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from vidkit.fewshot.episodes.draw import Episode, draw_episode, draw_episodes
from vidkit.fewshot.episodes.pool import EpisodePool, EpisodeSettings
from vidkit.models.memory.mann import parameter_count
from vidkit.settings.fewshot import FewshotConfig
from vidkit.train.descent import descend, one_thread

Pool = EpisodePool[EpisodeSettings]
M = TypeVar("M", bound=nn.Module)

#: Numbers in the features of the episodes that are predicted at a time.
CHUNK = 2**23

#: Told (learner, step, steps, loss) about a hundred times in a training; of those that train in each episode,
#: (learner, episode, episodes, loss) after each.
Report = Callable[[str, int, int, float], None]


class EpisodeRows(NamedTuple):
    """Episodes as rows of the features, and slots; int64."""

    support: Tensor
    """(B, S)"""
    support_slots: Tensor
    """(B, S)"""
    query: Tensor
    """(B, Q)"""
    query_slots: Tensor
    """(B, Q)"""

    def part(self, first: int, last: int) -> EpisodeRows:
        """Episodes from `first` up to `last`, without it."""
        return EpisodeRows(*(tensor[first:last] for tensor in self))


class Features(Protocol):
    """Features by row: a tensor (n, D), or what encodes clips when they are asked for."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    @property
    def shape(self) -> Sequence[int]:
        """(n, D)"""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """(*rows.shape, D)"""


class FewshotLearner(Protocol):
    """What learns from episodes and classifies queries."""

    def fit(
        self, features_nD: Tensor, train: Pool | None, val: Pool | None, seed: int, report: Report | None
    ) -> dict[str, Any]:
        """Learn from episodes of meta-train; facts about the training. Learners without weights do nothing.

        Args:
            train: not None for learners that train.

        Raises:
            TrainingError: a loss that is not finite.
        """

    def predict(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Slots of the queries, (B, Q)."""


class TunableLearner(FewshotLearner, Protocol):
    """One whose loss has a gradient for the features too, so that an encoder can learn with it."""

    @property
    def weights(self) -> nn.Module | None:
        """What `fit` trained; None: it has no weights."""

    def loss(self, features: Features, train: Pool, batch: int, step: int) -> Tensor:
        """Of training episodes `step * batch` and those after it. `fit` comes first."""


@runtime_checkable
class Prepares(Protocol):
    """A learner that computes some of what it needs of a clip once for all episodes."""

    def prepare(self, features_nD: Tensor) -> Tensor:
        """(n, ...)"""

    def predict_prepared(self, support_BSX: Tensor, slots_BS: Tensor, query_BQX: Tensor) -> Tensor:
        """As `predict`, from rows of what `prepare` gave."""


def stack(episodes: Sequence[Episode]) -> EpisodeRows:
    """Episodes of one shape as tensors."""
    arrays = (np.stack([getattr(e, name) for e in episodes]) for name in EpisodeRows._fields)
    return EpisodeRows(*map(torch.from_numpy, arrays))


@torch.no_grad()
@one_thread()
def predict_all(learner: FewshotLearner, features_nD: Tensor, rows: EpisodeRows) -> Tensor:
    """Predicted slots of all queries, (B, Q), on the CPU; some episodes at a time."""
    predict: Callable[[Tensor, Tensor, Tensor], Tensor] = learner.predict
    table = features_nD
    if isinstance(learner, Prepares):
        both = torch.cat([rows.support.flatten(), rows.query.flatten()])
        used, places = torch.unique(both, return_inverse=True)
        predict, table = learner.predict_prepared, learner.prepare(features_nD[used.to(features_nD.device)])
        support, query = torch.split(places, [rows.support.numel(), rows.query.numel()])
        rows = rows._replace(support=support.view_as(rows.support), query=query.view_as(rows.query))
    each = (rows.support.shape[1] + rows.query.shape[1]) * math.prod(table.shape[1:])
    step = max(1, min(500, CHUNK // each))
    guesses = []
    for first in range(0, len(rows.query), step):
        some = EpisodeRows(*(tensor.to(table.device) for tensor in rows.part(first, first + step)))
        guesses.append(predict(table[some.support], some.support_slots, table[some.query]).cpu())
    return torch.cat(guesses)


def query_loss(
    scores: Callable[[Tensor, Tensor, Tensor], Tensor], features: Features, pool: Pool, batch: int, step: int
) -> Tensor:
    """Cross-entropy of the queries of training episodes `step * batch` and those after it."""
    rows = stack([draw_episode(pool, number) for number in range(step * batch, (step + 1) * batch)])
    support, slots, query, wanted = (tensor.to(features.device) for tensor in rows)
    logits_BQK = scores(features[support], slots, features[query])
    return nn.functional.cross_entropy(logits_BQK.flatten(0, 1), wanted.flatten())


class TrainedLearner(ABC, Generic[M]):
    """A learner with a network, which Adam trains on episodes of meta-train; meta-val chooses among ten states."""

    name: ClassVar[str]

    def __init__(self, config: FewshotConfig) -> None:
        self.config = config
        self.model: M | None = None

    @abstractmethod
    def make(self, shape: Sequence[int], generator: torch.Generator) -> M:
        """The network for features of a clip of this shape, (D,) or (T, D), on the CPU."""

    @abstractmethod
    def scores(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Logits (B, Q, K)."""

    @property
    def network(self) -> M:
        """What `fit` made."""
        assert self.model is not None, "fit first"
        return self.model

    @property
    def weights(self) -> nn.Module | None:
        """The same; None before `fit`."""
        return self.model

    def fit(
        self, features_nD: Tensor, train: Pool | None, val: Pool | None, seed: int, report: Report | None
    ) -> dict[str, Any]:
        """As of `FewshotLearner`: Adam, and of ten states the best on meta-val."""
        assert train is not None, "the caller sees to it"
        pool, config, shape = train, self.config, tuple(features_nD.shape[1:])
        self.model = self.make(shape, torch.Generator().manual_seed(seed)).to(features_nD.device)
        tell = None if report is None else functools.partial(report, self.name)
        with one_thread():
            done = descend(
                lambda step: self.loss(features_nD, pool, config.batch, step),
                [{"params": list(self.model.parameters()), "lr": config.learning_rate}],
                name=self.name,
                steps=config.steps,
                clip=config.clip,
                modules=[self.model],
                judge=None if val is None else judgement(self, lambda: features_nD, val, config.val_episodes),
                tell=None if tell is None else lambda step, loss: tell(step, config.steps, loss),
            )
        return {
            "steps": config.steps,
            "kept_step": done.kept_step,
            "val_accuracy": done.accuracy,
            "loss": done.loss,
            "inputs": math.prod(shape),
            "parameters": parameter_count(self.model),
            "seconds": done.seconds,
        }

    def loss(self, features: Features, train: Pool, batch: int, step: int) -> Tensor:
        """As of `TunableLearner`: cross-entropy of the queries."""
        return query_loss(self.scores, features, train, batch, step)

    def predict(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Slots (B, Q): the highest score."""
        return self.scores(support_BSD, slots_BS, query_BQD).argmax(dim=2)


def judgement(
    learner: FewshotLearner, table: Callable[[], Tensor], val: Pool, episodes: int
) -> Callable[[], float]:
    """What tells a learner's accuracy on the same episodes of `val` each time; `table` gives its inputs (n, D)."""
    judged = stack(draw_episodes(val, episodes))
    return lambda: (predict_all(learner, table(), judged) == judged.query_slots).double().mean().item()

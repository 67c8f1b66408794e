"""Training on episodes of fixed features, and predictions for many of them.

Shapes: n clips, D width of a feature, B episodes, K classes (`way`), S support clips, Q query clips.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vidkit.errors import TrainingError
from vidkit.fewshot.config import FewshotConfig
from vidkit.fewshot.episodes.draw import Episode, draw_episode, draw_episodes
from vidkit.fewshot.episodes.pool import EpisodePool, EpisodeSettings
from vidkit.models.memory.mann import parameter_count

Pool = EpisodePool[EpisodeSettings]

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
        return EpisodeRows(*(tensor[first:last] for tensor in self))


class Features(Protocol):
    """Features by row: a tensor (n, D), or what encodes clips when they are asked for."""

    @property
    def device(self) -> torch.device: ...

    @property
    def shape(self) -> Sequence[int]: ...

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


def stack(episodes: Sequence[Episode]) -> EpisodeRows:
    arrays = (np.stack([getattr(e, name) for e in episodes]) for name in EpisodeRows._fields)
    return EpisodeRows(*map(torch.from_numpy, arrays))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Products of small matrices are faster in one thread than in several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
@one_thread()
def predict_all(learner: FewshotLearner, features_nD: Tensor, rows: EpisodeRows) -> Tensor:
    """Predicted slots of all queries, (B, Q), on the CPU; some episodes at a time."""
    each = (rows.support.shape[1] + rows.query.shape[1]) * features_nD.shape[1]
    step = max(1, min(500, CHUNK // each))
    guesses = []
    for first in range(0, len(rows.query), step):
        some = EpisodeRows(*(tensor.to(features_nD.device) for tensor in rows.part(first, first + step)))
        found = learner.predict(features_nD[some.support], some.support_slots, features_nD[some.query])
        guesses.append(found.cpu())
    return torch.cat(guesses)


def query_loss(
    scores: Callable[[Tensor, Tensor, Tensor], Tensor], features: Features, pool: Pool, batch: int, step: int
) -> Tensor:
    """Cross-entropy of the queries of training episodes `step * batch` and those after it."""
    rows = stack([draw_episode(pool, number) for number in range(step * batch, (step + 1) * batch)])
    support, slots, query, wanted = (tensor.to(features.device) for tensor in rows)
    logits_BQK = scores(features[support], slots, features[query])
    return nn.functional.cross_entropy(logits_BQK.flatten(0, 1), wanted.flatten())


@one_thread()
def train_model(
    learner: FewshotLearner,
    model: nn.Module,
    name: str,
    loss_of: Callable[[int], Tensor],
    config: FewshotConfig,
    features_nD: Tensor,
    val: Pool | None,
    report: Report | None,
) -> dict[str, Any]:
    """Adam on `loss_of(step)`; of ten states the one that does best on the meta-val episodes stays.

    Without meta-val classes the last state stays. Of equals the first stays.

    Raises:
        TrainingError: a loss that is not finite.
    """
    began, steps = time.perf_counter(), config.steps
    judged = None if val is None else stack(draw_episodes(val, config.val_episodes))
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: falling(step, steps))
    best, best_step, best_state, loss = -1.0, steps, None, math.nan
    recent: list[Tensor] = []
    every, judge_every = max(1, steps // 100), max(1, steps // 10)
    for step in range(1, steps + 1):
        model.train()
        value = loss_of(step - 1)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        recent.append(value.detach())
        if step % every == 0 or step == steps:
            loss = torch.stack(recent).mean().item()
            recent.clear()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of {name} is {loss} at step {step}", hint="choose a smaller learning rate"
                )
            if report is not None:
                report(name, step, steps, loss)
        if judged is not None and (step % judge_every == 0 or step == steps):
            model.eval()
            guesses = predict_all(learner, features_nD, judged)
            accuracy = (guesses == judged.query_slots).double().mean().item()
            if accuracy > best:
                best, best_step, best_state = accuracy, step, copy.deepcopy(model.state_dict())
    if best_state is not None:
        model.load_state_dict(best_state)
    model.eval()
    return {
        "steps": steps,
        "kept_step": best_step,
        "val_accuracy": None if judged is None else best,
        "loss": loss,
        "inputs": features_nD.shape[1],
        "parameters": parameter_count(model),
        "seconds": round(time.perf_counter() - began, 2),
    }


def falling(step: int, steps: int) -> float:
    """Factor on the learning rate: 1, then a straight line over the last 30 % down to 0.01."""
    start = 0.7 * steps
    return 1.0 if step <= start else max(0.01, (steps - step) / (steps - start))

"""Few-shot learners that read an episode as a sequence: MANN, and the two LSTMs of arXiv 2308.01916.

Shapes: n clips, D width of a feature, B episodes, K classes (`way`), S support clips, Q query clips, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidkit.fewshot.episodes.draw import SequenceEpisode, draw_sequence
from vidkit.fewshot.episodes.pool import EpisodePool, SequenceSettings, episode_pool
from vidkit.fewshot.learners.training import Features, Pool, Report, TrainedLearner
from vidkit.models.memory.episodic import BlackBox, EpisodicLearner
from vidkit.models.memory.mann import Mann
from vidkit.settings.model import MannConfig, blackbox
from vidkit.train.descent import one_thread

#: Sequences that are predicted at a time.
SEQUENCES = 100


class BlackBoxLearner(TrainedLearner[BlackBox]):
    """Two stacked LSTMs over the support with its labels, then a query (arXiv 2308.01916): loss on the queries."""

    name = "blackbox"

    def make(self, inputs: int, generator: torch.Generator) -> BlackBox:
        """Two LSTMs as wide as `hidden`."""
        return BlackBox(blackbox(inputs, self.config.way, self.config.hidden), generator)

    def scores(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Logits (B, Q, K)."""
        return self.network.classify(support_BSD, slots_BS, query_BQD)


class MannLearner(TrainedLearner[Mann]):
    """MANN (Santoro et al. 2016) by its sequence protocol: each label comes one step late.

    One network serves both tests. By instance number it reads sequences. For support and query it reads the support
    as the beginning of a sequence, then each query as the next step of a sequence of its own. It is trained on
    both, half and half: in sequences alone it first learns which labels are left, and on few classes stays there.
    """

    name = "mann"
    sequences: EpisodePool[SequenceSettings]

    def fit(
        self, features_nD: Tensor, train: Pool | None, val: Pool | None, seed: int, report: Report | None
    ) -> dict[str, Any]:
        """Train on episodes and on sequences of the same classes."""
        assert train is not None, "the caller sees to it"
        assert self.config.instances is not None, "the caller chooses it"
        self.sequences = sequence_pool(train, self.config.instances)
        return super().fit(features_nD, train, val, seed, report)

    def make(self, inputs: int, generator: torch.Generator) -> Mann:
        """A MANN of the settings' size."""
        config = self.config
        settings = MannConfig(
            inputs=inputs,
            way=config.way,
            controller=config.hidden,
            slots=config.slots,
            width=config.width,
            reads=config.reads,
        )
        return Mann(settings, generator)

    def scores(self, support_BSD: Tensor, slots_BS: Tensor, query_BQD: Tensor) -> Tensor:
        """Logits (B, Q, K), each query as the next step of a sequence."""
        return classify_late(self.network, support_BSD, slots_BS, query_BQD)

    def loss(self, features: Features, train: Pool, batch: int, step: int) -> Tensor:
        """Half of it by sequences, half by queries."""
        numbers = range(step * batch, (step + 1) * batch)
        rows, slots = stack_sequences([draw_sequence(self.sequences, number) for number in numbers])
        slots = slots.to(features.device)
        logits: Tensor = self.network(features[rows.to(features.device)], slots)
        by_step = nn.functional.cross_entropy(logits.flatten(0, 1), slots.flatten())
        return (by_step + super().loss(features, train, batch, step)) / 2

    @torch.no_grad()
    @one_thread()
    def predict_sequences(self, features_nD: Tensor, rows_BT: Tensor, slots_BT: Tensor) -> Tensor:
        """Predicted slots at every step, (B, T), on the CPU."""
        model = self.network
        guesses, device = [], features_nD.device
        for first in range(0, len(rows_BT), SEQUENCES):
            rows, slots = (part[first : first + SEQUENCES].to(device) for part in (rows_BT, slots_BT))
            guesses.append(model(features_nD[rows], slots).argmax(dim=2).cpu())
        return torch.cat(guesses)


def classify_late(model: EpisodicLearner, support_BSD: Tensor, labels_BS: Tensor, query_BQD: Tensor) -> Tensor:
    """Logits (B, Q, K) of queries, each the next step after the support in the sequence protocol."""
    batch, queries, _ = query_BQD.shape
    labels_BSK = model.one_hot(labels_BS, support_BSD)
    late_BSK = nn.functional.pad(labels_BSK[:, :-1], (0, 0, 1, 0))
    _, state = model.advance(torch.cat([support_BSD, late_BSK], dim=2), model.start(batch))
    each = [part.repeat_interleave(queries, dim=0) for part in state]
    # with the query comes the label of the last support clip
    last_X1K = labels_BSK[:, -1:].repeat_interleave(queries, dim=0)
    asked_X1I = torch.cat([query_BQD.reshape(batch * queries, 1, -1), last_X1K], dim=2)
    logits_X1K, _ = model.advance(asked_X1I, each)
    return logits_X1K.reshape(batch, queries, model.way)


def stack_sequences(sequences: Sequence[SequenceEpisode]) -> tuple[Tensor, Tensor]:
    """Rows and slots, (B, T) each."""
    rows, slots = (np.stack([getattr(e, name) for e in sequences]) for name in ("rows", "slots"))
    return torch.from_numpy(rows), torch.from_numpy(slots)


def sequence_pool(pool: Pool, instances: int) -> EpisodePool[SequenceSettings]:
    """Sequences of the same classes, seed and rule on videos."""
    settings = SequenceSettings(
        way=pool.settings.way,
        instances=instances,
        seed=pool.settings.seed,
        allow_shared_groups=pool.settings.allow_shared_groups,
    )
    return episode_pool(pool.clips, settings, pool.split, pool.meta_split)

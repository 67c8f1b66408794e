"""Few-shot learners that read an episode as a sequence: MANN, and the two LSTMs of arXiv 2308.01916.

A clip is read as its T steps, and answered at the last of them. The MANN is told its label with the step after
that, the first one of the next clip. Of one step, this is the protocol of the papers.

Shapes: n clips, T steps of a clip, D width of a step, B episodes, K classes (`way`), S support clips, Q query
clips, L clips of a sequence, X = B Q, I = D + K.
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
from vidkit.models.memory.episodic import BlackBox, EpisodicLearner, State
from vidkit.models.memory.mann import Mann
from vidkit.settings.model import MannConfig, blackbox
from vidkit.train.descent import one_thread

#: Sequences that are predicted at a time.
SEQUENCES = 100


class BlackBoxLearner(TrainedLearner[BlackBox]):
    """Two stacked LSTMs over the support with its labels, then a query (arXiv 2308.01916): loss on the queries.

    A support clip's label stands beside each of its steps.
    """

    name = "blackbox"

    def make(self, shape: Sequence[int], generator: torch.Generator) -> BlackBox:
        """Two LSTMs as wide as `hidden`."""
        return BlackBox(blackbox(shape[-1], self.config.way, self.config.hidden), generator)

    def scores(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Logits (B, Q, K)."""
        return classify(self.network, support_BSTD, slots_BS, query_BQTD)


class MannLearner(TrainedLearner[Mann]):
    """MANN (Santoro et al. 2016) by its sequence protocol: each label comes one step late.

    The memory is written and read at a clip's first step, when the label of the clip before has come, and at its
    last, when the clip is known; in between the controller alone goes on.

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

    def make(self, shape: Sequence[int], generator: torch.Generator) -> Mann:
        """A MANN of the settings' size."""
        config = self.config
        settings = MannConfig(
            inputs=shape[-1],
            way=config.way,
            controller=config.hidden,
            slots=config.slots,
            width=config.width,
            reads=config.reads,
        )
        return Mann(settings, generator)

    def scores(self, support_BSTD: Tensor, slots_BS: Tensor, query_BQTD: Tensor) -> Tensor:
        """Logits (B, Q, K), each query as the next step of a sequence."""
        return classify_late(self.network, support_BSTD, slots_BS, query_BQTD)

    def loss(self, features: Features, train: Pool, batch: int, step: int) -> Tensor:
        """Half of it by sequences, half by queries."""
        numbers = range(step * batch, (step + 1) * batch)
        rows, slots = stack_sequences([draw_sequence(self.sequences, number) for number in numbers])
        slots = slots.to(features.device)
        logits = read_sequence(self.network, features[rows.to(features.device)], slots)
        by_step = nn.functional.cross_entropy(logits.flatten(0, 1), slots.flatten())
        return (by_step + super().loss(features, train, batch, step)) / 2

    @torch.no_grad()
    @one_thread()
    def predict_sequences(self, features_nTD: Tensor, rows_BL: Tensor, slots_BL: Tensor) -> Tensor:
        """Predicted slots of every clip, (B, L), on the CPU."""
        model = self.network
        guesses, device = [], features_nTD.device
        for first in range(0, len(rows_BL), SEQUENCES):
            rows, slots = (part[first : first + SEQUENCES].to(device) for part in (rows_BL, slots_BL))
            guesses.append(read_sequence(model, features_nTD[rows], slots).argmax(dim=2).cpu())
        return torch.cat(guesses)


def classify(model: EpisodicLearner, support_BSTD: Tensor, labels_BS: Tensor, query_BQTD: Tensor) -> Tensor:
    """Logits (B, Q, K) by the support and query protocol: own labels beside the support, none beside queries."""
    labels_BSTK = model.one_hot(labels_BS, support_BSTD)[:, :, None].expand(-1, -1, support_BSTD.shape[2], -1)
    _, state = model.advance(
        torch.cat([support_BSTD, labels_BSTK], dim=3).flatten(1, 2), model.start(len(support_BSTD))
    )
    return _answers(model, state, nn.functional.pad(query_BQTD, (0, model.way)))


def classify_late(model: Mann, support_BSTD: Tensor, labels_BS: Tensor, query_BQTD: Tensor) -> Tensor:
    """Logits (B, Q, K) of queries, each the next clip after the support in the sequence protocol."""
    labels_BSK = model.one_hot(labels_BS, support_BSTD)
    late_BSK = nn.functional.pad(labels_BSK[:, :-1], (0, 0, 1, 0))
    support_BXI = with_late(support_BSTD, late_BSK).flatten(1, 2)
    _, state = model.advance(support_BXI, model.start(len(support_BXI)), _touched(support_BSTD))
    # with the query's first step comes the label of the last support clip
    last_BQK = labels_BSK[:, -1:].expand(-1, query_BQTD.shape[1], -1)
    return _answers(model, state, with_late(query_BQTD, last_BQK), touched=_touched(query_BQTD[:, :1]))


def read_sequence(model: Mann, clips_BLTD: Tensor, labels_BL: Tensor) -> Tensor:
    """Logits (B, L, K) of clips, each at its last step, before its label comes."""
    late_BLK = nn.functional.pad(model.one_hot(labels_BL, clips_BLTD)[:, :-1], (0, 0, 1, 0))
    steps_BXI = with_late(clips_BLTD, late_BLK).flatten(1, 2)
    logits_BXK, _ = model.advance(steps_BXI, model.start(len(steps_BXI)), _touched(clips_BLTD))
    time = clips_BLTD.shape[2]
    return logits_BXK[:, time - 1 :: time]


def with_late(clips_BLTD: Tensor, late_BLK: Tensor) -> Tensor:
    """Clips with the label of the clip before at their first step, and zeros at the others, (B, L, T, D + K)."""
    first_BLTK = nn.functional.pad(late_BLK[:, :, None], (0, 0, 0, clips_BLTD.shape[2] - 1))
    return torch.cat([clips_BLTD, first_BLTK], dim=3)


def _touched(clips_BLTD: Tensor) -> list[bool]:
    """At which of all steps the memory is accessed: the first and the last one of a clip."""
    clips, time = clips_BLTD.shape[1:3]
    return [step in (0, time - 1) for step in range(time)] * clips


def _answers(model: EpisodicLearner, state: State, asked_BQTI: Tensor, **how: Any) -> Tensor:
    """Logits (B, Q, K) at the last step of queries, each from the state after the support."""
    batch, queries, time, _ = asked_BQTI.shape
    each = [part.repeat_interleave(queries, dim=0) for part in state]
    logits_XTK, _ = model.advance(asked_BQTI.reshape(batch * queries, time, -1), each, **how)
    return logits_XTK[:, -1].reshape(batch, queries, model.way)


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

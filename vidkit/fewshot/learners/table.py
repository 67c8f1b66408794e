"""Which learner has which name, and which of them train."""

from __future__ import annotations

from collections.abc import Callable

from vidkit.fewshot.learners.maml import MamlLearner
from vidkit.fewshot.learners.plain import Nearest, Prototypes, Ridge
from vidkit.fewshot.learners.recurrent import BlackBoxLearner, MannLearner
from vidkit.fewshot.learners.training import FewshotLearner
from vidkit.settings.fewshot import FewshotConfig, Learner

#: Those that learn from features; "finetune" and "scratch" are in `finetune`.
LEARNERS: dict[Learner, Callable[[FewshotConfig], FewshotLearner]] = {
    "proto": Prototypes,
    "nn": Nearest,
    "linear": Ridge,
    "mann": MannLearner,
    "blackbox": BlackBoxLearner,
    "maml": MamlLearner,
}

#: Learners with networks: they learn from meta-train, and see principal components of long features.
NETWORKS: frozenset[Learner] = frozenset({"mann", "blackbox", "maml"})


def needs_training(learner: Learner, config: FewshotConfig) -> bool:
    """Whether a learner learns from meta-train classes."""
    return learner in NETWORKS or (learner == "proto" and (config.project > 0 or bool(config.tune)))

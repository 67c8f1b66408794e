"""Which learner has which name, what it sees of a clip, and whether it trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

from vidkit.fewshot.learners.cosine_classifier import BaselinePlusPlus
from vidkit.fewshot.learners.maml import MamlLearner
from vidkit.fewshot.learners.plain import Nearest, Prototypes, Ridge
from vidkit.fewshot.learners.recurrent import BlackBoxLearner, MannLearner
from vidkit.fewshot.learners.sequences import CosinePrototypes, Matching, SimpleShot
from vidkit.fewshot.learners.training import FewshotLearner
from vidkit.fewshot.learners.trx import TrxLearner
from vidkit.settings.fewshot import FewshotConfig, Learner

#: Those that learn from features; "finetune" and "scratch" are in `finetune`.
LEARNERS: dict[Learner, Callable[[FewshotConfig], FewshotLearner]] = {
    "proto": Prototypes,
    "nn": Nearest,
    "linear": Ridge,
    "simpleshot": SimpleShot,
    "cosine": CosinePrototypes,
    "diagonal": functools.partial(Matching, matcher="diagonal"),
    "chamfer": functools.partial(Matching, matcher="chamfer"),
    "otam": functools.partial(Matching, matcher="otam"),
    "baseline++": BaselinePlusPlus,
    "trx": TrxLearner,
    "mann": MannLearner,
    "blackbox": BlackBoxLearner,
    "maml": MamlLearner,
}

#: Learners with networks: they learn from meta-train, and see principal components of long features.
NETWORKS: frozenset[Learner] = frozenset({"trx", "mann", "blackbox", "maml"})

#: Learners that see a clip as one vector of all its steps; the others as a sequence of them.
ON_VECTORS: frozenset[Learner] = frozenset({"proto", "nn", "linear", "maml"})

#: Learners that take the mean of a clip's steps.
ON_MEANS: frozenset[Learner] = frozenset({"simpleshot", "cosine", "baseline++"})

#: What a learner sees of a clip: (T W,) or (T, W) standardised, or its discriminants, (R,), (1, R) or (T, R); of
#: these, networks see principal components.
Kind = Literal["vector", "mean of steps", "steps", "few of a vector", "few of each step"]


def kind_of(learner: Learner) -> Kind:
    """What a learner sees of a clip."""
    if learner in NETWORKS:
        return "few of a vector" if learner in ON_VECTORS else "few of each step"
    if learner in ON_VECTORS:
        return "vector"
    return "mean of steps" if learner in ON_MEANS else "steps"


def needs_training(learner: Learner, config: FewshotConfig) -> bool:
    """Whether a learner learns from meta-train classes."""
    return learner in NETWORKS or (learner == "proto" and config.project > 0) or bool(config.tune)

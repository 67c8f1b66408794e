"""What a few-shot evaluation finds: rows, summaries over seeds, intervals, and the file they are written to.

Shapes: E episodes, Q queries of an episode, S seeds.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vidkit.fewshot.episodes import json_rows
from vidkit.fewshot.episodes.class_split import MetaSplit
from vidkit.files import write_whole
from vidkit.settings.fewshot import Discriminant, FewshotConfig

INTERVAL = "95 %: mean +- 1.96 s / sqrt(episodes)"
SEED_INTERVAL = "95 %: mean over seeds +- t s / sqrt(seeds), Student's t with seeds - 1 degrees of freedom"

#: What says that a file is one of results.
KIND = "vidkit-fewshot"
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """Accuracy when a sequence shows a class for the `instance`-th time; from the 2nd on a learner can know."""

    instance: int
    accuracy: float
    half_width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one learner reached on the test episodes of one seed."""

    learner: str
    way: int
    shot: int
    query: int
    episodes: int
    """Fewer for "finetune" and "scratch": the first ones of those that the others get."""
    seed: int
    accuracy: float
    """Share of the queries, as a mean over episodes."""
    half_width: float
    """Of the 95 % interval over episodes."""
    chance: float
    classes: int
    """Usable classes of meta-test: the interval is for episodes of these, and says nothing of others."""
    by_instance: tuple[Instance, ...]
    """Empty but for "mann"."""
    instances: int | None
    """Clips of each class in a sequence."""
    meta_split: MetaSplit
    features: str
    """ "pixels", the checkpoint's name, or "random" for an encoder with random weights."""
    width: int
    """Numbers that a clip has, all of its steps together."""
    read: str | None
    """Read-out and layer; None where a learner reads clips itself."""
    standardised: bool
    """False where there are no meta-train classes to take a mean from, and where a learner reads clips itself."""
    discriminant: Discriminant
    """Whether learners saw clips along the directions in which meta-train classes differ."""
    training: dict[str, Any]
    """Steps, loss, the state that was kept; empty for learners without weights."""
    dataset: str
    plan_sha256: str | None
    label_map_sha256: str
    class_split_sha256: str
    checkpoint_sha256: str | None
    seen_classes: int
    """Meta-test classes whose labels the encoder was trained with: with any, this is no few-shot test."""
    episodes_sha256: str | None
    """Of the list that the episodes were read from."""
    predictions_sha256: str
    """Over the predicted slots of all queries in order, two bytes each, little-endian."""
    versions: dict[str, str]
    tune: int | Literal["all"] = 0
    """Blocks of the encoder that learned with the learner; "all": the tokenizer too, as "finetune" and "scratch" do
    in each episode. 0: frozen."""
    benchmark: str | None = None
    """The benchmark that gave the classes."""
    departures: tuple[str, ...] = ()
    """In what the test is not the benchmark's; with any, the accuracy cannot stand beside published ones."""
    interval: str = INTERVAL


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One learner over all seeds."""

    learner: str
    seeds: int
    accuracy: float
    half_width: float
    """Over episodes: over those of all seeds, or over those of a list, whose accuracies are means over seeds."""
    half_width_seeds: float | None
    """Over seeds; None for one seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Of all learners and seeds."""

    config: FewshotConfig
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]


def interval(score_E: Tensor) -> tuple[float, float]:
    """Mean and half of the 95 % interval, 1.96 standard errors; 0 for one value."""
    spread = score_E.std(correction=1).item() if len(score_E) > 1 else 0.0
    return score_E.mean().item(), 1.96 * spread / math.sqrt(len(score_E))


def summary(name: str, scores: Sequence[Tensor], same_episodes: bool) -> Summary:
    """Of one learner's accuracies, (E,) for each seed.

    Args:
        same_episodes: each seed had the same ones, those of a list.
    """
    score_SE = torch.stack(list(scores))
    mean, half_width = interval(score_SE.mean(dim=0) if same_episodes else score_SE.flatten())
    seeds = len(scores)
    over_seeds = None
    if seeds > 1:
        from scipy.stats import t as student

        factor = float(student.ppf(0.975, seeds - 1))
        over_seeds = factor * score_SE.mean(dim=1).std(correction=1).item() / math.sqrt(seeds)
    return Summary(learner=name, seeds=seeds, accuracy=mean, half_width=half_width, half_width_seeds=over_seeds)


def predictions_sha256(guesses_EQ: Tensor) -> str:
    """Of predicted slots (E, Q), two bytes each, little-endian."""
    return hashlib.sha256(guesses_EQ.numpy().astype("<u2").tobytes()).hexdigest()


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    import vidkit

    return {
        "vidkit": vidkit.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_rows(path: Path, result: Result) -> None:
    """JSON lines, whole or not at all; a line for each row. An older file of results is replaced.

    Raises:
        ConfigError: a folder, or a file of that name that holds something else.
    """
    check_target(path)
    lines = [{"kind": KIND, "format": FORMAT, **asdict(row)} for row in result.rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def check_target(path: Path) -> None:
    """
    Raises:
        ConfigError: as `write_rows`; for asking before the work is done.
    """
    json_rows.check_target(path, KIND, "holds no few-shot results", field="--out")

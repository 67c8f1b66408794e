"""Few-shot accuracy of several learners on classes that none of them has seen, with 95 % intervals.

All learners see the same features, standardised by the mean and the deviation of each number over the meta-train
clips, and the same test episodes; networks see principal components.

Shapes: n clips, D width, E episodes, Q queries of an episode, T steps.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidkit.data.class_split import ClassSplit, MetaSplit
from vidkit.data.episode_lists import EpisodeList
from vidkit.data.episode_pool import EpisodePool, EpisodeSettings, episode_pool
from vidkit.data.episodes import draw_episodes, draw_sequences
from vidkit.data.labelled import LabelledClips
from vidkit.data.shards import write_atomically
from vidkit.errors import ConfigError
from vidkit.train.fewshot_config import MOST_INSTANCES, FewshotConfig
from vidkit.train.fewshot_features import ClipFeatures
from vidkit.train.fewshot_learners import LEARNERS, NETWORKS, needs_training
from vidkit.train.fewshot_recurrent import MannLearner, sequence_pool, stack_sequences
from vidkit.train.fewshot_training import Pool, Report, predict_all, stack
from vidkit.train.selftest import by_instance

Floats = npt.NDArray[np.float32]

INTERVAL = "95 %: mean +- 1.96 s / sqrt(episodes)"
SEED_INTERVAL = "95 %: mean over seeds +- t s / sqrt(seeds), Student's t with seeds - 1 degrees of freedom"

#: 97.5 % points of Student's t for 1, 2, ... degrees of freedom; beyond these, of the normal distribution's 1.96.
STUDENT: tuple[float, ...] = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
STUDENT += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)

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
    """ "pixels", or the checkpoint's name."""
    width: int
    standardised: bool
    """False where there are no meta-train classes to take a mean from."""
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
    config: FewshotConfig
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]


def evaluate(
    clips: LabelledClips,
    features: ClipFeatures,
    split: ClassSplit,
    config: FewshotConfig,
    *,
    published: EpisodeList | None = None,
    device: str | torch.device = "cpu",
    report: Report | None = None,
    done: Callable[[Row], None] | None = None,
) -> Result:
    """Train each learner on meta-train, choose on meta-val, test on meta-test.

    Args:
        published: test episodes; its settings and class split hold instead of the others. Seeds then change the
            training alone.
        done: called with each row.

    Raises:
        ConfigError: classes or clips too few for such episodes; no meta-test class; a list of seen classes.
        TrainingError: a loss that is not finite.
    """
    if len(features.array) != len(clips):
        raise ConfigError(f"{len(features.array):,} features for {len(clips):,} clips", field="features")
    if published is not None:
        split, config = _of_list(published, config)
    if "mann" in config.learners:
        config = replace(config, instances=_instances(clips, split, config))
    check(clips, split, config)
    values, standardised = standardise(features.array, clips, split)
    features_nD = torch.from_numpy(values).to(device)
    reduced_nR = features_nD
    if not NETWORKS.isdisjoint(config.learners) and 0 < config.reduce < values.shape[1]:
        reduced_nR = torch.from_numpy(reduce(values, clips, split, config.reduce)).to(device)
    facts: dict[str, Any] = {
        "chance": 1 / config.way,
        "meta_split": "test",
        "features": features.name,
        "width": features.array.shape[1],
        "standardised": standardised,
        "dataset": clips.name,
        "plan_sha256": clips.plan_sha256,
        "label_map_sha256": clips.label_map_sha256,
        "class_split_sha256": split.sha256,
        "checkpoint_sha256": features.checkpoint_sha256,
        "seen_classes": len(set(features.classes) & set(split.test)),
        "episodes_sha256": None if published is None else published.sha256,
        "versions": versions(),
    }
    rows: list[Row] = []
    scores: dict[str, list[Tensor]] = {name: [] for name in config.learners}
    for seed in config.seeds:
        test, train, val = _pools(clips, split, config, seed)
        drawn = stack(draw_episodes(test, config.episodes) if published is None else published.episodes)
        for name in config.learners:
            learner = LEARNERS[name](config)
            inputs = reduced_nR if name in NETWORKS else features_nD
            training = learner.fit(inputs, train, val, seed, report)
            guesses = predict_all(learner, inputs, drawn)
            score_E = (guesses == drawn.query_slots).double().mean(dim=1)
            mean, half_width = interval(score_E)
            instances: tuple[Instance, ...] = ()
            if isinstance(learner, MannLearner):
                instances = _by_instance(learner, inputs, test, config)
            row = Row(
                learner=name,
                way=config.way,
                shot=config.shot,
                query=config.query,
                classes=len(test.usable),
                episodes=len(score_E),
                seed=seed,
                accuracy=mean,
                half_width=half_width,
                by_instance=instances,
                instances=config.instances if instances else None,
                training=training,
                predictions_sha256=predictions_sha256(guesses),
                **facts,
            )
            scores[name].append(score_E)
            rows.append(row)
            if done is not None:
                done(row)
    summaries = tuple(_summary(name, scores[name], published is not None) for name in config.learners)
    return Result(config=config, rows=tuple(rows), summaries=summaries)


def check(
    clips: LabelledClips, split: ClassSplit, config: FewshotConfig, *, published: EpisodeList | None = None
) -> None:
    """Whether the dataset has the episodes and sequences that the settings ask for; needs no features.

    Args:
        published: as for `evaluate`.

    Raises:
        ConfigError: it has not.
    """
    if published is not None:
        split, config = _of_list(published, config)
    if not split.test:
        raise ConfigError(
            "the class split has no meta-test class", field="shares", hint="give meta-test a share of the classes"
        )
    test, train, _ = _pools(clips, split, config, config.seeds[0])
    if "mann" in config.learners:
        instances = _instances(clips, split, config)
        for pool in (test, train):
            if pool is not None:
                sequence_pool(pool, instances)


def _pools(
    clips: LabelledClips, split: ClassSplit, config: FewshotConfig, seed: int
) -> tuple[Pool, Pool | None, Pool | None]:
    """Of meta-test; and of meta-train and meta-val, if a learner trains and they have classes."""
    settings = EpisodeSettings(
        way=config.way,
        shot=config.shot,
        query=config.query,
        seed=seed,
        allow_shared_groups=config.allow_shared_groups,
    )
    trained = [name for name in config.learners if needs_training(name, config)]
    test = episode_pool(clips, settings, split, "test")
    if not trained:
        return test, None, None
    if not split.train:
        raise ConfigError(
            f"{trained[0]} learns from meta-train classes, and the class split has none",
            field="shares",
            hint="give meta-train a share of the classes, for example --shares 0.64,0.16,0.2",
        )
    train = episode_pool(clips, settings, split, "train")
    return test, train, episode_pool(clips, settings, split, "val") if split.val else None


def interval(score_E: Tensor) -> tuple[float, float]:
    """Mean and half of the 95 % interval, 1.96 standard errors; 0 for one value."""
    spread = score_E.std(correction=1).item() if len(score_E) > 1 else 0.0
    return score_E.mean().item(), 1.96 * spread / math.sqrt(len(score_E))


def standardise(array: Floats, clips: LabelledClips, split: ClassSplit) -> tuple[Floats, bool]:
    """Features less their mean over meta-train clips, by their deviation: (n, D), and whether that was possible."""
    part = _meta_train(array, clips, split)
    if len(part) < 2:
        return array, False
    spread = part.std(axis=0)
    # a number that never changes on meta-train says nothing there, and must not become huge on meta-test
    spread[spread < 1e-6 * max(1e-12, float(spread.max()))] = np.inf
    return ((array - part.mean(axis=0)) / spread).astype(np.float32), True


def reduce(array: Floats, clips: LabelledClips, split: ClassSplit, width: int) -> Floats:
    """Scores on the first `width` principal components of the meta-train clips, at most as many as these have:
    (n, width), with a mean square of 1 over meta-train.
    """
    part = _meta_train(array, clips, split)
    mean = part.mean(axis=0)
    _, vectors = np.linalg.eigh((part - mean).T @ (part - mean))
    chosen = vectors[:, ::-1][:, : min(width, len(part))]
    # either sign is right; one that does not depend on the library
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    scores = (array - mean) @ chosen
    scale = float(np.sqrt(np.square((part - mean) @ chosen).mean()))
    return np.asarray(scores / max(scale, 1e-12), np.float32)


def _meta_train(array: Floats, clips: LabelledClips, split: ClassSplit) -> npt.NDArray[np.float64]:
    number = {name: i for i, name in enumerate(clips.classes)}
    return array[np.isin(clips.class_id, [number[name] for name in split.train])].astype(np.float64)


def predictions_sha256(guesses_EQ: Tensor) -> str:
    return hashlib.sha256(guesses_EQ.numpy().astype("<u2").tobytes()).hexdigest()


def versions() -> dict[str, str]:
    import vidkit

    return {
        "vidkit": vidkit.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _of_list(published: EpisodeList, config: FewshotConfig) -> tuple[ClassSplit, FewshotConfig]:
    if published.meta_split != "test":
        raise ConfigError(
            f"the list's episodes are of meta-{published.meta_split} classes, which learners may have seen",
            field="--episodes-list",
            hint="make a list with `vidkit episodes --meta-split test`",
        )
    if len(published.episodes) < 2:
        raise ConfigError("the list has one episode; an interval needs two", field="--episodes-list")
    settings = published.settings
    config = replace(
        config,
        way=settings.way,
        shot=settings.shot,
        query=settings.query,
        episodes=len(published.episodes),
        allow_shared_groups=settings.allow_shared_groups,
    )
    return published.split, config


def _instances(clips: LabelledClips, split: ClassSplit, config: FewshotConfig) -> int:
    """Length of the MANN's sequences by class: what was asked for, or what meta-train and meta-test allow."""
    if config.instances is not None:
        return config.instances
    number = {name: i for i, name in enumerate(clips.classes)}
    group = np.arange(len(clips)) if config.allow_shared_groups else clips.group
    most = MOST_INSTANCES
    for part in ("train", "test"):
        ids = [number[name] for name in (split.train if part == "train" else split.test)]
        videos = sorted((len(np.unique(group[clips.class_id == i])) for i in ids), reverse=True)
        # where there are fewer classes than `way`, the pool has more to say
        if len(videos) >= config.way:
            most = min(most, videos[config.way - 1])
    if most < 2:
        raise ConfigError(
            f"sequences of a MANN need {config.way} classes with 2 clips of different videos each, in "
            "meta-train and in meta-test",
            field="way",
            hint="lower way, choose another learner, or allow shared groups",
        )
    return most


def _by_instance(
    learner: MannLearner, features_nD: Tensor, test: Pool, config: FewshotConfig
) -> tuple[Instance, ...]:
    assert config.instances is not None
    pool: EpisodePool[Any] = sequence_pool(test, config.instances)
    rows_ET, slots_ET = stack_sequences(draw_sequences(pool, config.episodes))
    guesses_ET = learner.predict_sequences(features_nD, rows_ET, slots_ET)
    found = [interval(column.double()) for column in by_instance(guesses_ET, slots_ET, config.way).unbind(dim=1)]
    return tuple(Instance(instance=i, accuracy=a, half_width=h) for i, (a, h) in enumerate(found, 1))


def _summary(name: str, scores: Sequence[Tensor], same_episodes: bool) -> Summary:
    score_SE = torch.stack(list(scores))
    mean, half_width = interval(score_SE.mean(dim=0) if same_episodes else score_SE.flatten())
    seeds = len(scores)
    over_seeds = None
    if seeds > 1:
        factor = STUDENT[seeds - 2] if seeds - 2 < len(STUDENT) else 1.96
        over_seeds = factor * score_SE.mean(dim=1).std(correction=1).item() / math.sqrt(seeds)
    return Summary(learner=name, seeds=seeds, accuracy=mean, half_width=half_width, half_width_seeds=over_seeds)


def write_rows(path: Path, result: Result) -> None:
    """JSON lines, whole or not at all; a line for each row. An older file of results is replaced.

    Raises:
        ConfigError: a folder, or a file of that name that holds something else.
    """
    check_target(path)
    lines = [{"kind": KIND, "format": FORMAT, **asdict(row)} for row in result.rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def check_target(path: Path) -> None:
    """
    Raises:
        ConfigError: as `write_rows`; for asking before the work is done.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", field="--out", hint="give the name of a file")
    if path.exists():
        with path.open("rb") as file:
            found = file.read(100)
        if found and f'"{KIND}"'.encode() not in found:
            raise ConfigError(
                f"{path} exists and holds no few-shot results, so it is not replaced",
                field="--out",
                hint="choose another name, or delete the file",
            )

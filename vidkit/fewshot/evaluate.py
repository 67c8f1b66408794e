"""Few-shot accuracy of several learners on classes that none of them has seen, with 95 % intervals.

All learners get the same test episodes. Those that learn from features see the same ones, standardised by the mean
and the deviation of each number over the meta-train clips, or along the directions in which meta-train classes
differ (`discriminant`); networks see principal components. With `tune` the encoder goes on learning with a learner,
and has an encoder of its own from then on. "finetune" and "scratch" read clips instead, train a network for each
episode, and get the first `tune_episodes` of the test episodes.

Shapes: n clips, D width, E episodes, Q queries of an episode, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.draw import draw_episodes, draw_sequences
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.fewshot.episodes.lists import EpisodeList
from vidkit.fewshot.episodes.pool import EpisodePool, EpisodeSettings, UnusableClass, episode_pool
from vidkit.fewshot.inputs.encoder import Encoder
from vidkit.fewshot.inputs.features import ClipFeatures
from vidkit.fewshot.inputs.maps import (
    Map,
    Steps,
    check_discriminants,
    discriminator,
    reducer,
    standardiser,
    through,
)
from vidkit.fewshot.inputs.pixels import ClipPixels
from vidkit.fewshot.inputs.sources import check_given, source_of
from vidkit.fewshot.learners.finetune import run_episodes
from vidkit.fewshot.learners.recurrent import MannLearner, sequence_pool, stack_sequences
from vidkit.fewshot.learners.table import LEARNERS, Kind, kind_of, needs_training
from vidkit.fewshot.learners.training import EpisodeRows, Pool, Report, TunableLearner, predict_all, stack
from vidkit.fewshot.learners.tuned import tune
from vidkit.fewshot.results import (
    SEED_INTERVAL,
    Instance,
    Result,
    Row,
    check_target,
    interval,
    predictions_sha256,
    summary,
    versions,
    write_rows,
)
from vidkit.fewshot.selftest.run import by_instance
from vidkit.settings.fewshot import ALL_BLOCKS, MOST_INSTANCES, PIXEL_LEARNERS, FewshotConfig, Learner

__all__ = [
    "SEED_INTERVAL",
    "Result",
    "Row",
    "check",
    "check_target",
    "evaluate",
    "interval",
    "write_rows",
]


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """What a kind of learner sees of each clip, and how it comes from the encoder's features."""

    table: Tensor
    maps: tuple[Map, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Given:
    """What is the same for all learners and seeds."""

    config: FewshotConfig
    inputs: dict[Kind, _Inputs]
    """What the learners see."""
    encoder: Encoder | None
    pixels: ClipPixels | None
    device: torch.device
    report: Report | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tested:
    """Of one learner and seed."""

    guesses: Tensor
    """(E, Q)"""
    training: dict[str, Any]
    instances: tuple[Instance, ...] = ()


def evaluate(
    clips: LabelledClips,
    features: ClipFeatures | None,
    split: ClassSplit,
    config: FewshotConfig,
    *,
    published: EpisodeList | None = None,
    encoder: Encoder | None = None,
    pixels: ClipPixels | None = None,
    benchmark: str | None = None,
    departures: Sequence[str] = (),
    device: str | torch.device = "cpu",
    report: Report | None = None,
    done: Callable[[Row], None] | None = None,
) -> Result:
    """Train each learner on meta-train, choose on meta-val, test on meta-test.

    Args:
        features: None only where all learners are "finetune" and "scratch".
        published: test episodes; its settings and class split hold instead of the others. Seeds then change the
            training alone.
        encoder: for "finetune", for "scratch", which has its shape alone, and with `tune`: that of `features`.
        pixels: the clips of `pixels.meta_splits_needed`, as the encoder looks at them; for the same.
        benchmark, departures: what the rows say of these.
        done: called with each row.

    Raises:
        ConfigError: classes or clips too few for such episodes; no meta-test class; a list of seen classes; no
            encoder or clips for learners that need them, or others than the features'.
        TrainingError: a loss that is not finite.
    """
    check_given(clips, features, config, encoder, pixels)
    if published is not None:
        split, config = _of_list(published, config)
    if "mann" in config.learners:
        config = replace(config, instances=_instances(clips, split, config))
    check(clips, split, config)
    place = torch.device(device)
    inputs, standardised = _inputs(clips, features, split, config, place)
    given = _Given(
        config=config,
        inputs=inputs,
        encoder=encoder,
        pixels=pixels,
        device=place,
        report=report,
    )
    facts: dict[str, Any] = {
        "way": config.way,
        "shot": config.shot,
        "query": config.query,
        "chance": 1 / config.way,
        "meta_split": "test",
        "dataset": clips.name,
        "plan_sha256": clips.plan_sha256,
        "label_map_sha256": clips.label_map_sha256,
        "class_split_sha256": split.sha256,
        "episodes_sha256": None if published is None else published.sha256,
        "benchmark": benchmark,
        "departures": tuple(departures),
        "versions": versions(),
    }
    rows: list[Row] = []
    scores: dict[str, list[Tensor]] = {name: [] for name in config.learners}
    for seed in config.seeds:
        test, train, val = _pools(clips, split, config, seed)
        drawn = stack(draw_episodes(test, config.episodes) if published is None else published.episodes)
        for name in config.learners:
            mine = drawn.part(0, config.tune_episodes) if name in PIXEL_LEARNERS else drawn
            test_one = _test_network if name in PIXEL_LEARNERS else _test_learner
            tested = test_one(name, given, mine, test, train, val, seed)
            score_E = (tested.guesses == mine.query_slots).double().mean(dim=1)
            mean, half_width = interval(score_E)
            row = Row(
                learner=name,
                classes=len(test.usable),
                episodes=len(score_E),
                seed=seed,
                accuracy=mean,
                half_width=half_width,
                by_instance=tested.instances,
                instances=config.instances if tested.instances else None,
                training=tested.training,
                predictions_sha256=predictions_sha256(tested.guesses),
                tune="all" if name in PIXEL_LEARNERS or config.tune == ALL_BLOCKS else config.tune,
                standardised=standardised and name not in PIXEL_LEARNERS,
                discriminant="none" if name in PIXEL_LEARNERS else config.discriminant,
                **source_of(name, features, encoder, split),
                **facts,
            )
            scores[name].append(score_E)
            rows.append(row)
            if done is not None:
                done(row)
    summaries = tuple(summary(name, scores[name], published is not None) for name in config.learners)
    return Result(config=config, rows=tuple(rows), summaries=summaries)


def check(
    clips: LabelledClips, split: ClassSplit, config: FewshotConfig, *, published: EpisodeList | None = None
) -> tuple[UnusableClass, ...]:
    """Whether the dataset has the episodes and sequences that the settings ask for; needs no features.

    Args:
        published: as for `evaluate`.

    Returns:
        Meta-test classes that no episode can have.

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
    if config.discriminant != "none" and not PIXEL_LEARNERS.issuperset(config.learners):
        check_discriminants(clips, split)
    if "mann" in config.learners:
        instances = _instances(clips, split, config)
        for pool in (test, train):
            if pool is not None:
                sequence_pool(pool, instances)
    return test.unusable


def _inputs(
    clips: LabelledClips,
    features: ClipFeatures | None,
    split: ClassSplit,
    config: FewshotConfig,
    device: torch.device,
) -> tuple[dict[Kind, _Inputs], bool]:
    """What each kind of learner sees, and whether it is standardised."""
    kinds = {kind_of(name) for name in config.learners if name not in PIXEL_LEARNERS}
    if features is None or not kinds:
        return {}, False
    standard = standardiser(features.flat, clips, split, scale=config.standardise)
    first: tuple[Map, ...] = () if standard is None else (standard,)
    vectors = through(first, torch.from_numpy(features.flat))
    fisher = None if config.discriminant == "none" else discriminator(vectors.numpy(), clips, split)
    found: dict[Kind, _Inputs] = {}
    for kind in kinds:
        maps, table = first, vectors
        time = features.array.shape[1] if "step" in kind else None
        if fisher is not None:
            # the mean over what a clip has shown by each step would count its first steps most
            whole = config.discriminant == "clip" or kind == "mean of steps"
            seen: Map = replace(fisher, steps=1 if time is not None and whole else time)
            maps, table = (*maps, seen), seen(table)
        elif time is not None:
            seen = Steps(time)
            maps, table = (*maps, seen), seen(table)
        if "few" in kind and 0 < config.reduce < table.shape[-1]:
            fewer = reducer(table.numpy(), clips, split, config.reduce)
            maps, table = (*maps, fewer), fewer(table)
        found[kind] = _Inputs(table.to(device), maps)
    return found, standard is not None and config.standardise


def _test_learner(
    name: Learner, given: _Given, drawn: EpisodeRows, test: Pool, train: Pool | None, val: Pool | None, seed: int
) -> _Tested:
    """A learner on features."""
    config, inputs = given.config, given.inputs[kind_of(name)]
    learner, table = LEARNERS[name](config), inputs.table
    training = learner.fit(table, train, val, seed, given.report)
    if config.tune:
        assert given.encoder is not None, "checked before"
        assert given.pixels is not None, "checked before"
        assert train is not None, "with `tune` every learner trains"
        table, tuned = tune(
            cast(TunableLearner, learner),
            name,
            given.encoder,
            given.pixels,
            inputs.maps,
            table,
            train,
            val,
            config,
            given.report,
        )
        seconds = round(training.get("seconds", 0.0) + tuned.pop("seconds"), 2)
        training = {**training, "tune": tuned, "seconds": seconds}
    guesses = predict_all(learner, table, drawn)
    instances: tuple[Instance, ...] = ()
    if isinstance(learner, MannLearner):
        instances = _by_instance(learner, table, test, config)
    return _Tested(guesses=guesses, training=training, instances=instances)


def _test_network(
    name: Learner, given: _Given, drawn: EpisodeRows, test: Pool, train: Pool | None, val: Pool | None, seed: int
) -> _Tested:
    """A network for each episode."""
    assert given.encoder is not None, "checked before"
    assert given.pixels is not None, "checked before"
    guesses, training = run_episodes(
        name,
        given.config,
        given.encoder,
        given.pixels,
        drawn,
        val,
        seed=seed,
        device=given.device,
        report=given.report,
    )
    return _Tested(guesses=guesses, training=training)


def _pools(
    clips: LabelledClips, split: ClassSplit, config: FewshotConfig, seed: int
) -> tuple[Pool, Pool | None, Pool | None]:
    """Of meta-test; of meta-train, if a learner trains there; of meta-val, if something is chosen there."""
    settings = EpisodeSettings(
        way=config.way,
        shot=config.shot,
        query=config.query,
        seed=seed,
        allow_shared_groups=config.allow_shared_groups,
    )
    trained = [name for name in config.learners if needs_training(name, config)]
    test = episode_pool(clips, settings, split, "test")
    train: Pool | None = None
    if trained:
        if not split.train:
            raise ConfigError(
                f"{trained[0]} learns from meta-train classes, and the class split has none",
                field="shares",
                hint="give meta-train a share of the classes, for example --shares 0.64,0.16,0.2",
            )
        train = episode_pool(clips, settings, split, "train")
    judged = split.val and (trained or not PIXEL_LEARNERS.isdisjoint(config.learners))
    return test, train, episode_pool(clips, settings, split, "val") if judged else None


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
    found: Sequence[tuple[float, float]] = [
        interval(column.double()) for column in by_instance(guesses_ET, slots_ET, config.way).unbind(dim=1)
    ]
    return tuple(Instance(instance=i, accuracy=a, half_width=h) for i, (a, h) in enumerate(found, 1))

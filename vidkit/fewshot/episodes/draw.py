"""Few-shot episodes from a built dataset: N classes, K clips each to learn from, Q each to be judged by.

>>> clips = open_labelled("vidkit-demo")                                          # doctest: +SKIP
>>> split = split_classes(clips, seed=0)                                          # doctest: +SKIP
>>> pool = episode_pool(clips, EpisodeSettings(way=5, shot=1), split, "test")     # doctest: +SKIP
>>> draw_episode(pool, 0)                                                         # doctest: +SKIP
Episode(0, 5-way, 5 support, 75 query)

Episode i is drawn from (seed, i) alone: the same in any worker and any order. What is drawn, in this order:

1. `way` of the usable classes, uniformly; the class drawn s-th has label ("slot") s in this episode only.
2. An order of each class's clips, uniformly. Slot after slot, the support takes the first `shot` clips whose
   videos may still be given to the support: those that leave every class of the episode `query` clips of other
   videos. Then the query takes the first `query` clips of videos that the support does not show. Where no two
   clips share a video this is `shot + query` clips, uniformly.
3. The order of the support and that of the query, so that a clip's place says nothing about its class.

Where step 2 comes to no end, because the classes show the same few videos, it is tried again, then other
classes are drawn; `Episode.redraws` counts these. Shapes: N way, K shot, Q query, L = N x instances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.class_split import ClassSplit, read_class_split, split_classes, write_class_split
from vidkit.fewshot.episodes.labelled import Ints, LabelledClips, open_labelled
from vidkit.fewshot.episodes.pool import EpisodePool, EpisodeSettings, SequenceSettings, UnusableClass, episode_pool

__all__ = [
    "ClassSplit",
    "Episode",
    "EpisodePool",
    "EpisodeSettings",
    "LabelledClips",
    "SequenceEpisode",
    "SequenceSettings",
    "UnusableClass",
    "class_counts",
    "draw_episode",
    "draw_episodes",
    "draw_sequence",
    "draw_sequences",
    "episode_pool",
    "needed_clips",
    "open_labelled",
    "read_class_split",
    "split_classes",
    "write_class_split",
]

#: orders of clips tried for one draw of classes, and draws of classes for one episode
_ORDERS = 30
_CLASS_DRAWS = 60

#: part of the random key, so that episodes and sequences of one seed have nothing in common
_EPISODES, _SEQUENCES = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """Rows of `LabelledClips` and their labels in this episode. `class_ids[s]` is the class of slot s."""

    number: int
    class_ids: Ints
    """(N,)"""
    support: Ints
    """(N * K,) rows, in random order."""
    support_slots: Ints
    """(N * K,) 0 to N - 1."""
    query: Ints
    """(N * Q,) rows, in random order."""
    query_slots: Ints
    """(N * Q,) 0 to N - 1."""
    redraws: int = 0
    """Times that other classes had to be drawn; 0 in episodes from a list."""

    def __post_init__(self) -> None:
        _check_shapes(self.class_ids, self.support, self.support_slots)
        _check_shapes(self.class_ids, self.query, self.query_slots)

    def __repr__(self) -> str:
        sizes = f"{len(self.class_ids)}-way, {len(self.support)} support, {len(self.query)} query"
        return f"Episode({self.number}, {sizes})"

    @property
    def rows(self) -> Ints:
        """(N * (K + Q),) support, then query."""
        return np.concatenate([self.support, self.query])


@dataclass(frozen=True, slots=True, eq=False)
class SequenceEpisode:
    """Clips in the order in which they are shown. `class_ids[s]` is the class of slot s."""

    number: int
    class_ids: Ints
    """(N,)"""
    rows: Ints
    """(L,) rows of `LabelledClips`."""
    slots: Ints
    """(L,) 0 to N - 1: the label to predict."""
    instance: Ints
    """(L,) from 1: how often the class has been shown, this time included."""
    redraws: int = 0

    def __post_init__(self) -> None:
        _check_shapes(self.class_ids, self.rows, self.slots)
        _check_shapes(self.class_ids, self.rows, self.instance)

    def __repr__(self) -> str:
        return f"SequenceEpisode({self.number}, {len(self.class_ids)}-way, {len(self.rows)} clips)"


def _check_shapes(class_ids: Ints, rows: Ints, slots: Ints) -> None:
    if class_ids.ndim != 1 or rows.ndim != 1 or rows.shape != slots.shape or len(rows) % len(class_ids):
        raise ValueError(f"{class_ids.shape} classes, {rows.shape} clips, {slots.shape} slots")


def draw_episode(pool: EpisodePool[EpisodeSettings], number: int) -> Episode:
    """Episode `number`: support and query.

    Raises:
        ConfigError: a number below 0, or classes that show the same videos, so that nothing fits.
    """
    settings = pool.settings
    rng = _rng(settings.seed, _EPISODES, number)
    drawn = _draw(pool, rng, number, _support_query)
    slots = np.arange(settings.way)
    support, support_slots = _shuffled(drawn.parts[0], slots, rng)
    query, query_slots = _shuffled(drawn.parts[1], slots, rng)
    return Episode(number, drawn.class_ids, support, support_slots, query, query_slots, drawn.redraws)


def draw_episodes(pool: EpisodePool[EpisodeSettings], count: int, first: int = 0) -> list[Episode]:
    """Episodes `first` to `first + count - 1`."""
    return [draw_episode(pool, number) for number in range(first, first + count)]


def draw_sequence(pool: EpisodePool[SequenceSettings], number: int) -> SequenceEpisode:
    """Sequence `number`: `way * instances` clips, each of another video, in random order.

    Raises:
        ConfigError: as `draw_episode`.
    """
    settings = pool.settings
    rng = _rng(settings.seed, _SEQUENCES, number)
    drawn = _draw(pool, rng, number, _one_a_video)
    rows, slots = _shuffled(drawn.parts[0], np.arange(settings.way), rng)
    instance = np.empty(len(rows), np.int64)
    instance[np.argsort(slots, kind="stable")] = np.tile(np.arange(1, settings.instances + 1), settings.way)
    return SequenceEpisode(number, drawn.class_ids, rows, slots, instance, drawn.redraws)


def draw_sequences(pool: EpisodePool[SequenceSettings], count: int, first: int = 0) -> list[SequenceEpisode]:
    """Sequences `first` to `first + count - 1`."""
    return [draw_sequence(pool, number) for number in range(first, first + count)]


def needed_clips(episodes: Iterable[Episode | SequenceEpisode]) -> Ints:
    """Rows that the episodes use, ascending, each once: what a frozen encoder has to see."""
    rows = [episode.rows for episode in episodes]
    return np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def class_counts(pool: EpisodePool[Any], episodes: Iterable[Episode | SequenceEpisode]) -> dict[str, int]:
    """How many of the episodes have each usable class."""
    ids = [episode.class_ids for episode in episodes]
    counts = np.bincount(np.concatenate([*ids, np.zeros(0, np.int64)]), minlength=len(pool.clips.classes))
    return {pool.clips.classes[i]: int(counts[i]) for i in pool.usable.tolist()}


def _rng(seed: int, kind: int, number: int) -> np.random.Generator:
    if number < 0:
        raise ConfigError(f"episode number is {number}; expected at least 0", field="number")
    return np.random.default_rng(np.random.SeedSequence((seed, kind, number)))


class _Drawn(NamedTuple):
    class_ids: Ints
    parts: tuple[list[list[int]], ...]
    """For each part of the episode (support and query, or one), rows by slot."""
    redraws: int


#: takes clips from the orders of an episode's classes; None where nothing fits
_Fill = Callable[[EpisodePool[Any], list[int], list[list[int]]], "tuple[list[list[int]], ...] | None"]


def _draw(pool: EpisodePool[Any], rng: np.random.Generator, number: int, fill: _Fill) -> _Drawn:
    way = pool.settings.way
    for redraws in range(_CLASS_DRAWS):
        class_ids = rng.choice(pool.usable, way, replace=False)
        ids = class_ids.tolist()
        for _ in range(_ORDERS):
            orders = [rng.permutation(pool.members[i]).tolist() for i in ids]
            parts = fill(pool, ids, orders)
            if parts is not None:
                return _Drawn(class_ids, parts, redraws)
    names = ", ".join(repr(pool.clips.classes[i]) for i in ids)
    raise ConfigError(
        f"episode {number}: no {way} classes of {pool.where} were found with {pool.settings.need} each of videos "
        f"that can be told apart, in {_CLASS_DRAWS} draws of classes (the last one: {names})",
        field="way",
        hint=f"lower way or {' or '.join(pool.settings.lowerable)}, or allow shared groups",
    )


def _support_query(
    pool: EpisodePool[EpisodeSettings], class_ids: list[int], orders: list[list[int]]
) -> tuple[list[list[int]], ...] | None:
    settings = pool.settings
    group, sizes = pool.group, [pool.sizes[i] for i in class_ids]
    shown: set[int] = set()  # videos of the support
    room = [len(order) - settings.query for order in orders]  # clips that each class can still lose to them
    support = []
    for order in orders:
        taken: list[int] = []
        for row in order:
            video = group[row]
            if video not in shown:
                left = [spare - size.get(video, 0) for spare, size in zip(room, sizes, strict=True)]
                if min(left) < 0:
                    continue
                room = left
                shown.add(video)
            taken.append(row)
            if len(taken) == settings.shot:
                break
        else:
            return None
        support.append(taken)
    query = [list(islice((row for row in order if group[row] not in shown), settings.query)) for order in orders]
    return support, query


def _one_a_video(
    pool: EpisodePool[SequenceSettings], class_ids: list[int], orders: list[list[int]]
) -> tuple[list[list[int]], ...] | None:
    group = pool.group
    shown: set[int] = set()
    clips = []
    for order in orders:
        taken: list[int] = []
        for row in order:
            if group[row] not in shown:
                shown.add(group[row])
                taken.append(row)
                if len(taken) == pool.settings.instances:
                    break
        else:
            return None
        clips.append(taken)
    return (clips,)


def _shuffled(by_slot: list[list[int]], slots: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    rows = np.array(by_slot, np.int64)
    order = rng.permutation(rows.size)
    return rows.ravel()[order], np.repeat(slots, rows.shape[1])[order]

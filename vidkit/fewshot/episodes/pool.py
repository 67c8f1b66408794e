"""What few-shot episodes are drawn from: their settings, and the classes that have enough clips for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.class_split import ClassSplit, MetaSplit, check_class_split
from vidkit.fewshot.episodes.labelled import Ints, LabelledClips
from vidkit.settings.encode import Faults


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSettings:
    """N-way K-shot episodes with support and query (Vinyals et al., 2016)."""

    way: int = 5
    """N: classes."""
    shot: int = 1
    """K: support clips of each class."""
    query: int = 15
    """Q: query clips of each class."""
    seed: int = 0
    allow_shared_groups: bool = False
    """Whether support and query may show the same video (`group`: YouTube id, VIRAT video)."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.way >= 2, "way", self.way, "at least 2 classes")
        faults.check(self.shot >= 1, "shot", self.shot, "at least 1 clip")
        faults.check(self.query >= 1, "query", self.query, "at least 1 clip")
        faults.check(self.seed >= 0, "seed", self.seed, "at least 0")
        faults.raise_if_any("episode settings")

    @property
    def lowerable(self) -> tuple[str, ...]:
        """Settings that, when lower, make more classes usable."""
        return ("query", "shot")

    @property
    def need(self) -> str:
        """Clips of each class, in words."""
        return f"{self.shot + self.query} clips ({self.shot} support, {self.query} query)"

    @property
    def clips_needed(self) -> int:
        """Of each class."""
        return self.shot + self.query

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether a class whose videos have so many clips can be in an episode: some of its videos hold `shot`
        clips, the others `query`. Exact: all sums that videos can have, as bits of a whole number.

        >>> EpisodeSettings(shot=1, query=4).fits([4, 1]), EpisodeSettings(shot=1, query=4).fits([3, 2])
        (True, False)
        """
        room = sum(sizes) - self.query  # clips of the videos that the support shows, at most
        if room < self.shot:
            return False
        if max(sizes) == 1:
            return True
        mask = (1 << (room + 1)) - 1
        sums = 1
        for size in sizes:
            sums |= (sums << size) & mask
        return sums >> self.shot != 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceSettings:
    """Shuffled sequences of clips with labels, to be classified one after the other (Santoro et al., 2016)."""

    way: int = 5
    """N: classes."""
    instances: int = 10
    """Clips of each class."""
    seed: int = 0
    allow_shared_groups: bool = False
    """Whether two clips of a sequence may show the same video: the earlier one is support for the later."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.way >= 2, "way", self.way, "at least 2 classes")
        faults.check(self.instances >= 1, "instances", self.instances, "at least 1 clip")
        faults.check(self.seed >= 0, "seed", self.seed, "at least 0")
        faults.raise_if_any("sequence settings")

    @property
    def lowerable(self) -> tuple[str, ...]:
        """Settings that can be lowered where classes have too few clips."""
        return ("instances",)

    @property
    def need(self) -> str:
        """Clips of each class, in words."""
        return f"{self.instances} clips"

    @property
    def clips_needed(self) -> int:
        """Of each class."""
        return self.instances

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether a class whose videos have so many clips can be in a sequence."""
        return len(sizes) >= self.instances


S = TypeVar("S", bound=EpisodeSettings | SequenceSettings)


class UnusableClass(NamedTuple):
    """A class that no episode can have, and why."""

    name: str
    class_id: int
    clips: int
    groups: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodePool(Generic[S]):
    """What episodes of one kind are drawn from. Made by `episode_pool`; pickles, for worker processes."""

    clips: LabelledClips
    settings: S
    split: ClassSplit | None
    meta_split: MetaSplit | None
    classes: tuple[str, ...]
    """All classes of the meta-split."""
    usable: Ints
    """Ids of those that episodes have, ascending."""
    unusable: tuple[UnusableClass, ...]
    """The others."""
    members: dict[int, Ints]
    """Usable class id -> its rows."""
    group: list[int]
    """Row -> video; every row has one of its own where groups may be shared."""
    sizes: dict[int, dict[int, int]]
    """Usable class id -> video -> clips of the class."""

    def __repr__(self) -> str:
        found = f"{len(self.usable)} of {len(self.classes)} classes usable"
        return f"EpisodePool({self.where}, {self.settings.way}-way, {found})"

    @property
    def where(self) -> str:
        """Names the pool in messages."""
        return f"{'all classes' if self.split is None else f'meta-{self.meta_split}'} of {self.clips.name!r}"


def episode_pool(
    clips: LabelledClips,
    settings: S,
    split: ClassSplit | None = None,
    meta_split: MetaSplit | None = None,
) -> EpisodePool[S]:
    """Prepare to draw episodes.

    Args:
        split: which classes are for training, validation and test; None: all classes of the dataset.
        meta_split: "train", "val" or "test"; needed with `split`.

    Raises:
        ConfigError: fewer usable classes than `way`; the message says how many there are, and what to lower.
        DatasetError: a split of other classes.
    """
    if (split is None) != (meta_split is None):
        raise ConfigError("a class split and a meta-split go together", field="meta_split")
    names = clips.classes
    if split is not None and meta_split is not None:
        check_class_split(split, clips)
        names = split.names(meta_split)
    number = {name: i for i, name in enumerate(clips.classes)}
    ids = [number[name] for name in names]
    group = np.arange(len(clips)) if settings.allow_shared_groups else clips.group
    order = np.argsort(clips.class_id, kind="stable")
    ends = np.searchsorted(clips.class_id[order], np.arange(len(clips.classes) + 1))
    members = {i: order[ends[i] : ends[i + 1]] for i in ids}
    sizes = {i: _sizes(group[rows]) for i, rows in members.items()}
    usable = sorted(i for i in ids if settings.fits([*sizes[i].values()]))
    unusable = tuple(_unusable(clips, settings, i, members[i]) for i in ids if i not in set(usable))
    pool = EpisodePool(
        clips=clips,
        settings=settings,
        split=split,
        meta_split=meta_split,
        classes=names,
        usable=np.asarray(usable, np.int64),
        unusable=unusable,
        members={i: members[i] for i in usable},
        group=group.tolist(),
        sizes={i: sizes[i] for i in usable},
    )
    if len(usable) < settings.way:
        raise _too_few(pool, [[*sizes[i].values()] for i in ids])
    return pool


def _sizes(groups: Ints) -> dict[int, int]:
    values, counts = np.unique(groups, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _unusable(
    clips: LabelledClips, settings: EpisodeSettings | SequenceSettings, class_id: int, rows: Ints
) -> UnusableClass:
    groups = len(np.unique(clips.group[rows]))
    if len(rows) < settings.clips_needed:
        reason = f"{len(rows)} of the {settings.clips_needed} clips needed"
    elif isinstance(settings, SequenceSettings):
        reason = f"{groups} of the {settings.instances} videos needed, one a clip"
    else:
        reason = (
            f"its {len(rows)} clips are of {groups} {'video' if groups == 1 else 'videos'}, which cannot be "
            f"divided into some with {settings.shot} and others with {settings.query}"
        )
    return UnusableClass(clips.classes[class_id], class_id, len(rows), groups, reason)


def _too_few(pool: EpisodePool[S], sizes: list[list[int]]) -> ConfigError:
    settings, usable, way = pool.settings, len(pool.usable), pool.settings.way
    ways_out = [f"lower way to {usable}"] if usable >= 2 else []
    for name in settings.lowerable:
        highest = _highest(settings, name, sizes)
        if highest:
            ways_out.append(f"lower {name} to {highest}")
    if not settings.allow_shared_groups:
        clips_alone = [[1] * sum(each) for each in sizes]
        if sum(settings.fits(each) for each in clips_alone) >= way:
            ways_out.append("allow shared groups")
    if pool.split is not None:
        ways_out.append(f"give meta-{pool.meta_split} a larger share of the classes")
    some = "; ".join(f"{bad.name!r}: {bad.reason}" for bad in pool.unusable[:3])
    more = f"; and {len(pool.unusable) - 3:,} more" if len(pool.unusable) > 3 else ""
    return ConfigError(
        f"{way}-way episodes need {way} classes with {settings.need} each; in {pool.where} {usable:,} of "
        f"{len(pool.classes):,} qualify" + (f" ({some}{more})" if some else ""),
        field="way",
        hint=" or ".join(ways_out) or "build the dataset with more classes or more clips of each",
    )


def _highest(settings: S, name: str, sizes: list[list[int]]) -> int:
    """The highest value of one setting with which enough classes are usable; 0: none has."""

    def enough(value: int) -> bool:
        changes: dict[str, Any] = {name: value}
        lower = replace(settings, **changes)
        return sum(lower.fits(each) for each in sizes) >= settings.way

    good, bad = 0, int(getattr(settings, name))
    while bad - good > 1:  # what is usable with a value is usable with every lower one
        middle = (good + bad) // 2
        good, bad = (middle, bad) if enough(middle) else (good, middle)
    return good

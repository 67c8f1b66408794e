"""What every generated dataset has: a request, a plan, and clips shared out over classes, splits and videos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidkit.data.synth.clips import ClipLook
from vidkit.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What was asked for, with the defaults of the kind filled in."""

    kind: str
    clips: int
    classes: int
    seed: int
    label_sets: int | None = None
    distinct: int | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None
    fps: float | None = None
    extra: int = 0
    underscores: bool = False
    split_folders: bool = False
    level: int | None = None
    shares: tuple[float, float, float] | None = None

    def splits(self, usual: Mapping[str, float]) -> Mapping[str, float]:
        """Share of each split, as the user asked for them or as the kind has them."""
        return usual if self.shares is None else dict(zip(("train", "val", "test"), self.shares, strict=True))

    def rng(self, purpose: int, item: int = 0) -> np.random.Generator:
        """Random numbers for one purpose; three seed words, so that none meets those of `draw`."""
        return np.random.default_rng([self.seed, item, purpose])

    def look(self, class_index: int, width: int, height: int, frames: int, fps: float) -> ClipLook:
        """The look that a kind gives a clip, unless the user asked for another."""
        width, height = self.size or (width, height)
        return ClipLook(
            class_index=class_index,
            width=width,
            height=height,
            frames=frames if self.frames is None else self.frames,
            fps=fps if self.fps is None else self.fps,
        )


#: purposes of random numbers
IDS, LOOKS, SETS, TEXTS, DAMAGE = range(1, 6)

#: splits of a dataset that has all three, by share of its clips
THREE_SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedClip:
    """A file that will be written."""

    path: str
    split: str
    video: int
    """Clips of one number show the same video."""
    look: ClipLook
    codec: str = "h264"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A dataset before anything is written."""

    clips: tuple[PlannedClip, ...]
    extras: tuple[PlannedClip, ...] = ()
    """Files beside the annotated ones that no annotation names."""
    texts: Mapping[str, str]
    """Annotation file name -> content."""
    classes: tuple[str, ...]
    """Labels that occur; for TinyVIRAT label sets, sorted labels joined by +."""


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers of sum `total`, as near to the weights' shares as they get (largest remainders)."""
    if total == 0:
        return [0] * len(weights)
    shares = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def split_counts(clips: int, shares: Mapping[str, float]) -> list[str]:
    """Splits of one class's clips, by share; while there are enough clips, no split stays without one."""
    counts = apportion(clips, list(shares.values()))
    for i in range(min(len(counts), clips)):
        if counts[i] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return [name for name, count in zip(shares, counts, strict=True) for _ in range(count)]


def share_videos(keys: Sequence[tuple[str, int]], distinct: int | None) -> list[int]:
    """Number of the video that each clip shows; clips share one only within their (split, class).

    Raises:
        ConfigError: fewer videos than pairs of split and class.
    """
    if distinct is None or distinct >= len(keys):
        return list(range(len(keys)))
    members: dict[tuple[str, int], list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    if distinct < len(members):
        raise ConfigError(
            f"{distinct} distinct videos cannot show {len(members)} classes (counted in each split)",
            hint=f"ask for at least {len(members)} distinct videos, or fewer classes",
        )
    quotas = apportion(distinct - len(members), [len(group) - 1 for group in members.values()])
    videos, first = [0] * len(keys), 0
    for group, quota in zip(members.values(), quotas, strict=True):
        for j, i in enumerate(group):
            videos[i] = first + j % (quota + 1)
        first += quota + 1
    return videos


def balanced(ask: Request, shares: Mapping[str, float]) -> list[tuple[str, int]]:
    """(split, class) of each clip: classes equally often, splits by share within each class."""
    counts = apportion(ask.clips, [1] * ask.classes)
    return [(split, c) for c, count in enumerate(counts) for split in split_counts(count, shares)]


def json_text(value: object) -> str:
    """JSON as an annotation file holds it: one line, with its end."""
    return json.dumps(value) + "\n"

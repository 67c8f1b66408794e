"""Which classes and clips episodes are drawn from, as the options of both commands say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidkit.cli.options import parts_of
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place
    from vidkit.fewshot.episodes.benchmarks import Benchmark
    from vidkit.fewshot.episodes.class_split import ClassSplit
    from vidkit.fewshot.episodes.draw import LabelledClips
    from vidkit.fewshot.episodes.pool import UnusableClass


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the options chose."""

    clips: LabelledClips
    """All of the dataset, as features have them."""
    drawn: LabelledClips
    """The same rows; those that no list of clips names have no label."""
    split: ClassSplit
    benchmark: str | None = None
    departures: tuple[str, ...] = ()
    """In what the test is not the benchmark's."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides."""

    @property
    def said(self) -> list[str]:
        """All of it, a line each."""
        if self.benchmark is not None and self.departures:
            first = f"not {self.benchmark} as published, so figures cannot stand beside the field's:"
            return [first, *(f"- {text}" for text in self.departures), *self.notes]
        return list(self.notes)


def by_protocol(
    name: str | None, asked: Mapping[str, int | None], allow_shared_groups: bool | None
) -> tuple[dict[str, int | None], bool]:
    """Way, query and episodes, and whether groups may be shared: as asked, else as the benchmark has them."""
    if name is None:
        return dict(asked), bool(allow_shared_groups)
    from vidkit.fewshot.episodes.benchmarks import EPISODES, QUERY, WAY, benchmark

    standard = {"way": WAY, "query": QUERY, "episodes": EPISODES}
    given = {key: value for key, value in asked.items() if value is not None}
    allowed = benchmark(name).shared_groups if allow_shared_groups is None else allow_shared_groups
    return {**dict(asked), **standard, **given}, allowed


def choose(
    data: Place,
    *,
    splits: str | None,
    split_seed: int,
    shares: str | None,
    class_split: Path | None,
    benchmark: str | None = None,
    clip_lists: Sequence[Path] | None = None,
    asked: Mapping[str, int | None],
    allow_shared_groups: bool = False,
) -> Chosen:
    """Open the dataset and divide its classes.

    Args:
        asked: way, query and episodes, by `by_protocol`.

    Raises:
        ConfigError: options that exclude each other.
        AnnotationError, DatasetError: files and datasets that are not what they should be.
    """
    from vidkit.fewshot.episodes.benchmarks import benchmark as named
    from vidkit.fewshot.episodes.benchmarks import departures, divide, listed
    from vidkit.fewshot.episodes.clip_lists import listed_clips
    from vidkit.fewshot.episodes.draw import open_labelled

    known = None if benchmark is None else named(benchmark)
    if known is not None:
        others = {"--shares": shares is not None, "--class-split": class_split is not None}
        others["--split-seed"] = split_seed != 0
        given = ", ".join(name for name, is_given in others.items() if is_given)
        if given:
            raise ConfigError(
                f"--benchmark brings its own classes; {given} cannot change them", hint=f"leave out {given}"
            )
    clips = drawn = open_labelled(data, names_of(splits))
    notes: list[str] = []
    if clip_lists:
        found = listed_clips(clips, clip_lists)
        drawn = found.clips
        if found.absent:
            notes.append(
                f"{len(found.absent):,} of the {found.named:,} clips listed are not in {clips.name!r}: "
                + listed(found.absent)
            )
    if known is None:
        divided = class_split_of(drawn, split_seed, shares, class_split)
        return Chosen(clips=clips, drawn=drawn, split=divided, notes=tuple(notes))
    by = divide(known, drawn)
    numbers = {key: value for key, value in asked.items() if value is not None}
    return Chosen(
        clips=clips,
        drawn=drawn,
        split=by.split,
        benchmark=known.name,
        departures=tuple(departures(known, by, numbers, shared_groups=allow_shared_groups)),
        notes=(*notes, *_rules(known, clips, allow_shared_groups)),
    )


def too_few_clips(unusable: Sequence[UnusableClass]) -> list[str]:
    """A line about the classes that no episode can have."""
    if not unusable:
        return []
    some = "; ".join(f"{bad.name!r}: {bad.reason}" for bad in unusable[:3])
    more = f"; and {len(unusable) - 3:,} more" if len(unusable) > 3 else ""
    return [f"{len(unusable)} meta-test classes have too few clips, and are in no episode ({some}{more})"]


def _rules(known: Benchmark, clips: LabelledClips, shared_groups: bool) -> list[str]:
    said = []
    if shared_groups:
        said.append(
            "one video may be in support and query, as in the field; --no-shared-groups is stricter, as vidkit is "
            "without a benchmark"
        )
    if not known.flip and clips.dataset.facts.get("flip", True):
        said.append(
            f"classes of {known.dataset} tell left from right, and the dataset does not forbid flips (flip in its "
            "spec): an encoder trained on it may have been taught to overlook them. Nothing is flipped here"
        )
    for other, pairs in sorted(known.shares.items()):
        if count := pairs.get("train-test"):
            said.append(
                f"{count} meta-train classes are meta-test classes of {other}: what is trained here must not be "
                "tested there"
            )
    return said


def names_of(splits: str | None) -> list[str] | None:
    """
    >>> names_of("train, val")
    ['train', 'val']
    """
    return None if splits is None else [name.strip() for name in splits.split(",")]


def class_split_of(clips: LabelledClips, seed: int, shares: str | None, file: Path | None) -> ClassSplit:
    """The division of classes that the options ask for.

    Raises:
        ConfigError: options that exclude each other, or shares that are no numbers.
        AnnotationError, DatasetError: a file that is no class split, or one of other classes.
    """
    from vidkit.fewshot.episodes.class_split import SHARES, read_class_split, split_classes

    if file is not None:
        if shares is not None:
            raise ConfigError(
                "--class-split and --shares exclude each other", hint="leave one out: the file has its own shares"
            )
        return read_class_split(file, clips)
    numbers = SHARES if shares is None else parts_of(shares, "64/16/20")
    return split_classes(clips, seed=seed, shares=numbers)

"""The field's few-shot benchmarks: which classes are for training, validation and test, and how one tests.

`manifests/fewshot/` has a file for each: names of classes by part with their sha256, the clips that were listed,
the source, and the classes that it shares with the others.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidkit.data.manifests import manifests_folder
from vidkit.data.sources.parts.classes import ClassLookup
from vidkit.errors import ConfigError, DatasetError
from vidkit.fewshot.episodes.class_split import META_SPLITS, ClassSplit, MetaSplit
from vidkit.fewshot.episodes.labelled import LabelledClips

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: How all of them are tested (HyRSM's and TRX's code): classes, queries of each, episodes, frames of a clip.
WAY, QUERY, EPISODES, FRAMES = 5, 1, 10_000, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """A published division of classes."""

    name: str
    title: str
    paper: str
    source: str
    """Where the lists stand."""
    dataset: str
    flip: bool
    """Whether a clip keeps its class when left and right are exchanged."""
    shared_groups: bool
    """Whether the field lets one video be in support and query."""
    notes: tuple[str, ...]
    classes: Mapping[MetaSplit, tuple[str, ...]]
    sha256: Mapping[MetaSplit, str]
    """Of the names, each with a newline."""
    clips: Mapping[MetaSplit, int]
    """As listed."""
    shares: Mapping[str, Mapping[str, int]]
    """Other benchmark -> "train-test" (ours, theirs) -> classes in both."""

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part} {len(self.classes[part])}" for part in META_SPLITS)
        return f"Benchmark({self.name!r}, {sizes} classes)"


def benchmark_names() -> tuple[str, ...]:
    """Names that `benchmark` knows, sorted."""
    return tuple(sorted(path.stem for path in (manifests_folder() / "fewshot").glob("*.toml")))


@functools.cache
def benchmark(name: str) -> Benchmark:
    """
    Raises:
        ConfigError: no benchmark of that name, or a file that was changed.
    """
    if name not in benchmark_names():
        raise ConfigError(
            f"no benchmark {name!r}", field="--benchmark", hint=f"choose one of {', '.join(benchmark_names())}"
        )
    path = manifests_folder() / "fewshot" / f"{name}.toml"
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = {part: found.pop(part) for part in META_SPLITS}
    for part, values in parts.items():
        sha256 = names_sha256(values["classes"])
        if sha256 != values["sha256"]:
            raise ConfigError(
                f"the names have sha256 {sha256[:12]}, not {values['sha256'][:12]}: the file was changed",
                file=path,
                field=part,
                hint="reinstall vidkit; a division of your own is for --class-split",
            )
    return Benchmark(
        name=name,
        notes=tuple(found.pop("notes")),
        classes={part: tuple(values["classes"]) for part, values in parts.items()},
        sha256={part: values["sha256"] for part, values in parts.items()},
        clips={part: values["clips"] for part, values in parts.items()},
        **found,
    )


def names_sha256(names: Sequence[str]) -> str:
    """Of names, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def shared_classes(one: Benchmark, other: Benchmark) -> dict[str, tuple[str, ...]]:
    """Classes of `one` that are also in `other`, by pair of parts ("train-test"), where there are some. Names are
    equal but for case, blanks and punctuation: UCF101 writes `BenchPress`.
    """
    found = {}
    for theirs in META_SPLITS:
        lookup = ClassLookup(other.classes[theirs])
        for ours in META_SPLITS:
            if both := tuple(name for name in one.classes[ours] if lookup.find(name) is not None):
                found[f"{ours}-{theirs}"] = both
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Divided:
    """A dataset's classes by a benchmark."""

    split: ClassSplit
    missing: Mapping[MetaSplit, tuple[str, ...]]
    """Classes that the dataset lacks."""
    clips: Mapping[MetaSplit, int]
    """Usable clips of those that it has."""


def divide(known: Benchmark, clips: LabelledClips) -> Divided:
    """The benchmark's division of the dataset's classes, under the dataset's spelling of their names.

    A class without a usable clip is missing: no episode could have it.

    Raises:
        DatasetError: fewer than `WAY` of its test classes are there.
    """
    lookup = ClassLookup(clips.classes)
    counts = np.bincount(clips.class_id[clips.class_id >= 0], minlength=len(clips.classes))
    number = {name: i for i, name in enumerate(clips.classes)}
    there: dict[MetaSplit, tuple[str, ...]] = {}
    missing: dict[MetaSplit, tuple[str, ...]] = {}
    for part in META_SPLITS:
        ids = {name: number.get(lookup.find(name) or "", -1) for name in known.classes[part]}
        usable = {name: i for name, i in ids.items() if i >= 0 and counts[i]}
        there[part] = tuple(clips.classes[i] for i in sorted(usable.values()))
        missing[part] = tuple(name for name in ids if name not in usable)
    if len(there["test"]) < WAY:
        raise DatasetError(
            f"{clips.name!r} has clips of {len(there['test'])} of the {len(known.classes['test'])} meta-test "
            f"classes of {known.name}; it lacks {listed(missing['test'])}",
            file=clips.dataset.root,
            field="--benchmark",
            hint=f"build {known.dataset} with these classes, or give the benchmark of this dataset",
        )
    split = ClassSplit(
        label_map_sha256=clips.label_map_sha256, train=there["train"], val=there["val"], test=there["test"]
    )
    found = {part: int(sum(counts[number[name]] for name in names)) for part, names in there.items()}
    return Divided(split=split, missing=missing, clips=found)


def departures(known: Benchmark, divided: Divided, asked: Mapping[str, int], *, shared_groups: bool) -> list[str]:
    """In what a test is not the benchmark's, in words. Empty: its figures stand beside the field's.

    Args:
        asked: way, query and episodes.
    """
    said = []
    for part in META_SPLITS:
        lacks, all_of = divided.missing[part], len(known.classes[part])
        if lacks:
            left = all_of - len(lacks)
            said.append(f"the dataset has {left} of the {all_of} meta-{part} classes; it lacks {listed(lacks)}")
        elif divided.clips[part] != known.clips[part]:
            more = divided.clips[part] > known.clips[part]
            said.append(
                f"meta-{part} has {divided.clips[part]:,} clips; {known.clips[part]:,} were listed"
                + (" (give the lists with --clips)" if more else "")
            )
    for name, standard in (("way", WAY), ("query", QUERY), ("episodes", EPISODES)):
        if asked.get(name, standard) != standard:
            said.append(f"{name} is {asked[name]:,}; the benchmark has {standard:,}")
    if known.shared_groups and not shared_groups:
        said.append("no video is in support and query: stricter than the field, which draws clips")
    return said


def labels_seen(learned: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` whose labels an encoder was trained with, whatever the spelling."""
    lookup = ClassLookup(learned)
    return tuple(name for name in names if lookup.find(name) is not None)


def listed(names: Sequence[str], most: int = 3) -> str:
    """
    >>> listed(["a", "b"], most=1)
    "'a' and 1 more"
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more

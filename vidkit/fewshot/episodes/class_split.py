"""Meta-train, meta-validation and meta-test: a division of the classes, so that tests are on unseen ones.

A split follows from (label map, seed, shares) alone, and carries the label map's sha256 and its own, so it need
not be stored to be the same. Classes are ordered by a hash, not by a random generator: no version of any library
changes the split.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vidkit.data.shards import write_json
from vidkit.data.synth.plan import apportion
from vidkit.errors import AnnotationError, ConfigError, DatasetError
from vidkit.fewshot.episodes.json_rows import JsonRow, parse_row
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.settings.encode import Faults

MetaSplit = Literal["train", "val", "test"]
META_SPLITS: tuple[MetaSplit, ...] = get_args(MetaSplit)

#: 64, 16 and 20 of 100 classes, as in miniImageNet (Ravi and Larochelle, 2017).
SHARES = (0.64, 0.16, 0.20)

FORMAT = 1

#: what a list of episodes says it is; its header holds a class split
LIST_KIND = "vidkit-episodes"

_AGAIN = "take a whole copy of the file, or make the split again with `split_classes`"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSplit:
    """Names of classes, in the label map's order, in no more than one of three parts.

    `seed` and `shares` are None for a split that was made by hand, which may leave classes out.
    """

    label_map_sha256: str
    seed: int | None = None
    shares: tuple[float, float, float] | None = None
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for name in (*self.train, *self.val, *self.test):
            if name in seen:
                raise ConfigError(f"class {name!r} is in the class split twice", field="class split")
            seen.add(name)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(self.names(name))}" for name in META_SPLITS)
        return f"ClassSplit({sizes} classes, seed {self.seed}, sha256 {self.sha256[:12]})"

    def names(self, meta_split: MetaSplit) -> tuple[str, ...]:
        """
        Raises:
            ConfigError: no such part.
        """
        if meta_split not in META_SPLITS:
            raise ConfigError(
                f"meta-split is {meta_split!r}; expected one of {', '.join(META_SPLITS)}", field="meta_split"
            )
        parts: dict[str, tuple[str, ...]] = {"train": self.train, "val": self.val, "test": self.test}
        return parts[meta_split]

    @property
    def sha256(self) -> str:
        """Over the compact JSON of everything else."""
        text = json.dumps(self._content(), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with its sha256."""
        return {**self._content(), "sha256": self.sha256}

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "label_map_sha256": self.label_map_sha256,
            "seed": self.seed,
            "shares": None if self.shares is None else list(self.shares),
            "classes": {name: list(self.names(name)) for name in META_SPLITS},
        }


def split_classes(clips: LabelledClips, *, seed: int = 0, shares: Sequence[float] = SHARES) -> ClassSplit:
    """Divide all classes of the label map, those without clips too: what is on disk does not move a class.

    Args:
        shares: of meta-train, meta-val and meta-test; 0 or more, of sum 1. Numbers of classes are as near to
            them as whole numbers get (largest remainders).

    Raises:
        ConfigError: a seed below 0, or shares that cannot be.
    """
    shares = tuple(float(share) for share in shares)
    faults = Faults()
    faults.check(seed >= 0, "split seed", seed, "at least 0")
    three = len(shares) == 3 and all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) < 1e-6
    faults.check(three, "shares", shares, "three numbers from 0 of sum 1: meta-train, meta-val, meta-test")
    faults.raise_if_any("class split")
    names = clips.classes

    def rank(i: int) -> bytes:
        return hashlib.sha256(f"{clips.label_map_sha256}\n{seed}\n{names[i]}".encode()).digest()

    order = sorted(range(len(names)), key=rank)
    ends = np.cumsum([0, *apportion(len(names), shares)]).tolist()
    train, val, test = (tuple(names[i] for i in sorted(order[first:last])) for first, last in pairwise(ends))
    return ClassSplit(
        label_map_sha256=clips.label_map_sha256,
        seed=seed,
        shares=(shares[0], shares[1], shares[2]),
        train=train,
        val=val,
        test=test,
    )


def check_class_split(split: ClassSplit, clips: LabelledClips, file: str | os.PathLike[str] | None = None) -> None:
    """
    Raises:
        DatasetError: the split is of other classes than the dataset's.
    """
    if split.label_map_sha256 != clips.label_map_sha256:
        raise DatasetError(
            f"the class split is of label map {split.label_map_sha256[:12]}; dataset {clips.name!r} has "
            f"{clips.label_map_sha256[:12]}: these are other classes",
            file=file,
            field="label_map_sha256",
            hint="use the dataset it was made for, or make a class split for this one",
        )
    unknown = sorted({name for part in META_SPLITS for name in split.names(part)} - set(clips.classes))
    if unknown:
        raise DatasetError(
            f"class {unknown[0]!r} of the class split is not in the label map of {clips.name!r}",
            file=file,
            field="classes",
            hint="make the class split again from the dataset's own classes",
        )


def write_class_split(path: str | os.PathLike[str], split: ClassSplit) -> None:
    """Indented JSON, written whole or not at all."""
    write_json(Path(path), split.to_dict())


def read_class_split(path: str | os.PathLike[str], clips: LabelledClips) -> ClassSplit:
    """What `write_class_split` wrote, or what stands in the header of a list of episodes, checked against its own
    sha256 and the dataset's label map.

    Raises:
        AnnotationError: no such file, or not a class split.
        DatasetError: a split of other classes.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise AnnotationError(f"the class split cannot be read: {error.strerror}", file=path) from None
    first = data.split(b"\n", 1)[0]
    if f'"{LIST_KIND}"'.encode() in first:
        row = parse_row(first, path, 1, hint=_AGAIN).inner("class_split")
    else:
        row = parse_row(data, path, hint=_AGAIN)
    split = class_split_from(row)
    check_class_split(split, clips, path)
    return split


def class_split_from(row: JsonRow) -> ClassSplit:
    """
    Raises:
        AnnotationError: not the plain values of a class split, or not those that its sha256 is of.
    """
    version = row.number("format", 1)
    if version > FORMAT:
        raise row.error(f"format {version} is newer than this vidkit reads ({FORMAT})", "format")
    seed = None if row.get("seed") is None else row.number("seed")
    shares = row.get("shares")
    if shares is not None and (
        not isinstance(shares, list) or len(shares) != 3 or not all(type(s) in (int, float) for s in shares)
    ):
        raise row.error("expected null or three numbers", "shares")
    classes = row.inner("classes")
    try:
        split = ClassSplit(
            label_map_sha256=row.text("label_map_sha256"),
            seed=seed,
            shares=None if shares is None else (float(shares[0]), float(shares[1]), float(shares[2])),
            train=tuple(classes.texts("train")),
            val=tuple(classes.texts("val")),
            test=tuple(classes.texts("test")),
        )
    except ConfigError as error:
        raise row.error(error.message, "classes") from None
    if split.sha256 != row.text("sha256"):
        raise row.error(
            f"the content has sha256 {split.sha256[:12]}, not {row.text('sha256')[:12]} as it says: it was changed",
            "sha256",
        )
    return split


def shared_groups(clips: LabelledClips, split: ClassSplit) -> dict[str, int]:
    """Videos (`group`) with clips in classes of two meta-splits, by pair: "train-test" and so on.

    Classes are disjoint; the videos that show them need not be. Counted, so that a reader can judge.
    """
    number = {name: i for i, name in enumerate(clips.classes)}
    labelled = clips.class_id >= 0
    inside = {}
    for part in META_SPLITS:
        ids = [number[name] for name in split.names(part)]
        inside[part] = np.unique(clips.group[labelled & np.isin(clips.class_id, ids)])
    return {
        f"{a}-{b}": len(np.intersect1d(inside[a], inside[b], assume_unique=True))
        for a, b in combinations(META_SPLITS, 2)
    }

"""The usable clips of one split of a built dataset, as columns, and a class-balanced part of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.dataset import BuiltDataset, open_dataset, within_reach
from vidkit.data.storage.places import StorePath
from vidkit.data.tables import SPLITS
from vidkit.errors import ConfigError, DatasetError

_Ints = npt.NDArray[np.int64]
_COLUMNS = ["clip_id", "key", "class_id", "multi_hot", "shard", "offset", "nbytes", "frames", "height", "width"]
_BAD = ["status", "error", "message"]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A planned clip that has no sample, and why."""

    clip_id: str
    key: str
    status: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFraction:
    """What `label_fraction` kept. Counts are clips; `fewest` and `most` are over classes that have clips."""

    fraction: float
    kept: int
    of: int
    classes: int
    fewest: int
    most: int
    unlabelled: int
    """Clips without a label, all left out."""

    def __str__(self) -> str:
        return (
            f"{self.kept:,} of {self.of:,} clips ({100 * self.kept / self.of:.1f} %; {100 * self.fraction:g} % "
            f"asked for), {self.fewest:,} to {self.most:,} in each of {self.classes:,} classes"
            + (f", {self.unlabelled:,} clips without a label left out" if self.unlabelled else "")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitClips:
    """Clips in plan order. `class_id` is -1 where the label rule gives none; `multi_hot[i]` are label ids."""

    dataset: BuiltDataset
    split: str
    clip_id: pa.StringArray
    key: pa.StringArray
    shards: tuple[str, ...]
    shard: _Ints
    """(n,) into `shards`."""
    offset: _Ints
    nbytes: _Ints
    frames: _Ints
    height: _Ints
    width: _Ints
    class_id: _Ints
    multi_hot: pa.ListArray
    unusable: tuple[Unusable, ...]
    fraction: LabelFraction | None = None

    def __len__(self) -> int:
        return len(self.offset)

    def __repr__(self) -> str:
        return f"SplitClips({self.dataset.facts['name']!r}, {self.split!r}, {len(self):,} clips)"

    @property
    def rule(self) -> str:
        """The label rule: "single", "label-set" or "multi-hot"."""
        return str(self.dataset.facts["label_map"]["rule"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by id: of classes, or of base labels where a clip can have several."""
        names = self.dataset.facts["label_map"]["base_labels" if self.rule == "multi-hot" else "classes"]
        return tuple(names)

    @property
    def flip(self) -> bool:
        """Whether a left-right flip keeps every label."""
        return bool(self.dataset.facts["flip"])

    @property
    def unlabelled(self) -> int:
        """Clips without a label."""
        if self.rule == "multi-hot":
            return int(pc.sum(pc.equal(pc.list_value_length(self.multi_hot), 0)).as_py() or 0)
        return int((self.class_id < 0).sum())

    def labels(self, i: int) -> list[int]:
        """Ids that clip i has under the dataset's rule."""
        if self.rule == "multi-hot":
            return [int(value) for value in self.multi_hot[i].as_py()]
        return [int(self.class_id[i])] if self.class_id[i] >= 0 else []

    def where(self, i: int) -> str:
        """Names a clip in messages."""
        name = self.dataset.facts["name"]
        return f"dataset {name!r}, shard {self.shards[self.shard[i]]}, key {self.key[i]}, clip {self.clip_id[i]}"

    def take(self, rows: _Ints, fraction: LabelFraction | None = None) -> SplitClips:
        """Some of the clips, in the order given."""
        picked: dict[str, Any] = {}
        for name in ("shard", "offset", "nbytes", "frames", "height", "width", "class_id"):
            picked[name] = getattr(self, name)[rows]
        for name in ("clip_id", "key", "multi_hot"):
            picked[name] = getattr(self, name).take(pa.array(rows))
        same: dict[str, Any] = {name: getattr(self, name) for name in ("dataset", "split", "shards", "unusable")}
        return SplitClips(**picked, **same, fraction=fraction)


def open_split(
    path: str | os.PathLike[str],
    split: str,
    *,
    label_fraction: float | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> SplitClips:
    """The clips of a split whose status is ok; the others are listed in `unusable`.

    Args:
        classes: only clips of these; none: of all. The label map stays whole.

    Raises:
        ConfigError: a split that cannot be, a fraction that is not above 0 and at most 1, or classes that the
            dataset has not or has no clip of.
        DatasetError: no finished dataset there, a shard that is missing or has another size than when it was
            built, or no usable clip in the split.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; expected one of {', '.join(SPLITS)}", field="split")
    dataset = open_dataset(path)
    table = dataset.ledger([*_COLUMNS, *_BAD, "split"])
    table = table.filter(pc.equal(table["split"], split))
    good = pc.equal(table["status"], "ok")
    bad = table.filter(pc.invert(good))
    unusable = tuple(
        Unusable(row["clip_id"], row["key"], row["status"], row["error"] or "", row["message"] or "")
        for row in bad.select(["clip_id", "key", *_BAD]).to_pylist()
    )
    table = table.filter(good)
    if not table.num_rows:
        counts = ", ".join(f"{name} {count['ok']:,}" for name, count in dataset.facts["splits"].items())
        raise DatasetError(
            f"no usable clip in split {split!r} of {dataset.facts['name']!r} ({len(unusable):,} failed or "
            f"missing); usable: {counts or 'none'}",
            file=dataset.root,
            field="split",
            hint="choose another split, or build the dataset with clips for this one",
        )
    _check_shards(dataset, split)
    shard = pc.dictionary_encode(table["shard"]).combine_chunks()
    columns: dict[str, Any] = {
        name: _ints(table[name]) for name in ("offset", "nbytes", "frames", "height", "width")
    }
    clips = SplitClips(
        dataset=dataset,
        split=split,
        clip_id=table["clip_id"].combine_chunks(),
        key=table["key"].combine_chunks(),
        shards=tuple(shard.dictionary.to_pylist()),
        shard=_ints(shard.indices),
        class_id=_ints(pc.fill_null(table["class_id"], -1)),
        multi_hot=table["multi_hot"].combine_chunks(),
        unusable=unusable,
        **columns,
    )
    if classes:
        clips = keep_classes(clips, classes)
    return clips if label_fraction is None else keep_fraction(clips, label_fraction, seed)


def _ints(column: Any) -> _Ints:
    return (
        np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
        if isinstance(column, pa.Array)
        else np.asarray(column.to_numpy(), np.int64)
    )


def _check_shards(dataset: BuiltDataset, split: str) -> None:
    """Shards are there and whole, so far as their size tells: a short one would fail clip by clip, hours later."""
    recorded = {facts["shard"]: facts["bytes"] for facts in dataset.shards if facts["split"] == split}
    with within_reach(dataset.root):
        found = _sizes(dataset, list(recorded))
    for name, size in found.items():
        if size != recorded[name]:
            words = "is not there" if size is None else f"has {size:,} bytes; it was built with {recorded[name]:,}"
            raise DatasetError(
                f"the shard {words}",
                file=dataset.root / name,
                hint="restore it, or see what is wrong with `vidkit verify DIR`",
            )


def _sizes(dataset: BuiltDataset, names: list[str]) -> dict[str, int | None]:
    root = dataset.root
    if isinstance(root, StorePath):
        return root.sizes(names)
    return {name: (root / name).stat().st_size if (root / name).is_file() else None for name in names}


def keep_classes(clips: SplitClips, names: Sequence[str]) -> SplitClips:
    """The clips with one of these classes."""
    number = {name: i for i, name in enumerate(clips.classes)}
    unknown = [name for name in names if name not in number]
    if clips.rule == "multi-hot" or unknown:
        what = "clips can have several labels" if not unknown else f"there is no class {unknown[0]!r}"
        raise ConfigError(f"{what} in {clips.dataset.facts['name']!r}", field="data.classes")
    kept = np.flatnonzero(np.isin(clips.class_id, [number[name] for name in names]))
    if not len(kept):
        raise ConfigError(
            f"no clip of split {clips.split!r} is of the {len(names)} classes asked for", field="data.classes"
        )
    return clips.take(kept)


def keep_fraction(clips: SplitClips, fraction: float, seed: int) -> SplitClips:
    """About `fraction` of the labelled clips of every class, at least one, chosen by `seed` alone.

    With one label a clip it is exact: `max(1, floor(fraction * n + 0.5))` of a class's n clips, and a larger
    fraction keeps what a smaller one kept. With several labels a clip, labels are served from the rarest to
    the most common, and clips chosen for one label count for all that they have; none gets less than that.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"label_fraction is {fraction!r}; expected above 0, at most 1", field="label_fraction")
    if clips.rule == "multi-hot":
        ends = clips.multi_hot.offsets.to_numpy().astype(np.int64)
        labels = clips.multi_hot.values.to_numpy().astype(np.int64)[ends[0] : ends[-1]]
        rows = np.repeat(np.arange(len(clips)), np.diff(ends))
    else:
        rows = np.flatnonzero(clips.class_id >= 0)
        labels = clips.class_id[rows]
    kept = np.sort(balanced_part(rows, labels, len(clips), fraction, seed))
    counts = np.bincount(labels, minlength=1)
    if not len(kept):
        raise ConfigError(
            f"no clip of split {clips.split!r} has a label, so no fraction of them can be kept",
            field="label_fraction",
        )
    inside = np.zeros(len(clips), bool)
    inside[kept] = True
    per_class = np.bincount(labels[inside[rows]], minlength=len(counts))[counts > 0]
    report = LabelFraction(
        fraction=fraction,
        kept=len(kept),
        of=len(clips),
        classes=len(per_class),
        fewest=int(per_class.min()),
        most=int(per_class.max()),
        unlabelled=clips.unlabelled,
    )
    return clips.take(kept, report)


def balanced_part(rows: _Ints, labels: _Ints, count: int, fraction: float, seed: int) -> _Ints:
    """Rows to keep. `rows[j]` has label `labels[j]`; a row occurs once for each of its labels.

    Args:
        count: rows in all, labelled or not; the seeded order is over these.
    """
    rank = np.random.default_rng(np.random.SeedSequence((seed, count))).permutation(count)
    chosen = np.zeros(count, bool)
    sizes = np.bincount(labels, minlength=1)
    by_label = np.split(rows[np.lexsort((rank[rows], labels))], np.cumsum(sizes)[:-1])
    for label in np.lexsort((np.arange(len(sizes)), sizes)):
        members = by_label[label]
        if len(members):
            quota = max(1, int(np.floor(fraction * len(members) + 0.5)))
            left = members[~chosen[members]]
            chosen[left[: max(0, quota - int(chosen[members].sum()))]] = True
    return np.flatnonzero(chosen)

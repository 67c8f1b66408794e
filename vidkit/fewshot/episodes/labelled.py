"""The usable, labelled clips of a built dataset over all of its splits, as columns: what episodes are drawn from.

Rows are numbered over the splits, one after the other, in plan order. Row r of split s is clip `r - first` of
`open_split(path, s)` and of `ClipDataset(path, s)`, with `first` the first row of that split; `place` tells it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.dataset import CLIPS_PARQUET, BuiltDataset, open_dataset
from vidkit.data.tables import SPLITS
from vidkit.errors import ConfigError, DatasetError

Ints = npt.NDArray[np.int64]
_COLUMNS = ["clip_id", "source", "key", "group", "class_id", "split", "status"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledClips:
    """n clips whose status is ok. Those without a label are rows too, with class id -1, and in no episode."""

    dataset: BuiltDataset
    splits: tuple[str, ...]
    firsts: tuple[int, ...]
    """First row of each split, and n."""
    clip_id: pa.StringArray
    key: pa.StringArray
    class_id: Ints
    """(n,) ids by the label map; -1: no label."""
    group: Ints
    """(n,) numbers that two clips share only if they are of one source and one video. A clip whose video is
    unknown has a number of its own."""
    unusable: int
    """Planned clips of these splits that failed or are missing."""

    def __len__(self) -> int:
        return len(self.class_id)

    def __repr__(self) -> str:
        return f"LabelledClips({self.name!r}, {'+'.join(self.splits)}, {len(self):,} clips)"

    @property
    def name(self) -> str:
        """Of the dataset."""
        return str(self.dataset.facts["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class id."""
        return tuple(self.dataset.facts["label_map"]["classes"])

    @property
    def label_map_sha256(self) -> str:
        """What tells its classes from those of another dataset."""
        return str(self.dataset.facts["label_map"]["sha256"])

    @property
    def plan_sha256(self) -> str | None:
        """Of the build's plan: two datasets that share it use the same key for the same clip."""
        found = self.dataset.facts.get("plan_sha256")
        return None if found is None else str(found)

    @property
    def unlabelled(self) -> int:
        """Clips that no class has."""
        return int((self.class_id < 0).sum())

    def place(self, row: int) -> tuple[str, int]:
        """(split, number of the clip within it).

        Raises:
            IndexError: no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} clips")
        at = int(np.searchsorted(np.asarray(self.firsts), row, "right")) - 1
        return self.splits[at], row - self.firsts[at]


def open_labelled(path: str | os.PathLike[str], splits: Sequence[str] | None = None) -> LabelledClips:
    """The usable clips of a dataset with one class each.

    Args:
        splits: of "train", "val" and "test"; by default all that have usable clips. Few-shot learning divides
            the classes, so the dataset's own splits, which divide the clips of a class, need not be kept apart.

    Raises:
        ConfigError: splits that cannot be.
        DatasetError: no finished dataset there, one whose clips have no single class, a split without a usable
            clip, or no labelled clip at all.
    """
    if splits is not None and (not splits or len(set(splits)) != len(splits) or not set(splits) <= set(SPLITS)):
        raise ConfigError(
            f"splits are {', '.join(splits) or 'none'}; expected some of {', '.join(SPLITS)}, each once",
            field="splits",
        )
    dataset = open_dataset(path)
    label_map = dataset.facts["label_map"]
    if label_map["rule"] == "multi-hot":
        raise DatasetError(
            f"clips of {dataset.facts['name']!r} can have several labels (label rule 'multi-hot'), so they have "
            "no class to draw episodes by",
            file=dataset.root,
            field="label_map.rule",
            hint="build the dataset with labels.rule = 'label-set', which makes each set of labels a class",
        )
    table = dataset.ledger(_COLUMNS)
    good = table.filter(pc.equal(table["status"], "ok"))
    parts = {split: good.filter(pc.equal(good["split"], split)) for split in SPLITS}
    counts = {split: part.num_rows for split, part in parts.items()}
    wanted = tuple(s for s in SPLITS if (counts[s] if splits is None else s in splits))
    empty = [split for split in wanted if not counts[split]]
    if empty or not wanted:
        found = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        which = f"split {empty[0]!r}" if empty else "any split"
        raise DatasetError(
            f"no usable clip in {which} of {dataset.facts['name']!r}; usable: {found}",
            file=dataset.root,
            field="splits",
            hint="choose other splits, or build the dataset with clips for this one",
        )
    rows = pa.concat_tables([parts[split] for split in wanted])
    class_id = _ints(pc.fill_null(rows["class_id"], -1))
    classes = len(label_map["classes"])
    if class_id.max() >= classes or class_id.min() < -1:
        raise DatasetError(
            f"class ids run from {class_id.min()} to {class_id.max()}; the label map has {classes} classes",
            file=dataset.root / CLIPS_PARQUET,
            field="class_id",
            hint="rebuild the dataset, or see what is wrong with `vidkit verify DIR`",
        )
    if class_id.max() < 0:
        raise DatasetError(
            f"none of the {len(class_id):,} usable clips of {dataset.facts['name']!r} has a label",
            file=dataset.root / CLIPS_PARQUET,
            field="class_id",
            hint="choose splits whose labels are known",
        )
    return LabelledClips(
        dataset=dataset,
        splits=wanted,
        firsts=(0, *np.cumsum([counts[split] for split in wanted]).tolist()),
        clip_id=rows["clip_id"].combine_chunks(),
        key=rows["key"].combine_chunks(),
        class_id=class_id,
        group=_groups(rows),
        unusable=sum(int(pc.sum(pc.equal(table["split"], split)).as_py() or 0) - counts[split] for split in wanted),
    )


def _groups(rows: pa.Table) -> Ints:
    """Numbers of (source, group). Names of groups mean nothing outside their source: SSv2 numbers its videos."""
    names = pc.binary_join_element_wise(rows["source"], rows["group"], "\x00")
    codes = _ints(pc.fill_null(pc.dictionary_encode(names).combine_chunks().indices, -1))
    alone = np.flatnonzero(codes < 0)
    codes[alone] = len(codes) + np.arange(len(alone))
    return codes


def _ints(column: Any) -> Ints:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return np.array(column.to_numpy(zero_copy_only=False), np.int64)

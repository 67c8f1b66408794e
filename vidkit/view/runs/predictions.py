"""What a model said of each clip of a split, from the file that its test left (`vidkit evaluate --out`).

Shapes: t clips tested, K classes, n clips of the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidkit.errors import ConfigError
from vidkit.view.clips.index import Floats, Ints
from vidkit.view.clips.opened import Opened

_COLUMNS = ("key", "clip_id", "labels", "scores")

#: Classes that are named beside a clip.
TOP = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Of a model, for the clips of a dataset; `query.Answers`."""

    classes: tuple[str, ...]
    rows: Ints
    """(t,) of the ledger."""
    scores: npt.NDArray[np.float32]
    """(t, K) probabilities."""
    true: Ints
    """(n,) the clip's own class; -1: not tested."""
    said: Ints
    """(n,) the class of most probability; -1: not tested."""
    sure: Floats
    """(n,) its probability; NaN: not tested."""
    several: bool
    """Whether a clip may have several labels: no first choice is right or wrong then."""

    def __repr__(self) -> str:
        return f"Answers({len(self.rows)} clips, {len(self.classes)} classes)"

    def top(self, row: int, count: int = TOP) -> list[tuple[str, float]]:
        """Classes of most probability for a row of the ledger, with it; none: the clip was not tested."""
        (at,) = np.nonzero(self.rows == row)
        if not len(at):
            return []
        scores = self.scores[at[0]]
        return [(self.classes[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:count].tolist()]

    def confusion(self) -> Ints:
        """(K, K) clips by their own class (row) and the model's (column)."""
        count = len(self.classes)
        pairs = self.true[self.rows] * count + self.said[self.rows]
        return np.bincount(pairs, minlength=count * count).reshape(count, count)

    def metrics(self) -> dict[str, float]:
        """top1 and top5 as shares from 0 to 1; none where a clip may have several labels."""
        if self.several or not len(self.rows):
            return {}
        true = self.true[self.rows]
        own = self.scores[np.arange(len(true)), true]
        above = (self.scores > own[:, None]).sum(axis=1)
        return {"top1": float((self.said[self.rows] == true).mean()), "top5": float((above < TOP).mean())}


def is_predictions(path: Path) -> bool:
    """Whether it is such a file, by its columns."""
    if path.suffix != ".parquet":
        return False
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return False
    return set(_COLUMNS) <= set(names)


def fits(path: Path, opened: Opened) -> bool:
    """Whether the file's clips are those of the dataset, as far as its first one tells."""
    try:
        first = next(pq.ParquetFile(path).iter_batches(1, columns=["key", "clip_id"]), None)
    except (OSError, pa.ArrowException):
        return False
    if first is None or not first.num_rows:
        return False
    row = opened.row_of(first["key"][0].as_py())
    return row is not None and opened.ledger["clip_id"][row].as_py() == first["clip_id"][0].as_py()


def read(path: Path, opened: Opened) -> Answers:
    """
    Raises:
        ConfigError: the file cannot be read, or is of other clips or classes than the dataset's.
    """
    try:
        table = pq.read_table(path, columns=list(_COLUMNS)).combine_chunks()
        scores = _column(table, "scores").flatten().to_numpy().reshape(table.num_rows, -1).astype(np.float32)
        labels = _column(table, "labels")
        lengths = pc.list_value_length(labels).to_numpy(zero_copy_only=False)
        first = pc.list_element(labels.filter(pa.array(lengths > 0)), 0).to_numpy(zero_copy_only=False)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ConfigError(
            f"these predictions cannot be read: {error}", file=path, hint="write them again: vidkit evaluate --out"
        ) from None
    rows = pc.index_in(table["key"], value_set=opened.ledger["key"].combine_chunks()).fill_null(-1).to_numpy()
    rows = rows.astype(np.int64)
    ids = opened.ledger["clip_id"].take(np.maximum(rows, 0))
    if (rows < 0).any() or not pc.all(pc.equal(ids, table["clip_id"])).as_py():
        raise ConfigError("these predictions are of other clips than this dataset's", file=path, hint=_OTHER)
    rule = opened.facts["label_map"]["rule"]
    classes = opened.facts["label_map"]["base_labels" if rule == "multi-hot" else "classes"]
    if scores.shape[1] != len(classes):
        what = f"these predictions have {scores.shape[1]:,} classes, the dataset {len(classes):,}"
        raise ConfigError(what, file=path, hint=_OTHER)
    own = np.full(len(rows), -1, np.int64)
    own[lengths > 0] = first
    count = opened.ledger.num_rows
    true, said, sure = np.full(count, -1, np.int64), np.full(count, -1, np.int64), np.full(count, np.nan)
    true[rows], said[rows], sure[rows] = own, scores.argmax(axis=1), scores.max(axis=1)
    return Answers(
        classes=tuple(classes),
        rows=rows,
        scores=scores,
        true=true,
        said=said,
        sure=sure,
        several=rule == "multi-hot",
    )


_OTHER = "open the dataset that the model was tested on beside them"


def _column(table: pa.Table, name: str) -> Any:
    return table[name].combine_chunks()

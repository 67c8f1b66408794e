"""The columns of a ledger that one filters, counts and sorts by, as arrays: a question about all clips is answered
in milliseconds, so no page needs more rows than it shows.

Shapes: n clips, m memberships (a clip has one source, but may have several labels).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.tables import SPLITS

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: What a clip without a class is listed under.
NO_CLASS = "(no class)"

#: Numbers of a clip that can be bounded and sorted by: name in addresses -> column.
NUMBERS = {"frames": "frames", "seconds": "duration_s", "bytes": "nbytes"}

STATUS = ("ok", "failed", "missing")

#: What words are looked for in.
_TEXT = ("clip_id", "class_name", "group", "path", "message")


@dataclass(frozen=True, slots=True)
class Facet:
    """A column with few values."""

    names: tuple[str, ...]
    rows: Ints
    """(m,) the clip of each membership."""
    codes: Ints
    """(m,) its value, as a place in `names`."""
    clips: int

    def among(self, wanted: Sequence[str]) -> Bools:
        """(n,) clips with one of these values; unknown ones have no clip."""
        codes = [self.names.index(name) for name in wanted if name in self.names]
        mask = np.zeros(self.clips, np.bool_)
        mask[self.rows[np.isin(self.codes, codes)]] = True
        return mask

    def counts(self, mask: Bools) -> dict[str, int]:
        """Clips of `mask` with each value, for all values."""
        found = np.bincount(self.codes[mask[self.rows]], minlength=len(self.names))
        return dict(zip(self.names, found.tolist(), strict=True))

    def of(self, row: int) -> tuple[str, ...]:
        """Values of a clip."""
        return tuple(self.names[code] for code in self.codes[self.rows == row].tolist())

    def __repr__(self) -> str:
        return f"Facet({len(self.names)} values, {self.clips} clips)"


class Index:
    """Of a ledger."""

    def __init__(self, ledger: pa.Table, rule: str) -> None:
        self.clips = ledger.num_rows
        self.facets: Mapping[str, Facet] = {
            "split": _plain(ledger["split"], SPLITS),
            "class": _labels(ledger)
            if rule == "multi-hot"
            else _plain(pc.fill_null(ledger["class_name"], NO_CLASS)),
            "source": _plain(ledger["source"]),
            "status": _plain(ledger["status"], STATUS),
            "error": _plain(ledger["error"]),
            "size": _plain(_sizes(ledger)),
        }
        self.numbers: Mapping[str, Floats] = {
            name: ledger[column].to_numpy().astype(np.float64) for name, column in NUMBERS.items()
        }
        self.warned: Bools = pc.greater(pc.list_value_length(ledger["warnings"]), 0).to_numpy()
        self._ledger = ledger
        self._text: Any = None
        self._ranks: dict[str, Ints] = {}

    def with_words(self, words: str) -> Bools:
        """(n,) clips that have each of these words somewhere, whatever the case."""
        if self._text is None:
            columns = [pc.fill_null(self._ledger[name], "") for name in _TEXT]
            columns.append(pc.binary_join(self._ledger["labels"], "\n"))
            self._text = pc.utf8_lower(pc.binary_join_element_wise(*columns, "\n"))
        mask = np.ones(self.clips, np.bool_)
        for word in words.lower().split():
            mask &= pc.match_substring(self._text, word).to_numpy()
        return mask

    def with_keys(self, keys: Iterable[str]) -> Bools:
        """(n,) clips with one of these keys."""
        mask: Bools = pc.is_in(self._ledger["key"], value_set=pa.array(sorted(keys), pa.string())).to_numpy()
        return mask

    def in_group(self, source: str | None, group: str) -> Bools:
        """(n,) clips of this original; of any source where none is named."""
        mask: Bools = pc.fill_null(pc.equal(self._ledger["group"], group), False).to_numpy()
        return mask if source is None else mask & self.facets["source"].among([source])

    def rank(self, name: str) -> Floats | Ints:
        """(n,) what clips are sorted by; NaN and -1 come last whichever way."""
        if name in self.numbers:
            return self.numbers[name]
        if name == "size":
            width, height = [self._ledger[side].to_numpy().astype(np.float64) for side in ("width", "height")]
            area: Floats = width * height
            return area
        if name not in self._ranks:
            column = self._ledger[{"id": "clip_id", "class": "class_name"}.get(name, name)]
            ranks = pc.rank(column, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
            self._ranks[name] = np.where(column.is_valid().to_numpy(), ranks, -1)
        return self._ranks[name]


def _plain(column: pa.ChunkedArray, first: Sequence[str] = ()) -> Facet:
    """Values in the order of their names, some of them first; a clip without one is in none."""
    coded = column.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    there = coded.is_valid().to_numpy(zero_copy_only=False)
    codes = coded.indices.fill_null(0).to_numpy().astype(np.int64)
    return _in_order(coded.dictionary.to_pylist(), np.flatnonzero(there), codes[there], len(coded), first)


def _labels(ledger: pa.Table) -> Facet:
    """The labels of clips that can have several; those without any are under `NO_CLASS`."""
    lists = ledger["labels"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    coded = lists.flatten().dictionary_encode()
    names = [*coded.dictionary.to_pylist(), NO_CLASS]
    bare = np.flatnonzero(lengths == 0)
    rows = np.concatenate([np.repeat(np.arange(len(lists)), lengths), bare])
    codes = np.concatenate([coded.indices.to_numpy().astype(np.int64), np.full(len(bare), len(names) - 1)])
    return _in_order(names, rows, codes, len(lists))


def _in_order(names: Sequence[str], rows: Ints, codes: Ints, clips: int, first: Sequence[str] = ()) -> Facet:
    before = {name: i for i, name in enumerate(first)}
    order = sorted(range(len(names)), key=lambda i: (before.get(names[i], len(before)), names[i]))
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return Facet(tuple(names[i] for i in order), rows, place[codes] if len(codes) else codes, clips)


def _sizes(ledger: pa.Table) -> pa.ChunkedArray:
    sides = [ledger[side].cast(pa.string()) for side in ("width", "height")]
    return pc.binary_join_element_wise(*sides, "x")

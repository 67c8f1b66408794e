"""One clip: every field that the ledger has of it, other clips of the same original, and what is beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidkit.errors import CLIP_ERRORS, DatasetError
from vidkit.view.clips import stored
from vidkit.view.clips.index import Ints
from vidkit.view.clips.opened import Opened

#: Other clips of the same original that are shown.
MOST_NEIGHBOURS = 60

#: Units of fields.
_UNITS = {
    **dict.fromkeys(("start_s", "end_s", "duration_s"), "s"),
    **dict.fromkeys(("offset", "nbytes", "source_bytes"), "bytes"),
    **dict.fromkeys(("width", "height", "source_width", "source_height"), "pixels"),
    "fps": "frames a second",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """What its page shows."""

    row: Mapping[str, Any]
    fields: tuple[tuple[str, str, str], ...]
    """(name, value, unit), in the ledger's order."""
    labels: tuple[str, ...]
    """Of the label map, whose ids `multi_hot` has."""
    neighbours: tuple[Mapping[str, Any], ...]
    """Rows of the same source and group, by time."""
    more_neighbours: int
    json: Mapping[str, Any] | None
    """Of the sample; None where none is stored, or it cannot be read."""
    trouble: str | None
    """Why the stored clip cannot be read."""
    meaning: str | None
    """Of the failure's code."""


def clip(opened: Opened, number: int) -> Clip:
    """The clip of row `number`."""
    row = opened.row(number)
    place = stored.place_of(row)
    found, trouble = None, None
    if place is not None:
        try:
            found = stored.sample_json(opened, place)
        except DatasetError as error:
            trouble = str(error)
    base = opened.facts["label_map"]["base_labels"]
    others = _neighbours(opened, row)
    return Clip(
        row=row,
        fields=tuple((name, _said(value), _UNITS.get(name, "")) for name, value in row.items()),
        labels=tuple(base[i] for i in row["multi_hot"] if 0 <= i < len(base)),
        neighbours=tuple(opened.row(i) for i in others[:MOST_NEIGHBOURS].tolist()),
        more_neighbours=max(0, len(others) - MOST_NEIGHBOURS),
        json=found,
        trouble=trouble,
        meaning=CLIP_ERRORS.get(row["error"] or ""),
    )


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _neighbours(opened: Opened, row: Mapping[str, Any]) -> Ints:
    """Row numbers of the other clips of the same original, by start."""
    if row["group"] is None:
        return np.empty(0, np.int64)
    rows = np.flatnonzero(opened.index.in_group(row["source"], row["group"]))
    starts = opened.ledger["start_s"].take(rows).to_numpy()
    ids = opened.ledger["clip_id"].take(rows).to_pylist()
    order = sorted(range(len(rows)), key=lambda i: (np.nan_to_num(starts[i], nan=-1.0), ids[i]))
    return np.array([rows[i] for i in order if ids[i] != row["clip_id"]], np.int64)


def beside(rows: Ints, number: int) -> tuple[int | None, int | None, int | None]:
    """(row before, row after, place from 1) of row `number` among `rows`; None where there is none."""
    (found,) = np.nonzero(rows == number)
    if not len(found):
        return None, None, None
    at = int(found[0])
    return (
        int(rows[at - 1]) if at else None,
        int(rows[at + 1]) if at + 1 < len(rows) else None,
        at + 1,
    )

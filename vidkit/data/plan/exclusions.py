"""Clips that are left out of a plan by name: lists of clip_ids, as `vidkit view` exports them."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.errors import ConfigError

#: Of a CSV file with other columns beside it.
COLUMN = "clip_id"

_HOW = f"give one clip_id a line, or a CSV file with a column {COLUMN!r}; `vidkit view` writes such lists"

#: Names that a message or note has of many.
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Excluded:
    """What lists of exclusions came to in a plan."""

    clip_ids: tuple[str, ...]
    """Sorted. They would have been planned."""
    unknown: tuple[str, ...]
    """Sorted. They are no clip of the plan anyway."""

    @property
    def sha256(self) -> str:
        """Of what was left out: the same list in another order, or with names that mean nothing, is the same."""
        return hashlib.sha256("\n".join(self.clip_ids).encode("utf-8", "surrogatepass")).hexdigest()

    def to_plain(self) -> dict[str, Any]:
        """For dataset.json: counted by source, and named."""
        sources = Counter(clip_id.split("/", 1)[0] for clip_id in self.clip_ids)
        return {
            "clips": len(self.clip_ids),
            "sources": dict(sorted(sources.items())),
            "clip_ids": list(self.clip_ids),
            "unknown": list(self.unknown),
        }

    @property
    def doubt(self) -> str | None:
        """About names that are no clip's, in a sentence."""
        if not self.unknown:
            return None
        more = ", ..." if len(self.unknown) > _SHOWN else ""
        what = "1 name is" if len(self.unknown) == 1 else f"{len(self.unknown):,} names are"
        return f"{what} in the exclusion list and no planned clip: {', '.join(self.unknown[:_SHOWN])}{more}"

    def __repr__(self) -> str:
        return f"Excluded({len(self.clip_ids)} clips, {len(self.unknown)} unknown)"


def read(files: Sequence[Path]) -> dict[str, tuple[Path, int]]:
    """clip_id -> file and row where it stands first.

    Raises:
        ConfigError: a file that cannot be read, or names no clip.
    """
    found: dict[str, tuple[Path, int]] = {}
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else f"no UTF-8 text: {error}"
            raise ConfigError(
                f"the exclusion list cannot be read: {why}", file=path, field="--exclude", hint=_HOW
            ) from None
        before = len(found)
        for row, clip_id in _ids(lines, path):
            found.setdefault(clip_id, (path, row))
        if len(found) == before and not any(_ids(lines, path)):
            raise ConfigError("the exclusion list names no clip", file=path, field="--exclude", hint=_HOW)
    return found


def _ids(lines: Sequence[str], path: Path) -> Iterator[tuple[int, str]]:
    """(row, clip_id). Lines that are empty or begin with # say nothing."""
    rows = [(row, line) for row, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    head = next(csv.reader([rows[0][1]]), []) if rows else []
    if COLUMN not in head:
        yield from ((row, line.rstrip("\r\n")) for row, line in rows)
        return
    column = head.index(COLUMN)
    begins = rows[0][0]
    reader = csv.reader(lines[begins:])
    for fields in reader:
        if len(fields) > column and fields[column]:
            yield begins + reader.line_num, fields[column]
        elif fields:
            raise ConfigError(f"a row without {COLUMN}", file=path, row=begins + reader.line_num, hint=_HOW)


def apply(table: pa.Table, wanted: Mapping[str, tuple[Path, int]]) -> tuple[pa.Table, Excluded]:
    """The plan without them.

    Raises:
        ConfigError: none of them is a clip of the plan, or all of its clips are among them.
    """
    ids = pa.array(list(wanted), pa.string())
    gone = pc.is_in(table["clip_id"], value_set=ids)
    left_out = sorted(table["clip_id"].filter(gone).to_pylist())
    if not left_out:
        first = next(iter(wanted))
        path, row = wanted[first]
        raise ConfigError(
            f"none of {len(wanted):,} names in the exclusion list is a planned clip; the first is {first!r}, and a "
            f"clip is called like {table['clip_id'][0].as_py() if table.num_rows else 'source/name'!r}",
            file=os.fspath(path),
            row=row,
            field="--exclude",
            hint=_HOW,
        )
    if len(left_out) == table.num_rows:
        raise ConfigError(
            "the exclusion list names every planned clip: nothing is left", field="--exclude", hint=_HOW
        )
    return table.filter(pc.invert(gone)), Excluded(clip_ids=tuple(left_out), unknown=_others(wanted, left_out))


def _others(wanted: Iterable[str], left_out: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(wanted) - set(left_out)))

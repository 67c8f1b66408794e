"""The plan as it lies beside what is built from it: workers read their rows there, wherever they run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidkit.data import shards
from vidkit.data.plan.layout import Slot, slots

PLAN = "plan.parquet"

#: Rows that are read at once: a shard's own are a few hundred.
_GROUP = 4096


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan on disk: its shards are known, its rows are read when they are needed."""

    path: Path
    planned: list[Slot]
    """By number of the shard."""
    about: Any
    """The file's own metadata, so that it is read once."""

    def rows(self, slot: Slot) -> list[dict[str, Any]]:
        """Plan rows of a shard, in order."""
        first, last = slot.start // _GROUP, (slot.start + slot.rows - 1) // _GROUP
        with self.path.open("rb") as file:
            groups = pq.ParquetFile(file, metadata=self.about).read_row_groups(
                range(first, last + 1), use_threads=False
            )
        rows: list[dict[str, Any]] = groups.slice(slot.start - first * _GROUP, slot.rows).to_pylist()
        return rows


def write_plan(path: Path, table: pa.Table) -> None:
    """Write a laid-out plan, which takes the place of one that is there as a whole."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:  # pyarrow takes a path for a URI where it can, and only UTF-8
        pq.write_table(table, file, row_group_size=_GROUP)
        shards.sync_and_close(file)
    part.replace(path)


def open_plan(path: Path) -> PlanFile:
    """
    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        parquet = pq.ParquetFile(file)
        return PlanFile(path, slots(parquet.read(["shard"])), parquet.metadata)

"""A dataset that is being looked at: its records in memory, and whether they are still those on the disk."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.dataset import CLIPS_PARQUET, DATASET_JSON, open_dataset, within_reach
from vidkit.data.storage.places import Place, StorePath
from vidkit.errors import DatasetError
from vidkit.view.clips.index import Index

#: Of a ledger's sha256, in addresses.
_SHORT = 12

#: Seconds for which a store is believed to hold what it held.
_BELIEVED = 60.0


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Records of a dataset as they were read. A dataset that is built again is another one of these."""

    root: Place
    facts: Mapping[str, Any]
    shards: Mapping[str, Mapping[str, Any]]
    """By name: "train/000000.tar"."""
    ledger: pa.Table
    version: str
    """Of the ledger: an address that holds it cannot mean other clips later."""

    def __repr__(self) -> str:
        return f"Opened({self.name!r}, {self.ledger.num_rows} clips, at {self.root})"

    @property
    def name(self) -> str:
        """As dataset.json has it."""
        return str(self.facts["name"])

    @cached_property
    def index(self) -> Index:
        """For filters and sorting."""
        return Index(self.ledger, self.facts["label_map"]["rule"])

    def row_of(self, key: str) -> int | None:
        """Number of the row with this key; None: there is none."""
        found = pc.index(self.ledger["key"], key).as_py()
        return None if found < 0 else int(found)

    def row(self, number: int) -> dict[str, Any]:
        """A row of the ledger, as plain values."""
        return dict(self.ledger.slice(number, 1).to_pylist()[0])

    def row_of_id(self, clip_id: str) -> int | None:
        """Number of the row with this clip_id; None: there is none."""
        found = pc.index(self.ledger["clip_id"], clip_id).as_py()
        return None if found < 0 else int(found)


def read(root: Place) -> Opened:
    """
    Raises:
        DatasetError: no dataset there, unfinished, damaged, or with a ledger that is not the one that was built.
    """
    dataset = open_dataset(root)
    path = root / CLIPS_PARQUET
    try:
        with within_reach(path):
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        sha256 = ""  # `ledger` says what is wrong
    ledger = dataset.ledger()
    # the parts that studies make of a dataset keep its facts, and have ledgers of their own
    files = {} if "part" in dataset.facts else dataset.facts.get("files", {})
    built = files.get(CLIPS_PARQUET, sha256)
    if built != sha256:
        raise DatasetError(
            f"the ledger was changed: its sha256 is {sha256[:_SHORT]}, and {DATASET_JSON} says {built[:_SHORT]}",
            file=path,
            hint="restore it from a copy, or see what else is wrong with `vidkit verify DIR`",
        )
    return Opened(
        root=root,
        facts=dataset.facts,
        shards={shard["shard"]: shard for shard in dataset.shards},
        ledger=ledger.combine_chunks(),
        version=sha256[:_SHORT],
    )


class Watched:
    """A dataset's folder: `now` reads it again once its records have changed."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._opened: Opened | None = None
        self._asked = -_BELIEVED

    def now(self) -> Opened:
        """Raises DatasetError, as `read`."""
        with self._lock:
            if isinstance(self.root, StorePath):  # to ask takes a while, and may cost
                if self._opened is not None and time.monotonic() - self._asked < _BELIEVED:
                    return self._opened
                self._asked = time.monotonic()
            stamp = tuple(_stamp(self.root / name) for name in (DATASET_JSON, CLIPS_PARQUET))
            if self._opened is None or stamp != self._stamp:
                self._opened = None
                self._opened, self._stamp = read(self.root), stamp
            return self._opened


def _stamp(path: Place) -> tuple[int, int]:
    """(time of the last change, size); (0, 0) where there is no file, and no time where it lies in a store."""
    if isinstance(path, StorePath):
        with within_reach(path):
            return 0, path.size() or 0
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size

"""A dataset that is being looked at: its records in memory, and whether they are still those on the disk."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.dataset import CLIPS_PARQUET, DATASET_JSON, SHARDS_JSON, open_dataset, within_reach
from vidkit.data.storage.places import Place, StorePath
from vidkit.errors import DatasetError
from vidkit.view.clips.index import Index

#: Of a ledger's sha256, in addresses.
_SHORT = 12

#: Seconds for which a store is believed to hold what it held.
_BELIEVED = 60.0

_RESTORE = "restore it from a copy, or see what else is wrong with `vidkit verify DIR`"

#: What pages take from dataset.json.
_FACTS: Mapping[tuple[str, ...], type] = {
    **dict.fromkeys([("name",), ("title",), ("description",), ("vidkit",), ("plan_sha256",)], str),
    **dict.fromkeys([("label_map", "rule"), ("label_map", "sha256")], str),
    **dict.fromkeys([("label_map", "classes"), ("label_map", "base_labels")], list),
    **dict.fromkeys([("notes",), ("leaks",), ("reconciliation",)], list),
    **dict.fromkeys([("splits",), ("sources",), ("settings",), ("encoder",)], dict),
    **dict.fromkeys([("counts", name) for name in ("ok", "failed", "missing")], int),
}


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
    _must_have_facts(root, dataset.facts)
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
            hint=_RESTORE,
        )
    return Opened(
        root=root,
        facts=dataset.facts,
        shards=_by_name(root, dataset.shards),
        ledger=ledger.combine_chunks(),
        version=sha256[:_SHORT],
    )


def _must_have_facts(root: Place, facts: Mapping[str, Any]) -> None:
    """Once, so that no page ends in the middle."""
    for path, kind in _FACTS.items():
        found: Any = facts
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if not isinstance(found, kind):
            raise DatasetError(
                "the file is damaged: this field is not as it was built",
                file=root / DATASET_JSON,
                field=".".join(path),
                hint=_RESTORE,
            )


def _by_name(root: Place, shards: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
    if not all(isinstance(shard, Mapping) and isinstance(shard.get("shard"), str) for shard in shards):
        raise DatasetError("the file is damaged: a shard has no name", file=root / SHARDS_JSON, hint=_RESTORE)
    return {shard["shard"]: shard for shard in shards}


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

"""A built dataset as a folder, here or in a store: opening it, and the names of what is in it.

out/dataset.json     spec, label map and its sha256, settings, counts, versions
out/clips.parquet    the ledger (`tables.LEDGER_SCHEMA`)
out/shards.json      per shard: split, samples, bytes, sha256
out/README.md        dataset card
out/train/000000.tar ...
out/.build/          state of a build that has not finished
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vidkit.data.storage import stores
from vidkit.data.storage.places import Place, StorePath, place
from vidkit.data.tables import LEDGER_SCHEMA
from vidkit.errors import DatasetError

#: Version of the layout and of every file in it. Raised when an older vidkit could misread a new dataset.
FORMAT = 1

DATASET_JSON = "dataset.json"
CLIPS_PARQUET = "clips.parquet"
SHARDS_JSON = "shards.json"
CARD = "README.md"
BUILD_STATE = ".build"
LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class BuiltDataset:
    """A finished dataset. `facts` is dataset.json, `shards` is shards.json."""

    root: Place
    facts: dict[str, Any]
    shards: list[dict[str, Any]]

    def __repr__(self) -> str:
        return f"BuiltDataset({self.facts['name']!r}, {len(self.shards)} shards, at {self.root})"

    def ledger(self, columns: list[str] | None = None) -> pa.Table:
        """The ledger, one row for each planned clip, in plan order.

        Raises:
            DatasetError: the file is missing, damaged, or lacks columns.
        """
        return read_ledger(self.root / CLIPS_PARQUET, columns)


def open_dataset(root: str | os.PathLike[str]) -> BuiltDataset:
    """Open a finished dataset.

    Args:
        root: its folder, or its address ("s3://bucket/k400", "https://host/k400").

    Raises:
        DatasetError: no dataset there, unfinished, damaged, written in a newer format, or out of reach.
        ConfigError: no such address can be.
    """
    root = place(root)
    facts = read_facts(root)
    if facts["status"] != "complete":
        raise DatasetError(
            f"{root} holds a build that has not finished",
            hint="run the same `vidkit build-dataset` command again to finish it",
        )
    if isinstance(root, StorePath):
        _must_have_ranges(root)
    shards = _read_json(root / SHARDS_JSON)
    if not isinstance(shards, list):
        raise DatasetError("expected a list of shards", file=root / SHARDS_JSON, hint=_REBUILD)
    return BuiltDataset(root, facts, shards)


@contextlib.contextmanager
def within_reach(where: Place) -> Iterator[None]:
    """Errors of a store as one that says what to do; those of a disk pass as they are.

    Raises:
        DatasetError: the store refuses, or does not answer.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(where, StorePath):
            raise
        raise DatasetError(error.strerror or str(error), file=where, hint=stores.hint(error)) from None


def _must_have_ranges(root: StorePath) -> None:
    """Some web servers know no ranges: each clip would bring its whole shard."""
    with within_reach(root / DATASET_JSON):
        (root / DATASET_JSON).read_range(0, 1)


def lies_at(root: Place) -> bool:
    """Whether there is a dataset.json, of a finished or unfinished dataset.

    Raises:
        DatasetError: no such bucket, or the store refuses, or does not answer.
    """
    path = root / DATASET_JSON
    with within_reach(path):
        there = path.is_file()
        if not there and isinstance(root, StorePath) and root.listed:
            root.children()  # says so where there is no bucket
    return there


def read_facts(root: Place) -> dict[str, Any]:
    """dataset.json of a finished or unfinished dataset, its format checked.

    Raises:
        DatasetError: as `open_dataset`, but an unfinished build is no error.
    """
    path = root / DATASET_JSON
    if not lies_at(root):
        raise DatasetError(
            f"no dataset in {root}: {DATASET_JSON} is not there",
            hint="build one with `vidkit build-dataset --out DIR`",
        )
    facts = _read_json(path)
    version = facts.get("format") if isinstance(facts, dict) else None
    if not isinstance(version, int):
        raise DatasetError("not a vidkit dataset: `format` is missing", file=path, field="format", hint=_REBUILD)
    if version > FORMAT:
        raise DatasetError(
            f"format {version} is newer than this vidkit reads ({FORMAT})",
            file=path,
            field="format",
            hint="upgrade vidkit: pip install -U vidkit",
        )
    if facts.get("status") not in ("building", "complete"):
        raise DatasetError(
            f"{facts.get('status')!r} is neither building nor complete", file=path, field="status", hint=_REBUILD
        )
    return dict(facts)


_REBUILD = "rebuild the dataset, or restore the file from a copy"


def _read_json(path: Place) -> Any:
    try:
        with within_reach(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError("the file is not there", file=path, hint=_REBUILD) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"damaged JSON: {error}", file=path, hint=_REBUILD) from None


def read_ledger(path: Place, columns: list[str] | None = None) -> pa.Table:
    """Read a ledger and check its columns."""
    import pyarrow.parquet as pq

    try:
        if isinstance(path, StorePath):
            with within_reach(path):
                data = path.read_bytes()
            table = pq.read_table(pa.BufferReader(data), columns=columns)
        else:
            with path.open("rb") as file:
                table = pq.read_table(file, columns=columns)
    except FileNotFoundError:
        raise DatasetError("the ledger is not there", file=path, hint=_REBUILD) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"damaged ledger: {error}", file=path, hint=_REBUILD) from None
    missing = [n for n in (columns or LEDGER_SCHEMA.names) if n not in table.column_names]
    if missing:
        raise DatasetError(f"the ledger lacks columns {', '.join(missing)}", file=path, hint=_REBUILD)
    return table

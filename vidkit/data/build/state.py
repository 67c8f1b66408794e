"""What lies in an output folder: nothing, an unfinished build, a finished one; and whether it is this one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data import dataset as folder
from vidkit.data import shards
from vidkit.data.build import attempts
from vidkit.data.build.make_shard import OUTCOME
from vidkit.data.build.plan_file import PLAN, write_plan
from vidkit.data.plan.layout import Slot
from vidkit.data.shards import ShardFacts
from vidkit.data.storage.places import Place
from vidkit.errors import BuildError, DatasetError

_PLAN_COLUMNS = ["clip_id", "split", "labels", "class_id"]


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Keep other builds out of a folder; the kernel lets go when the process ends, however it ends.

    Raises:
        BuildError: another build holds the folder, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / folder.LOCK).open("a")
    except OSError as error:
        raise BuildError(f"cannot write to {out}: {error.strerror}", hint="give another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(
                f"another build is at work in {out}", hint="wait until it ends, or give another --out"
            ) from None
        except OSError as error:
            raise BuildError(
                f"cannot lock {out / folder.LOCK}: {error.strerror}",
                hint="give an --out on a file system that has locks (a local disk)",
            ) from None
        yield


class BuildState:
    """An output folder while it is being built. Hold `lock` while using it."""

    def __init__(self, out: Place) -> None:
        self.out: Any = out
        self.work: Any = out / folder.BUILD_STATE
        self.plan: Any = self.work / PLAN
        self.records: Any = out
        """A folder of this machine that ledger, card and shards.json are written to; `finish` publishes them."""

    def existing(self) -> dict[str, Any] | None:
        """dataset.json of a build that was begun here; None for a new folder.

        Raises:
            BuildError: there are other files in the folder.
        """
        if (self.out / folder.DATASET_JSON).exists():
            return folder.read_facts(self.out)
        strangers = sorted(p.name for p in self.out.iterdir() if p.name not in (folder.LOCK, folder.BUILD_STATE))
        if [name for name in strangers if name != folder.DATASET_JSON + ".part"]:
            raise self.not_empty(strangers)
        return None

    def not_empty(self, strangers: list[str]) -> BuildError:
        """The error for a place that holds something else."""
        return BuildError(
            f"{self.out} is not empty and holds no dataset: {', '.join(strangers[:3])}"
            + (" ..." if len(strangers) > 3 else ""),
            hint="give an --out that is new or empty",
        )

    def clear(self) -> None:
        """Remove what a kill left before the first build had begun, or after the last one was complete."""
        if self.work.exists():
            _remove(self.work)

    def begin(self, table: pa.Table, facts: Mapping[str, Any]) -> None:
        """Note what is being built; from here on the folder belongs to this plan and these settings."""
        self.work.mkdir(exist_ok=True)
        write_plan(self.plan, table)  # also over an earlier one: files may lie elsewhere now
        shards.write_json(self.out / folder.DATASET_JSON, {**facts, "status": "building"})

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write dataset.json as complete, the last thing of a build, and remove its working files."""
        shards.write_json(self.out / folder.DATASET_JSON, {**facts, "status": "complete"})
        _remove(self.work)

    def journal(self, slot: Slot) -> Path:
        """Where a shard's journal lies until the build is complete."""
        journal: Path = self.work / slot.journal
        return journal

    @cached_property
    def earlier(self) -> tuple[pa.Table, dict[str, dict[str, Any]]] | None:
        """Ledger and shards.json of the finished build whose failures are being tried again, if any."""
        try:
            ledger = folder.read_ledger(self.out / folder.CLIPS_PARQUET)
            entries = json.loads((self.out / folder.SHARDS_JSON).read_text(encoding="utf-8"))
        except (DatasetError, FileNotFoundError):
            return None
        return ledger, {entry["shard"]: entry for entry in entries}

    def is_finished(self, slot: Slot) -> bool:
        """Whether a shard needs no work: finished by this build, or without a failure in the earlier one."""
        tar, journal = self.out / slot.name, self.journal(slot)
        shards.settle(tar, journal)
        attempts.settle(self.work, slot, tar, journal)
        if shards.finished(tar, journal):
            return True
        if journal.with_name(journal.name + ".part").exists():
            return False
        return self._was_good(slot, tar.stat().st_size if tar.exists() else None)

    def _was_good(self, slot: Slot, size: int | None) -> bool:
        """Whether an earlier build made all of the shard's clips, and its tar still has the size of then."""
        if self.earlier is None:
            return False
        rows, entry = self._earlier_rows(slot), self.earlier[1].get(slot.name)
        whole = entry is not None and size == entry["bytes"]
        return whole and pc.all(pc.equal(rows["status"], "ok")).as_py() is not False

    def publish(self, slot: Slot, attempt: str) -> None:
        """Put what an attempt has made in its place, unless another was first.

        Raises:
            BuildError: its files are not there.
        """
        made = attempts.scratch(self.work, slot, attempt)
        if not attempts.publish(self.out / slot.name, self.journal(slot), *made):
            raise BuildError(
                f"a node said that it had made {slot.name}, but {made[0]} is not there",
                hint="give an --out that lies on a file system which all nodes share, at the same place",
            )

    def kept(self, slot: Slot) -> dict[str, dict[str, Any]]:
        """Key -> outcome of the clips that an earlier build stored in this shard, if its tar is as it was then."""
        entry = self.earlier[1].get(slot.name) if self.earlier else None
        tar = self.out / slot.name
        if entry is None or not tar.exists() or shards.sha256_file(tar)[0] != entry["sha256"]:
            return {}
        return self._good_rows(slot)

    def _good_rows(self, slot: Slot) -> dict[str, dict[str, Any]]:
        rows = self._earlier_rows(slot)
        return {row["key"]: row for row in outcomes_of(rows.filter(pc.equal(rows["status"], "ok")))}

    def outcomes(self, slot: Slot) -> tuple[list[dict[str, Any]], ShardFacts | None]:
        """Outcomes and facts of a finished shard."""
        if self.journal(slot).exists() or self.earlier is None:
            return shards.read_journal(self.journal(slot))
        entry = self.earlier[1].get(slot.name)
        return outcomes_of(self._earlier_rows(slot)), ShardFacts(**entry) if entry else None

    def _earlier_rows(self, slot: Slot) -> pa.Table:
        assert self.earlier is not None
        return self.earlier[0].slice(slot.start, slot.rows)

    def plan_difference(self, table: pa.Table) -> list[str]:
        """In words, how the plan in the folder differs from `table`."""
        there = self.plan
        if not there.exists():
            there = self.out / folder.CLIPS_PARQUET
        if not there.exists():
            return []
        olds, news = _what_is_planned(folder.read_ledger(there, _PLAN_COLUMNS)), _what_is_planned(table)
        lines = [f"clips planned: {len(olds):,} there, {len(news):,} here"]
        both = olds.keys() & news.keys()
        for words, ids in (
            ("only there", olds.keys() - news.keys()),
            ("only here", news.keys() - olds.keys()),
            ("with another split, label or class id", {c for c in both if olds[c] != news[c]}),
        ):
            if ids:
                lines.append(f"{words}: {len(ids):,}, for example {min(ids)}")
        return lines


def _remove(work: Path) -> None:
    """Remove a working folder; a task that was given up may put a file there meanwhile."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            shutil.rmtree(work)
            return
    shutil.rmtree(work)


def _what_is_planned(table: pa.Table) -> dict[str, tuple[Any, ...]]:
    ids, *columns = (table[name].to_pylist() for name in _PLAN_COLUMNS)
    return dict(zip(ids, zip(*columns, strict=True), strict=True))


def outcomes_of(rows: pa.Table) -> list[dict[str, Any]]:
    """What a journal holds of each clip, from rows of a ledger."""
    return list(rows.select(["key", "path", *OUTCOME]).to_pylist())


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Settings and encoder versions that differ, one line each: what is there, what was asked for."""
    lines = []
    for part in ("settings", "encoder"):
        there, here = found.get(part, {}), json.loads(json.dumps(wanted[part]))
        for name in sorted(there.keys() | here.keys()):
            if there.get(name) != here.get(name):
                lines.append(f"{part}.{name}: {there.get(name)!r} there, {here.get(name)!r} here")
    return lines

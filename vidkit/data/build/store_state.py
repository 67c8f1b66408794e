"""A build whose place is in a store. What a folder does by renames and locks, a store does by whole objects.

out/dataset.json           "building" first, "complete" last
out/train/000000.tar ...   each one upload, and then its journal
out/.build/plan.parquet, owner.json, train-000000.jsonl ...

Shards are made in scratch on the machine that makes them, and published from there: whoever comes second finds the
same bytes, or an error that names both. Journals are copied to this machine once, for the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidkit.data import dataset as folder
from vidkit.data import shards
from vidkit.data.build.lease import OWNER
from vidkit.data.build.plan_file import write_plan
from vidkit.data.build.state import BuildState, outcomes_of
from vidkit.data.plan.layout import Slot
from vidkit.data.shards import ShardFacts
from vidkit.data.storage.places import PARALLEL, StorePath
from vidkit.data.storage.upload import Abilities, abort_half_made, put, remove, sha256_of
from vidkit.errors import BuildError

#: In the order in which a finished build publishes them.
_RECORDS = (folder.CLIPS_PARQUET, folder.SHARDS_JSON, folder.CARD)


class StoreState(BuildState):
    """As `BuildState`. Hold the lease while using it as the build; a task uses `publish_made` and what it needs.

    Args:
        scratch: a folder of this machine, for as long as the build runs.
    """

    out: StorePath
    work: StorePath
    plan: StorePath

    def __init__(self, out: StorePath, able: Abilities, scratch: Path) -> None:
        super().__init__(out)
        self.able = able
        self.records = scratch / "records"
        self._journals = scratch / "journals"
        for made in (self.records, self._journals):
            made.mkdir(exist_ok=True)

    def existing(self) -> dict[str, Any] | None:
        """See `BuildState`."""
        if (self.out / folder.DATASET_JSON).exists():
            return folder.read_facts(self.out)
        strangers = sorted(name for name in self.out.children() if name != folder.BUILD_STATE)
        if strangers:
            raise self.not_empty(strangers)
        return None

    def clear(self) -> None:
        """See `BuildState`."""
        names = [name for name in self.work.children() if name != OWNER]
        with ThreadPoolExecutor(PARALLEL) as pool:
            for _ in pool.map(lambda name: remove(self.work / name), names):
                pass

    def begin(self, table: pa.Table, facts: Mapping[str, Any]) -> None:
        """See `BuildState`."""
        plan = self.records.with_name("plan.parquet")
        write_plan(plan, table)
        put(self.plan, plan, self.able)
        self._write(folder.DATASET_JSON, shards.json_bytes({**facts, "status": "building"}))

    def finish(self, facts: Mapping[str, Any]) -> None:
        """See `BuildState`."""
        for name in _RECORDS:
            self._write(name, self.records / name)
        self._write(folder.DATASET_JSON, shards.json_bytes({**facts, "status": "complete"}))
        abort_half_made(self.out)  # of nodes that were lost
        self.clear()

    def _write(self, name: str, source: bytes | Path) -> None:
        put(self.out / name, source, self.able)

    @cached_property
    def earlier(self) -> tuple[pa.Table, dict[str, dict[str, Any]]] | None:
        """See `BuildState`; a store that does not answer is an error, and no reason to make all anew."""
        if not (self.out / folder.CLIPS_PARQUET).exists():
            return None
        return super().earlier

    @cached_property
    def _there(self) -> dict[str, int]:
        """Objects as the build begins -> bytes; every journal among them is copied."""
        there = self.out.names()
        start = f"{folder.BUILD_STATE}/"
        self._copy(name.removeprefix(start) for name in there if name.startswith(start))
        return there

    def _copy(self, names: Iterable[str]) -> None:
        """Copy those of the names that are journals, unless they are copied already."""
        missing = [n for n in names if n.endswith(".jsonl") and not (self._journals / n).exists()]

        def copy(name: str) -> None:
            part = self._journals / f"{name}.part"
            (self.work / name).download(part)
            part.replace(self._journals / name)

        with ThreadPoolExecutor(PARALLEL) as pool:
            for _ in pool.map(copy, missing):
                pass

    def is_finished(self, slot: Slot) -> bool:
        """See `BuildState`: as the build begins."""
        size, journal = self._there.get(slot.name), self._journals / slot.journal
        if journal.exists():
            facts = shards.read_journal(journal)[1]
            return facts is None or size == facts.bytes
        return self._was_good(slot, size)

    def outcomes(self, slot: Slot) -> tuple[list[dict[str, Any]], ShardFacts | None]:
        """See `BuildState`."""
        journal = self._journals / slot.journal
        if not journal.exists():
            self._copy(self.work.children())  # all that have come since, in parallel
        if journal.exists():
            return shards.read_journal(journal)
        entry = self.earlier[1].get(slot.name) if self.earlier else None
        return outcomes_of(self._earlier_rows(slot)), ShardFacts(**entry) if entry else None

    def kept(self, slot: Slot) -> dict[str, dict[str, Any]]:
        """See `BuildState`."""
        entry = self.earlier[1].get(slot.name) if self.earlier else None
        if entry is None or sha256_of(self.out / slot.name, self.able) != entry["sha256"]:
            return {}
        return self._good_rows(slot)

    def publish_made(self, slot: Slot, tar: Path | None, journal: Path) -> None:
        """Upload a shard, if it has any sample, and then its journal: with it, the shard counts as finished.

        Raises:
            BuildError: there are other bytes.
            OSError: of the store.
        """
        if tar is not None:
            self._publish(self.out / slot.name, tar, slot)
        elif self.earlier is not None and slot.name in self.earlier[1]:
            remove(self.out / slot.name)
        self._publish(self.work / slot.journal, journal, slot)

    def _publish(self, to: StorePath, made: Path, slot: Slot) -> None:
        try:
            put(to, made, self.able, only_new=True)
        except FileExistsError as error:
            entry = self.earlier[1].get(slot.name) if self.earlier else None
            if entry is not None and sha256_of(to, self.able) == entry["sha256"]:
                put(to, made, self.able)  # the earlier build's, whose failures were tried again
                return
            raise BuildError(
                f"{to} is there already, with other bytes: {error.strerror}",
                hint="remove it, if nothing else builds there, and run the command again; or give another --out",
            ) from None

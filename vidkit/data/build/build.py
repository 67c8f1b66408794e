"""Carry out a plan: shards over a pool of workers, then the ledger. Resumable at any moment.

State of an unfinished build lies in out/.build: one journal per shard. Everything a reader sees is
replaced as a whole, and dataset.json says "complete" last.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidkit.data import dataset as folder
from vidkit.data import shards
from vidkit.data.build.clip_worker import Stopped
from vidkit.data.build.executors import LocalExecutor
from vidkit.data.build.make_shard import OUTCOME, ShardSettings
from vidkit.data.build.place import Check, held, writing
from vidkit.data.build.state import BuildState, differences
from vidkit.data.build.task import Made, ShardTask, run_task
from vidkit.data.packed.scratch import LIMIT_BYTES
from vidkit.data.plan.layout import Slot, slots
from vidkit.data.progress import Progress
from vidkit.data.shards import ShardFacts
from vidkit.data.storage.places import Place, address_of
from vidkit.data.tables import LEDGER_SCHEMA, TRIES_FIELD
from vidkit.errors import BuildError
from vidkit.files import write_whole
from vidkit.settings.encode import EncodeSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """How a laid-out plan is carried out."""

    out: Place
    roots: Mapping[str, str]
    """Source -> folder."""
    encode: EncodeSettings
    strict_decode: bool = False
    transcoder: str = "pyav"
    follow_symlinks: bool = False
    timeout_s: float = 120.0
    workers: int = 1
    """Processes that transcode on this machine. A cluster that is there already decides for itself."""
    executor: str = "local"
    """Who makes the shards: "local" or "ray"."""
    ray_address: str | None = None
    """See `cluster.connected`."""
    retry_failed: bool = False
    sidecars: Mapping[str, str] = field(default_factory=dict)
    """Source -> ending of the JSON file beside each of its videos, for those that have them."""
    scratch: str = ""
    """See `ShardSettings`."""
    scratch_limit: int = LIMIT_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a build came to. `facts` is dataset.json as written."""

    ledger: pa.Table
    shards: list[ShardFacts]
    facts: dict[str, Any]
    made: int
    """Clips that this run worked on; the others were there already."""
    seconds: float


class Interrupted(Exception):  # noqa: N818 - not an error
    """Ctrl-C or SIGTERM. What was done is kept."""


_OUTCOME_SCHEMA = pa.schema([field for field in LEDGER_SCHEMA if field.name in {"key", *OUTCOME}])

#: Shards that an executor has at a time, at work or waiting: more than any cluster has processors.
_AT_ONCE = 4096

#: Tables of so many shards become one: fifty columns of a table of few rows take 20 kB.
_JOINED = 256

#: (ledger, shards) -> what dataset.json says about them
Describe = Callable[[pa.Table, list[ShardFacts]], dict[str, Any]]


def build(
    table: pa.Table, settings: BuildSettings, identity: Mapping[str, Any], describe: Describe, progress: Progress
) -> Built:
    """Make every shard that is not finished, then write ledger, shards.json, card and dataset.json.

    Args:
        table: a laid-out plan (`layout.lay_out`).
        identity: `format`, `name`, `settings`, `encoder` and `plan_sha256`, which a resumed build must share.
        describe: called once, with the finished ledger.
        progress: told of each clip.

    Raises:
        BuildError: another build is at work in the folder, other settings, a full disk.
        Interrupted: Ctrl-C; finished shards and begun ones are kept.
    """
    started = time.monotonic()
    with held(settings.out) as (state, check):
        found = state.existing()
        if found is None or found["status"] == "complete":
            state.clear()
        if found is not None:
            _must_be_same(found, identity, table, state)
        if found is not None and found["status"] == "complete":
            dataset = folder.open_dataset(settings.out)
            ledger = dataset.ledger()
            failed = sum(status != "ok" for status in ledger["status"].to_pylist())
            if not (settings.retry_failed and failed):
                _count(progress, ledger["status"].to_pylist())
                facts = [ShardFacts(**entry) for entry in dataset.shards]
                return Built(ledger=ledger, shards=facts, facts=dataset.facts, made=0, seconds=0.0)
        with writing(settings.out):
            state.begin(table, identity)
            planned = slots(table)
            _make_shards(table, planned, settings, state, progress, check)
            ledger, facts_of_shards = _write_ledger(table, planned, state)
            facts_of_dataset = {**identity, **describe(ledger, facts_of_shards), "files": _hashes(state.records)}
            _write_card(state.records, facts_of_dataset, facts_of_shards)
            check()
            state.finish(facts_of_dataset)
    return Built(
        ledger=ledger,
        shards=facts_of_shards,
        facts={**facts_of_dataset, "status": "complete"},
        made=progress.worked,
        seconds=time.monotonic() - started,
    )


def _must_be_same(
    found: Mapping[str, Any], identity: Mapping[str, Any], table: pa.Table, state: BuildState
) -> None:
    lines = differences(found, identity)
    if found.get("plan_sha256") != identity["plan_sha256"]:
        lines += state.plan_difference(table) or ["the plan is another one"]
    if lines:
        raise BuildError(
            f"{state.out} holds a build with other settings, annotations or encoder:\n    " + "\n    ".join(lines),
            hint="give another --out, restore what changed, or remove the folder to build anew",
        )


def _make_shards(
    table: pa.Table,
    planned: list[Slot],
    settings: BuildSettings,
    state: BuildState,
    progress: Progress,
    check: Check,
) -> None:
    """Map `run_task` over the unfinished shards.

    The first failure stops the others, which stay resumable.
    """
    todo = []
    for number, slot in enumerate(planned):
        if state.is_finished(slot):
            _count(progress, (row["status"] for row in state.outcomes(slot)[0]))
        else:
            todo.append(number)
    if not todo:
        return
    of_all = ShardSettings(
        roots={source: _from_anywhere(root) for source, root in settings.roots.items()},
        encode=settings.encode,
        strict=settings.strict_decode,
        transcoder=settings.transcoder,
        follow_symlinks=settings.follow_symlinks,
        timeout_s=settings.timeout_s,
        sidecars=settings.sidecars,
        scratch=settings.scratch and _from_anywhere(settings.scratch),
        scratch_limit=settings.scratch_limit,
    )
    out = _from_anywhere(address_of(settings.out))
    with _executor(settings, progress) as pool:
        try:
            tasks = (ShardTask(out=out, number=number, settings=of_all) for number in todo)
            for made in _ended((pool.submit(run_task, task) for task in tasks), check):
                if made.attempt:
                    state.publish(planned[made.number], made.attempt)
        except KeyboardInterrupt:
            raise Interrupted from None
        finally:
            pool.shutdown(cancel_futures=True)  # does nothing once all are done


def _executor(settings: BuildSettings, progress: Progress) -> Any:
    if settings.executor == "ray":
        from vidkit.data.build.on_ray import RayExecutor

        return RayExecutor(settings.ray_address, settings.workers, progress)
    return LocalExecutor(settings.workers, settings.timeout_s, progress)


def _from_anywhere(path: str) -> str:
    """A path that means the same in another process: its folder may be another one."""
    return path if "://" in path else os.path.join(os.getcwd(), path)


def _ended(futures: Iterator[Future[Made]], check: Check) -> Iterator[Made]:
    """Results as they come; raises the first failure as soon as it happens. Wakes up often enough for Ctrl-C.

    Args:
        futures: as they are begun, some thousands at a time: a plan of a million shards is not all in memory.
    """
    ended: SimpleQueue[Future[Made]] = SimpleQueue()
    begun = 0
    for future in itertools.islice(futures, _AT_ONCE):
        future.add_done_callback(ended.put)
        begun += 1
    while begun:
        future = _next(ended, check)
        begun -= 1
        for following in itertools.islice(futures, 1):
            following.add_done_callback(ended.put)
            begun += 1
        if not isinstance(future.exception(), Stopped):  # those stopped because another one failed
            yield future.result()


def _next(ended: SimpleQueue[Future[Made]], check: Check) -> Future[Made]:
    while True:
        check()
        with contextlib.suppress(Empty):
            return ended.get(timeout=0.5)


def _count(progress: Progress, statuses: Iterable[str]) -> None:
    for status, count in Counter(statuses).items():
        progress.already(status, count)


def _write_ledger(table: pa.Table, planned: list[Slot], state: BuildState) -> tuple[pa.Table, list[ShardFacts]]:
    """Join plan and outcomes, one shard at a time, and replace shards.json and clips.parquet."""
    facts: list[ShardFacts] = []
    parts: list[pa.Table] = []
    joined = 0
    for slot in planned:
        outcomes, shard = state.outcomes(slot)
        rows = table.slice(slot.start, slot.rows)
        if [row["key"] for row in outcomes] != rows["key"].to_pylist():
            raise BuildError(
                f"the journal of {slot.name} does not fit the plan", hint=f"remove {state.out} and build anew"
            )
        if shard:
            facts.append(shard)
        made = pa.Table.from_pylist(outcomes, schema=_OUTCOME_SCHEMA)
        rows = _with_used_paths(rows, outcomes)
        columns = [made[n] if n in made.column_names else rows[n] for n in LEDGER_SCHEMA.names]
        parts.append(pa.table(columns, schema=LEDGER_SCHEMA))
        if len(parts) - joined == _JOINED:
            parts[joined:] = [pa.concat_tables(parts[joined:]).combine_chunks()]
            joined += 1
    ledger = pa.concat_tables(parts) if parts else LEDGER_SCHEMA.empty_table()
    out = state.records
    part = out / (folder.CLIPS_PARQUET + ".part")
    with part.open("wb") as file:  # pyarrow takes a path for a URI where it can, and only UTF-8
        pq.write_table(ledger, file, row_group_size=100_000, compression="zstd")
        shards.sync_and_close(file)
    part.replace(out / folder.CLIPS_PARQUET)
    shards.write_json(out / folder.SHARDS_JSON, [asdict(shard) for shard in facts])
    return ledger, facts


def _with_used_paths(rows: pa.Table, outcomes: list[dict[str, Any]]) -> pa.Table:
    """Plan rows with the file that each clip was made from, where it was not the first of several."""
    if TRIES_FIELD.name not in rows.column_names:
        return rows
    planned = zip(outcomes, rows["path"].to_pylist(), rows[TRIES_FIELD.name].to_pylist(), strict=True)
    paths = [
        outcome["path"] if outcome.get("path") in [one["path"] for one in tries or ()] else path
        for outcome, path, tries in planned
    ]
    return rows.set_column(rows.schema.get_field_index("path"), rows.schema.field("path"), [paths])


def _hashes(out: Path) -> dict[str, str]:
    """The records themselves can be damaged, too: most of the ledger is written nowhere else."""
    return {name: shards.sha256_file(out / name)[0] for name in (folder.CLIPS_PARQUET, folder.SHARDS_JSON)}


def _write_card(out: Path, facts: dict[str, Any], made: list[ShardFacts]) -> None:
    from vidkit.data.build import card

    write_whole(out / folder.CARD, card.render(facts, [asdict(shard) for shard in made]))

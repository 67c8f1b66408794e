"""Checks a built dataset against its own records, all of it, and says everything that is wrong.

Shards are hashed, read by plain `webdataset` and decoded; tars, ledger, label map and counts are
compared with one another. Damage is reported, never raised.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data import dataset
from vidkit.data.shards import sha256_file
from vidkit.data.storage.places import Place, StorePath, on_disk, place
from vidkit.data.tables import SPLITS
from vidkit.data.verify.records import RowChecks, at, check_counts, check_label_map, with_right_types
from vidkit.data.verify.report import KINDS, Problem, Report, Verification
from vidkit.data.verify.shard import Sample, ShardCheck, check_bytes, decode
from vidkit.errors import DatasetError

__all__ = ["KINDS", "Problem", "Verification", "verify"]

_SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})/\d+\.tar")
_SHARD_FIELDS = {"shard": str, "split": str, "samples": int, "bytes": int, "sha256": str}

#: Clips that wait for a decoder, for each of them.
_AHEAD = 4


def verify(
    root: str | os.PathLike[str],
    *,
    sample: int | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check a finished dataset. Reads every byte of it.

    Args:
        root: folder of the dataset, or its address: each shard is then copied to a temporary file for as long as it
            is read.
        sample: decode only so many clips, chosen by `seed`; None decodes all. Everything else is checked in full.
        workers: threads that decode.
        progress: called with (samples done, samples in all).

    Raises:
        DatasetError: there is no dataset in the folder, or a newer vidkit wrote it.
    """
    root = place(root)
    report = Report()
    facts = _facts(root, report)
    if facts is not None and facts.get("status") != "complete":
        message = f"status is {facts.get('status')!r}; run the same `vidkit build-dataset` command to finish it"
        report.add("unfinished", dataset.DATASET_JSON, message)
        return report.result()
    _check_files(root, facts, report)
    labels = check_label_map(facts, report) if facts is not None else None
    shards = _shards(root, report)
    ledger = _ledger(root, report)
    rows = RowChecks(labels, report)
    recorded = {entry["shard"]: entry for entry in shards or ()}
    total = _stored(ledger) if ledger is not None else sum(entry["samples"] for entry in recorded.values())
    there = _tars(root, recorded)
    run = _Run(root, report, _choose(total, sample, seed), total, workers, progress)
    with run.pool:
        groups = _by_shard(ledger) if ledger is not None else {}
        names = sorted({*recorded, *there, *(name for name in groups if name)}, key=_reading_order)
        for index in groups.get(None, ()):  # rows without a shard
            rows.check(_rows(ledger, [index])[0])
        for name in names:
            mine = _rows(ledger, groups.get(name, []))
            for row in mine:
                rows.check(row)
            stored = {row["key"]: row for row in mine if row["status"] == "ok"} if ledger is not None else None
            run.shard(name, recorded.get(name), name in there, stored, known=shards is not None)
        run.finish()
    if facts is not None and ledger is not None:
        check_counts(facts, rows, shards, report)
    report.checks["ledger rows"] += ledger.num_rows if ledger is not None else 0
    return report.result()


class _Run:
    """The shards of one verification: which clips to decode, and the decoders at work."""

    def __init__(
        self,
        root: Place,
        report: Report,
        chosen: set[int] | None,
        total: int,
        workers: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.root, self.report, self.chosen, self.total = root, report, chosen, total
        self.progress = progress or (lambda done, total: None)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self.ahead = workers * _AHEAD
        self.waiting: deque[tuple[Sample, Future[tuple[int, list[tuple[str, str]]]]]] = deque()
        self.done = self.read = 0
        self.seen_in: dict[str, str] = {}
        """key -> shard, over all shards"""

    def shard(
        self,
        name: str,
        recorded: Mapping[str, Any] | None,
        there: bool,
        rows: Mapping[str, Mapping[str, Any]] | None,
        *,
        known: bool,
    ) -> None:
        """Check one shard that is recorded, on disk, or named by a ledger row of a stored clip.

        `known`: shards.json could be read.
        """
        expected = len(rows) if rows is not None else recorded["samples"] if recorded is not None else 0
        if recorded is None and not there and not expected:
            return  # planned, and none of its clips could be used
        if recorded is None and known:
            message = "the tar is not in shards.json" if there else "neither in shards.json nor on disk"
            kind = "extra-shard" if there else "missing-shard"
            self.report.add(kind, name, message + (f"; the ledger has {expected} clips in it" if expected else ""))
            if not expected:
                return  # nothing says what it should hold
        if recorded is not None and rows is not None and recorded["samples"] != len(rows):
            message = f"shards.json has {recorded['samples']} samples; the ledger has {len(rows)}"
            self.report.add("shards-json", name, message)
        if not there:
            if recorded is not None:
                self.report.add("missing-shard", name, f"the file is not there; {expected} clips are stored in it")
            self._step(expected)
            return
        samples = 0
        try:
            with on_disk(self.root / name) as path:
                check = ShardCheck(path, name, rows, self.seen_in)
                if recorded is not None:
                    check_bytes(path, recorded, self.report)
                for sample in check.samples_of(self.report):
                    samples += 1
                    self._take(sample)
        except OSError as error:
            self.report.add("unreadable-file", name, f"{error.strerror or error}")
        if recorded is not None and samples != recorded["samples"]:
            message = f"webdataset reads {samples} samples; shards.json has {recorded['samples']}"
            self.report.add("shards-json", name, message)

    def _take(self, sample: Sample | None) -> None:
        index = self.read
        self.read += 1
        if sample is None or (self.chosen is not None and index not in self.chosen):
            self._step(1)
            return
        self.waiting.append((sample, self.pool.submit(decode, sample)))
        while len(self.waiting) > self.ahead:
            self._collect()

    def _collect(self) -> None:
        sample, future = self.waiting.popleft()
        frames, problems = future.result()
        self.report.checks["clips decoded"] += 1
        self.report.checks["frames decoded"] += frames
        for kind, message in problems:
            self.report.add(kind, sample.where, message)
        self._step(1)

    def _step(self, by: int) -> None:
        self.done = min(self.done + by, self.total)
        self.progress(self.done, self.total)

    def finish(self) -> None:
        while self.waiting:
            self._collect()


def _facts(root: Place, report: Report) -> dict[str, Any] | None:
    parts = (dataset.DATASET_JSON, dataset.SHARDS_JSON, dataset.CLIPS_PARQUET)
    try:
        return dataset.read_facts(root)
    except DatasetError as error:
        nothing = not any((root / part).exists() for part in parts)
        if nothing or (error.field == "format" and "newer" in error.message):
            raise
        report.add("unreadable-file", dataset.DATASET_JSON, error.message)
    except OSError as error:
        report.add("unreadable-file", dataset.DATASET_JSON, error.strerror or str(error))
    return None


def _check_files(root: Place, facts: Mapping[str, Any] | None, report: Report) -> None:
    """Digests of the other records, where dataset.json has them."""
    recorded = at(facts, "files")
    for name, wanted in recorded.items() if isinstance(recorded, Mapping) else ():
        if name not in (dataset.SHARDS_JSON, dataset.CLIPS_PARQUET) or not (root / name).is_file():
            continue
        found, _ = sha256_file(root / name)
        report.checks["records hashed"] += 1
        if found != wanted:
            report.add("checksum", name, f"sha256 is {found}; recorded is {wanted}")


def _shards(root: Place, report: Report) -> list[dict[str, Any]] | None:
    """shards.json; entries that cannot be used are reported and left out."""
    try:
        entries = json.loads((root / dataset.SHARDS_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        words = f"damaged JSON: {error}" if isinstance(error, ValueError) else error.strerror or str(error)
        report.add("unreadable-file", dataset.SHARDS_JSON, words)
        return None
    if not isinstance(entries, list):
        report.add("unreadable-file", dataset.SHARDS_JSON, f"holds a {type(entries).__name__}; expected a list")
        return None
    good: dict[str, dict[str, Any]] = {}
    for i, entry in enumerate(entries):
        where = f"{dataset.SHARDS_JSON}: entry {i + 1}"
        wrong = [n for n, t in _SHARD_FIELDS.items() if not isinstance(entry, dict) or type(entry.get(n)) is not t]
        if wrong:
            report.add("shards-json", where, f"{', '.join(wrong)} missing or of another type")
        elif not _SHARD_NAME.fullmatch(entry["shard"]) or not entry["shard"].startswith(entry["split"] + "/"):
            report.add("shards-json", where, f"{entry['shard']!r} is no shard of split {entry['split']!r}")
        elif entry["shard"] in good:
            report.add("shards-json", where, f"{entry['shard']} is listed twice")
        else:
            good[entry["shard"]] = entry
    return list(good.values())


def _ledger(root: Place, report: Report) -> pa.Table | None:
    try:
        return with_right_types(dataset.read_ledger(root / dataset.CLIPS_PARQUET), report)
    except (DatasetError, pa.ArrowException, UnicodeDecodeError) as error:
        report.add("unreadable-file", dataset.CLIPS_PARQUET, getattr(error, "message", f"damaged: {error}"))
        return None


def _stored(ledger: pa.Table) -> int:
    return int(pc.sum(pc.equal(ledger["status"], "ok")).as_py() or 0)


def _tars(root: Place, recorded: Iterable[str]) -> set[str]:
    """Every tar in the folder, as shards.json would name it. A web server lists nothing: those recorded."""
    if isinstance(root, StorePath):
        if root.listed:
            return {name for name in root.names() if name.endswith(".tar")}
        return {name for name, size in root.sizes(recorded).items() if size is not None}
    return {path.relative_to(root).as_posix() for path in root.glob("**/*.tar") if path.is_file()}


def _choose(total: int, sample: int | None, seed: int) -> set[int] | None:
    """Which samples to decode, counted as they are read; None for all."""
    if sample is None or sample >= total:
        return None
    return set(np.random.default_rng(seed).choice(total, max(0, sample), replace=False).tolist())


def _by_shard(ledger: pa.Table) -> dict[str | None, np.ndarray[Any, np.dtype[np.int64]]]:
    """Shard -> row numbers, in order."""
    codes = pc.dictionary_encode(ledger["shard"].combine_chunks(), null_encoding="encode")
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(len(codes.dictionary) + 1))
    names = codes.dictionary.to_pylist()
    return {name: order[bounds[i] : bounds[i + 1]] for i, name in enumerate(names)}


def _rows(ledger: pa.Table | None, numbers: Any) -> list[dict[str, Any]]:
    if ledger is None or not len(numbers):
        return []
    rows: list[dict[str, Any]] = ledger.take(pa.array(numbers, pa.int64())).to_pylist()
    return rows


def _reading_order(name: str) -> tuple[int, str]:
    split = name.split("/")[0]
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), name)

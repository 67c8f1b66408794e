"""What of runs is open, by names that are the same tomorrow: runs, files of predictions, checkpoints, given
themselves or named by the rows of a table of results.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.bench.rows.files import RESULTS
from vidkit.bench.rows.schema import Row
from vidkit.errors import VidkitError
from vidkit.train.runs import RunFolder
from vidkit.view.shelf import Shelf


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A run's folder, or a file of predictions."""

    id: str
    """In addresses: of its name."""
    name: str
    path: Path
    table: int | None
    """The table of results that it belongs to."""

    @property
    def checkpoint(self) -> Path:
        """Of a run: its last one."""
        return RunFolder(self.path).last


def runs(shelf: Shelf) -> dict[str, Found]:
    """All of them, by id."""
    named = [_found(shelf.names[path], path, None) for path in shelf.runs]
    for number, folder in enumerate(shelf.tables):
        for label, row in rows_of(folder):
            for part, words in (("pretrain", "pre-training"), ("finetune", "fine-tuning")):
                path = folder / row.runs.get(part, "")
                if part in row.runs and (path / "config.json").is_file():
                    named.append(_found(f"{shelf.names[folder]}: {label}, {words}", path, number))
    return _once(named)


def predictions(shelf: Shelf) -> dict[str, Found]:
    """All files of them, by id."""
    named = [_found(shelf.names[path], path, None) for path in shelf.predictions]
    for number, folder in enumerate(shelf.tables):
        for label, row in rows_of(folder):
            path = folder / row.runs.get("predictions", "")
            if path.is_file():
                named.append(_found(f"{shelf.names[folder]}: {label}", path, number))
    return _once(named)


def checkpoints(shelf: Shelf) -> list[Found]:
    """Runs of pre-training whose last checkpoint is there."""
    return [
        one
        for one in runs(shelf).values()
        if config_of(one.path).get("kind") == "pretrain" and one.checkpoint.is_file()
    ]


def config_of(run: Path) -> dict[str, Any]:
    """config.json; nothing where it cannot be read."""
    try:
        found = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def rows_of(folder: Path) -> tuple[tuple[str, Row], ...]:
    """Rows of a table that came to their end, and what each is called; none where the table cannot be read, which
    its own page says.
    """
    path = folder / RESULTS
    return _rows(folder, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=64)
def _rows(folder: Path, stamp: int) -> tuple[tuple[str, Row], ...]:
    from vidkit.bench.report import results as report

    try:
        results = report.read_results([folder])
    except VidkitError:
        return ()
    called = report.names(report.lines(results))
    return tuple(
        (f"{called.get(row.plan.group, row.plan.group)}, seed {row.plan.seed}", row)
        for row in results.rows
        if row.status == "ok"
    )


def _found(name: str, path: Path, table: int | None) -> Found:
    short = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Found(id=short, name=name, path=path, table=table)


def _once(named: Iterable[Found]) -> dict[str, Found]:
    """By id; a run that several rows share is there under its first name."""
    paths: set[Path] = set()
    kept = {}
    for one in named:
        if one.path not in paths:
            paths.add(one.path)
            kept[one.id] = one
    return kept

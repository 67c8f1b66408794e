"""Which models said something of which clips: files of predictions, found beside runs and in tables of results."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.bench.rows.files import read_rows
from vidkit.errors import ConfigError, VidkitError
from vidkit.view.clips.opened import Opened
from vidkit.view.runs import predictions
from vidkit.view.runs.predictions import Answers
from vidkit.view.shelf import Shelf

#: Files of predictions that are kept in memory.
_KEPT = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A file of predictions."""

    id: str
    """In addresses: of its name, so it is the same tomorrow."""
    name: str
    path: Path
    table: int | None
    """The table of results that it belongs to."""


def files(shelf: Shelf) -> dict[str, Said]:
    """All of them, by id: given or found themselves, and those that rows of results name."""
    named: list[tuple[str, Path, int | None]] = [(shelf.names[path], path, None) for path in shelf.predictions]
    for number, folder in enumerate(shelf.tables):
        named += [
            (f"{shelf.names[folder]}: {name}", path, number) for name, path in _of_table(folder, _stamp(folder))
        ]
    found = {}
    for name, path, table in named:
        short = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        found[short] = Said(id=short, name=name, path=path, table=table)
    return found


def _stamp(folder: Path) -> int:
    path = folder / "results.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


@functools.lru_cache(maxsize=64)
def _of_table(folder: Path, stamp: int) -> tuple[tuple[str, Path], ...]:
    """(name, file) of rows with predictions; where rows cannot be read, the table's own page says so."""
    from vidkit.bench.report import results as report

    try:
        rows = read_rows(folder)
        results = report.read_results([folder])
    except VidkitError:
        return ()
    called = report.names(report.lines(results))
    return tuple(
        (f"{called.get(row.plan.group, row.plan.group)}, seed {row.plan.seed}", folder / name)
        for row in rows
        if (name := row.runs.get("predictions")) is not None and (folder / name).is_file()
    )


def of_dataset(shelf: Shelf, opened: Opened) -> list[Said]:
    """Those that are of this dataset's clips."""
    return [one for one in files(shelf).values() if _fits(one.path, opened)]


def _fits(path: Path, opened: Opened) -> bool:
    return predictions.fits(path, opened)


def choices(shelf: Shelf, opened: Opened) -> list[dict[str, str]]:
    """For the pages of the dataset: id and name of each."""
    return [{"id": one.id, "name": one.name} for one in of_dataset(shelf, opened)]


def answers(shelf: Shelf, short: str, opened: Opened) -> Answers:
    """
    Raises:
        ConfigError: there are none with this id, or they are of another dataset.
    """
    found = files(shelf).get(short)
    if found is None:
        raise ConfigError(
            f"no predictions {short!r} are open", field="pred", hint="give their folder to `vidkit view`"
        )
    return _read(found.path, found.path.stat().st_mtime_ns, opened.root, opened.version, _Hidden(opened))


class _Hidden:
    """An argument that makes no difference to a cache."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=_KEPT)
def _read(path: Path, stamp: int, root: Path, version: str, hidden: _Hidden) -> Answers:
    return predictions.read(path, hidden.opened)


def of_clip(shelf: Shelf, opened: Opened, row: int) -> list[dict[str, Any]]:
    """What each model said of a clip: name, classes of most probability, and whether the first is right."""
    found: list[dict[str, Any]] = []
    for one in of_dataset(shelf, opened):
        said = answers(shelf, one.id, opened)
        top = said.top(row)
        if top:
            right = None if said.several or said.true[row] < 0 else bool(said.true[row] == said.said[row])
            found.append({"id": one.id, "name": one.name, "top": top, "right": right})
    return found

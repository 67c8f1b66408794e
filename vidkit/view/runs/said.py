"""What models said of a dataset's clips: of all for filters and confusions, and of one for its page."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.view.clips.opened import Opened
from vidkit.view.runs import found, predictions
from vidkit.view.runs.found import Found
from vidkit.view.runs.predictions import Answers
from vidkit.view.shelf import Shelf

#: Files of predictions that are kept in memory.
_KEPT = 16


def of_dataset(shelf: Shelf, opened: Opened) -> list[Found]:
    """Files that are of this dataset's clips."""
    return [one for one in found.predictions(shelf).values() if predictions.fits(one.path, opened)]


def choices(shelf: Shelf, opened: Opened) -> list[dict[str, str]]:
    """For the pages of the dataset: id and name of each."""
    return [{"id": one.id, "name": one.name} for one in of_dataset(shelf, opened)]


def named(shelf: Shelf, short: str) -> Found:
    """
    Raises:
        ConfigError: there are none with this id.
    """
    one = found.predictions(shelf).get(short)
    if one is None:
        raise ConfigError(
            f"no predictions {short!r} are open", field="pred", hint="give their folder to `vidkit view`"
        )
    return one


def answers(shelf: Shelf, short: str, opened: Opened) -> Answers:
    """
    Raises:
        ConfigError: there are none with this id, or they are of another dataset.
    """
    path = named(shelf, short).path
    return _read(path, path.stat().st_mtime_ns, opened.root, opened.version, _Aside(opened))


class _Aside:
    """An argument that a cache does not look at: what it stands for is among the others."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Aside)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=_KEPT)
def _read(path: Path, stamp: int, root: Place, version: str, aside: _Aside) -> Answers:
    return predictions.read(path, aside.opened)


def of_clip(shelf: Shelf, opened: Opened, row: int) -> list[dict[str, Any]]:
    """What each model said of a clip: name, classes of most probability, and whether the first is right."""
    told: list[dict[str, Any]] = []
    for one in of_dataset(shelf, opened):
        said = answers(shelf, one.id, opened)
        top = said.top(row)
        if top:
            right = None if said.several or said.true[row] < 0 else bool(said.true[row] == said.said[row])
            told.append({"id": one.id, "name": one.name, "top": top, "right": right})
    return told

"""What lies in the folders that are looked at: datasets, runs, tables of results, predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidkit.data.dataset import DATASET_JSON, lies_at
from vidkit.data.storage.places import Place, StorePath, place
from vidkit.errors import ConfigError, display_path
from vidkit.view.clips.opened import Watched

#: Folders below a given one that are looked into, for a folder of runs or of datasets.
_DEEP = 2
#: What is never looked into there.
_SKIPPED = frozenset({"checkpoints", ".build", "cells"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """By kind, each in the order in which it was found: its place there is its number in addresses."""

    datasets: tuple[Watched, ...] = ()
    runs: tuple[Path, ...] = ()
    """Of `vidkit pretrain` and `vidkit finetune`."""
    tables: tuple[Path, ...] = ()
    """Folders of results: ablations and studies."""
    predictions: tuple[Path, ...] = ()
    """Files of `vidkit evaluate --out`."""
    names: dict[Place, str] = field(default_factory=dict)
    """What each is called on the pages."""


def fill(paths: Sequence[str | os.PathLike[str]]) -> Shelf:
    """
    Args:
        paths: folders and files, and addresses of datasets in stores.

    Raises:
        ConfigError: nothing there that can be looked at.
        DatasetError: a store that does not answer.
    """
    datasets: list[Place] = []
    found: dict[str, list[Path]] = {"run": [], "table": [], "predictions": []}
    for given in paths:
        path = place(given)
        if isinstance(path, StorePath):
            datasets += [] if path in datasets else [_in_store(path)]
            continue
        if not path.exists():
            raise ConfigError(
                f"there is no {display_path(os.fspath(path))}", hint="give a dataset's or a run's folder"
            )
        some = [*_look(path, _DEEP)]
        if not some:
            raise ConfigError(
                f"nothing to look at in {display_path(os.fspath(path))}: no dataset, no run, no results",
                hint="give a folder that `vidkit build-dataset`, `pretrain`, `finetune` or `ablate` made",
            )
        for kind, one in some:
            kept: list[Any] = datasets if kind == "dataset" else found[kind]
            if one not in kept:
                kept.append(one)
    return Shelf(
        datasets=tuple(map(Watched, datasets)),
        runs=tuple(found["run"]),
        tables=tuple(found["table"]),
        predictions=tuple(found["predictions"]),
        names=_names([*datasets, *(one for some_places in found.values() for one in some_places)]),
    )


def _in_store(path: StorePath) -> StorePath:
    """
    Raises:
        ConfigError: no dataset is there; runs are looked at where they lie on a disk.
        DatasetError: the store refuses, or does not answer.
    """
    if not lies_at(path):
        raise ConfigError(f"no dataset in {path}: {DATASET_JSON} is not there", hint="give a dataset's own address")
    return path


def _look(path: Path, deep: int) -> Iterator[tuple[str, Path]]:
    """(kind, place) of what is there, or in folders below."""
    kind = _kind(path)
    if kind is not None:
        yield kind, path
        if kind == "table" and (path / "data" / DATASET_JSON).is_file():  # made for these results
            yield "dataset", path / "data"
        return
    if not path.is_dir() or not deep:
        return
    for child in sorted(path.iterdir()):
        if child.name not in _SKIPPED:
            yield from _look(child, deep - 1)


def _kind(path: Path) -> str | None:
    from vidkit.bench.rows.files import holds_results
    from vidkit.view.runs.predictions import is_predictions

    if path.is_file():
        return "predictions" if is_predictions(path) else None
    if (path / DATASET_JSON).is_file():
        return "dataset"
    if holds_results(path):
        return "table"
    return "run" if (path / "config.json").is_file() and (path / "checkpoints").is_dir() else None


def _names(places: Sequence[Place]) -> dict[Place, str]:
    """The last part of each path, and as many before it as tell it from the others."""
    parts = {
        one: tuple(str(one).split("/")) if isinstance(one, StorePath) else one.resolve().parts for one in places
    }
    found: dict[Place, str] = {}
    for one, mine in parts.items():
        others = [other for another, other in parts.items() if another != one]
        count = 1
        while count < len(mine) and any(other[-count:] == mine[-count:] for other in others):
            count += 1
        found[one] = display_path("/".join(mine[-count:]))
    return found

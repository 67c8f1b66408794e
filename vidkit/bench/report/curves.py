"""Curves of the losses that the runs of a table logged: a line a cell, mean over seeds, with their band."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vidkit.bench.report.plots import Curve, curves
from vidkit.bench.report.results import Line, Results, cells, names
from vidkit.bench.report.style import COLOURS, DASHES, PALETTE, Chart
from vidkit.bench.rows.schema import Row
from vidkit.data.storage.places import Place

Part = Literal["pretrain", "finetune"]

#: What is drawn of a run: the first of these that all its lines have. Of adaptive masking, `loss` has the sampler's
#: share as well, which other strategies do not have.
LOSSES: dict[Part, tuple[str, ...]] = {
    "pretrain": ("reconstruction_loss", "loss"),
    "finetune": ("loss",),
}
NAMES: dict[Part, str] = {"pretrain": "pre-training", "finetune": "fine-tuning"}
VALIDATION = "val_loss"

#: Points of a curve: neighbours are averaged down to this number.
MOST_POINTS = 150
#: Curves of one plot; with more, each strategy has a plot of its own.
MOST_CURVES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPlots:
    """Of one part of the runs."""

    charts: tuple[Chart, ...]
    missing: tuple[str, ...]
    """Sentences."""


Track = tuple[tuple[float, float], ...]
"""(epoch, loss) of one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Logged:
    """Of a cell: a track for each seed."""

    line: Line
    training: tuple[Track, ...]
    validation: tuple[Track, ...]


def loss_plots(results: Results, of: Sequence[Line], part: Part) -> LossPlots:
    """Plots of `part`, and a sentence for what could not be drawn."""
    called = names(of)
    logs: dict[tuple[str, ...], tuple[Line, list[list[dict[str, Any]]]]] = {}
    missing: list[str] = []
    for line in cells(of):
        folders = tuple(str(_folder(results, row, part)) for row in line.rows)
        if line.kind != "full" or (folders and folders in logs):
            continue  # a pre-training that cells share is drawn once
        read = [_log(results, row, part) for row in line.rows]
        if read and all(read):
            logs[folders] = line, read
        else:
            missing.append(called[line.group])
    every = [log for _, read in logs.values() for log in read]
    key = next((key for key in LOSSES[part] if all(_track(log, key) for log in every)), "loss")
    found = []
    for line, read in logs.values():
        training = tuple(_track(log, key) for log in read)
        validation = tuple(_track(log, VALIDATION) for log in read)
        if _shared(training):
            kept = validation if _shared(validation) else ()
            found.append(_Logged(line=line, training=training, validation=kept))
        else:
            missing.append(called[line.group])
    words: tuple[str, ...] = ()
    if missing:
        which = "every cell" if not found else "; ".join(missing)
        words = (f"No curve of {NAMES[part]}, since there is no result or no log: {which}.",)
    return LossPlots(charts=tuple(_plots(found, called, part, key)), missing=words)


def _folder(results: Results, row: Row, part: Part) -> Place | None:
    root, name = results.folders.get(row.plan.config_hash), row.runs.get(part)
    return None if root is None or name is None else root / name


def _log(results: Results, row: Row, part: Part) -> list[dict[str, Any]]:
    """Lines of a run's log, none where it is missing. One that a crash cut off, and what follows, is left out."""
    folder = _folder(results, row, part)
    if folder is None or not (folder / "log.jsonl").is_file():
        return []
    found = []
    for text in (folder / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        found += [line] if isinstance(line, dict) else []
    return found


def _track(log: Sequence[Mapping[str, Any]], key: str) -> Track:
    """Empty where the log does not have it, or has a value that is no number."""
    track = tuple((float(line["epoch"]), float(line[key])) for line in log if key in line and "epoch" in line)
    return track if all(math.isfinite(value) for pair in track for value in pair) else ()


def _shared(tracks: Sequence[Track]) -> list[float]:
    """Epochs that all have."""
    by_epoch = [{epoch for epoch, _ in track} for track in tracks]
    return sorted(by_epoch[0].intersection(*by_epoch[1:]))


def _plots(logged: Sequence[_Logged], called: Mapping[str, str], part: Part, key: str) -> list[Chart]:
    if not logged:
        return []
    everything = [_drawn(one, called, number) for number, one in enumerate(logged)]
    values = [value for some in everything for curve in some for value in (*curve.y, *curve.low, *curve.high)]
    whole = min(values), max(values)
    masks = list(dict.fromkeys(one.line.cell.mask for one in logged))
    if len(logged) <= MOST_CURVES or len(masks) == 1:
        sets = {"": list(logged)}
    else:
        sets = {mask: [one for one in logged if one.line.cell.mask == mask] for mask in masks}
    found = []
    for mask, some in sets.items():
        plain = len({one.line.cell.mask for one in some}) == len(some)
        drawn = [
            curve for number, one in enumerate(some) for curve in _drawn(one, called, None if plain else number)
        ]
        title = f"Loss in {NAMES[part]}" + (f", {mask} masks" if mask else "")
        found.append(curves(drawn, x="epoch", y=key.replace("_", " "), title=title, y_range=whole))
    return found


def _drawn(one: _Logged, called: Mapping[str, str], number: int | None) -> list[Curve]:
    """Of training, and of validation where it was logged.

    Args:
        number: among the curves of a plot; None: each strategy is there once, and has its own colour.
    """
    if number is None:
        colour, dash = COLOURS.get(one.line.cell.mask, PALETTE[0]), DASHES[0]
    else:
        colour, dash = PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)]
    name = called[one.line.group]
    found = [_curve(one.training, name, colour, dash)]
    if one.validation:
        found.append(_curve(one.validation, f"{name}, validation", colour, DASHES[2]))
    return found


def _curve(tracks: Sequence[Track], name: str, colour: str, dash: tuple[float, ...]) -> Curve:
    """The mean over seeds at the epochs that all have, and a band from the lowest to the highest."""
    by_epoch = [dict(track) for track in tracks]
    shared = _shared(tracks)
    size = -(-len(shared) // MOST_POINTS)
    bins = [shared[i : i + size] for i in range(0, len(shared), size)]
    seeds = [[statistics.fmean(values[epoch] for epoch in some) for some in bins] for values in by_epoch]
    columns = list(zip(*seeds, strict=True))
    return Curve(
        name=name,
        x=tuple(statistics.fmean(some) for some in bins),
        y=tuple(statistics.fmean(column) for column in columns),
        low=tuple(map(min, columns)) if len(seeds) > 1 else (),
        high=tuple(map(max, columns)) if len(seeds) > 1 else (),
        colour=colour,
        dash=dash,
    )

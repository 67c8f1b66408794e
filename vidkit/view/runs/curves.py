"""What runs have logged, as plots: a curve a run, with what they share beside each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vidkit.bench.report.plots import Curve, curves
from vidkit.bench.report.style import DASHES, PALETTE
from vidkit.train.runs import RunFolder, flat

if TYPE_CHECKING:
    from vidkit.bench.report.style import Chart
    from vidkit.view.runs.found import Found

#: What comes first; other figures follow in the order in which they were logged.
FIRST = ("reconstruction_loss", "loss", "top1", "mAP", "probe_")
#: What says where a figure stands, or how fast it was.
_PLACES = ("step", "epoch")
_SPEED = ("seconds", "data_wait", "memory_gb", "clips_per_s")

#: Points of a curve: neighbours are averaged down to this number.
MOST_POINTS = 200

_WHEN = {"train_": DASHES[2], "val_": DASHES[0]}


def charts(runs: Sequence[Found]) -> list[Chart]:
    """A plot for each figure that some run has logged twice or more."""
    logs = {one.name: RunFolder(one.path).rows() for one in runs}
    found = []
    for name in _figures(logs.values()):
        drawn = []
        for number, (run, rows) in enumerate(logs.items()):
            for when in ("", "train_", "val_"):
                track = _track(rows, when + name)
                if len(track) > 1:
                    drawn.append(_curve(track, run, when, number, many=len(runs) > 1))
        if drawn:
            found.append(curves(drawn, x="epoch", y=name.replace("_", " "), title=name.replace("_", " ")))
    return found


def _figures(logs: Any) -> list[str]:
    """Names of what was logged, without train_ and val_, which stand in one plot."""
    names: dict[str, None] = {}
    for rows in logs:
        for row in rows:
            for name in row:
                plain = name.removeprefix("train_").removeprefix("val_")
                if plain not in (*_PLACES, *_SPEED):
                    names.setdefault(plain)

    def place(name: str) -> int:
        return next((i for i, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))

    return [*sorted(names, key=place), *(name for name in _SPEED if name == "clips_per_s")]


def _track(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    found = [
        (float(row["epoch"]), float(row[name]))
        for row in rows
        if "epoch" in row and isinstance(row.get(name), (int, float)) and math.isfinite(row[name])
    ]
    size = -(-len(found) // MOST_POINTS)
    some = [found[i : i + size] for i in range(0, len(found), size)] if found else []
    return [(statistics.fmean(x for x, _ in part), statistics.fmean(y for _, y in part)) for part in some]


def _curve(track: list[tuple[float, float]], run: str, when: str, number: int, *, many: bool) -> Curve:
    words = {"train_": "training", "val_": "validation", "": ""}[when]
    name = ", ".join(word for word in (run if many or not words else "", words) if word)
    colour = PALETTE[number % len(PALETTE)] if many else PALETTE[{"": 1, "val_": 0, "train_": 1}[when]]
    dash = _WHEN.get(when, DASHES[number // len(PALETTE) % len(DASHES)]) if many else DASHES[0]
    return Curve(name=name, x=tuple(x for x, _ in track), y=tuple(y for _, y in track), colour=colour, dash=dash)


def settings(
    runs: Sequence[Found], configs: Sequence[Mapping[str, Any]]
) -> list[tuple[str, tuple[str, ...], bool]]:
    """(name, value in each run, whether they differ), of all settings."""
    flats = [flat(config.get("config", {})) for config in configs]
    names = list(dict.fromkeys(name for one in flats for name in one))
    lines = [(name, tuple(str(one.get(name, "–")) for one in flats)) for name in names]
    return [(name, values, len(set(values)) > 1) for name, values in lines]

"""One encoder probed: every layer, read-out and probe on the validation clips, the best once on the test clips.

What is fitted sees the training clips alone; each probe's own setting (neighbours, penalty, the step that is kept)
is chosen on validation clips too. Shapes: n clips, T steps, W numbers of a step, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidkit.data.load.cache import available_memory
from vidkit.errors import ConfigError, DatasetError
from vidkit.settings.probe import Probe, ProbeConfig
from vidkit.train.features.file import FeatureFile, Features
from vidkit.train.features.readout import MAKES, Reading, Readout, derived
from vidkit.train.probe import attentive, knn, linear
from vidkit.train.probe.scores import Labels, Spread, against, figure, interval, spread, whole

Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One probe of one layer and read-out, at the setting that did best on the validation clips."""

    reading: Reading
    readout: Readout
    probe: Probe
    setting: float
    """Neighbours, penalty, or the step that was kept."""
    val: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tested:
    """The cell that was chosen, on the test clips."""

    cell: Cell
    value: float
    low: float
    high: float
    figures: dict[str, Any]
    """As `vidkit evaluate` gives them: top-5, each class, the confusion matrix."""
    scores: Tensor
    """(n, K)"""
    labels: Labels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Arm:
    """What was found in one encoder's features."""

    name: str
    cells: tuple[Cell, ...]
    spreads: dict[tuple[Reading, Readout], Spread]
    """Of training clips."""
    test: Tested
    notes: tuple[str, ...]

    def best(self, **where: Any) -> Cell | None:
        """The best on validation among cells with such values; of equals the first."""
        some = [cell for cell in self.cells if all(getattr(cell, name) == value for name, value in where.items())]
        return max(some, key=lambda cell: cell.val, default=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Labelled clips of one split."""

    features: Tensor
    """(n, T, W)"""
    labels: Labels


def probe_features(file: FeatureFile, config: ProbeConfig, name: str) -> Arm:
    """Probe all layers and read-outs that a file holds.

    Raises:
        ConfigError: read-outs that the file does not hold; probes that none of them is for.
        DatasetError: a split without features or labels, or fewer than two classes to learn.
    """
    wanted = (config.fit, config.choose, config.test)
    _check_splits(file, wanted)
    readouts, notes = _readouts(file, config)
    _check_memory(file, readouts, config)
    cells: list[Cell] = []
    spreads: dict[tuple[Reading, Readout], Spread] = {}
    best: tuple[Cell, Scores] | None = None
    for number, reading in enumerate(file.readings):
        stored = file.load(reading, splits=wanted)
        fit, choose = (_part(file, stored, split, notes if number == 0 else []) for split in wanted[:2])
        if number == 0:
            notes += _class_notes(file, fit.labels)
        for readout in readouts:
            parts = [_Part(derived(part.features, file.readout, readout), part.labels) for part in (fit, choose)]
            spreads[reading, readout] = spread(parts[0].features.flatten(1), fit.labels)
            for probe, setting, scores in _fitted(parts[0], parts[1], config, readout == _sequence(readouts)):
                val = figure(scores(parts[1].features), parts[1].labels)
                cells.append(Cell(reading=reading, readout=readout, probe=probe, setting=setting, val=val))
                if best is None or val > best[0].val:
                    best = cells[-1], scores
    if best is None:
        raise ConfigError(
            f"none of the probes ({', '.join(config.probes)}) is for these features",
            file=file.path,
            field="--probe",
            hint="the attentive probe needs features of more than one step: slots, slots-std or tokens",
        )
    return Arm(
        name=name,
        cells=tuple(_of_each(cells)),
        spreads=spreads,
        test=_tested(file, config, *best, notes),
        notes=tuple(notes),
    )


def _tested(file: FeatureFile, config: ProbeConfig, cell: Cell, scores: Scores, notes: list[str]) -> Tested:
    part = _part(file, file.load(cell.reading, cell.readout, splits=[config.test]), config.test, notes)
    found = scores(part.features)
    low, high = interval(found, part.labels, config.seed)
    return Tested(
        cell=cell,
        value=figure(found, part.labels),
        low=low,
        high=high,
        figures=whole(found, part.labels),
        scores=found,
        labels=part.labels,
    )


def compared(one: Arm, other: Arm) -> dict[str, Any] | None:
    """The two chosen probes, clip by clip on the same test clips: see `scores.against`."""
    return against(one.test.scores, other.test.scores, one.test.labels)


# --- probes --------------------------------------------------------------------------------------


def _fitted(
    fit: _Part, choose: _Part, config: ProbeConfig, sequence: bool
) -> Iterator[tuple[Probe, float, Scores]]:
    """Every probe at every setting; the attentive one, on a `sequence` alone, at the one it chose itself."""
    several, hot_nK = fit.labels.several, fit.labels.hot
    flat = fit.features.flatten(1)
    if "knn" in config.probes:
        ks = sorted({min(k, len(flat)) for k in knn.NEIGHBOURS})
        cosine, row = knn.neighbours(flat, choose.features.flatten(1), ks[-1])
        for k in ks:
            # the validation clips' neighbours are found once for all k
            yield "knn", k, _neighbour_scores(flat, hot_nK, k, choose.features, (cosine, row))
    if {"ridge", "logistic"} & set(config.probes):
        axes = linear.principal_axes(flat)
        if "ridge" in config.probes:
            for penalty in linear.RIDGE:
                yield "ridge", penalty, _flat(linear.ridge(axes, hot_nK, penalty))
        if "logistic" in config.probes:
            for penalty in linear.LOGISTIC:
                yield "logistic", penalty, _flat(linear.logistic(axes, hot_nK, penalty, several=several))
    if "attentive" in config.probes and sequence:
        scores, done = attentive.fit(
            fit.features,
            hot_nK,
            config,
            several=several,
            judge=lambda scores: figure(scores(choose.features), choose.labels),
        )
        yield "attentive", done.kept_step, scores


def _flat(scores: Scores) -> Scores:
    return lambda x_mTW: scores(x_mTW.flatten(1))


def _neighbour_scores(
    train_nD: Tensor, hot_nK: Tensor, k: int, known_mTW: Tensor, found: tuple[Tensor, Tensor]
) -> Scores:
    def scores(x_mTW: Tensor) -> Tensor:
        pair = found if x_mTW is known_mTW else knn.neighbours(train_nD, x_mTW.flatten(1), k)
        return knn.votes(*pair, hot_nK, k)

    return scores


def _of_each(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Of each layer, read-out and probe the setting that did best; of equals the first."""
    best: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        place = (cell.reading, cell.readout, cell.probe)
        if place not in best or cell.val > best[place].val:
            best[place] = cell
    yield from best.values()


# --- clips and read-outs -------------------------------------------------------------------------


def _check_splits(file: FeatureFile, wanted: Sequence[str]) -> None:
    for role, split in zip(("fit on", "choose on", "test on"), wanted, strict=True):
        if split not in file.splits:
            raise DatasetError(
                f"there are no clips of split {split!r} to {role}; there are {', '.join(file.splits)}",
                file=file.path,
                field="splits",
                hint="name other splits (--fit, --choose, --test), three different ones; a dataset without a "
                "validation split must be built with one, since nothing may be chosen on the test clips",
            )


def _check_memory(file: FeatureFile, readouts: Sequence[Readout], config: ProbeConfig) -> None:
    """Features in single precision as they are read, and twice in double precision as they are fitted."""
    clips = file.count()
    steps, width = file.facts["steps"], file.facts["width"]
    stored = 4 * clips * steps * width
    linear_ones = not {"ridge", "logistic"}.isdisjoint(config.probes)
    fitted = 16 * clips * max(steps * width if name == file.readout else width for name in readouts)
    needed, free = stored + (fitted if linear_ones else stored), available_memory()
    if free is not None and needed > free:
        raise ConfigError(
            f"{clips:,} clips of {steps} x {width} numbers need about {needed / 1e9:,.1f} GB of memory; there are "
            f"{free / 1e9:,.1f} GB",
            file=file.path,
            hint="extract a smaller read-out (--readout mean-std or mean), and give it by --features",
        )


def _readouts(file: FeatureFile, config: ProbeConfig) -> tuple[tuple[Readout, ...], list[str]]:
    """Those to be probed, and what is to be said of others."""
    held = MAKES[file.readout]
    unknown = [name for name in config.readouts or () if name not in held]
    if unknown:
        file.check(readout=unknown[0])  # type: ignore[arg-type]
    chosen = tuple(name for name in held if config.readouts is None or name in config.readouts)
    if file.facts["steps"] > 1 or file.readout in ("mean", "mean-std"):
        return chosen, []
    kept = tuple(name for name in chosen if not name.startswith("slots")) or chosen[:1]
    left = [name for name in chosen if name not in kept]
    said = f"one time step: {', '.join(left)} would be the mean over all, and are left out" if left else ""
    return kept, [said] if said else []


def _sequence(readouts: Sequence[Readout]) -> Readout | None:
    """What the attentive probe reads: the fullest of those that have steps."""
    return next((name for name in ("tokens", "slots-std", "slots") if name in readouts), None)


def _part(file: FeatureFile, features: Features, split: str, notes: list[str]) -> _Part:
    several = file.facts["rule"] == "multi-hot"
    mine = features.split == split
    labelled = np.array([bool(labels) for labels in features.labels], dtype=bool)
    rows = np.flatnonzero(mine & labelled)
    if not len(rows):
        raise DatasetError(
            f"no clip of split {split!r} has a label",
            file=file.path,
            hint="name a split whose labels are published (--test val --choose ...)",
        )
    if len(rows) < mine.sum():
        notes.append(f"{int(mine.sum()) - len(rows):,} clips of split {split!r} have no label and are left out")
    hot = torch.zeros(len(rows), len(file.facts["classes"]))
    for at, row in enumerate(rows):
        hot[at, list(features.labels[row])] = 1
    labels = Labels(class_id=features.class_ids[rows], hot=hot, several=several)
    return _Part(torch.from_numpy(features.array[rows]), labels)


def _class_notes(file: FeatureFile, labels: Labels) -> list[str]:
    """What is odd about the classes that probes learn from.

    Raises:
        DatasetError: fewer than two.
    """
    counts = labels.hot.sum(dim=0)
    names = file.facts["classes"]
    if int((counts > 0).sum()) < 2:
        raise DatasetError(
            f"the clips that probes learn from are of {int((counts > 0).sum())} class; there must be two",
            file=file.path,
            hint="name another split to learn from (--fit)",
        )
    notes = []
    for number, said in ((1, "have a single clip to learn from"), (0, "have no clip to learn from")):
        few = [names[i] for i in (counts == number).nonzero().flatten().tolist()]
        if few:
            shown = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
            notes.append(f"{len(few):,} of {len(names):,} classes {said}: {shown}")
    return notes

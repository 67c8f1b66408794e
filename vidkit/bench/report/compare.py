"""Two sets of results, cell by cell or arm by arm: what changed, and whether it is more than noise.

Cells are matched by what they are (mask, ratio, ... and recipe), since their hashes change with any setting; arms
of a study by their names, and compared in the study's first measure. Accuracy is noisy, and tested: over seeds
where both sides have two or more (Welch), else over the clips that both were tested on (`significance`), else there
is nothing to tell. Memory and tokens are exact. Speed means something on one machine only, and has an interval
where it was measured more than once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vidkit.bench.report.estimates import Estimate, holm, welch
from vidkit.bench.report.results import Line, Results, cells, check_same_dataset, lines, names, read_results
from vidkit.bench.report.significance import paired
from vidkit.bench.rows.outcomes import NoOutcomesError, outcomes, same_clips
from vidkit.bench.rows.schema import Row
from vidkit.bench.rows.specs import STUDIES, Measure
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.train.runs import flat

#: Of a cell's accuracy, the first that both sides have. A study has measures of its own.
ACCURACY = (
    Measure(name="top1", title="top-1 %", short="top-1", factor=100),
    Measure(name="mAP", title="mAP %", short="mAP", factor=100),
)

#: Below it, after Holm's correction for the number of cells, a change is called one.
LEVEL = 0.05

Verdict = Literal["better", "worse", "same predictions", "no change seen", "cannot tell", ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """One metric of a cell or arm on both sides, and whether it changed by more than noise."""

    metric: str
    """With its unit, which the others are in."""
    before: Estimate
    after: Estimate
    difference: float
    half: float | None
    """Half of a 95 % interval."""
    p: float | None
    basis: str
    """What `half` and `p` are over, or why they are not there."""
    verdict: Verdict
    lower: bool = False
    """Whether less is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """Memory or speed."""

    name: str
    before: float
    after: float
    note: str = ""
    """Why the two cannot be compared."""
    interval: tuple[float, float] | None = None
    """95 % interval of the ratio, where both sides were measured more than once."""

    @property
    def ratio(self) -> float | None:
        """After / before."""
        return None if self.note or self.before == 0 else self.after / self.before


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One cell or arm."""

    name: str
    status: str
    """both, "only in A: ...", "only in B: ..."; with what is missing."""
    settings: tuple[str, ...] = ()
    """Others than those that cells are matched by, and counts that follow from them."""
    accuracy: Accuracy | None = None
    memory: tuple[Figure, ...] = ()
    speed: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What changed from one set of results to another."""

    before: str
    after: str
    dataset: str | None
    what: str
    """cell or arm: what a change is of."""
    changes: tuple[Change, ...]
    facts: tuple[str, ...]
    """Versions, commit, machine: "torch: 2.14 in A, 2.15 in B"."""


def compare(before: Place, after: Place) -> Comparison:
    """
    Raises:
        ConfigError: no results, a damaged file, results of different datasets or studies.
    """
    first, second = read_results([before]), read_results([after])
    if first.study != second.study:
        one, other = (f"study {side.study!r}" if side.study else "a grid" for side in (first, second))
        raise ConfigError(
            f"{before} holds {one}, {after} {other}: there is nothing to compare",
            field="--compare",
            hint="give two folders of the same kind",
        )
    check_same_dataset(first, second, (str(before), str(after)))
    changes = [_change(one, other, first, second, name) for one, other, name in _matched(first, second)]
    return Comparison(
        before=str(before),
        after=str(after),
        dataset=first.dataset or second.dataset,
        what="cell" if first.study is None else "arm",
        changes=tuple(_judged(changes)),
        facts=tuple(_facts(first.rows, second.rows)),
    )


# --- which cells belong together -----------------------------------------------------------------


def _matched(first: Results, second: Results) -> list[tuple[Line | None, Line | None, str]]:
    """(cell of A, cell of B, name), in A's order, then what only B has."""
    ours, theirs = cells(lines(first)), list(cells(lines(second)))
    partner: dict[str, Line] = {}
    for same in (_same_hash, _same_cell(ours, theirs)):
        for line in ours:
            found = next((other for other in theirs if same(line, other)), None)
            if line.group not in partner and found is not None:
                partner[line.group] = found
                theirs.remove(found)
    called = names([*ours, *(line for line in theirs if line.group not in {one.group for one in ours})])
    found_pairs: list[tuple[Line | None, Line | None, str]] = [
        (line, partner.get(line.group), called[line.group]) for line in ours
    ]
    return [*found_pairs, *((None, line, called[line.group]) for line in theirs)]


def _same_hash(one: Line, other: Line) -> bool:
    return one.group == other.group


def _same_cell(ours: Sequence[Line], theirs: Sequence[Line]) -> Callable[[Line, Line], bool]:
    """By the cells' own fields, or an arm's name, where these name one on each side."""
    single = [{key for key, some in _by_key(side).items() if len(some) == 1} for side in (ours, theirs)]
    return lambda one, other: _key(one) == _key(other) and all(_key(one) in keys for keys in single)


def _key(line: Line) -> tuple[object, ...]:
    return line.kind, line.recipe, line.arm if line.first.arm else replace(line.cell, seed=0)


def _by_key(side: Sequence[Line]) -> dict[tuple[object, ...], list[Line]]:
    found: dict[tuple[object, ...], list[Line]] = {}
    for line in side:
        found.setdefault(_key(line), []).append(line)
    return found


# --- one cell ------------------------------------------------------------------------------------


def _change(one: Line | None, other: Line | None, first: Results, second: Results, name: str) -> Change:
    if one is None or other is None:
        line, side = (one, "A") if one is not None else (other, "B")
        assert line is not None
        return Change(name=name, status=f"only in {side}: {line.status}")
    words = [f"{side}: {line.status}" for side, line in (("A", one), ("B", other)) if line.status != "ok"]
    return Change(
        name=name,
        status="; ".join(["both", *words]),
        settings=tuple(_settings(one, other)),
        accuracy=_accuracy(one, other, first, second),
        memory=tuple(_memory(one, other)),
        speed=tuple(_speed(one, other)),
    )


def _settings(one: Line, other: Line) -> list[str]:
    """What differs though the cells have one name."""
    counts = {
        "visible tokens": "visible",
        "tokens": "tokens",
        "parameters": "parameters",
        "forward MACs": "forward_macs",
    }
    found = [
        f"{word}: {getattr(one.first.cell, field):,} in A, {getattr(other.first.cell, field):,} in B"
        for word, field in counts.items()
        if one.first.cell and getattr(one.first.cell, field) != getattr(other.first.cell, field)
    ]
    if not one.rows or not other.rows:
        return found
    ours, theirs = (_configured(line.rows[0]) for line in (one, other))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            found.append(f"{key}: {_said(ours, key)} in A, {_said(theirs, key)} in B")
    return found


def _configured(row: Row) -> dict[str, Any]:
    """Settings under dotted names, without seeds."""
    return {key: value for key, value in flat(row.config).items() if key.rpartition(".")[2] != "seed"}


def _said(settings: Mapping[str, Any], key: str) -> str:
    return str(settings[key]) if key in settings else "none"


def _accuracy(one: Line, other: Line, first: Results, second: Results) -> Accuracy | None:
    measures = STUDIES[one.first.arm.study].measures if one.first.arm else ACCURACY
    measure = next((m for m in measures if one.over_seeds(m) and other.over_seeds(m)), None)
    before, after = (None if measure is None else line.over_seeds(measure) for line in (one, other))
    if measure is None or before is None or after is None:
        return None
    known: dict[str, Any] = {
        "metric": measure.title,
        "before": before,
        "after": after,
        "verdict": "",
        "lower": measure.lower,
    }
    known["difference"] = after.mean - before.mean
    if _same_predictions(one.rows, other.rows):
        return Accuracy(**{**known, "half": 0.0, "p": None, "basis": "", "verdict": "same predictions"})
    values = [[*line.by_seed(measure).values()] for line in (one, other)]
    over_seeds = welch(*values)
    if over_seeds is not None:
        basis = f"over seeds ({len(values[0])} and {len(values[1])}), Welch"
        return Accuracy(**{**known, "half": over_seeds.half, "p": over_seeds.p, "basis": basis})
    unknown: dict[str, Any] = {"half": None, "p": None, "verdict": "cannot tell"}
    why = "one seed" if min(map(len, values)) == 1 else "seeds without any spread"
    if measure.name != "top1":
        return Accuracy(**{**known, **unknown, "basis": f"{why}: cannot tell"})
    try:
        sides = outcomes(one.rows, first.folders), outcomes(other.rows, second.folders)
        same_clips(*sides)
    except NoOutcomesError as reason:
        return Accuracy(**{**known, **unknown, "basis": f"{why}: cannot tell; nor over clips: {reason}"})
    found = paired(sides[1].right, sides[0].right)
    basis = f"{why}: over {found.clips:,} clips, of these models only"
    return Accuracy(**{**known, "half": 100 * found.half, "p": found.p_clips, "basis": basis})


def _same_predictions(ours: Sequence[Row], theirs: Sequence[Row]) -> bool:
    hashes = [{row.plan.seed: row.predictions_sha256 for row in side} for side in (ours, theirs)]
    return hashes[0] == hashes[1] and bool(hashes[0]) and None not in hashes[0].values()


def _judged(changes: Sequence[Change]) -> list[Change]:
    """Verdicts, by p values corrected for their number."""
    tested = [change.accuracy.p for change in changes if change.accuracy and change.accuracy.p is not None]
    corrected = iter(holm(tested))
    found = []
    for change in changes:
        accuracy = change.accuracy
        if accuracy is not None and accuracy.p is not None:
            sign: Verdict = "better" if (accuracy.difference < 0) == accuracy.lower else "worse"
            change = replace(
                change,
                accuracy=replace(accuracy, verdict=sign if next(corrected) < LEVEL else "no change seen"),
            )
        found.append(change)
    return found


# --- what is exact, and speed --------------------------------------------------------------------


def _memory(one: Line, other: Line) -> list[Figure]:
    found = []
    fields: dict[str, Callable[[Row], int | None]] = {
        "predicted": lambda row: row.predicted_bytes,
        "measured": lambda row: row.measured_bytes,
    }
    for word, of in fields.items():
        note = _how(one.rows, other.rows)
        if word == "measured":
            note = note or _machines(one.rows, other.rows)
        found += _figure(f"{word} GB", one, other, lambda row, of=of: _scaled(of(row)), note)  # type: ignore[misc]
    return found


def _scaled(value: int | None) -> float | None:
    return None if value is None else value / 1e9


def _speed(one: Line, other: Line) -> list[Figure]:
    note = _machines(one.rows, other.rows)
    step = _figure("step clips/s", one, other, lambda row: row.step_clips_per_s, note or _how(one.rows, other.rows))
    return step + _figure("clips/s with loading", one, other, lambda row: row.clips_per_s, note)


def _figure(name: str, one: Line, other: Line, of: Callable[[Row], float | None], note: str) -> list[Figure]:
    before, after = one.value(of), other.value(of)
    if before is None or after is None:
        return []
    interval = None if note else _ratio_interval(*(list(map(of, line.rows)) for line in (one, other)))
    return [Figure(name=name, before=before.mean, after=after.mean, note=note, interval=interval)]


def _ratio_interval(before: Sequence[float | None], after: Sequence[float | None]) -> tuple[float, float] | None:
    """Of after / before, by Welch's t over logarithms. Seeds share a measurement of a step: the same number counts
    once.
    """
    logs = [[math.log(value) for value in dict.fromkeys(side) if value] for side in (before, after)]
    found = welch(*logs)
    if found is None:
        return None
    return math.exp(found.value - found.half), math.exp(min(found.value + found.half, 700.0))


def _how(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    """Whether a step was another one."""
    first, second = (
        {(row.device, row.batch, row.precision) for row in side if row.batch is not None} for side in (ours, theirs)
    )
    return "" if first == second else "other batch, precision or device"


def _machine(row: Row) -> tuple[object, ...]:
    gpu = row.machine.get("accelerator") or {}
    return row.machine.get("cpu"), row.machine.get("cores"), gpu.get("name"), gpu.get("devices")


def _machines(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    known = {_machine(row) for row in itertools.chain(ours, theirs)}
    if any(cpu is None for cpu, *_ in known):
        return "machine not known"
    return "" if len(known) == 1 else "other machine"


def _facts(ours: Sequence[Row], theirs: Sequence[Row]) -> list[str]:
    """What the rows say of how they were made, where the sides differ."""
    sides = [_about(rows) for rows in (ours, theirs)]
    return [
        f"{name}: {sides[0].get(name) or 'not known'} in A, {sides[1].get(name) or 'not known'} in B"
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(name) != sides[1].get(name)
    ]


def _about(rows: Sequence[Row]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        cpu, cores, gpu, _ = _machine(row)
        machine = ", ".join([str(cpu), f"{cores} cores", *([str(gpu)] if gpu else [])])
        about = {"commit": row.git, **row.versions, "machine": machine if cpu else None}
        for name, value in about.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: " and ".join(values) for name, values in found.items()}

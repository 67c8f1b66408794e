"""Every contrast in every measure: what the table of verdicts is made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vidkit.bench.report.contrasts.paired import Paired, Verdict, paired, seeds_needed, verdict
from vidkit.bench.report.contrasts.values import ERROR, FINETUNE, measures, shares, value
from vidkit.bench.report.estimates import holm
from vidkit.bench.report.significance import paired as over_clips
from vidkit.bench.rows.outcomes import NoOutcomesError, outcomes, same_clips
from vidkit.bench.rows.schema import Contrast, Row
from vidkit.data.storage.places import Place

#: By seed.
Rows = Mapping[int, Row]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A contrast in one measure."""

    contrast: str
    kind: str
    measure: str
    paired: Paired | None
    """In points of percent, of an error in percent of the second arm's; None: no seed has both sides."""
    corrected: float | None = None
    """p, by Holm over the contrasts of this measure."""
    verdict: Verdict = "undecided"
    needed: int | None = None
    """Pairs of seeds that would decide, of what is undecided; None: unknown, or more than are looked at."""
    contrasts: int = 1
    """Of this measure, that were tested."""
    p_clips: float | None = None
    """Over the tested clips, of these models only; of a pair's fine-tuning with predictions."""
    before: tuple[tuple[float, float], ...] = ()
    """(share, difference) at earlier shares of pre-training."""
    late: bool = False
    """Named when there were results already."""


def findings(
    contrasts: Sequence[Contrast], rows: Sequence[Row], folders: Mapping[str, Place]
) -> tuple[Finding, ...]:
    """Of each contrast in turn, by every measure that rows have.

    Args:
        folders: where each row's results lie, by its config hash.
    """
    groups: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row.status == "ok":
            groups.setdefault(row.plan.group, {})[row.plan.seed] = row
    named = measures(row for some in groups.values() for row in some.values())
    found: dict[tuple[int, str], Finding] = {}
    for name in named:
        some = [_finding(one, name, [groups.get(group, {}) for group in one.groups], folders) for one in contrasts]
        for number, finding in enumerate(_judged(some)):
            found[number, name] = finding
    return tuple(found[number, name] for number in range(len(contrasts)) for name in named)


def _judged(some: Sequence[Finding]) -> list[Finding]:
    """With verdicts, all of one measure."""
    tested = [one.paired.p for one in some if one.paired is not None and one.paired.p is not None]
    corrected = iter(holm(tested))
    found = []
    for one in some:
        pair = one.paired
        if pair is not None:
            p = None if pair.p is None else next(corrected)
            said = verdict(pair, p)
            unknown = said != "undecided" or pair.p is None or pair.spread is None
            needed = None if unknown or pair.spread is None else seeds_needed(round(pair.spread, 6), len(tested))
            one = replace(one, corrected=p, verdict=said, needed=needed, contrasts=len(tested))
        found.append(one)
    return found


def _finding(one: Contrast, name: str, sides: Sequence[Rows], folders: Mapping[str, Place]) -> Finding:
    differences = _differences(one, name, sides, 1.0)
    early = []
    for share in shares(row for side in sides for row in side.values()):
        at = _differences(one, name, sides, share) if share < 1 else []
        early += [(share, statistics.fmean(at))] if at else []
    clips = _over_clips(sides, folders) if one.kind == "pair" and name == FINETUNE else None
    return Finding(
        contrast=one.name,
        kind=one.kind,
        measure=name,
        paired=paired(differences) if differences else None,
        p_clips=clips,
        before=tuple(early),
        late=one.rows > 0,
    )


def _differences(one: Contrast, name: str, sides: Sequence[Rows], share: float) -> list[float]:
    """A number for each seed that every side has."""
    found = []
    for seed in sorted(set.intersection(*({*side} for side in sides))):
        rows = [side[seed] for side in sides]
        values = [value(row, name, share) for row in rows]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            continue
        if one.kind == "pair":
            first, second = known
            found.append(100 * (first / second - 1) if name == ERROR else first - second)
        else:
            found.append(_trend([row.plan.in_grid.settings.ratio for row in rows], known, relative=name == ERROR))
    return found


def _trend(ratios: Sequence[float], values: Sequence[float], *, relative: bool) -> float:
    """The change from the lowest to the highest ratio along the line of least squares; of an error in percent of
    its mean.
    """
    slope = statistics.linear_regression(ratios, values).slope
    change = slope * (max(ratios) - min(ratios))
    return 100 * change / statistics.fmean(values) if relative else change


def _over_clips(sides: Sequence[Rows], folders: Mapping[str, Place]) -> float | None:
    try:
        first, second = (outcomes(tuple(side.values()), folders) if side else None for side in sides)
        if first is None or second is None:
            return None
        same_clips(first, second)
    except NoOutcomesError:
        return None
    return over_clips(first.right, second.right).p_clips

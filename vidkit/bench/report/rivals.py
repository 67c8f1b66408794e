"""Each cell of a table against the best other one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidkit.bench.report.significance import Paired, paired
from vidkit.bench.rows.outcomes import NoOutcomesError, Outcomes, outcomes, same_clips
from vidkit.bench.rows.schema import Row
from vidkit.data.storage.places import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """The best other cell, seen from one cell."""

    group: str
    difference: float
    """This cell's mean top-1 less that one's, in points of percent."""
    paired: Paired | None
    why: str | None
    """There is no `paired`."""


def rivals(rows: Sequence[Row], folders: Mapping[str, Place]) -> dict[str, Rival]:
    """By group, for the cells that have a top-1 accuracy; empty where there are fewer than two. Cells with the same
    mean rank in the order of their rows.
    """
    cells: dict[str, list[Row]] = {}
    for row in rows:
        if row.status == "ok" and "top1" in row.metrics:
            cells.setdefault(row.plan.group, []).append(row)
    if len(cells) < 2:
        return {}
    mean = {group: statistics.fmean(row.metrics["top1"] for row in some) for group, some in cells.items()}
    best, second = sorted(mean, key=lambda group: -mean[group])[:2]
    known: dict[str, Outcomes | NoOutcomesError] = {}
    for group, some in cells.items():
        try:
            known[group] = outcomes(some, folders)
        except NoOutcomesError as reason:
            known[group] = reason
    found = {}
    for group in cells:
        other = second if group == best else best
        made, why = _paired(known[group], known[other])
        found[group] = Rival(group=other, difference=100 * (mean[group] - mean[other]), paired=made, why=why)
    return found


def _paired(one: Outcomes | NoOutcomesError, other: Outcomes | NoOutcomesError) -> tuple[Paired | None, str | None]:
    for side in (one, other):
        if isinstance(side, NoOutcomesError):
            return None, str(side)
    assert isinstance(one, Outcomes)
    assert isinstance(other, Outcomes)
    try:
        same_clips(one, other)
    except NoOutcomesError as reason:
        return None, str(reason)
    return paired(one.right, other.right), None

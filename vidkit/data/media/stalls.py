"""Where a container's clock stands still, or all but, though pictures go on.

Programs that copy streams write a time that would not increase as the last one and one tick. A clock that was set
back on the way so becomes a run of pictures a tick apart, and what follows comes too early.

A variable rate has short gaps as well. What tells them apart: the gaps of a stall are too short for any camera,
there are several in a row, packets or the coded stream say that pictures last far longer, and no pause before them
is made up for, as after a camera's that hung and then delivered all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

#: Pictures so near to each other are a clock's ticks. The fastest cameras that write such files need as long.
_SHORT_S = Fraction(1, 1000)

#: So many short gaps in a row are no accident.
_IN_A_ROW = 3

#: What pictures last is so many times the gap, or more.
_LONGER = 8


@dataclass(frozen=True, slots=True)
class Stall:
    """Pictures `first` to `last`, in the order shown, that have all but one time; each lasts `step` ticks."""

    first: int
    last: int
    step: Fraction


def find_stalls(
    times: Sequence[int | None], lasts: Sequence[int], time_base: Fraction, own: Fraction
) -> tuple[Stall, ...]:
    """The stalls in the times of pictures.

    Args:
        times: of each picture in the order shown, in units of `time_base`; None where it has none.
        lasts: how long its packet says that it lasts, likewise; 0 where it says nothing.
        own: pictures a second, as the coded stream itself says; 0 where it says nothing.
    """
    short = max(1, int(_SHORT_S / time_base))
    found, first = [], 0
    for k in range(1, len(times) + 1):
        if k < len(times) and _is_short(times[k - 1], times[k], short):
            continue
        if k - 1 - first >= _IN_A_ROW:
            stall = _stall(times, lasts, time_base, own, first, k - 1)
            if stall is not None:
                found.append(stall)
        first = k
    return tuple(found)


def without_stalls(times: Sequence[int | None], stalls: Sequence[Stall]) -> tuple[list[int | None], int]:
    """(times without those within stalls, how often what follows one was moved to follow on)."""
    left, moved, offset, past = list(times), 0, 0, 0
    for stall in stalls:
        left[past : stall.last + 1] = _later(times[past : stall.last + 1], offset)
        start, after = left[stall.first], stall.last + 1
        left[stall.first + 1 : after] = [None] * (stall.last - stall.first)
        past = after
        if start is None or after == len(times):
            continue
        due, then = start + stall.step * (after - stall.first), times[after]
        if then is not None and 2 * (then + offset - start) < due - start:
            offset, moved = round(due) - then, moved + 1
    left[past:] = _later(times[past:], offset)
    return left, moved


def _later(times: Sequence[int | None], by: int) -> list[int | None]:
    return [None if time is None else time + by for time in times]


def _is_short(time: int | None, after: int | None, short: int) -> bool:
    return time is not None and after is not None and 0 <= after - time <= short


def _stall(
    times: Sequence[int | None], lasts: Sequence[int], time_base: Fraction, own: Fraction, first: int, last: int
) -> Stall | None:
    start, end = times[first], times[last]
    assert start is not None
    assert end is not None
    gap = Fraction(end - start, last - first)
    then = times[last + 1] if last + 1 < len(times) else None
    step = _step(times, lasts[first : last + 1], time_base, own, max(gap, Fraction(1)))
    if step is None:
        return None
    if not gap and (then is None or 2 * (then - start) >= step * (last + 1 - first)):
        return None  # coarse times, or equal ones to the end
    before = times[first - 1] if first else None
    if before is not None and 2 * (start - before) >= step * (last - first):
        return None  # a pause that is made up for
    return Stall(first, last, step)


def _step(
    times: Sequence[int | None], lasts: Sequence[int], time_base: Fraction, own: Fraction, gap: Fraction
) -> Fraction | None:
    """Ticks that each of the pictures lasts; None where nothing says that it is far longer than `gap`."""
    said = median_low(lasts)
    if said >= _LONGER * gap:
        return Fraction(said)
    # a container that keeps no durations makes them of the gaps: what others say is to agree
    short = _SHORT_S / time_base
    gaps = (b - a for a, b in pairwise(times) if a is not None and b is not None)
    others = [between for between in gaps if between > max(Fraction(1), short)]
    if not others or median_low(others) < _LONGER * gap:
        return None
    if 0 < own < 1 / _SHORT_S:  # a rate as fast as that is a clock's, too
        step = 1 / (own * time_base)
        return step if step >= _LONGER * gap else None
    return Fraction(median_low(others)) if gap < short else None

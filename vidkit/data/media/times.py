"""When the pictures of a stream are shown, where its packets alone do not tell.

The pictures come in the order in which they are shown, for that is how a decoder gives them; what is to be
found are their times. Those that are usable stay, others are made from their neighbours or from the rate that
the stream states, and a warning says so.

A gap is kept however long it is: a still that stays for minutes is a good file in MP4, Matroska and all others
that write a time for each picture. There a clock that jumped ahead cannot be told from a still, so that the times
stay, the ledger gets a warning (`frame_index.long_gaps`), and strict decoding lets it pass: nothing was made up.
Only in MPEG-TS, MPEG-PS and DV, whose clock runs on from picture to picture, is a gap above ten seconds a jump;
there later frames follow on, and strict decoding refuses the file. A clock that runs back, or stands still
(`stalls`), is mended in all containers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

from vidkit.data.media.stalls import Stall, without_stalls

#: Of a stream's times, the part that may be in disorder before none of them is believed.
_DISORDER = 0.1

#: Ticks from one picture to the next that made times have room for, and how many a second MP4 can count.
_FINE = 1000
_MOST_TICKS_A_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ShownTimes:
    """A time for each picture, strictly increasing, in units of `time_base`."""

    pts: tuple[int, ...]
    time_base: Fraction
    lasts: int
    """Ticks for which the last picture is shown."""
    warnings: tuple[str, ...] = ()


def increasing(times: Sequence[int | None]) -> bool:
    """Whether all times are there, and each is after the one before."""
    return None not in times and all(a < b for a, b in pairwise(times))  # type: ignore[operator]


def from_rate(count: int, time_base: Fraction, rate: Fraction) -> ShownTimes:
    """Pictures at a constant rate, in the stream's ticks where they are whole."""
    tick = 1 / (rate * time_base)
    if tick.denominator != 1:
        time_base, tick = 1 / rate, Fraction(1)
    return ShownTimes(tuple(i * int(tick) for i in range(count)), time_base, int(tick))


def mend(
    times: Sequence[int | None],
    time_base: Fraction,
    *,
    stated: Fraction,
    own: Fraction,
    jump: Fraction | None,
    whose: str = "the stated rate",
    stalls: Sequence[Stall] = (),
) -> ShownTimes:
    """Times for all pictures from those that some of them have.

    Args:
        times: of each picture in the order shown, in units of `time_base`; None where it has none.
        stated: pictures a second, as the container says.
        own: likewise, as the coded stream itself says: it holds where the container's times are worth nothing.
        jump: gaps above this many ticks are jumps of the clock; None where a gap may have any length.
        whose: what `stated` is, in words.
        stalls: where the times stand still: those within are none, and what follows comes after them.
    """
    times, moved = without_stalls(times, stalls)
    count = len(times)
    told = sum(time is not None for time in times)
    if not told:
        made = from_rate(count, time_base, stated)
        return _warned(made, f"no frame has a time: made from {whose}, {_per_second(stated)}")
    step = _usual_step(times) or (stalls[0].step if stalls else 1 / (stated * time_base))
    kept, jumps, disorder = _unrolled(times, step, jump)
    if disorder + jumps > max(1, _DISORDER * told):
        made = from_rate(count, time_base, own)
        return _warned(made, f"the times are in disorder: made from the coded stream's rate, {_per_second(own)}")
    if told > 1 and kept.count(None) == count - 1:
        made = from_rate(count, time_base, own)
        return _warned(made, f"all times are equal: made from the coded stream's rate, {_per_second(own)}")
    made = _filled(kept, time_base, step)
    notes = []
    missing = kept.count(None)
    if jumps:
        notes.append(f"the clock jumps {jumps} time{'s' * (jumps > 1)}: later frames follow on")
    if moved:
        often = f"{moved} time{'s' * (moved > 1)}"
        notes.append(
            f"the clock stands still {often}: {missing} of {count} frames are spread, later ones follow on"
        )
    elif missing:
        notes.append(f"{missing} of {count} frames have no usable time: made from their neighbours")
    return _warned(made, *notes)


def _warned(made: ShownTimes, *notes: str) -> ShownTimes:
    return replace(made, warnings=tuple(f"times were made: {note}" for note in notes))


def _per_second(rate: Fraction) -> str:
    return f"{float(rate):g} frames a second"


def _usual_step(times: Sequence[int | None]) -> Fraction | None:
    """The usual gap between neighbours that both have a time, in ticks."""
    gaps = [b - a for a, b in pairwise(times) if a is not None and b is not None and b > a]
    return Fraction(median_low(gaps)) if gaps else None


def _unrolled(
    times: Sequence[int | None], step: Fraction, jump: Fraction | None
) -> tuple[list[Fraction | None], int, int]:
    """(increasing times or None, how often the clock jumped, how many times were not usable).

    A clock that ran far back, or ahead where it may not, goes on one step after the last picture; a time that
    only its own picture contradicts is none.
    """
    kept: list[Fraction | None] = [None] * len(times)
    known = [(i, time) for i, time in enumerate(times) if time is not None]
    jumps = disorder = 0
    offset = Fraction(0)
    last_i, last = -1, Fraction(0)
    for place, (i, time) in enumerate(known):
        now = time + offset
        if last_i >= 0:
            then = known[place + 1][1] + offset if place + 1 < len(known) else None
            if now == last:
                continue  # a coarse time, but in order
            if then is not None and (last < then < now or now < last < then):
                disorder += 1  # this one alone does not fit
                continue
            if now < last or (jump is not None and now - last > jump):
                jumps += 1
                due = last + step * (i - last_i)
                offset += due - now
                now = due
        kept[i], last_i, last = now, i, now
    return kept, jumps, disorder


def _filled(kept: list[Fraction | None], time_base: Fraction, step: Fraction) -> ShownTimes:
    """Times between those that are kept at even distances, and before and after them by steps."""
    known = [(i, time) for i, time in enumerate(kept) if time is not None]
    exact: list[Fraction] = []
    for (i, time), (j, after) in pairwise(known):
        exact += [time + (after - time) * k / (j - i) for k in range(j - i)]
    (first_i, first), (last_i, last) = known[0], known[-1]
    exact.append(last)
    gaps = [b - a for a, b in pairwise(exact)]
    step = sorted(gaps)[(len(gaps) - 1) // 2] if gaps else step
    exact = [first - step * k for k in range(first_i, 0, -1)] + exact
    exact += [last + step * k for k in range(1, len(kept) - last_i)]
    finer = 1
    if any(time.denominator != 1 for time in exact):  # ticks too coarse for what was put between them
        most = _MOST_TICKS_A_SECOND * time_base.numerator // time_base.denominator
        finer = max(1, min(-int(-_FINE // min(step, Fraction(1))), most))
    pts: list[int] = []
    for time in exact:
        pts.append(max(round(time * finer), pts[-1] + 1) if pts else round(time * finer))
    return ShownTimes(tuple(pts), time_base / finer, max(1, round(step * finer)))

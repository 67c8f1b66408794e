"""A clock that stands still is told from a variable rate."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidkit.data.media.stalls import Stall, find_stalls, without_stalls
from vidkit.data.media.times import mend

MS, FINE = Fraction(1, 1000), Fraction(1, 16_000)
EVEN = [40] * 10


def stalls(
    gaps: list[int], *, lasts: list[int] | int = 40, own: int = 25, tick: Fraction = MS
) -> tuple[Stall, ...]:
    times = list(accumulate(gaps, initial=0))
    said = [lasts] * len(times) if isinstance(lasts, int) else lasts
    return find_stalls(times, said, tick, Fraction(own))


@pytest.mark.parametrize(
    ("gaps", "want"),
    [
        ([*EVEN, 1, 1, 1, 1], [(10, 14)]),
        ([*EVEN, 1, 1, 1, 12, *EVEN], [(10, 13)]),
        ([1, 1, 1, 40, 40], [(0, 3)]),
        ([*EVEN, 0, 0, 0, 5, *EVEN], [(10, 13)]),
        ([*EVEN, 1, 1, 1, 7, *EVEN, 1, 1, 1], [(10, 13), (24, 27)]),
    ],
    ids=["end", "middle", "start", "equal", "twice"],
)
def test_what_stands_still(gaps: list[int], want: list[tuple[int, int]]) -> None:
    found = stalls(gaps)
    assert [(stall.first, stall.last) for stall in found] == want
    assert {stall.step for stall in found} == {40}
    times = list(accumulate(gaps, initial=0))
    made = mend(times, MS, stated=Fraction(900), own=Fraction(25), jump=None, stalls=found)
    assert made.warnings
    assert {(b - a) * made.time_base for a, b in pairwise(made.pts)} == {40 * MS}


@pytest.mark.parametrize(
    ("gaps", "how"),
    [
        ([*EVEN, 1, 1, *EVEN], {}),
        ([40, 1] * 20, {}),
        ([16, 100, 5, 3, 4, 2, 33, 400], {}),
        ([*EVEN, 1000, *[1] * 25, 40, 40], {}),
        ([1] * 100, {"lasts": 1, "own": 1000}),
        ([1] * 100, {"lasts": 1, "own": 25}),
        ([1] * 100, {"lasts": 0, "own": 0}),
        ([*EVEN, *[1] * 30], {"lasts": 0, "own": 0}),
        ([*EVEN, *[1] * 30], {"lasts": [*EVEN, *[1] * 31], "own": 1000}),
        ([1] * 30, {"tick": Fraction(1, 25), "lasts": 1}),
        (
            [4, 4, 4, 4, 1, 1, 1, 1, 4],
            {"tick": Fraction(1, 100), "lasts": [4, 4, 4, 4, 1, 1, 1, 1, 4, 4], "own": 0},
        ),
        ([0, 0, 0, 160, 0, 0, 0, 160], {}),
        ([0] * 20, {}),
    ],
    ids=[
        *("two", "pairs", "variable", "caught-up", "fast", "fast-and-slow-own", "untold", "burst", "fast-part"),
        *("frames", "gif", "coarse", "equal"),
    ],
)
def test_a_variable_rate_stays(gaps: list[int], how: dict[str, object]) -> None:
    assert stalls(gaps, **how) == ()  # type: ignore[arg-type]


def test_containers_that_make_durations_of_gaps() -> None:
    gaps = [*[640] * 10, *[1] * 10]
    assert [stall.step for stall in stalls(gaps, lasts=[*gaps, 640], tick=FINE)] == [640]
    assert [stall.step for stall in stalls(gaps, lasts=[*gaps, 640], tick=FINE, own=0)] == [640]
    copied = [*[640] * 10, *[16] * 10]  # from Matroska: a tick there is many here
    assert [stall.step for stall in stalls(copied, lasts=[*copied, 640], tick=FINE)] == [640]
    assert stalls(copied, lasts=[*copied, 640], tick=FINE, own=0) == ()


@given(
    st.lists(st.one_of(st.none(), st.sampled_from([0, 1, 2, 40, 900, -500])), min_size=1, max_size=40),
    st.sampled_from([0, 1, 40]),
)
def test_any_times_can_be_asked(gaps: list[int | None], lasts: int) -> None:
    times, now = [], 0
    for gap in gaps:
        now += gap or 0
        times.append(None if gap is None else now)
    found = find_stalls(times, [lasts] * len(times), MS, Fraction(25))
    assert all(a.last < b.first or a.last == b.first for a, b in pairwise(found))
    left, moved = without_stalls(times, found)
    assert len(left) == len(times)
    assert moved <= len(found)
    within = {k for stall in found for k in range(stall.first + 1, stall.last + 1)}
    assert {k for k, time in enumerate(left) if time is None} == within | {
        k for k, time in enumerate(times) if time is None
    }
    made = mend(times, MS, stated=Fraction(25), own=Fraction(25), jump=None, stalls=found)
    assert all(a < b for a, b in pairwise(made.pts))

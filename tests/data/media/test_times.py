"""Times that are made: all pictures have one, in order, and whoever had a usable one keeps it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidkit.data.media.times import from_rate, increasing, mend

TICKS = Fraction(1, 1000)


def mended(times: list[int | None], *, jump: int | None = None, stated: int = 25, own: int = 25) -> list[float]:
    made = mend(
        times,
        TICKS,
        stated=Fraction(stated),
        own=Fraction(own),
        jump=None if jump is None else Fraction(jump),
    )
    assert made.warnings
    assert all(said.startswith("times were made") for said in made.warnings)
    return [float(time * made.time_base * 1000) for time in made.pts]


@pytest.mark.parametrize(
    ("times", "want"),
    [
        ([None, None, 80, 120], [0, 40, 80, 120]),
        ([0, 40, None, None, 160, 200], [0, 40, 80, 120, 160, 200]),
        ([0, 40, None], [0, 40, 80]),
        ([None, None, None], [0, 40, 80]),
        ([0, 0, 0, 120, 120, 120], [0, 40, 80, 120, 160, 200]),
        ([500, 540, 0, 40, 80, 120, 160, 200, 240, 280, 320], [500 + 40 * k for k in range(11)]),
        ([0, 40, 99_000, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 100, 40, 120, 160], [0, 20, 40, 120, 160]),
        ([7, 7, 7, 7], [0, 40, 80, 120]),
        ([0, 120, 80, 160, 40, 280, 240, 320, 200], [40 * k for k in range(9)]),
        ([0, None, 1], [0, 0.5, 1]),
    ],
    ids=["lead", "gap", "end", "none", "coarse", "back", "wild", "one-early", "equal", "disorder", "fine"],
)
def test_what_is_made_of_what(times: list[int | None], want: list[float]) -> None:
    assert mended(times) == pytest.approx(want, abs=0.01)


def test_a_gap_is_a_jump_only_where_a_clock_runs() -> None:
    times: list[int | None] = [0, 40, 80, 50_000, 50_040, None]
    assert mended(times) == [0, 40, 80, 50_000, 50_040, 50_080]
    assert mended(times, jump=10_000) == [0, 40, 80, 120, 160, 200]


def test_the_coded_streams_rate_counts_where_times_are_worth_nothing() -> None:
    scrambled: list[int | None] = [0, 3, 2, 4, 1, 7, 6, 8, 5]
    assert mended(scrambled, stated=1, own=50) == [20 * k for k in range(9)]
    assert mended([None, None], stated=10, own=50) == [0, 100]


@given(
    st.lists(st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40)), min_size=1, max_size=40),
    st.sampled_from([Fraction(1), Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 1_200_000)]),
    st.sampled_from([Fraction(25), Fraction(30_000, 1001), Fraction(1, 3), Fraction(240)]),
    st.sampled_from([None, Fraction(10_000)]),
)
def test_any_times_become_increasing_ones(
    times: list[int | None], base: Fraction, rate: Fraction, jump: Fraction | None
) -> None:
    made = mend(times, base, stated=rate, own=rate, jump=jump)
    assert len(made.pts) == len(times)
    assert all(a < b for a, b in pairwise(made.pts))
    assert made.lasts >= 1
    assert made.time_base.denominator < 1 << 31
    assert mend(times, base, stated=rate, own=rate, jump=jump) == made


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.data())
def test_usable_times_stay(gaps: list[int], data: st.DataObject) -> None:
    times = [sum(gaps[:k]) for k in range(len(gaps))]
    holes = data.draw(st.sets(st.integers(0, len(times) - 1), max_size=len(times) - 1))
    left = [None if k in holes else time for k, time in enumerate(times)]
    if not holes:
        assert increasing(left)
        return
    made = mend(left, TICKS, stated=Fraction(25), own=Fraction(25), jump=None)
    for k, time in enumerate(left):
        if time is not None:
            assert made.pts[k] * made.time_base == time * TICKS


def test_a_rate_is_exact() -> None:
    made = from_rate(4, Fraction(1, 1000), Fraction(30_000, 1001))
    assert [time * made.time_base for time in made.pts] == [k * Fraction(1001, 30_000) for k in range(4)]
    assert from_rate(3, Fraction(1, 1000), Fraction(25)).pts == (0, 40, 80)

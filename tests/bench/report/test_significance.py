"""Paired tests over clips: against every permutation, McNemar's test, and what they promise on random data."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from tests.reference import ref_significance as reference
from vidkit.bench.report.significance import paired, permutation_p


def right(seeds: int, clips: int, share: float, number: int) -> np.ndarray:
    return np.random.default_rng(number).random((seeds, clips)) < share


@pytest.mark.parametrize("number", range(12))
def test_every_permutation(number: int) -> None:
    draw = np.random.default_rng(number)
    values = draw.integers(-4, 5, size=draw.integers(1, 13))
    assert permutation_p(values) == pytest.approx(reference.permutation_p(values.tolist()), abs=1e-12)
    if len(values) > 1:  # scipy's takes two samples; the second is nothing, so that swaps are signs
        tried = stats.permutation_test(
            (values.astype(float), np.zeros(len(values))),
            lambda a, b, axis: np.abs(np.sum(a - b, axis=axis)),
            permutation_type="samples",
            n_resamples=np.inf,
            alternative="greater",
            vectorized=True,
        )
        assert permutation_p(values) == pytest.approx(tried.pvalue, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 12), (7, 7), (0, 20), (150, 210)])
def test_one_seed_is_mcnemars_test(first: int, second: int) -> None:
    one = np.array([[True] * first + [False] * second + [True] * 30])
    other = np.array([[False] * first + [True] * second + [True] * 30])
    found = paired(one, other)
    assert found.p_clips == pytest.approx(reference.mcnemar_p(first, second), abs=1e-12)
    assert found.p_clips == pytest.approx(stats.binomtest(first, first + second).pvalue, abs=1e-12)
    assert found.p_seeds is None
    assert found.difference == pytest.approx((first - second) / (first + second + 30))


@pytest.mark.parametrize("seeds", [(1, 3), (2, 2), (3, 2)])
def test_seeds_are_averaged_on_each_clip(seeds: tuple[int, int]) -> None:
    one, other = right(seeds[0], 12, 0.8, 1), right(seeds[1], 12, 0.4, 2)
    found = paired(one, other)
    each = one.mean(axis=0) - other.mean(axis=0)
    assert found.p_clips == pytest.approx(reference.permutation_p(each.tolist()), abs=1e-12)
    assert found.difference == pytest.approx(each.mean())


def test_more_seeds_alone_are_no_evidence() -> None:
    """The same answers again and again, as if each were a sample, would make anything significant."""
    one, other = right(1, 40, 0.6, 3), right(1, 40, 0.4, 4)
    once, often = paired(one, other), paired(one.repeat(5, axis=0), other.repeat(5, axis=0))
    assert often.p_clips == pytest.approx(once.p_clips, abs=1e-12)
    assert often.half == pytest.approx(once.half)


def test_sides_and_order_do_not_matter() -> None:
    one, other = right(3, 50, 0.7, 5), right(2, 50, 0.5, 6)
    order = np.random.default_rng(7).permutation(50)
    forth, back, mixed = paired(one, other), paired(other, one), paired(one[:, order], other[:, order])
    assert back.difference == pytest.approx(-forth.difference)
    for found in (back, mixed):
        assert (found.half, found.p_clips, found.p_seeds) == pytest.approx(
            (forth.half, forth.p_clips, forth.p_seeds)
        )


def test_no_difference_at_all() -> None:
    one = right(2, 20, 0.5, 8)
    found = paired(one, one)
    assert (found.difference, found.p_clips, found.p_seeds) == (0.0, 1.0, 1.0)
    assert found.half > 0, "few clips do not prove that there is no difference"


def test_all_clips_against_none() -> None:
    found = paired(np.ones((1, 6), bool), np.zeros((1, 6), bool))
    assert found.p_clips == pytest.approx(2 / 2**6)
    assert 0 < found.half < 1


def test_spread_over_seeds_widens() -> None:
    """The same mean answers; in one case each seed has its own accuracy."""
    alike = np.array([[i % 2 == seed % 2 for i in range(100)] for seed in range(2)])
    spread = np.array([[i < 70 for i in range(100)], [i >= 70 and i < 100 for i in range(100)]])
    other = np.zeros((2, 100), bool)
    assert alike.mean() == spread.mean() == 0.5
    first, second = paired(alike, other), paired(spread, other)
    assert first.p_seeds is not None
    assert second.p_seeds is not None
    assert first.p_seeds < 1e-6 < 0.05 < second.p_seeds
    assert second.half > first.half


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (1, 4)])
def test_false_alarms_are_as_rare_as_promised(seeds: tuple[int, int]) -> None:
    """Two models that are alike, on clips of which some are easier; p below 0.05 in at most 1 of 20 cases."""
    alarms_clips, alarms_seeds, trials = 0, 0, 400
    draw = np.random.default_rng(9)
    for _ in range(trials):
        ease = draw.random(60)
        one, other = (draw.random((number, 60)) < ease for number in seeds)
        found = paired(one, other)
        alarms_clips += found.p_clips < 0.05
        alarms_seeds += found.p_seeds is not None and found.p_seeds < 0.05
    assert alarms_clips <= trials * 0.05 + 3 * (trials * 0.05) ** 0.5
    assert alarms_seeds <= trials * 0.05 + 3 * (trials * 0.05) ** 0.5


def test_false_alarms_with_noise_of_the_training() -> None:
    """Each training is better or worse on all clips. What looks at clips alone raises too many alarms; with the
    spread over seeds, they are as rare as promised.
    """
    alarms, trials = np.zeros(2), 300
    draw = np.random.default_rng(10)
    for _ in range(trials):
        ease = draw.random(300)
        one, other = (draw.random((3, 300)) < ease + draw.normal(0, 0.08, (3, 1)) for _ in range(2))
        found = paired(one, other)
        assert found.p_seeds is not None
        alarms += (found.p_clips < 0.05, found.p_seeds < 0.05)
    assert alarms[0] > trials * 0.2
    assert alarms[1] <= trials * 0.05 + 3 * (trials * 0.05) ** 0.5


def test_the_interval_holds_the_truth() -> None:
    held, trials = 0, 300
    draw = np.random.default_rng(11)
    for _ in range(trials):
        found = paired(draw.random((1, 80)) < 0.7, draw.random((1, 80)) < 0.55)
        held += abs(found.difference - 0.15) <= found.half
    assert held >= trials * 0.95 - 3 * (trials * 0.05) ** 0.5


def test_many_clips_are_exact_too() -> None:
    one, other = right(1, 20_000, 0.52, 12), right(1, 20_000, 0.50, 13)
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    ways, below = 1, 0
    for k in range(min(first, second) + 1):  # of k heads in all throws, in whole numbers
        below += ways
        ways = ways * (first + second - k) // (k + 1)
    tail = float(Fraction(2 * below, 2 ** (first + second)))
    assert paired(one, other).p_clips == pytest.approx(tail, rel=1e-6, abs=1e-12)


def test_beyond_counting_the_normal_distribution_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(14).integers(-3, 5, size=400)
    exact = permutation_p(values)
    monkeypatch.setattr("vidkit.bench.report.significance._MOST", 10)
    assert permutation_p(values) == pytest.approx(exact, rel=0.05)


def test_different_numbers_of_clips() -> None:
    with pytest.raises(ValueError, match="expected the same clips"):
        paired(np.ones((1, 3), bool), np.ones((1, 4), bool))

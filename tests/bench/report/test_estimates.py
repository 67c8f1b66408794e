"""Student's t against closed forms, tables and sums; Welch and Holm against what is written out: that the right
tails, sides and degrees of freedom are asked of scipy.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

from tests.data.builds import environment
from tests.reference import ref_significance as reference
from vidkit.bench.report import estimates

#: Two-sided 95 % quantiles, as printed in tables.
PRINTED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 60: 2.000, 120: 1.980}


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 40.0, 1e5])
def test_tail_has_closed_forms(t: float) -> None:
    assert estimates.tail(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-6)
    assert estimates.tail(-t, 2) == pytest.approx(1 - t / math.sqrt(t * t + 2), rel=1e-5, abs=1e-11)


@pytest.mark.parametrize("freedom", [3, 4.7, 29, 400])
@pytest.mark.parametrize("t", [0.0, 1.3, 2.9])
def test_tail_is_the_sum_of_the_density(t: float, freedom: float) -> None:
    assert estimates.tail(t, freedom) == pytest.approx(reference.student_tail(t, freedom), rel=1e-5)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 9.5, 99, 20_000])
def test_student_is_that_of_scipy_stats(freedom: float) -> None:
    assert estimates.quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)
    for t in (0.0, -0.7, 2.0, 40.0):
        assert estimates.tail(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-12)


def test_between_whole_degrees_of_freedom() -> None:
    values = [estimates.tail(2.0, 1 + i / 50) for i in range(60)]
    assert values == sorted(values, reverse=True)
    # the other way round: substitution of t = sqrt(df) tan(a), summed without it
    middle = 0.25 * math.pi / 200_000
    angles = [middle * (2 * i + 1) for i in range(200_000)]
    weights = [math.cos(a) ** 0.5 for a in angles]
    far = sum(w for a, w in zip(angles, weights, strict=True) if math.sqrt(1.5) * math.tan(a) > 2.0)
    assert estimates.tail(2.0, 1.5) == pytest.approx(far / sum(weights), rel=1e-4)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    assert estimates.tail(1.959964, 1e9) == pytest.approx(0.05, rel=1e-5)
    assert estimates.quantile(1e9) == pytest.approx(1.959964, rel=1e-6)
    assert estimates.tail(2.2, 10_000) == pytest.approx(math.erfc(2.2 / math.sqrt(2)), rel=1e-3)
    assert estimates.tail(2.2, 10_000) > estimates.tail(2.2, 10_001), "nowhere a step"


@pytest.mark.parametrize("freedom", PRINTED)
def test_quantiles(freedom: int) -> None:
    assert estimates.quantile(freedom) == pytest.approx(PRINTED[freedom], abs=6e-4)


def test_welch() -> None:
    one, other = [50.0, 52.0, 51.0], [55.0, 54.0, 57.0, 58.0]
    found = estimates.welch(one, other)
    assert found is not None
    a, b = statistics.variance(one) / 3, statistics.variance(other) / 4
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    assert found.value == pytest.approx(5.0)
    assert found.p == pytest.approx(reference.student_tail(5.0 / math.sqrt(a + b), freedom), rel=1e-4)
    assert found.half == pytest.approx(estimates.quantile(freedom) * math.sqrt(a + b))
    # the interval ends at 0 where p is 0.05
    shifted = estimates.welch(one, [value - 5.0 + found.half for value in other])
    assert shifted is not None
    assert shifted.p == pytest.approx(0.05, rel=1e-4)


def test_welch_needs_spread() -> None:
    assert estimates.welch([1.0], [2.0, 3.0]) is None
    assert estimates.welch([1.0, 1.0], [2.0, 2.0]) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_sided = estimates.welch([1.0, 1.0], [2.0, 3.0])
    assert one_sided is not None
    assert one_sided.p == pytest.approx(estimates.tail(1.5 / 0.5, 1)), "the spread is that of the other side alone"
    assert estimates.welch([0.1] * 3, [0.3] * 3) is None, "rounding of a mean is no spread"


@pytest.mark.parametrize("number", range(5))
def test_welch_is_what_is_written_out(number: int) -> None:
    draw = np.random.default_rng(number)
    one, other = (draw.normal(0, sd, size).tolist() for sd, size in ((1.0, 3 + number), (4.0, 9 - number)))
    found = estimates.welch(one, other)
    assert found is not None
    parts = [(statistics.variance(side) / len(side), len(side) - 1.0) for side in (one, other)]
    freedom, error = estimates.welch_freedom(parts), math.sqrt(sum(part for part, _ in parts))
    assert found.value == pytest.approx(statistics.fmean(other) - statistics.fmean(one))
    assert found.half == pytest.approx(estimates.quantile(freedom) * error)
    assert found.p == pytest.approx(estimates.tail(found.value / error, freedom))
    back = estimates.welch(other, one)
    assert back is not None
    assert (back.value, back.half, back.p) == pytest.approx((-found.value, found.half, found.p))


def test_one_seed_needs_no_scipy() -> None:
    code = (
        "import sys; from vidkit.bench.report import estimates, significance\n"
        "assert estimates.estimate([3.0]).half is None\n"
        "assert 'scipy' not in sys.modules\n"
        "assert estimates.estimate([3.0, 4.0]).half > 0 and 'scipy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_holm() -> None:
    assert estimates.holm([]) == []
    assert estimates.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert estimates.holm([0.9, 0.8]) == [1.0, 1.0]


def test_p_values_as_text() -> None:
    assert [estimates.written_p(p) for p in (None, 1.0, 0.0099, 0.0001, 0.00009)] == [
        "–",
        "1.000",
        "0.0099",
        "0.0001",
        "<0.0001",
    ]

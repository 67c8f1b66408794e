"""Contrasts: which arms they name, and their statistics against scipy's own tests and a plain simulation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.bench.made_rows import planned, row
from tests.bench.report.test_table import folder
from vidkit.bench.report import html
from vidkit.bench.report import table as report
from vidkit.bench.report.contrasts import named
from vidkit.bench.report.contrasts.findings import Finding, findings
from vidkit.bench.report.contrasts.paired import paired, seeds_needed, verdict
from vidkit.bench.rows.files import read_plan, write_plan
from vidkit.bench.rows.schema import Contrast, CurvePoint, Planned, Row
from vidkit.errors import ConfigError

SEEDS = range(5)


def arms(*places: tuple[str, float], **cell: Any) -> list[Planned]:
    return [planned(mask=mask, ratio=ratio, seed=seed, **cell) for mask, ratio in places for seed in SEEDS]


def names(found: tuple[Contrast, ...]) -> list[str]:
    return [one.name for one in found]


GRID = (("random", 0.9), ("random", 0.95), ("tube", 0.9), ("tube", 0.95), ("oracle", 0.9), ("anti-oracle", 0.9))


def test_by_rule_each_mask_against_random_of_its_ratio_and_trends() -> None:
    assert names(named.default(arms(*GRID))) == [
        "tube 0.9 against random 0.9",
        "tube 0.95 against random 0.95",
        "oracle 0.9 against random 0.9",
        "anti-oracle 0.9 against random 0.9",
        "oracle 0.9 against anti-oracle 0.9",
        "random, from 0.9 to 0.95",
        "tube, from 0.9 to 0.95",
    ]
    assert named.default(arms(("tube", 0.9), ("frame", 0.9))) == ()


def test_arms_that_differ_otherwise_are_not_compared() -> None:
    some = [*arms(("random", 0.9)), *arms(("tube", 0.9), decoder_depth=2)]
    assert named.default(some) == ()
    some += arms(("tube", 0.9))
    assert names(named.default(some)) == ["tube 0.9, decoder of 4 against random 0.9, decoder of 4"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tube:random", ["tube 0.9 against random 0.9", "tube 0.95 against random 0.95"]),
        ("tube@0.90:random@0.95", ["tube 0.9 against random 0.95"]),
        ("random:oracle", ["random 0.9 against oracle 0.9"]),
        ("trend:tube", ["tube, from 0.9 to 0.95"]),
        ("my.masks:first:random", ["my.masks:first 0.9 against random 0.9"]),
    ],
)
def test_contrasts_as_they_are_typed(text: str, found: list[str]) -> None:
    assert names(named.asked([text], arms(*GRID, ("my.masks:first", 0.9)))) == found


@pytest.mark.parametrize("text", ["tubes:random", "tube", "tube:random@0.5", "trend:oracle", "tube:tube", ":"])
def test_a_contrast_that_names_no_arm(text: str) -> None:
    with pytest.raises(ConfigError, match="names no two arms of this ablation") as caught:
        named.asked(["tube:random", text], arms(*GRID))
    assert "random@0.9, random@0.95, tube@0.9" in str(caught.value)


def test_paired_t_is_scipys() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(40, 3, (2, 6))
    found = paired((one - other).tolist())
    expected = stats.ttest_rel(one, other)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.half == pytest.approx((high - low) / 2, rel=1e-9)


@pytest.mark.parametrize(("spread", "contrasts"), [(1.0, 1), (2.0, 1), (2.0, 13), (4.0, 5)])
def test_needed_seeds_find_the_difference_in_80_of_100(spread: float, contrasts: int) -> None:
    needed = seeds_needed(spread, contrasts)
    assert needed is not None
    draw = np.random.default_rng(1)

    def power(seeds: int) -> float:
        differences = draw.normal(2.0, spread, (20_000, seeds))
        return float((stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05 / contrasts).mean())

    assert power(needed) > 0.785
    assert needed == 2 or power(needed - 1) < 0.815


def test_too_many_seeds_are_not_counted() -> None:
    assert seeds_needed(100.0, 10) is None
    assert seeds_needed(0.05, 1) is not None


def test_verdicts() -> None:
    assert verdict(paired([5.0, 5.5, 4.5]), 0.01) == "apart"
    assert verdict(paired([0.1, -0.2, 0.3, 0.0]), 0.6) == "alike within 2 points"
    assert verdict(paired([0.1, -4.2, 3.3, 0.0]), 0.6) == "undecided"
    assert verdict(paired([7.0]), None) == "undecided"
    assert verdict(paired([0.0, 0.0]), None) == "alike within 2 points"
    assert verdict(paired([3.0, 3.0]), None) == "undecided", "nothing is known of the noise"


OFFSETS = {"random": 0.0, "tube": 0.001, "oracle": 0.3, "frame": 0.0}


def made(cells: list[Planned]) -> list[Row]:
    """A seed's own level is in all its arms: only pairs are precise."""
    rows = []
    for cell in cells:
        mask, seed = cell.in_grid.settings.mask, cell.seed
        level = 0.4 + 0.05 * seed + OFFSETS[mask] + 0.001 * (seed * sum(map(ord, mask)) % 7)
        wide = 0.08 * ((seed * 3 + len(mask)) % 4) if mask == "frame" else 0.0
        values = {"ridge": level + wide, "common-error": (0.02 + 0.001 * seed) * (0.9 if mask == "oracle" else 1.0)}
        early = CurvePoint(share=0.5, step=5, values={"ridge": level / 2, "common-error": 0.05})
        curve = (early, CurvePoint(share=1.0, step=10, values=values))
        one = row(cell, top1=level, curve=curve, common_error=values["common-error"])
        rows.append(replace(one, counts={**one.counts, "pretrain_macs": 4 * 10**12}))
    return rows


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contrasts")
    cells = arms(("random", 0.9), ("tube", 0.9), ("oracle", 0.9), ("frame", 0.9))
    folder(path, cells, made(cells))
    plan = read_plan(path)
    if plan is not None:
        write_plan(path, replace(plan, contrasts=named.default(cells)))
    return path


def by_name(path: Path) -> dict[tuple[str, str], Finding]:
    return {(one.contrast.split()[0], one.measure): one for one in report.verdicts(report.read_results([path]))}


def test_each_contrast_has_a_verdict_in_each_measure(results: Path) -> None:
    found = by_name(results)
    assert {measure for _, measure in found} == {"finetune", "ridge", "common-error"}
    assert found["oracle", "ridge"].verdict == found["oracle", "finetune"].verdict == "apart"
    assert found["tube", "ridge"].verdict == "alike within 2 points"
    assert found["frame", "ridge"].verdict == "undecided"
    assert (found["frame", "ridge"].needed or 0) > 5
    pair = found["oracle", "common-error"].paired
    assert pair is not None
    assert pair.difference == pytest.approx(-10), "in percent of the other arm's"
    ridge = found["oracle", "ridge"].paired
    assert ridge is not None
    assert ridge.difference == pytest.approx(30, abs=0.5)
    assert found["oracle", "ridge"].before[0] == (0.5, pytest.approx(ridge.difference / 2))
    # p values of one measure together, by hand
    ps = sorted(one.paired.p for (_, m), one in found.items() if m == "ridge" and one.paired and one.paired.p)
    assert found["oracle", "ridge"].corrected == pytest.approx(len(ps) * ps[0])


def test_in_every_kind_of_table(results: Path) -> None:
    read = report.read_results([results])
    text = report.markdown(read)
    assert "### Contrasts" in text
    assert "| oracle 0.9 against random 0.9 | ridge | +" in text
    assert "apart |" in text
    assert "seeds would decide" in text
    assert "to best other" not in text
    plain = json.loads(json.dumps(report.plain(read)))["contrasts"]
    assert {one["said"].split(":")[0] for one in plain} >= {"apart", "alike within 2 points", "undecided"}
    page = html.page(read)
    assert 'open=""' in page
    assert "oracle 0.9 against random 0.9" in page
    assert "On the way" in page
    assert "10^12 multiply-accumulates" in page
    level = [
        0.4 + 0.05 * seed + 0.001 * (seed * sum(map(ord, "random")) % 7) + OFFSETS["random"] for seed in range(5)
    ]
    half = f"{50 * sum(level) / len(level):.2f}"
    assert re.search(rf"random 0.9, 2: {half}", page), "half of the compute, half of the accuracy"
    assert "*: named when" not in text


def test_without_a_plan_contrasts_were_not_named_before(tmp_path: Path) -> None:
    cells = arms(("random", 0.9), ("tube", 0.9))
    folder(tmp_path, cells, made(cells))
    text = report.markdown(report.read_results([tmp_path]))
    assert "| tube 0.9 against random 0.9* |" in text
    assert "*: named when some of its arms had results already." in text


def test_a_trend_is_the_line_through_ratios() -> None:
    cells = arms(("tube", 0.8), ("tube", 0.9), ("tube", 0.95))
    draw = np.random.default_rng(2)
    rows = [row(cell, top1=0.5 + float(draw.normal(0, 0.01))) for cell in cells]
    (trend,) = findings(named.default(cells), rows, {})
    slopes = []
    for seed in SEEDS:
        some = [(r.plan.in_grid.settings.ratio, 100 * r.metrics["top1"]) for r in rows if r.plan.seed == seed]
        slopes.append(np.polyfit(*zip(*some, strict=True), 1)[0] * (0.95 - 0.8))
    assert trend.paired is not None
    assert trend.paired.difference == pytest.approx(float(np.mean(slopes)))
    assert trend.paired.p == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)


def test_seeds_of_one_side_alone_pair_with_nothing() -> None:
    cells = [planned(mask="random", ratio=0.9, seed=0), planned(mask="tube", ratio=0.9, seed=1)]
    (one,) = findings(named.default(cells), [row(cell, top1=0.5) for cell in cells], {})
    assert one.paired is None

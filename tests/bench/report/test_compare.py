"""Two sets of results: which cells belong together, what is noise, what is exact, what cannot be compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.made_rows import planned, predictions, row
from tests.bench.report.test_table import folder
from tests.cli.typed import command
from tests.reference import ref_significance as reference
from vidkit.bench.report import compare_text, estimates
from vidkit.bench.report.compare import Change, compare
from vidkit.bench.rows.files import write_plan
from vidkit.bench.rows.schema import Plan, Planned, Row
from vidkit.errors import ConfigError

MACHINE = {"cpu": "Xeon", "cores": 2, "accelerator": None}


def other_hash(cell: Planned, text: str = "new") -> Planned:
    """The same cell after a setting has changed."""
    return replace(cell, config_hash=f"{text}{cell.config_hash}", group=f"{text}{cell.group}")


def one(changes: tuple[Change, ...]) -> Change:
    assert len(changes) == 1
    return changes[0]


def sides(path: Path, before: list[Row], after: list[Row]) -> tuple[Path, Path]:
    return (
        folder(path / "a", [item.plan for item in before], before),
        folder(path / "b", [item.plan for item in after], after),
    )


def test_over_seeds(tmp_path: Path) -> None:
    values = ([0.50, 0.52, 0.51], [0.60, 0.63, 0.62])
    before, after = ([row(planned(seed=i), top1=top1) for i, top1 in enumerate(some)] for some in values)
    found = one(compare(*sides(tmp_path, before, after)).changes).accuracy
    assert found is not None
    expected = estimates.welch(*([100 * value for value in some] for some in values))
    assert expected is not None
    assert (found.difference, found.half, found.p) == pytest.approx((expected.value, expected.half, expected.p))
    assert (found.basis, found.verdict) == ("over seeds (3 and 3), Welch", "better")
    back = one(compare(tmp_path / "b", tmp_path / "a").changes).accuracy
    assert back is not None
    assert (back.verdict, back.difference) == ("worse", pytest.approx(-found.difference))


def test_noise_is_no_change(tmp_path: Path) -> None:
    before, after = (
        [row(planned(seed=i), top1=top1) for i, top1 in enumerate(some)]
        for some in ([0.50, 0.58, 0.54], [0.57, 0.53, 0.60])
    )
    found = one(compare(*sides(tmp_path, before, after)).changes).accuracy
    assert found is not None
    assert found.verdict == "no change seen"


def test_many_cells_need_smaller_p(tmp_path: Path) -> None:
    """One cell alone is better; among ten that stay, the same p is what chance gives."""
    ratios = [0.5 + i / 20 for i in range(10)]
    better, alike = ([0.50, 0.55, 0.52], [0.58, 0.62, 0.60]), ([0.50, 0.58, 0.54], [0.57, 0.53, 0.56])

    def rows(side: int, count: int) -> list[Row]:
        return [
            row(planned(ratio=ratio, seed=i), top1=top1)
            for ratio in ratios[:count]
            for i, top1 in enumerate((better if ratio == ratios[0] else alike)[side])
        ]

    alone = compare(*sides(tmp_path / "few", rows(0, 1), rows(1, 1))).changes[0].accuracy
    among = compare(*sides(tmp_path / "many", rows(0, 10), rows(1, 10))).changes[0].accuracy
    assert alone is not None
    assert among is not None
    assert alone.p == among.p
    assert (alone.verdict, among.verdict) == ("better", "no change seen")


def test_one_seed_is_compared_over_clips(tmp_path: Path) -> None:
    cell = planned()
    first, second = [i % 2 == 0 for i in range(40)], [i % 4 != 1 for i in range(40)]
    before = [row(cell, **predictions(tmp_path / "a", cell, first))]
    after = [row(other_hash(cell), **predictions(tmp_path / "b", other_hash(cell), second))]
    found = one(compare(*sides(tmp_path, before, after)).changes).accuracy
    assert found is not None
    assert found.p == pytest.approx(reference.mcnemar_p(0, 10))
    assert found.difference == pytest.approx(25.0)
    assert found.basis == "one seed: over 40 clips, of these models only"
    assert found.verdict == "better"


def test_one_seed_without_predictions(tmp_path: Path) -> None:
    before, after = ([row(planned(), top1=top1, predictions_sha256=str(top1))] for top1 in (0.5, 0.6))
    comparison = compare(*sides(tmp_path, before, after))
    found = one(comparison.changes).accuracy
    assert found is not None
    assert (found.p, found.half, found.verdict) == (None, None, "cannot tell")
    assert "one seed: cannot tell; nor over clips: predictions are missing" in compare_text.markdown(comparison)
    assert found.difference == pytest.approx(10.0)


def test_seeds_without_spread_tell_nothing(tmp_path: Path) -> None:
    before, after = ([row(planned(seed=i), top1=top1) for i in range(2)] for top1 in (0.5, 0.75))
    found = one(compare(*sides(tmp_path, before, after)).changes).accuracy
    assert found is not None
    assert found.verdict == "cannot tell"
    assert "seeds without any spread" in found.basis


def test_several_labels(tmp_path: Path) -> None:
    before, after = ([row(planned(), mAP=value)] for value in (0.5, 0.6))
    found = one(compare(*sides(tmp_path, before, after)).changes).accuracy
    assert found is not None
    assert (found.metric, found.verdict, found.basis) == ("mAP %", "cannot tell", "one seed: cannot tell")


def test_the_same_predictions(tmp_path: Path) -> None:
    before, after = (
        [row(planned(seed=i), top1=0.5, predictions_sha256=f"{i}") for i in range(2)] for _ in range(2)
    )
    found = one(compare(*sides(tmp_path, before, after)).changes).accuracy
    assert found is not None
    assert (found.verdict, found.p, found.difference) == ("same predictions", None, 0.0)


def test_cells_are_matched_by_what_they_are(tmp_path: Path) -> None:
    """Their hashes change with any setting, which is said."""
    cell, gone, new = planned(ratio=0.9), planned(ratio=0.8), planned(mask="tube", ratio=0.9)
    config: dict[str, Any] = {"pretrain": {"seed": 0, "optim": {"lr": 0.1, "epochs": 2}}, "test": {"views": [1, 1]}}
    changed = {"pretrain": {"seed": 4, "optim": {"lr": 0.2, "epochs": 2, "ema": 0.9}}, "test": {"views": [2, 1]}}
    before = [row(cell, top1=0.5, config=config), row(gone, top1=0.4)]
    after = [
        row(other_hash(replace(cell, cell=replace(cell.in_grid, visible=13))), top1=0.5, config=changed),
        row(new, top1=0.3),
    ]
    comparison = compare(*sides(tmp_path, before, after))
    names = {change.name: change for change in comparison.changes}
    assert list(names) == ["adaptive 0.9", "adaptive 0.8", "tube 0.9"]
    assert [change.status for change in comparison.changes] == ["both", "only in A: ok", "only in B: ok"]
    assert names["adaptive 0.9"].settings == (
        "visible tokens: 12 in A, 13 in B",
        "pretrain.optim.ema: none in A, 0.9 in B",
        "pretrain.optim.lr: 0.1 in A, 0.2 in B",
        "test.views: [1, 1] in A, [2, 1] in B",
    )
    text = compare_text.markdown(comparison)
    assert "Other settings (adaptive 0.9): visible tokens: 12 in A, 13 in B; " in text
    assert "| only in B: ok |" in text


def test_cells_with_one_name_are_matched_by_hash_alone(tmp_path: Path) -> None:
    """Two cells that differ in a setting outside the grid: no guess which is which."""
    cell = planned()
    twin = other_hash(cell, "twin")
    before = [row(cell, top1=0.5), row(twin, top1=0.6)]
    after = [row(cell, top1=0.5), row(other_hash(cell, "third"), top1=0.6)]
    changes = compare(*sides(tmp_path, before, after)).changes
    assert [change.status for change in changes] == ["both", "only in A: ok", "only in B: ok"]
    assert len({change.name for change in changes}) == 3


def test_failed_and_missing_cells(tmp_path: Path) -> None:
    cells = [planned(mask=mask) for mask in ("tube", "random")]
    a = folder(tmp_path / "a", cells, [row(cells[0], top1=0.5)])
    b = folder(tmp_path / "b", cells, [row(cells[0], status="failed", reason="step 3: not finite")])
    changes = compare(a, b).changes
    assert [change.status for change in changes] == [
        "both; B: failed: step 3: not finite",
        "both; A: missing; B: missing",
    ]
    assert all(change.accuracy is None for change in changes)


def test_memory_is_exact_and_speed_needs_one_machine(tmp_path: Path) -> None:
    how = {"batch": 16, "precision": "bf16", "device": "cuda", "machine": MACHINE, "top1": 0.5}
    before = [row(planned(), **how, predicted_bytes=5 * 10**9, measured_bytes=6 * 10**9, step_clips_per_s=100.0)]
    quick = {"predicted_bytes": 5 * 10**9 + 1, "measured_bytes": 3 * 10**9, "step_clips_per_s": 120.0}
    comparison = compare(*sides(tmp_path / "same", before, [row(planned(), **{**how, **quick})]))
    change = one(comparison.changes)
    assert [(figure.name, figure.ratio) for figure in change.memory] == [
        ("predicted GB", pytest.approx(1 + 2e-10, abs=1e-12)),
        ("measured GB", 0.5),
    ]
    assert change.speed[0].ratio == pytest.approx(1.2)
    text = compare_text.markdown(comparison)
    assert "5.00 → 5.00 (+0.00 %)" in text, "a byte more is no more the same"
    assert "6.00 → 3.00 (-50.00 %)" in text
    elsewhere = row(planned(), **{**how, **quick, "machine": {**MACHINE, "cores": 8}})
    comparison = compare(*sides(tmp_path / "other", before, [elsewhere]))
    change = one(comparison.changes)
    assert [figure.ratio is None for figure in (*change.memory, *change.speed)] == [False, True, True]
    assert "| other machine |" in compare_text.markdown(comparison)
    assert comparison.facts == ("machine: Xeon, 2 cores in A, Xeon, 8 cores in B",)
    smaller = row(planned(), **{**how, **quick, "batch": 8})
    change = one(compare(*sides(tmp_path / "batch", before, [smaller])).changes)
    assert {figure.note for figure in (*change.memory, *change.speed)} == {"other batch, precision or device"}
    same = compare(*sides(tmp_path / "equal", before, before))
    assert "5.00, the same" in compare_text.markdown(same)


def test_speed_that_was_measured_more_than_once_has_an_interval(tmp_path: Path) -> None:
    def rows(speeds: list[float], step: float) -> list[Row]:
        about = {"machine": MACHINE, "top1": 0.5, "batch": 16, "precision": "fp32", "device": "cpu"}
        return [
            row(planned(seed=i), **about, clips_per_s=speed, step_clips_per_s=step)
            for i, speed in enumerate(speeds)
        ]

    values = ([100.0, 104.0, 98.0], [150.0, 160.0, 155.0])
    change = one(compare(*sides(tmp_path, rows(values[0], 90.0), rows(values[1], 95.0))).changes)
    step, loading = change.speed
    assert step.interval is None, "seeds share the one measurement of a step"
    expected = estimates.welch(*([math.log(value) for value in some] for some in values))
    assert expected is not None
    assert loading.interval == pytest.approx(
        (math.exp(expected.value - expected.half), math.exp(expected.value + expected.half))
    )
    low, high = loading.interval or (0, 0)
    assert low < (loading.ratio or 0) < high


def test_versions_that_changed(tmp_path: Path) -> None:
    before = [row(planned(), top1=0.5, git="abc", versions={"torch": "2.14", "timm": "1.0"})]
    after = [row(planned(), top1=0.5, git="def", versions={"torch": "2.15", "timm": "1.0"})]
    assert compare(*sides(tmp_path, before, after)).facts == (
        "commit: abc in A, def in B",
        "torch: 2.14 in A, 2.15 in B",
    )


def test_different_datasets(tmp_path: Path) -> None:
    before, after = [row(planned(), top1=0.5)], [row(planned(), top1=0.5, label_map_sha256="ee" * 32, dataset="e")]
    a, b = sides(tmp_path, before, after)
    with pytest.raises(ConfigError, match="results of different datasets cannot be compared") as caught:
        compare(a, b)
    assert f"'d' (label map 0f0f0f0f0f0f) in {a}, 'e' (label map eeeeeeeeeeee) in {b}" in str(caught.value)
    folder(b, [planned()], before)
    for path, clips in ((a, "1" * 64), (b, "2" * 64)):
        plan = Plan(dataset="d", label_map_sha256="0f", plan_sha256=clips, planned=(planned(),))
        write_plan(path, plan)
    with pytest.raises(ConfigError, match="their clips are not"):
        compare(a, b)


def test_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = ([row(planned(seed=i), top1=top1 + i / 100) for i in range(3)] for top1 in (0.5, 0.7))
    a, b = sides(tmp_path, before, after)
    assert command(monkeypatch, "report", "--compare", a, b, "--markdown", tmp_path / "c.md") == 0
    said = capsys.readouterr().out
    assert "What changed from A to B, dataset d" in said
    assert "better" in said
    assert "+20.00 ±" in (tmp_path / "c.md").read_text()
    assert command(monkeypatch, "report", "--compare", a, b, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changes"][0]["accuracy"]["verdict"] == "better"
    for words, message in (
        ([a], "1 folders are given; expected two"),
        ([a, b, a], "3 folders are given; expected two"),
        ([a, tmp_path], "no results in"),
        ([a, b, "--html", tmp_path / "c.html"], "--html has no form for a comparison"),
    ):
        assert command(monkeypatch, "report", "--compare", *words) == 2
        assert message in capsys.readouterr().err
    assert command(monkeypatch, "report", a, "--data", tmp_path) == 2
    assert "give --html as well" in capsys.readouterr().err
    (b / "results.jsonl").write_text("{\n")
    assert command(monkeypatch, "report", "--compare", a, b) == 2
    assert "results.jsonl, row 1: no JSON" in capsys.readouterr().err

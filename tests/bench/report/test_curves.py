"""Curves of losses: from logs to lines, averaged, thinned, named; and what is said where there is no log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.bench.made_rows import planned, row
from tests.bench.report.drawn import marks, texts
from tests.bench.report.test_table import folder
from vidkit.bench.report import curves, html
from vidkit.bench.report import table as report
from vidkit.bench.report.curves import loss_plots
from vidkit.bench.report.style import svg
from vidkit.bench.rows.schema import Planned, Row


def logged(path: Path, cell: Planned, lines: Sequence[dict[str, Any]], part: str = "pretrain") -> Row:
    run = path / part / cell.config_hash
    run.mkdir(parents=True, exist_ok=True)
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return row(cell, top1=0.5, runs={part: f"{part}/{cell.config_hash}"})


def falling(
    count: int, by: Callable[[int], float] = lambda i: 2.0 - i / 1000, **more: float
) -> list[dict[str, Any]]:
    return [{"step": i + 1, "epoch": (i + 1) / 10, "loss": by(i), **more} for i in range(count)]


def plots(path: Path, cells: list[Planned], rows: list[Row], part: curves.Part = "pretrain") -> curves.LossPlots:
    results = report.read_results([folder(path, cells, rows)])
    return loss_plots(results, report.lines(results), part)


def svgs(*given: Any) -> list[str]:
    return [svg(chart) for chart in plots(*given).charts]


def names(drawn: str) -> list[str]:
    return [curve.said.split(":")[0] for curve in marks(drawn, "curve")]


def test_mean_and_band_over_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[curves.Curve] = []
    monkeypatch.setattr(curves, "curves", lambda of, **how: drawn.extend(of))
    cells = [planned(seed=seed) for seed in range(2)]
    rows = [logged(tmp_path, cell, falling(5, lambda i, cell=cell: i + 2.0 * cell.seed)) for cell in cells]
    plots(tmp_path, cells, rows)
    (curve,) = drawn
    assert curve.x == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5))
    assert curve.y == pytest.approx((1, 2, 3, 4, 5))
    assert curve.low == pytest.approx((0, 1, 2, 3, 4))
    assert curve.high == pytest.approx((2, 3, 4, 5, 6))


def test_long_runs_are_averaged_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[curves.Curve] = []
    monkeypatch.setattr(curves, "curves", lambda of, **how: drawn.extend(of))
    cell, count = planned(), curves.MOST_POINTS * 4
    plots(tmp_path, [cell], [logged(tmp_path, cell, falling(count, float))])
    (curve,) = drawn
    assert len(curve.x) == curves.MOST_POINTS
    assert curve.y[0] == pytest.approx(1.5), "the mean of the first four"
    assert sum(curve.y) / len(curve.y) == pytest.approx((count - 1) / 2)
    assert (curve.low, curve.high) == ((), ())


def test_reconstruction_loss_where_all_have_it(tmp_path: Path) -> None:
    one, other = planned(), planned(mask="tube")
    rows = [logged(tmp_path, one, falling(5, reconstruction_loss=1.0)), logged(tmp_path, other, falling(5))]
    (drawn,) = svgs(tmp_path, [one, other], rows)
    assert "loss" in texts(drawn)
    assert "reconstruction" not in drawn
    rows[1] = logged(tmp_path, other, falling(5, reconstruction_loss=2.0))
    (drawn,) = svgs(tmp_path, [one, other], rows)
    assert "reconstruction loss" in texts(drawn)


def test_validation_is_dashed_and_named(tmp_path: Path) -> None:
    cell = planned()
    lines = [*falling(5), {"step": 5, "epoch": 0.5, "val_loss": 1.9}, {"step": 10, "epoch": 1, "val_loss": 1.8}]
    (drawn,) = svgs(tmp_path, [cell], [logged(tmp_path, cell, lines)])
    assert names(drawn) == ["adaptive 0.95", "adaptive 0.95, validation"]
    assert [curve.dashed for curve in marks(drawn, "curve")] == [False, True]


def test_a_shared_pretraining_is_drawn_once(tmp_path: Path) -> None:
    one, other = planned(), planned(tokenizer="spt")
    first = logged(tmp_path, one, falling(5))
    found = plots(tmp_path, [one, other], [first, row(other, top1=0.5, runs=first.runs)])
    assert len(names(svg(found.charts[0]))) == 1
    assert found.missing == ()


def test_many_cells_have_a_plot_for_each_strategy(tmp_path: Path) -> None:
    cells = [planned(mask=mask, ratio=ratio) for mask in ("adaptive", "tube") for ratio in (0.8, 0.85, 0.9, 0.95)]
    rows = [logged(tmp_path, cell, falling(5, lambda i, n=n: n - i / 9.0)) for n, cell in enumerate(cells)]
    first, second = svgs(tmp_path, cells, rows)
    assert names(first) == [f"adaptive {ratio:g}" for ratio in (0.8, 0.85, 0.9, 0.95)]
    assert names(second) == [f"tube {ratio:g}" for ratio in (0.8, 0.85, 0.9, 0.95)]
    assert len({curve.colour for curve in marks(first, "curve")}) == 4
    numbers = [[text for text in texts(drawn) if text.replace(".", "").isdigit()] for drawn in (first, second)]
    assert numbers[0] == numbers[1], "one scale for all"
    assert len(numbers[0]) > 6


def test_what_has_no_log_is_said(tmp_path: Path) -> None:
    cells = [planned(mask=mask) for mask in ("adaptive", "tube", "random", "frame")]
    rows = [
        logged(tmp_path, cells[0], falling(5)),
        row(cells[1], top1=0.5, runs={"pretrain": "pretrain/gone"}),
        logged(tmp_path, cells[2], falling(5, lambda i: float("nan"))),
        row(cells[3], status="failed", reason="no memory"),
    ]
    found = plots(tmp_path, cells, rows)
    assert names(svg(found.charts[0])) == ["adaptive 0.95"]
    (said,) = found.missing
    assert said.startswith("No curve of pre-training, since there is no result or no log: ")
    assert all(name in said for name in ("tube 0.95", "random 0.95", "frame 0.95"))
    assert plots(tmp_path, cells, [], "finetune").charts == ()
    page = html.page(report.read_results([folder(tmp_path, cells, rows)]))
    assert "<h2>Losses</h2>" in page
    assert said in page
    for row_folder in {name for one in rows for name in one.runs.values()}:
        shutil.rmtree(tmp_path / row_folder, ignore_errors=True)
    page = html.page(report.read_results([tmp_path]))
    assert "<h2>Losses</h2>" not in page
    assert "Left out: curves of losses (no log lies beside the rows)." in page


def test_a_line_that_a_crash_cut_off(tmp_path: Path) -> None:
    cell = planned()
    made = logged(tmp_path, cell, falling(5))
    file = tmp_path / made.runs["pretrain"] / "log.jsonl"
    file.write_text(file.read_text() + '{"step": 6, "ep')
    assert len(plots(tmp_path, [cell], [made]).charts) == 1


def test_memory_only_tables_have_no_curves(tmp_path: Path) -> None:
    cell = planned(kind="memory")
    results = report.read_results([folder(tmp_path, [cell], [row(cell, predicted_bytes=10**9)])])
    assert "<h2>Losses</h2>" not in html.page(results)

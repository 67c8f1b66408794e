"""Tables from rows: means, intervals, the paper beside, what is missing, and what does not belong together."""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path

import pytest

from tests.bench.made_rows import DEFAULT, planned, row
from vidkit.bench.report import table as report
from vidkit.bench.report.estimates import Estimate, estimate
from vidkit.bench.report.grid import FOOTNOTE, INTERVALS
from vidkit.bench.rows.files import write_plan, write_rows
from vidkit.bench.rows.schema import PaperFigures, Plan, Planned, Row
from vidkit.errors import ConfigError


def folder(path: Path, cells: list[Planned], rows: list[Row]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    write_plan(path, Plan(dataset="d", label_map_sha256="0f", plan_sha256=None, planned=tuple(cells)))
    write_rows(path, rows)
    return path


def lines(path: Path) -> tuple[report.Line, ...]:
    return report.lines(report.read_results([path]))


def test_mean_and_interval_over_seeds(tmp_path: Path) -> None:
    cells = [planned(seed=seed) for seed in range(3)]
    values = [0.5, 0.6, 0.4]
    rows = [row(cell, top1=value, coverage=1 - cell.seed / 100) for cell, value in zip(cells, values, strict=True)]
    (line,) = lines(folder(tmp_path, cells, rows))
    found = line.metric("top1")
    assert found is not None
    # half of the interval: t(0.975, 2) * s / sqrt(n), with t from the closed form for two degrees of freedom
    t = 0.95 * (2 / (1 - 0.95**2)) ** 0.5
    assert found.half == pytest.approx(t * statistics.stdev([50, 60, 40]) / 3**0.5, rel=1e-3)
    assert (found.mean, found.count, line.status) == (pytest.approx(50), 3, "ok")
    text = report.markdown(report.read_results([tmp_path]))
    assert "50.00 ± 24.84" in text
    assert "98.00%" in text, "of the coverages, the lowest"
    assert INTERVALS in text


def test_one_seed_has_no_interval() -> None:
    assert estimate([3.0]) == Estimate(3.0, None, 1)
    assert estimate([]) is None


def test_many_seeds_come_near_the_normal_interval() -> None:
    values = [float(i % 2) for i in range(100)]
    found = estimate(values)
    assert found is not None
    # 1.984 is printed in tables for 99 degrees of freedom
    assert found.half == pytest.approx(1.984 * statistics.stdev(values) / 10, rel=3e-4)


def test_missing_and_failed_cells_are_shown(tmp_path: Path) -> None:
    cells = [planned(mask=mask) for mask in ("tube", "random", "frame")]
    failed = row(cells[1], status="failed", reason="step 7: not finite | loss\n  -> try a lower rate")
    path = folder(tmp_path, cells, [row(cells[0], top1=0.5), failed])
    assert [line.status for line in lines(path)] == ["ok", "failed: step 7: not finite | loss", "missing"]
    text = report.markdown(report.read_results([path]))
    assert "failed: step 7: not finite \\| loss" in text
    assert "| missing |" in text


def test_some_seeds_are_missing(tmp_path: Path) -> None:
    cells = [planned(seed=seed) for seed in range(4)]
    rows = [row(cells[0], top1=0.5), row(cells[1], status="failed", reason="no memory")]
    (line,) = lines(folder(tmp_path, cells, rows))
    assert line.status == "1 of 4 seeds; failed: no memory; 2 missing"


def test_the_papers_column_is_labelled(tmp_path: Path) -> None:
    cell = planned(paper=(DEFAULT,))
    path = folder(tmp_path, [cell], [row(cell, top1=0.123, measured_bytes=2_500_000_000, device="cuda")])
    text = report.markdown(report.read_results([path]))
    header = text.splitlines()[2]
    assert header.index("| top-1 % |") < header.index("| paper (quoted) top-1 % |")
    assert all(value in text for value in ("12.30", "70.04", "92.70", "14.4", "2.50", FOOTNOTE))


def test_a_cell_stands_on_every_line_of_the_paper(tmp_path: Path) -> None:
    other = PaperFigures(table="1b", row=2, top1=70.04, top5=92.7, memory_gb=14.4)
    early = PaperFigures(table="1a", row=1, top1=67.3, top5=91.5, memory_gb=16.2)
    cells = [planned(paper=(DEFAULT, other)), planned(mask="tube", paper=(early,))]
    found = lines(folder(tmp_path, cells, []))
    assert [line.paper.name for line in found if line.paper] == ["1a.1", "1a.6", "1b.2"]


def test_memory_lines_have_no_accuracy_beside_them(tmp_path: Path) -> None:
    cell = planned(kind="memory", paper=(DEFAULT,))
    done = row(cell, predicted_bytes=5_000_000_000, label_map_sha256=None, dataset=None)
    results = report.read_results([folder(tmp_path, [cell], [done])])
    names = [column.name for column in report.table(report.lines(results))[0]]
    assert "paper (quoted) GB" in names
    assert "paper (quoted) top-1 %" not in names
    assert "no data" in report.title(results)


def test_csv_has_every_line_in_full(tmp_path: Path) -> None:
    cells = [planned(seed=seed) for seed in range(2)] + [planned(mask="tube", paper=(DEFAULT,))]
    rows = [row(cells[0], top1=1 / 3, mAP=0.25), row(cells[1], top1=2 / 3, mAP=0.25)]
    text = report.csv_text(report.read_results([folder(tmp_path, cells, rows)]))
    first, second = csv.DictReader(io.StringIO(text))
    assert float(first["top1_percent"]) == pytest.approx(50)
    assert float(first["map_percent_half_95"]) == 0
    assert (first["seeds_done"], first["status"], first["paper_row"]) == ("2", "ok", "")
    assert (second["top1_percent"], second["status"]) == ("", "missing")
    assert second["paper_quoted_memory_gb"] == "14.4"


def test_how_far_prediction_and_measurement_differ(tmp_path: Path) -> None:
    cells = [planned(mask=mask, kind="memory") for mask in ("tube", "random")]
    rows = [row(cells[0], predicted_bytes=95, measured_bytes=100), row(cells[1], predicted_bytes=95)]
    results = report.read_results([folder(tmp_path, cells, rows)])
    assert [line["predicted less measured"] for line in report.plain(results)["lines"]] == ["-5.0 %", "–"]


def test_rows_of_different_datasets(tmp_path: Path) -> None:
    one, two = planned(), planned(mask="tube")
    first = folder(tmp_path / "a", [one], [row(one)])
    second = folder(tmp_path / "b", [two], [row(two, label_map_sha256="ee" * 32, dataset="e")])
    with pytest.raises(ConfigError, match="rows of different datasets") as caught:
        report.read_results([first, second])
    said = str(caught.value)
    assert "'d' (label map 0f0f0f0f0f0f)" in said
    assert "'e' (label map eeeeeeeeeeee)" in said
    assert str(second) in said


def test_folders_of_one_dataset_make_one_table(tmp_path: Path) -> None:
    one, two = planned(), planned(seed=1)
    folder(tmp_path / "a", [one, two], [row(one, top1=0.4), row(two, status="failed", reason="killed")])
    folder(tmp_path / "b", [two], [row(two, top1=0.6)])
    for order in (("a", "b"), ("b", "a")):
        (line,) = report.lines(report.read_results([tmp_path / name for name in order]))
        assert (line.status, len(line.rows)) == ("ok", 2)


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no results in"):
        report.read_results([tmp_path])

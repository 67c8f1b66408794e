"""Tables of studies, from rows whose figures are known."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.bench import made_rows
from tests.bench.report.drawn import marks
from tests.bench.report.test_pages import parsed
from vidkit.bench.report import html
from vidkit.bench.report import table as report
from vidkit.bench.report.arms import difference, within
from vidkit.bench.report.compare import compare
from vidkit.bench.report.compare_text import markdown as compared
from vidkit.bench.report.estimates import welch
from vidkit.bench.report.style import svg
from vidkit.bench.rows.files import PLAN, RESULTS, read_rows, write_plan, write_rows
from vidkit.bench.rows.schema import Plan, Planned, Row, StudyArm
from vidkit.bench.rows.specs import META, RECONSTRUCTION, chosen
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Study

LABELS = "0f" * 32
ACCURACY = META.measures[0]


def planned(arm: str, seed: int, study: Study = "meta") -> Planned:
    of_study = StudyArm(study=study, name=arm, about=f"what {arm} is")
    return Planned(config_hash=f"{arm}-{seed}", group=arm, seed=seed, recipe="tiny", arm=of_study)


def row(arm: str, seed: int, accuracy: float, study: Study = "meta", **more: Any) -> Row:
    known: dict[str, Any] = {"status": "ok", "label_map_sha256": LABELS, "dataset": "d", "seconds": {"arm": 60.0}}
    metrics = {"accuracy": accuracy}
    half = {"accuracy": 0.01 * (1 + seed)}
    return Row(
        plan=planned(arm, seed, study),
        **{**known, "metrics": metrics, "half_widths": half, "counts": {"episodes": 600}, **more},
    )


def write(folder: Path, rows: list[Row], arms: list[Planned] | None = None, study: Study = "meta") -> Path:
    folder.mkdir(exist_ok=True)
    plan = Plan(
        study=study,
        split="val",
        settings_sha256="ab" * 32,
        dataset="d",
        label_map_sha256=LABELS,
        plan_sha256=None,
        notes=("A note <of> the study.",),
        planned=tuple(arms or [row.plan for row in rows]),
    )
    write_plan(folder, plan)
    write_rows(folder, rows)
    return folder


def read(folder: Path) -> report.Results:
    return report.read_results([folder])


MANN, PROTO = (0.50, 0.60, 0.55), (0.55, 0.64, 0.61)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [row("mann", seed, value) for seed, value in enumerate(MANN)]
    rows += [row("proto", seed, value) for seed, value in enumerate(PROTO)]
    return write(tmp_path / "s", rows)


def test_means_intervals_and_differences(folder: Path) -> None:
    results = read(folder)
    mann, proto = report.lines(results)
    found = mann.over_seeds(ACCURACY)
    assert found is not None
    assert found.mean == pytest.approx(55)
    # Student's t with two degrees of freedom
    assert found.half == pytest.approx(4.3027 * statistics.stdev(MANN) * 100 / 3**0.5, rel=1e-4)
    assert within(mann, ACCURACY) == pytest.approx(2.0), "mean of 1, 2 and 3 points"
    each = [100 * (one - other) for one, other in zip(PROTO, MANN, strict=True)]
    apart = difference(proto, mann, ACCURACY)
    assert apart is not None
    assert apart.mean == pytest.approx(statistics.fmean(each))
    assert apart.half == pytest.approx(4.3027 * statistics.stdev(each) / 3**0.5, rel=1e-4)
    columns, cells = report.table(report.lines(results))
    assert dict(zip((column.name for column in columns), cells[1], strict=True)) == {
        "arm": "proto",
        "what it is": "what proto is",
        "seeds": "3 of 3",
        "accuracy %": "60.00 ± 11.38",
        "accuracy over episodes": "± 2.00",
        "accuracy against mann": "+5.00 ± 2.48",
        "episodes": "600",
        "minutes": "1.0 ± 0.0",
        "status": "ok",
    }


def test_a_relative_difference() -> None:
    mse = next(measure for measure in RECONSTRUCTION.measures if measure.relative)
    assert mse.lower

    def line(arm: str, *values: float) -> report.Line:
        rows = tuple(
            row(arm, seed, 0.0, study="reconstruction", metrics={mse.name: value})
            for seed, value in enumerate(values)
        )
        return report.Line(first=rows[0].plan, planned=len(rows), rows=rows, status="ok")

    found = difference(line("continued", 0.0099, 0.0196), line("pre-trained", 0.01, 0.02), mse)
    assert found is not None
    assert found.mean == pytest.approx(-1.5), "percent of the reference, seed by seed"


def test_missing_and_failed_arms_are_shown(tmp_path: Path) -> None:
    failed = Row(
        plan=planned("maml", 0),
        status="failed",
        reason="no\nmemory\n  -> do this",
        label_map_sha256=LABELS,
    )
    arms = [planned(name, seed) for seed in (0, 1) for name in ("mann", "maml", "proto")]
    results = read(write(tmp_path / "s", [row("mann", 0, 0.5), row("mann", 1, 0.7), failed], arms))
    assert {line.arm: line.status for line in report.lines(results)} == {
        "mann": "ok",
        "maml": "0 of 2 seeds; failed: no memory; 1 missing",
        "proto": "0 of 2 seeds; 2 missing",
    }
    columns, cells = report.table(report.lines(results), brief=True)
    assert len(cells) == 3
    assert "accuracy against mann" not in [column.name for column in columns], "there is nothing in it"
    assert set(html.study_plots(results)) == {"accuracy"}
    assert "accuracy" in report.csv_text(results)


def test_nothing_has_run(tmp_path: Path) -> None:
    results = read(write(tmp_path / "s", [], [planned("mann", 0)]))
    assert [line.status for line in report.lines(results)] == ["missing"]
    assert html.study_plots(results) == {}
    assert "missing" in html.page(results)


def test_markdown_csv_and_json_say_the_same(folder: Path) -> None:
    results = read(folder)
    text = report.markdown(results)
    assert text.startswith("## Few-shot learning on a masked autoencoder's features: recipe tiny, dataset d\n")
    assert "| proto | what proto is | 3 of 3 | 60.00 ± 11.38 |" in text
    assert "- A note <of> the study." in text
    assert "The paper prints no accuracy of its MANN" in text
    parsed = list(csv.DictReader(io.StringIO(report.csv_text(results))))
    assert [line["arm"] for line in parsed] == ["mann", "proto"]
    assert float(parsed[1]["mean"]) == pytest.approx(0.6)
    assert float(parsed[1]["difference"]) == pytest.approx(0.05)
    assert parsed[0]["difference"] == ""
    made = report.plain(results)
    assert made["lines"][1]["accuracy %"] == "60.00 ± 11.38"
    assert json.loads(json.dumps(made))["rows"][0]["plan"]["arm"]["name"] == "mann"


def test_the_page_needs_nothing_else(folder: Path) -> None:
    results = read(folder)
    page = html.page(results)
    assert page.count("http") == page.count('="http://www.w3.org/') + page.count("http-equiv") == 3
    for word in ("src=", "@import"):
        assert word not in page
    assert page.count("href=") == page.count('xlink:href="#')
    whole = parsed(page)
    assert [row.findtext("th") for row in whole.findall(".//table[@id='results']/tbody/tr")] == ["mann", "proto"]
    assert "A note <of> the study." in [note.text for note in whole.findall(".//ul/li")]
    (chart,) = html.study_plots(results).values()
    means, seeds = (marks(svg(chart), kind) for kind in ("point", "seed"))
    assert (len(means), len(seeds)) == (2, 6)
    assert means[1].said == "proto: 60.00 ± 11.38, seeds: 3"
    assert means[0].place[0] < means[1].place[0], "more to the right"


def test_damaged_files_name_file_and_row(folder: Path) -> None:
    results = folder / RESULTS
    whole = results.read_text()
    for text, said in (
        (whole.replace('"status": "ok"', '"status": "fine"', 1), r"results\.jsonl, row 1: no result row"),
        (whole + "{not json\n", r"results\.jsonl, row 7: no JSON"),
        (whole.replace('"schema": 3', '"schema": 99', 1), r"row 1, field 'schema': schema 99"),
        (whole.replace('"study": "meta"', '"study": "other"', 1), r"row 1: no result row"),
    ):
        results.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read(folder)
    results.write_text(whole.replace(LABELS, "1e" * 32, 1))
    with pytest.raises(ConfigError, match="a row of study 'meta' on 'd' is among"):
        read(folder)
    results.write_text(whole)
    (folder / PLAN).write_text("{}")
    with pytest.raises(ConfigError, match=r"plan\.json, field 'schema'"):
        read(folder)
    with pytest.raises(ConfigError, match="no results in"):
        read(folder / "nowhere")


def test_an_arm_that_ran_again_counts_once(folder: Path, tmp_path: Path) -> None:
    with (folder / RESULTS).open("a") as file:
        again = row("proto", 2, 0.9)
        write_rows(tmp_path, [again])
        file.write((tmp_path / RESULTS).read_text())
    assert read_rows(folder)[-1].metrics["accuracy"] == 0.9
    assert len(read_rows(folder)) == 6


def test_a_study_and_a_grid_are_two_tables(folder: Path, tmp_path: Path) -> None:
    cell = made_rows.planned()
    grid = tmp_path / "g"
    grid.mkdir()
    write_rows(grid, [made_rows.row(cell, top1=0.5)])
    with pytest.raises(ConfigError, match="a grid and the study meta have tables of their own"):
        report.read_results([folder, grid])
    with pytest.raises(ConfigError, match=r"holds study 'meta', .* a grid: there is nothing to compare"):
        compare(folder, grid)
    write_rows(grid, [made_rows.row(cell, top1=0.5), row("mann", 0, 0.5)])
    write_plan(grid, Plan(dataset="d", label_map_sha256=LABELS, plan_sha256=None, planned=(cell,)))
    with pytest.raises(ConfigError, match=r"row 2: a row of study 'meta' on 'd' is among those of a grid"):
        read(grid)


def test_seeds_of_two_folders_are_one_study(folder: Path, tmp_path: Path) -> None:
    more = write(tmp_path / "more", [row("mann", 3, 0.7), row("proto", 3, 0.8)])
    mann, proto = report.lines(report.read_results([folder, more]))
    assert [sorted(line.by_seed(ACCURACY)) for line in (mann, proto)] == [[0, 1, 2, 3]] * 2
    plan = (more / PLAN).read_text()
    (more / PLAN).write_text(plan.replace("ab" * 32, "cd" * 32))
    with pytest.raises(ConfigError, match="one study with different settings"):
        report.read_results([folder, more])


def test_two_studies_are_compared_arm_by_arm(folder: Path, tmp_path: Path) -> None:
    rows = [row("mann", seed, value + 0.2) for seed, value in enumerate(MANN)]
    rows += [row("linear", seed, value) for seed, value in enumerate(PROTO)]
    found = compare(folder, write(tmp_path / "after", rows))
    assert [(change.name, change.status) for change in found.changes] == [
        ("mann", "both"),
        ("proto", "only in A: ok"),
        ("linear", "only in B: ok"),
    ]
    accuracy = found.changes[0].accuracy
    assert accuracy is not None
    expected = welch(*([100 * (value + more) for value in MANN] for more in (0.0, 0.2)))
    assert expected is not None
    assert (accuracy.difference, accuracy.p) == pytest.approx((20, expected.p))
    assert (accuracy.metric, accuracy.verdict) == ("accuracy %", "better")
    text = compared(found)
    assert "| arm | accuracy %, A | accuracy %, B |" in text
    assert "B less A, in points" in text


def test_less_is_better_where_the_measure_says_so(tmp_path: Path) -> None:
    def side(name: str, mse: float) -> Path:
        rows = [
            row("scratch", seed, 0.0, "reconstruction", metrics={"mse_pixels": mse + seed / 1e4})
            for seed in range(3)
        ]
        return write(tmp_path / name, rows, study="reconstruction")

    (change,) = compare(side("a", 0.02), side("b", 0.01)).changes
    assert change.accuracy is not None
    assert change.accuracy.difference == pytest.approx(-10), "in thousandths"
    assert change.accuracy.verdict == "better"


def test_a_study_stands_alone() -> None:
    assert chosen(("masks", "table1a")) is None
    assert chosen(("mask-ratio",)) == "mask-ratio"
    with pytest.raises(ConfigError, match="meta has a table of its own"):
        chosen(("masks", "meta"))

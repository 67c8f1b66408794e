"""Tables of studies, from rows whose figures are known."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.bench.report.drawn import marks
from tests.bench.report.test_pages import parsed
from vidkit.bench.ablate.rows import RESULTS
from vidkit.bench.report.style import svg
from vidkit.bench.studies import page as study_page
from vidkit.bench.studies import report as study_report
from vidkit.bench.studies.report import difference, lines
from vidkit.bench.studies.rows import (
    PLAN,
    PlannedArm,
    StudyPlan,
    StudyRow,
    is_study,
    read_rows,
    write_plan,
    write_rows,
)
from vidkit.bench.studies.specs import META, chosen
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Study

LABELS = "0f" * 32
ACCURACY = META.measures[0]


def planned(arm: str, seed: int, **more: Any) -> PlannedArm:
    return PlannedArm(config_hash=f"{arm}-{seed}", arm=arm, seed=seed, about=f"what {arm} is", **more)


def row(arm: str, seed: int, accuracy: float, study: Study = "meta", **more: Any) -> StudyRow:
    known: dict[str, Any] = {"status": "ok", "label_map_sha256": LABELS, "dataset": "d", "seconds": 60.0}
    metrics = {"accuracy": accuracy}
    half = {"accuracy": 0.01 * (1 + seed)}
    return StudyRow(
        study=study,
        plan=planned(arm, seed),
        **{**known, "metrics": metrics, "half_widths": half, "counts": {"episodes": 600}, **more},
    )


def write(folder: Path, rows: list[StudyRow], arms: list[PlannedArm] | None = None, study: Study = "meta") -> Path:
    folder.mkdir(exist_ok=True)
    plan = StudyPlan(
        study=study,
        recipe="tiny",
        split="val",
        settings_sha256="ab" * 32,
        dataset="d",
        label_map_sha256=LABELS,
        plan_sha256=None,
        notes=("A note <of> the study.",),
        arms=tuple(arms or [row.plan for row in rows]),
    )
    write_plan(folder / PLAN, plan)
    write_rows(folder / RESULTS, rows)
    return folder


MANN, PROTO = (0.50, 0.60, 0.55), (0.55, 0.64, 0.61)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [row("mann", seed, value) for seed, value in enumerate(MANN)]
    rows += [row("proto", seed, value) for seed, value in enumerate(PROTO)]
    return write(tmp_path / "s", rows)


def test_means_intervals_and_differences(folder: Path) -> None:
    results = study_report.read(folder)
    mann, proto = lines(results)
    found = mann.over_seeds(ACCURACY)
    assert found is not None
    assert found.mean == pytest.approx(55)
    # Student's t with two degrees of freedom
    assert found.half == pytest.approx(4.3027 * statistics.stdev(MANN) * 100 / 3**0.5, rel=1e-4)
    assert mann.within(ACCURACY) == pytest.approx(2.0), "mean of 1, 2 and 3 points"
    each = [100 * (one - other) for one, other in zip(PROTO, MANN, strict=True)]
    apart = difference(proto, mann, ACCURACY)
    assert apart is not None
    assert apart.mean == pytest.approx(statistics.fmean(each))
    assert apart.half == pytest.approx(4.3027 * statistics.stdev(each) / 3**0.5, rel=1e-4)
    columns, cells = study_report.table(results)
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
    from vidkit.bench.studies.specs import RECONSTRUCTION

    mse = next(measure for measure in RECONSTRUCTION.measures if measure.relative)
    assert mse.lower

    def line(arm: str, *values: float) -> study_report.Line:
        rows = tuple(
            row(arm, seed, 0.0, study="reconstruction", metrics={mse.name: value})
            for seed, value in enumerate(values)
        )
        return study_report.Line(arm=arm, about="", quoted={}, planned=len(rows), rows=rows, status="ok")

    found = difference(line("continued", 0.0099, 0.0196), line("pre-trained", 0.01, 0.02), mse)
    assert found is not None
    assert found.mean == pytest.approx(-1.5), "percent of the reference, seed by seed"


def test_missing_and_failed_arms_are_shown(tmp_path: Path) -> None:
    failed = StudyRow(
        study="meta",
        plan=planned("maml", 0),
        status="failed",
        reason="no\nmemory\n  -> do this",
        label_map_sha256=LABELS,
    )
    arms = [planned(name, seed) for seed in (0, 1) for name in ("mann", "maml", "proto")]
    results = study_report.read(write(tmp_path / "s", [row("mann", 0, 0.5), row("mann", 1, 0.7), failed], arms))
    assert {line.arm: line.status for line in lines(results)} == {
        "mann": "ok",
        "maml": "0 of 2 seeds; failed: no memory; 1 missing",
        "proto": "0 of 2 seeds; 2 missing",
    }
    columns, cells = study_report.table(results, brief=True)
    assert len(cells) == 3
    assert "accuracy against mann" not in [column.name for column in columns], "there is nothing in it"
    assert set(study_page.plots(results)) == {"accuracy"}
    assert "accuracy" in study_report.csv_text(results)


def test_nothing_has_run(tmp_path: Path) -> None:
    results = study_report.read(write(tmp_path / "s", [], [planned("mann", 0)]))
    assert [line.status for line in lines(results)] == ["missing"]
    assert study_page.plots(results) == {}
    assert "missing" in study_page.page(results)


def test_markdown_csv_and_json_say_the_same(folder: Path) -> None:
    results = study_report.read(folder)
    text = study_report.markdown(results)
    assert text.startswith("## Few-shot learning on a masked autoencoder's features: recipe tiny, dataset d\n")
    assert "| proto | what proto is | 3 of 3 | 60.00 ± 11.38 |" in text
    assert "- A note <of> the study." in text
    assert "The paper prints no accuracy of its MANN" in text
    parsed = list(csv.DictReader(io.StringIO(study_report.csv_text(results))))
    assert [line["arm"] for line in parsed] == ["mann", "proto"]
    assert float(parsed[1]["mean"]) == pytest.approx(0.6)
    assert float(parsed[1]["difference"]) == pytest.approx(0.05)
    assert parsed[0]["difference"] == ""
    made = study_report.plain(results)
    assert made["lines"][1]["accuracy %"] == "60.00 ± 11.38"
    assert json.loads(json.dumps(made))["rows"][0]["plan"]["arm"] == "mann"


def test_the_page_needs_nothing_else(folder: Path) -> None:
    results = study_report.read(folder)
    page = study_page.page(results)
    assert page.count("http") == page.count('="http://www.w3.org/') + page.count("http-equiv") == 3
    for word in ("src=", "@import"):
        assert word not in page
    assert page.count("href=") == page.count('xlink:href="#')
    whole = parsed(page)
    assert [row.findtext("th") for row in whole.findall(".//table[@id='results']/tbody/tr")] == ["mann", "proto"]
    assert "A note <of> the study." in [note.text for note in whole.findall(".//ul/li")]
    (chart,) = study_page.plots(results).values()
    means, seeds = (marks(svg(chart), kind) for kind in ("point", "seed"))
    assert (len(means), len(seeds)) == (2, 6)
    assert means[1].said == "proto: 60.00 ± 11.38, seeds: 3"
    assert means[0].place[0] < means[1].place[0], "more to the right"


def test_damaged_files_name_file_and_row(folder: Path) -> None:
    results = folder / RESULTS
    whole = results.read_text()
    for text, said in (
        (whole.replace('"status": "ok"', '"status": "fine"', 1), r"results\.jsonl, row 1: damaged"),
        (whole + "{not json\n", r"results\.jsonl, row 7: no JSON"),
        (whole.replace('"schema": 1', '"schema": 99', 1), r"row 1, field 'schema': schema 99"),
        (whole.replace('"vidkit-study"', '"other"', 1), r"row 1, field 'kind': expected 'vidkit-study'"),
    ):
        results.write_text(text)
        with pytest.raises(ConfigError, match=said):
            study_report.read(folder)
    results.write_text(whole.replace(LABELS, "1e" * 32, 1))
    with pytest.raises(ConfigError, match="a row of study 'meta' on 'd' is among"):
        study_report.read(folder)
    results.write_text(whole)
    (folder / PLAN).write_text("{}")
    with pytest.raises(ConfigError, match=r"study\.json, field 'kind'"):
        study_report.read(folder)
    with pytest.raises(ConfigError, match="no study in"):
        study_report.read(folder / "nowhere")


def test_an_arm_that_ran_again_counts_once(folder: Path) -> None:
    with (folder / RESULTS).open("a") as file:
        again = row("proto", 2, 0.9)
        write_rows(folder / "more", [again])
        file.write((folder / "more").read_text())
    assert read_rows(folder / RESULTS)[-1].metrics["accuracy"] == 0.9
    assert len(read_rows(folder / RESULTS)) == 6


def test_a_study_is_told_from_a_grid(folder: Path, tmp_path: Path) -> None:
    assert is_study(folder)
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / RESULTS).write_text("")
    assert not is_study(tmp_path / "g")


def test_a_study_stands_alone() -> None:
    assert chosen(("masks", "table1a")) is None
    assert chosen(("mask-ratio",)) == "mask-ratio"
    with pytest.raises(ConfigError, match="meta has a table of its own"):
        chosen(("masks", "meta"))

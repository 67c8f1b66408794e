"""The page: well-formed, self-contained, every line and point on it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench.made_rows import DEFAULT, planned, row
from tests.bench.report.drawn import SPACE, marks
from tests.bench.report.test_pages import parsed
from tests.bench.report.test_table import folder
from vidkit.bench.report import html
from vidkit.bench.report import table as report
from vidkit.bench.report.mask_pictures import Picture
from vidkit.bench.report.style import COLOURS, svg
from vidkit.bench.rows.schema import CurvePoint


def made(path: Path) -> report.Results:
    cells = [
        planned(mask=mask, ratio=ratio, seed=seed, paper=(DEFAULT,) if mask == "adaptive" else ())
        for mask in ("adaptive", "tube")
        for ratio in (0.8, 0.9)
        for seed in (0, 1)
    ]
    rows = [
        row(cell, top1=0.5 + i / 100, measured_bytes=10**9 * (i + 1), device="cuda")
        for i, cell in enumerate(cells[:-2])
    ]
    rows.append(row(cells[-2], status="failed", reason='loss <nan> & "more"'))
    return report.read_results([folder(path, cells, rows)])


def test_the_page_is_whole_and_alone(tmp_path: Path) -> None:
    text = html.page(made(tmp_path))
    page = parsed(text)  # well-formed, so that every name and reason is escaped
    assert len(page.findall(".//table[@id='results']/tbody/tr")) == 4
    assert len(page.findall(".//table[@id='rows']/tbody/tr")) == 6, "of each seed that came to its end"
    assert all(svg.find(f"{SPACE}title") is not None for svg in page.iter(f"{SPACE}svg"))
    assert "Not shown, since they have no result: tube 0.9." in text
    assert "failed: loss &lt;nan&gt; &amp;" in text
    assert "paper (quoted) top-1 %" in text
    for name in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http-equiv"):
        text = text.replace(name, "")
    assert not any(word in text for word in ("http", "src=", "@import"))
    assert text.count("href=") == text.count('xlink:href="#'), "marks of a plot, in the plot itself"


def test_points_are_where_they_belong(tmp_path: Path) -> None:
    results = made(tmp_path)
    charts = html.plots(report.lines(results))
    first, second = map(svg, charts)
    points = marks(first, "point")
    assert [point.said for point in points] == [
        "adaptive, 0.8: 50.50 ± 6.35, seeds: 2",
        "adaptive, 0.9: 52.50 ± 6.35, seeds: 2",
        "tube, 0.8: 54.50 ± 6.35, seeds: 2",
    ]
    places = [point.place for point in points]
    heights = [y for _, y in places]
    assert heights == sorted(heights, reverse=True), "higher is better, and y grows downwards"
    assert places[2][0] - places[0][0] == pytest.approx(6, abs=0.2), "beside each other at one ratio"
    assert places[0][0] < places[1][0]
    assert len(marks(first, "line")) == 1
    assert len(marks(second, "point")) == 3
    assert "measured memory" in charts[1].title


def test_without_accuracy_there_is_no_plot(tmp_path: Path) -> None:
    cell = planned(kind="memory")
    results = report.read_results([folder(tmp_path, [cell], [row(cell, predicted_bytes=10**9)])])
    assert html.plots(report.lines(results)) == []
    assert "<svg" not in html.page(results)


def test_memory_that_was_measured_for_some_cells_only_is_predicted_for_all(tmp_path: Path) -> None:
    cells = [planned(mask=mask) for mask in ("adaptive", "tube")]
    rows = [row(cell, top1=0.5, predicted_bytes=10**9) for cell in cells]
    rows[0] = row(cells[0], top1=0.5, predicted_bytes=10**9, measured_bytes=3 * 10**9)
    results = report.read_results([folder(tmp_path, cells, rows)])
    assert "against predicted memory" in html.plots(report.lines(results))[1].title


def test_pictures_are_in_the_page_or_said_to_be_missing(tmp_path: Path) -> None:
    results = made(tmp_path)
    there = Picture(name="adaptive 0.8", caption="12 of 256 tokens visible", png=b"\x89PNG")
    gone = Picture(name="tube 0.8", caption="No picture: the <dataset> is not there", png=None)
    text = html.page(results, [there, gone])
    assert text.count("<img ") == 1
    assert 'src="data:image/png;base64,iVBORw=="' in text
    assert "tube 0.8: No picture: the &lt;dataset&gt; is not there" in text
    assert [heading.text for heading in parsed(text).iter("h2")] == ["Contrasts", "Accuracy", "Masks", "Rows"]
    assert "Masks" not in [heading.text for heading in parsed(html.page(results)).iter("h2")]


def test_what_is_not_beside_the_rows_is_left_out_in_one_line(tmp_path: Path) -> None:
    results = made(tmp_path)
    gone = [
        Picture(name=f"adaptive 0.{i}", caption=f"No picture: the checkpoint pretrain/{i} is not <there>", png=None)
        for i in range(5)
    ]
    page = parsed(html.page(results, gone))
    assert [heading.text for heading in page.iter("h2")] == ["Contrasts", "Accuracy", "Rows"]
    said = [note.text for note in page.findall(".//ul/li") if "Left out" in (note.text or "")]
    assert said == [
        "Left out: curves of losses (no log lies beside the rows), and pictures of masks (the checkpoint "
        "pretrain/0 is not <there>, and so for 4 more)."
    ]
    assert "pictures of masks (no cell has a pre-training that came to its end)" in html.page(results, [])
    assert "pictures of masks" not in html.page(results), "they were not asked for"


def test_a_strategy_has_one_colour_on_the_whole_page(tmp_path: Path) -> None:
    cells = [planned(mask=mask, ratio=0.9) for mask in ("tube", "adaptive")]
    curve = [CurvePoint(share=share, step=int(8 * share), values={"knn": share / 2}) for share in (0.5, 1.0)]
    results = report.read_results([folder(tmp_path, cells, [row(cell, curve=curve) for cell in cells])])
    page = parsed(html.page(results))
    seen = {
        (mark.said.split(",")[0].split()[0], mark.colour)
        for drawn in page.iter(f"{SPACE}svg")
        for mark in marks(ET.tostring(drawn, encoding="unicode"), "point")
    }
    assert seen == {(name, COLOURS[name]) for name in ("tube", "adaptive")}

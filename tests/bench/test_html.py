"""The page: well-formed, self-contained, every line and point on it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tests.bench.made_rows import DEFAULT, planned, row
from tests.bench.test_report import folder
from vidkit.bench import html, report


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
    body = text.replace("<!DOCTYPE html>", "").replace('<meta charset="utf-8">', "")
    page = ET.fromstring(body)  # well-formed, so that every name and reason is escaped
    assert len(page.findall(".//tbody/tr")) == 4
    assert "failed: loss &lt;nan&gt; &amp;" in text
    assert "paper (quoted) top-1 %" in text
    left = text.replace("http://www.w3.org/2000/svg", "")
    assert not any(word in left for word in ("http", "<script", "src=", "href=", "@import"))


def test_points_are_where_they_belong(tmp_path: Path) -> None:
    results = made(tmp_path)
    first, second = (ET.fromstring(svg) for svg in html.plots(report.lines(results)))
    space = "{http://www.w3.org/2000/svg}"
    points = [circle for circle in first.iter(f"{space}circle") if len(circle)]
    assert [point[0].text for point in points] == [
        "adaptive, 0.8: 50.50 ± 6.35, seeds: 2",
        "adaptive, 0.9: 52.50 ± 6.35, seeds: 2",
        "tube, 0.8: 54.50 ± 6.35, seeds: 2",
    ]
    heights = [float(point.attrib["cy"]) for point in points]
    assert heights == sorted(heights, reverse=True), "higher is better, and y grows downwards"
    assert float(points[0].attrib["cx"]) == float(points[2].attrib["cx"]) < float(points[1].attrib["cx"])
    assert len(list(first.iter(f"{space}polyline"))) == 1
    assert len([circle for circle in second.iter(f"{space}circle") if len(circle)]) == 3


def test_without_accuracy_there_is_no_plot(tmp_path: Path) -> None:
    cell = planned(kind="memory")
    results = report.read_results([folder(tmp_path, [cell], [row(cell, predicted_bytes=10**9)])])
    assert html.plots(report.lines(results)) == []
    assert "<svg" not in html.page(results)

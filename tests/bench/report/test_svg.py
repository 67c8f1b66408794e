"""Plots: round ticks, everything inside, names escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from vidkit.bench.report import svg
from vidkit.bench.report.estimates import Estimate

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("number", range(30))
def test_ticks_are_round_and_inside(number: int) -> None:
    draw = np.random.default_rng(number)
    low = float(draw.normal(0, 10.0 ** draw.integers(-6, 6)))
    high = low + float(draw.random() * 10.0 ** draw.integers(-3, 6) + 1e-3)
    found = svg.ticks(low, high)
    room = 1e-6 * (high - low)
    assert 2 <= len(found) <= 7
    assert all(low - room <= value <= high + room for value in found)
    steps = np.diff(found)
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-5)
    assert round(float(steps[0]) / 10 ** np.floor(np.log10(steps[0]) + 1e-9)) in (1, 2, 5, 10)


def test_one_value_has_room_around_it() -> None:
    assert svg.span([0.0, 0.0]) == (-1.0, 1.0)
    low, high = svg.span([5.0])
    assert low < 5.0 < high
    points = {"tube": [svg.Point(0.9, Estimate(50.0, None, 1))]}
    ET.fromstring(svg.plot(points, x="mask ratio", y="top-1 %", joined=True))


def test_names_and_titles_are_escaped() -> None:
    points = {'<b> & "c"': [svg.Point(0.9, Estimate(50.0, 2.0, 3))]}
    page = ET.fromstring(svg.plot(points, x="x < y", y="a & b", joined=False))
    assert page.findtext(f"{SPACE}title") == "a & b against x < y"
    assert '<b> & "c"' in (page.findtext(f"{SPACE}desc") or "")


def test_curves_and_bands_lie_inside_and_where_they_belong() -> None:
    x = tuple(float(i) for i in range(50))
    falling = tuple(2.0 - i / 50 for i in range(50))
    low, high = tuple(value - 0.1 for value in falling), tuple(value + 0.1 for value in falling)
    of = [
        svg.Curve(name="one", x=x, y=falling, low=low, high=high),
        svg.Curve(name="a much longer name than that", x=x[:5], y=falling[:5], colour=svg.PALETTE[1], dash="2 2"),
    ]
    page = ET.fromstring(svg.curves(of, x="epoch", y="loss", title="Loss"))
    width, height = float(page.attrib["width"]), float(page.attrib["height"])
    lines = [line for line in page.iter() if line.get("points")]
    assert len(lines) == 3
    for line in lines:
        for pair in line.attrib["points"].split():
            px, py = map(float, pair.split(","))
            assert 0 <= px <= width
            assert 0 <= py <= height
    first = [float(pair.split(",")[1]) for pair in lines[1].attrib["points"].split()]
    assert first == sorted(first), "it falls, and y grows downwards"
    assert [group.findtext(f"{SPACE}title") for group in page.iter(f"{SPACE}g")] == [
        "one: 2 to 1.02",
        "a much longer name than that: 2 to 1.92",
    ]
    shared = ET.fromstring(svg.curves(of, x="epoch", y="loss", title="Loss", y_range=(0.0, 10.0)))
    (again, *_) = list(shared.iter(f"{SPACE}polyline"))
    assert min(float(pair.split(",")[1]) for pair in again.attrib["points"].split()) > min(first)


def test_a_long_legend_makes_a_taller_plot() -> None:
    of = [svg.Curve(name=f"cell {i}", x=(0.0, 1.0), y=(1.0, 0.5)) for i in range(40)]
    page = ET.fromstring(svg.curves(of, x="epoch", y="loss", title="Loss"))
    lowest = max(float(text.attrib["y"]) for text in page.iter(f"{SPACE}text") if "y" in text.attrib)
    assert lowest < float(page.attrib["height"])

"""Plots: everything in its place and inside, names as they are, the same bytes again, nothing left behind."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.bench.report.drawn import SPACE, marks, size, texts
from tests.data.builds import environment
from vidkit.bench.report import plots, style
from vidkit.bench.report.estimates import Estimate
from vidkit.bench.report.plots import Curve, Dots, Point
from vidkit.bench.report.style import Chart, png, svg

LINK = "{http://www.w3.org/1999/xlink}href"

HOSTILE = '_<b> & "c" $\\frac$ \x07 視'


def cells() -> Chart:
    series = {
        "adaptive": [Point(0.9, Estimate(52.0, 1.5, 3)), Point(0.8, Estimate(50.0, 2.0, 3))],
        "tube": [Point(0.8, Estimate(54.0, None, 1))],
    }
    return plots.points(series, x="mask ratio", y="top-1 %", joined=True, aside=True)


def losses() -> Chart:
    x = tuple(float(i) for i in range(50))
    falling = tuple(2.0 - i / 50 for i in range(50))
    low, high = tuple(value - 0.1 for value in falling), tuple(value + 0.1 for value in falling)
    of = [
        Curve(name="one", x=x, y=falling, low=low, high=high),
        Curve(name="a much longer name than that", x=x[:5], y=falling[:5], colour="#009e73", dash=(2, 2)),
    ]
    return plots.curves(of, x="epoch", y="loss", title="Loss")


def arms() -> Chart:
    of = [
        Dots(name="mann", mean=Estimate(55.0, 12.0, 3), each={0: 50.0, 1: 60.0, 2: 55.0}),
        Dots(name="proto", mean=Estimate(60.0, 11.0, 3), each={0: 55.0, 1: 64.0, 2: 61.0}),
        Dots(name="once", mean=Estimate(33.0, None, 1), each={0: 33.0}),
    ]
    return plots.dots(of, x="accuracy %", title="Arms", chance=20.0)


CHARTS = {"points": cells, "curves": losses, "dots": arms}


def axis(svg: str, side: int) -> dict[float, float]:
    """Place of each tick's number; side 0 for x, 1 for y."""
    found = {}
    for text in ET.fromstring(svg).iter(f"{SPACE}text"):
        anchor = "end" if side else "middle"
        if f"text-anchor: {anchor}" in text.attrib["style"] and re.fullmatch(r"[\d.]+", text.text or ""):
            found[float(text.text or "")] = float(text.attrib["y" if side else "x"])
    return found


def scale(svg: str, side: int) -> tuple[float, float]:
    """Pixels per unit, and the place of 0, from the ticks."""
    ticks = axis(svg, side)
    slope, start = np.polyfit([*ticks], [*ticks.values()], 1)
    return float(slope), float(start)


def test_points_and_error_bars_are_where_the_axes_say() -> None:
    drawn = svg(cells())
    (across, left), (up, bottom) = scale(drawn, 0), scale(drawn, 1)
    assert up < 0, "higher is better, and y grows downwards"
    points = marks(drawn, "point")
    assert [point.said for point in points] == [
        "adaptive, 0.8: 50.00 ± 2.00, seeds: 3",
        "adaptive, 0.9: 52.00 ± 1.50, seeds: 3",
        "tube, 0.8: 54.00, seeds: 1",
    ]
    # numbers stand below their ticks' line by some pixels, the same for all
    low = points[0].place[1] - (bottom + up * 50.0)
    assert -8 < low < 0
    for point, (x, y), moved in zip(points, [(0.8, 50.0), (0.9, 52.0), (0.8, 54.0)], (-3, -3, 3), strict=True):
        assert point.place == pytest.approx((left + across * x + moved, bottom + up * y + low), abs=0.05)
    (line,) = marks(drawn, "line")
    assert line.places == [points[0].place, points[1].place]
    bars = [path.attrib["d"] for path in ET.fromstring(drawn).iter(f"{SPACE}path") if path.get("clip-path")]
    ends = [[float(number) for number in re.findall(r"-?[\d.]+", bar)] for bar in bars]
    upright = sorted(abs(y2 - y1) for x1, y1, x2, y2 in ends if x1 == x2)
    assert upright == pytest.approx([3.0 * -up, 4.0 * -up], abs=0.05), "twice the half of each interval"


def test_curves_and_bands_lie_inside_and_where_they_belong() -> None:
    drawn = svg(losses())
    width, height = size(drawn)
    first, second = marks(drawn, "curve")
    assert [curve.said for curve in (first, second)] == [
        "one: 2 to 1.02",
        "a much longer name than that: 2 to 1.92",
    ]
    assert (len(first.places), len(second.places)) == (50, 5)
    assert (first.dashed, second.dashed) == (False, True)
    heights = [y for _, y in first.places]
    assert heights == sorted(heights), "it falls, and y grows downwards"
    assert all(0 <= x <= width and 0 <= y <= height for x, y in first.places)
    up, _ = scale(drawn, 1)
    page = ET.fromstring(drawn)
    (use,) = [part for part in page.iter(f"{SPACE}use") if "opacity: 0.15" in part.get("style", "")]
    band = page.find(f".//{SPACE}path[@id='{use.attrib[LINK].removeprefix('#')}']")
    assert band is not None
    ends = [float(number) for number in re.findall(r"-?[\d.]+", band.attrib["d"])][1::2]
    assert max(ends) - min(ends) == pytest.approx(-up * (0.98 + 0.2), abs=0.1)
    said = next(group for group in ET.fromstring(drawn).iter(f"{SPACE}g") if group.get("class") == "curve")
    assert said.attrib["data-each"].splitlines()[0:50:49] == ["epoch 0: 2", "epoch 49: 1.02"]


def test_a_curve_of_one_point_is_seen() -> None:
    drawn = svg(plots.curves([Curve(name="once", x=(2.0,), y=(0.5,))], x="epoch", y="loss", title="Loss"))
    (mark,) = marks(drawn, "point")
    assert mark.said == "once, epoch 2: 0.5"
    assert marks(drawn, "curve") == []


def test_one_scale_for_several_plots() -> None:
    of = [Curve(name="one", x=(0.0, 1.0), y=(1.0, 0.5))]
    alone = svg(plots.curves(of, x="epoch", y="loss", title="Loss"))
    shared = svg(plots.curves(of, x="epoch", y="loss", title="Loss", y_range=(0.0, 10.0)))
    assert max(axis(alone, 1)) <= 1.1
    assert (min(axis(shared, 1)), max(axis(shared, 1))) == (0.0, 10.0)


def test_arms_stand_one_below_the_other_with_their_seeds() -> None:
    drawn = svg(arms())
    means, seeds = marks(drawn, "point"), marks(drawn, "seed")
    across, left = scale(drawn, 0)
    assert [mean.said for mean in means] == [
        "mann: 55.00 ± 12.00, seeds: 3",
        "proto: 60.00 ± 11.00, seeds: 3",
        "once: 33.00, seeds: 1",
    ]
    assert [mean.place[0] for mean in means] == pytest.approx(
        [left + across * value for value in (55, 60, 33)], abs=0.05
    )
    assert np.diff([mean.place[1] for mean in means]) == pytest.approx([plots.ROW] * 2)
    assert [seed.said for seed in seeds][:2] == ["mann, seed 0: 50", "mann, seed 1: 60"]
    assert len(seeds) == 6, "one seed alone is the mean"
    assert {"chance", "55.00 ± 12.00", "33.00"} <= {*texts(drawn)}
    assert 20.0 in axis(drawn, 0), "chance is within the axis"


@pytest.mark.parametrize("mean", [0.0, 5.0, 1e-6, 3e9])
def test_one_value_has_room_around_it(mean: float) -> None:
    points = {"tube": [Point(0.9, Estimate(mean, None, 1))]}
    drawn = svg(plots.points(points, x="mask ratio", y="top-1 %", joined=True))
    (point,) = marks(drawn, "point")
    width, height = size(drawn)
    assert 50 < point.place[0] < width - 50
    assert 50 < point.place[1] < height - 50


def test_names_are_as_they_are() -> None:
    """Markup, formulas and names that begin with a line are text; what XML cannot hold is replaced."""
    points = {HOSTILE: [Point(0.9, Estimate(50.0, 2.0, 3))]}
    curves = [Curve(name=HOSTILE, x=(0.0, 1.0), y=(1.0, 0.5))]
    shown = HOSTILE.replace("\x07", "\ufffd")
    for chart in (
        plots.points(points, x="x < y", y="a & b", joined=False),
        plots.curves(curves, x="x < y", y="a & b", title="a & b against x < y"),
        plots.dots([Dots(name=HOSTILE, mean=Estimate(50.0, 2.0, 3))], x="x < y", title="a & b against x < y"),
    ):
        drawn = svg(chart)
        page = ET.fromstring(drawn)
        assert page.findtext(f"{SPACE}title") == page.attrib["aria-label"] == "a & b against x < y"
        assert page.attrib["role"] == "img"
        assert page.findtext(f"{SPACE}desc")
        assert shown in texts(drawn)
        assert "x < y" in texts(drawn)
        assert all(len(part) == 0 for part in page.iter(f"{SPACE}text")), "no markup in a text"


def test_a_long_legend_makes_a_taller_plot_and_a_long_name_a_wider_one() -> None:
    of = [Curve(name=f"cell {i}", x=(0.0, 1.0), y=(1.0, 0.5)) for i in range(40)]
    width, height = size(svg(plots.curves(of, x="epoch", y="loss", title="Loss")))
    few_wide, few_high = size(svg(plots.curves(of[:2], x="epoch", y="loss", title="Loss")))
    assert height > 600 > few_high
    long = [Curve(name="a cell with a name " * 5, x=(0.0, 1.0), y=(1.0, 0.5))]
    assert size(svg(plots.curves(long, x="epoch", y="loss", title="Loss")))[0] > few_wide + 300
    assert width == pytest.approx(few_wide, abs=20)


@pytest.mark.parametrize("name", CHARTS)
def test_the_same_bytes_again(name: str) -> None:
    """Also where the user's settings are others."""
    chart = CHARTS[name]()
    drawn, picture = svg(chart), png(chart)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        assert svg(CHARTS[name]()) == drawn
        assert png(CHARTS[name]()) == picture


def test_the_same_bytes_in_another_process_and_nothing_left_behind(tmp_path: Path) -> None:
    """At another time, with other hashes; no window system, no current figure, no changed settings."""
    code = (
        "import sys, matplotlib; get, before = dict.__getitem__, matplotlib.rcParams.copy()\n"
        "from tests.bench.report import test_plots as t\n"
        "drawn = [t.svg(make()) for make in t.CHARTS.values()]\n"
        "t.png(t.cells())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert all(str(get(matplotlib.rcParams, key)) == str(get(before, key)) for key in before)\n"
        "print('\\n'.join(drawn))"
    )
    there = environment(MPLCONFIGDIR=str(tmp_path), SOURCE_DATE_EPOCH="1", PYTHONHASHSEED="7", DISPLAY=":9")
    done = subprocess.run([sys.executable, "-c", code], env=there, capture_output=True, text=True, check=False)
    assert done.stdout == "\n".join(svg(make()) for make in CHARTS.values()) + "\n", done.stderr


@pytest.mark.parametrize("name", CHARTS)
def test_an_svg_is_alone(name: str) -> None:
    drawn = svg(CHARTS[name]())
    assert drawn.count("http") == 2, "the names of SVG and XLink"
    for word in ("<script", "<style", "<metadata", "<!--", "DejaVu", "url(http", "Date", "Matplotlib"):
        assert word not in drawn
    page = ET.fromstring(drawn)
    ids = [part.attrib["id"] for part in page.iter() if "id" in part.attrib]
    named = {*re.findall(r'(?:href="#|url\(#)([\w-]+)', drawn)}
    assert len(ids) == len({*ids})
    assert {*ids} == named, "nothing is named in vain, and nothing is missing"


def test_plots_of_one_page_share_no_names() -> None:
    found = [{*re.findall(r' id="([^"]+)"', svg(chart()))} for chart in CHARTS.values()]
    assert all(found)
    assert sum(map(len, found)) == len(set.union(*found))


def test_pictures() -> None:
    for name, chart in CHARTS.items():
        drawn = chart()
        with Image.open(io.BytesIO(png(drawn))) as picture, Image.open(io.BytesIO(png(drawn, dots=72))) as small:
            assert picture.format == "PNG"
            assert picture.width == pytest.approx(2 * small.width, rel=0.02), name
            assert small.size == pytest.approx(size(svg(drawn)), abs=8), "an SVG's pixels"
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 20, "an empty picture"


def test_colours_of_strategies_do_not_depend_on_their_order() -> None:
    def colours(*names: str) -> dict[str, str]:
        series = {name: [Point(0.9, Estimate(50.0 + i, None, 1))] for i, name in enumerate(names)}
        drawn = svg(plots.points(series, x="mask ratio", y="top-1 %", joined=False))
        return {mark.said.split(",")[0]: mark.colour for mark in marks(drawn, "point")}

    assert colours("tube", "adaptive") == {name: style.COLOURS[name] for name in ("tube", "adaptive")}
    assert colours("adaptive", "tube") == colours("tube", "adaptive")

"""How every plot looks, and how it is written: SVG for pages, PNG for files.

Figures are matplotlib's, made without pyplot: no window, no current figure, and its settings are as they were
afterwards. The same plot is the same text, whatever the day and the user's own settings.

Each has a title and a description, so that a reader who does not see it knows what it shows; each mark says its
value when pointed at.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of the strategies: told apart without colour vision as well (Okabe and Ito), by their marks, and by name.
COLOURS = {"adaptive": "#d55e00", "tube": "#0072b2", "random": "#009e73", "frame": "#6b6b6b"}

#: Of anything else, one after the other.
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#a3447f", "#6b6b6b", "#b8860b", "#3d8fc4", "#000000")
MARKERS = ("o", "s", "^", "D")

#: Pixels of a line and of the gap after it; none: a whole line.
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 2), (8, 3, 2, 3))

INK, GRID = "#222222", "#e3e3e3"

#: Units of an SVG, and dots of matplotlib's points at this number of dots an inch: one pixel.
PIXEL = 1 / 72

_LOOK: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.xmargin": 0.06,
    "axes.ymargin": 0.06,
    "figure.dpi": 72,
    "font.size": 12,
    "grid.color": GRID,
    "legend.borderaxespad": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.scale_dashes": False,
    "path.simplify": False,  # a curve has all its points
    "svg.fonttype": "none",  # text is text: to be read aloud, searched and copied
    "text.color": INK,
    "text.parse_math": False,  # a name with a dollar sign is a name
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.major.size": 0,
}

#: Attributes that say where something lies.
_PLACES = ("d", "x", "y", "width", "height", "viewBox", "transform")

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What a part of a plot says when it is pointed at."""

    kind: str
    """Its class in the SVG: "point", "seed", "line" or "curve"."""
    said: str
    name: str = ""
    each: tuple[str, ...] = ()
    """Of a curve: its name, and what each of its points says, for the page's script."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A plot, to be written by `svg` or `png`."""

    figure: Figure
    title: str
    description: str
    marks: Mapping[str, Mark]
    """By the `gid` of the artist."""


@contextmanager
def look() -> Iterator[None]:
    """Draw in our style; the user's own settings of matplotlib neither count nor change."""
    from matplotlib import style

    with style.context(["default", _LOOK]), warnings.catch_warnings():
        # the SVG holds text, which the reader's fonts draw; ours only measures it
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def canvas(title: str, x: str, y: str, *, width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose axes are `width` by `height` pixels; titles, ticks and legends come around them. To be called
    inside `look`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * PIXEL, height * PIXEL))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def svg(chart: Chart) -> str:
    """As text to be put into a page, or into a file of its own: no script, no font, nothing beside it."""
    import matplotlib

    # parts that a plot refers to are named by what they are and by this: no two plots of a page share a name
    with look(), matplotlib.rc_context({"svg.hashsalt": f"{chart.title}\n{chart.description}"}):
        return _tidy(_saved(chart, "svg").decode(), chart)


def png(chart: Chart, *, dots: int = 144) -> bytes:
    """As a picture.

    Args:
        dots: an inch; of an SVG's pixels there are 72.
    """
    with look():
        return _saved(chart, "png", dpi=dots)


def _saved(chart: Chart, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator") if kind == "svg" else ("Software",))
    chart.figure.savefig(file, format=kind, bbox_inches="tight", pad_inches=8 * PIXEL, metadata=nothing, **how)
    return file.getvalue()


# --- what matplotlib's SVG lacks, and has too much -------------------------------------------------


def _tidy(text: str, chart: Chart) -> str:
    """With title, description and what its marks say; without metadata, names that nothing refers to, and fonts
    that the reader need not have.
    """
    root = ET.fromstring(_legible(text))
    named = {name: part for part in root.iter() if (name := part.get("id")) is not None}
    for name, mark in chart.marks.items():
        _say(named[name], mark)
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    kept = set(re.findall(r"#([\w-]+)", " ".join(value for part in root.iter() for value in part.attrib.values())))
    for part in root.iter():
        part.tag = part.tag.removeprefix(f"{{{_SVG}}}")
        part.attrib = {
            name.replace(f"{{{_XLINK}}}", "xlink:"): _short(value) if name in _PLACES else value
            for name, value in part.attrib.items()
            if name != "id" or value in kept
        }
        part.text, part.tail = ((words if words and words.strip() else None) for words in (part.text, part.tail))
        if "style" in part.attrib and part.tag == "text":
            part.set("style", re.sub(r"font-family: [^;]*; ", "", part.attrib["style"]))
    return _legible(ET.tostring(_framed(root, chart), encoding="unicode"))


def _legible(text: str) -> str:
    """With a sign in place of what XML cannot hold."""
    return re.sub("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)


def _short(value: str) -> str:
    """Numbers to hundredths of a pixel, one space between them."""
    rounded = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{round(float(number[0]), 2) + 0.0:.8g}", value)
    return " ".join(rounded.split())


def _say(part: ET.Element, mark: Mark) -> None:
    part.set("class", mark.kind)
    if mark.each:
        part.set("data-name", mark.name)
        part.set("data-each", "\n".join(mark.each))
    said = ET.Element(f"{{{_SVG}}}title")
    said.text = mark.said
    part.insert(0, said)


def _framed(root: ET.Element, chart: Chart) -> ET.Element:
    """The same parts under a root of our own."""
    width, height = (root.attrib[side].removesuffix("pt") for side in ("width", "height"))
    whole = ET.Element(
        "svg",
        {
            "xmlns": _SVG,
            "xmlns:xlink": _XLINK,
            "width": width,
            "height": height,
            "viewBox": root.attrib["viewBox"],
            "role": "img",
            "aria-label": chart.title,
            "font-family": "system-ui, sans-serif",
            "stroke-linejoin": "round",
        },
    )
    ET.SubElement(whole, "title").text = chart.title
    ET.SubElement(whole, "desc").text = chart.description
    whole.extend([part for part in root if part.tag != "defs" or len(part)])
    return whole

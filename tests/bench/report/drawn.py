"""What a plot's SVG shows: its marks, with what they say and where they are, in pixels."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import NamedTuple

SPACE = "{http://www.w3.org/2000/svg}"


class Seen(NamedTuple):
    said: str
    """When pointed at."""
    places: list[tuple[float, float]]
    colour: str
    dashed: bool

    @property
    def place(self) -> tuple[float, float]:
        (only,) = self.places
        return only


def marks(svg: str, kind: str) -> list[Seen]:
    """Those of a class, in the order in which they are drawn."""
    return [_seen(group) for group in ET.fromstring(svg).iter(f"{SPACE}g") if group.get("class") == kind]


def _seen(group: ET.Element) -> Seen:
    use, path = group.find(f".//{SPACE}use"), group.find(f"{SPACE}path")
    shape = use if use is not None else path
    assert shape is not None
    style = shape.attrib["style"]
    found = re.search(r"stroke: (#\w+)", style)
    assert found is not None
    if use is not None:
        places = [(float(use.attrib["x"]), float(use.attrib["y"]))]
    else:
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape.attrib["d"])]
        places = [*zip(numbers[::2], numbers[1::2], strict=True)]
    return Seen(group.findtext(f"{SPACE}title") or "", places, found[1], "stroke-dasharray" in style)


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{SPACE}text")]


def size(svg: str) -> tuple[float, float]:
    root = ET.fromstring(svg)
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    return float(root.attrib["width"]), float(root.attrib["height"])

"""Plots as SVG text: points with error bars, and curves. No script, no style sheet, nothing beside them.

Each has a title and a description, so that a reader who does not see it knows what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from vidkit.bench.report.estimates import Estimate, written

#: Of the strategies: told apart without colour vision as well (Okabe and Ito), by their marks, and by name.
COLOURS = {"adaptive": "#d55e00", "tube": "#0072b2", "random": "#009e73", "frame": "#6b6b6b"}

#: Of anything else, one after the other.
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#a3447f", "#6b6b6b", "#b8860b", "#3d8fc4", "#000000")
DASHES = ("", "6 3", "2 2", "8 3 2 3")

WIDTH, HEIGHT = 620, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 96, 34, 52

#: Pixels between the series of a plot where several have points at one place.
ASIDE = 6

#: Of a letter of the plots' text, pixels.
_LETTER = 6.6

_INK, _GRID = "#222222", "#e3e3e3"


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A line over (x, y), with a band from `low` to `high` if they are given. All of one length."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    colour: str = PALETTE[0]
    dash: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """Axes, and where a value lies between them."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    right: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - LEFT - self.right)
        up = (y - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    def axes(self, title: str, x: str, y: str) -> list[str]:
        edge = self.width - self.right
        parts = [_text(LEFT, 18, title, bold=True)]
        for value in ticks(*self.y):
            _, py = self.at(self.x[0], value)
            parts.append(f'<line x1="{LEFT}" x2="{edge}" y1="{py}" y2="{py}" stroke="{_GRID}"/>')
            parts.append(_text(LEFT - 6, py + 4, f"{value:g}", anchor="end"))
        for value in ticks(*self.x):
            px, _ = self.at(value, self.y[0])
            parts.append(
                f'<line x1="{px}" x2="{px}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" stroke="{_INK}"/>'
            )
            parts.append(_text(px, HEIGHT - BOTTOM + 18, f"{value:g}", anchor="middle"))
        bottom = HEIGHT - BOTTOM
        parts.append(f'<line x1="{LEFT}" x2="{edge}" y1="{bottom}" y2="{bottom}" stroke="{_INK}"/>')
        parts.append(_text((LEFT + edge) / 2, HEIGHT - 12, x, anchor="middle"))
        middle = (TOP + bottom) / 2
        turned = f'<text transform="translate(14 {middle:g}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
        parts.append(turned)
        return parts


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from `low` to `high`: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.78, 1.0)
    [0.8, 0.85, 0.9, 0.95, 1.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def span(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest, with some room."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def plot(
    series: dict[str, list[Point]],
    *,
    x: str,
    y: str,
    joined: bool,
    aside: bool = False,
    title: str = "",
    description: str = "",
) -> str:
    """A point with its error bar for each cell, a colour and a mark for each series.

    Args:
        joined: lines between the points of a series.
        aside: move the series a few pixels apart, where they have points at the same x.
    """
    right = _room(series)
    width = WIDTH - RIGHT + right
    points = [point for some in series.values() for point in some]
    half = [point.y.half or 0.0 for point in points]
    ends = [point.y.mean + sign * h for point, h in zip(points, half, strict=True) for sign in (-1, 1)]
    frame = _Frame(x=span([point.x for point in points]), y=span(ends), width=width, right=right)
    title = title or f"{y} against {x}"
    parts = frame.axes(title, x, y)
    apart = ASIDE if aside and len({point.x for point in points}) < len(points) else 0
    for number, (name, some) in enumerate(series.items()):
        colour = COLOURS.get(name, PALETTE[number % len(PALETTE)])
        mark = MARKS[number % len(MARKS)]
        moved = apart * (number - (len(series) - 1) / 2)
        placed = [
            ((round(px + moved, 1), py), point)
            for point in sorted(some, key=lambda point: point.x)
            for px, py in [frame.at(point.x, point.y.mean)]
        ]
        if joined and len(placed) > 1:
            path = " ".join(f"{px},{py}" for (px, py), _ in placed)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for (px, py), point in placed:
            if point.y.half:
                ends_of = [frame.at(point.x, point.y.mean + sign * point.y.half)[1] for sign in (1, -1)]
                parts += _bar(px, ends_of[0], ends_of[1], colour)
            said = escape(f"{name}, {point.x:.4g}: {written(point.y)}, seeds: {point.y.count}")
            parts.append(f'<g class="point"><title>{said}</title>{mark(px, py, colour)}</g>')
        row = TOP + 10 + 18 * number
        parts.append(mark(width - right + 14, row, colour))
        parts.append(_text(width - right + 24, row + 4, name))
    said = description or f"{len(points)} points of {', '.join(series)}: {y} against {x}, with 95 % intervals."
    return _svg(parts, width, HEIGHT, title, said)


def curves(
    of: Sequence[Curve],
    *,
    x: str,
    y: str,
    title: str,
    description: str = "",
    y_range: tuple[float, float] | None = None,
) -> str:
    """Lines with their names beside them, in the order given.

    Args:
        y_range: for several plots side by side; else what the curves span.
    """
    values = [value for curve in of for value in (*curve.y, *curve.low, *curve.high)]
    right = _room(curve.name for curve in of) + 14
    width = WIDTH - RIGHT + right
    frame = _Frame(
        x=span([value for curve in of for value in curve.x]), y=y_range or span(values), width=width, right=right
    )
    parts = frame.axes(title, x, y)
    for curve in of:
        if curve.low:
            edge = [frame.at(*pair) for pair in zip(curve.x, curve.high, strict=True)]
            edge += [frame.at(*pair) for pair in zip(curve.x, curve.low, strict=True)][::-1]
            shape = " ".join(f"{px},{py}" for px, py in edge)
            parts.append(f'<polygon points="{shape}" fill="{curve.colour}" fill-opacity="0.15" stroke="none"/>')
    for number, curve in enumerate(of):
        dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
        look = f'fill="none" stroke="{curve.colour}" stroke-width="1.6"{dash}'
        path = " ".join(f"{px},{py}" for px, py in (frame.at(*pair) for pair in zip(curve.x, curve.y, strict=True)))
        said = escape(f"{curve.name}: {curve.y[0]:.4g} to {curve.y[-1]:.4g}")
        parts.append(f'<g class="curve"><title>{said}</title><polyline points="{path}" {look}/></g>')
        row, start = TOP + 10 + 18 * number, width - right + 10
        parts.append(f'<line x1="{start}" x2="{start + 22}" y1="{row}" y2="{row}" {look}/>')
        parts.append(_text(start + 28, row + 4, curve.name))
    height = max(HEIGHT, TOP + 10 + 18 * len(of) + 10)
    said = description or f"{len(of)} curves: {', '.join(curve.name for curve in of)}; {y} against {x}."
    return _svg(parts, width, height, title, said)


# --- parts ---------------------------------------------------------------------------------------


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>'


def _square(x: float, y: float, colour: str) -> str:
    return f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2" fill="{colour}"/>'


def _polygon(*corners: tuple[float, float]) -> Callable[[float, float, str], str]:
    def drawn(x: float, y: float, colour: str) -> str:
        placed = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        return f'<polygon points="{placed}" fill="{colour}"/>'

    return drawn


MARKS: tuple[Callable[[float, float, str], str], ...] = (
    _circle,
    _square,
    _polygon((0, -5), (4.6, 3.6), (-4.6, 3.6)),
    _polygon((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
)


def _bar(x: float, top: float, bottom: float, colour: str) -> list[str]:
    lines = [(x, x, top, bottom), (x - 3, x + 3, top, top), (x - 3, x + 3, bottom, bottom)]
    return [
        f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1}" y2="{y2}" stroke="{colour}"/>' for x1, x2, y1, y2 in lines
    ]


def _room(names: Iterable[str]) -> int:
    """Pixels that a legend needs to the right of a plot."""
    return max(RIGHT, 34 + math.ceil(_LETTER * max((len(name) for name in names), default=0)))


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _svg(parts: Iterable[str], width: int, height: int, title: str, description: str) -> str:
    named = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title, quote=True)}" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="{_INK}"><title>{named}</title><desc>{escape(description)}</desc>{"".join(parts)}</svg>'
    )

"""Shapes of the generated clips, as distances to their edges.

Each function takes coordinates in units of the shape's radius (y downwards) and returns about the
signed distance to the edge in the same unit, negative inside. Per pixel there are only + - * sqrt,
min and max, whose results IEEE 754 fixes to the last bit: the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


def _larger(a: Floats, b: Floats) -> Floats:
    result: Floats = np.maximum(a, b)
    return result


def _length(x: Floats, y: Floats) -> Floats:
    result: Floats = np.sqrt(x * x + y * y)
    return result


def _size(x: Floats) -> Floats:
    result: Floats = np.abs(x)
    return result


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    return _larger(_size(x) - half_width, _size(y) - half_height)


def _disc(x: Floats, y: Floats) -> Floats:
    return _length(x, y) - 0.95


def _square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.85, 0.85)


def _triangle(x: Floats, y: Floats) -> Floats:
    sides = _size(x) * 0.8660254 - y * 0.5 - 0.5
    return _larger(sides, y - 0.7)


def _ring(x: Floats, y: Floats) -> Floats:
    return _size(_length(x, y) - 0.75) - 0.22


def _cross(x: Floats, y: Floats) -> Floats:
    return -_larger(-_box(x, y, 1.0, 0.28), -_box(x, y, 0.28, 1.0))


#: directions of the five points; the first is up
_POINTS = ((0.0, -1.0), (0.951057, -0.309017), (0.587785, 0.809017), (-0.587785, 0.809017), (-0.951057, -0.309017))


def _star(x: Floats, y: Floats) -> Floats:
    """Five points: inside are all places that lie beyond at most one of its five long lines."""
    beyond = np.stack([x * nx + y * ny for nx, ny in _POINTS])
    second_largest: Floats = np.sort(beyond, axis=0)[-2]
    return second_largest - 0.309


def _diamond(x: Floats, y: Floats) -> Floats:
    return (_size(x) * 1.35 + _size(y) - 1.0) * 0.6


def _bar(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 1.0, 0.27)


def _crescent(x: Floats, y: Floats) -> Floats:
    return _larger(_disc(x, y), 0.78 - _length(x, y + 0.45))


def _frame(x: Floats, y: Floats) -> Floats:
    return _size(_box(x, y, 0.72, 0.72)) - 0.18


#: Each is symmetric about the vertical, so that a left-right flip leaves the shape what it is.
SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "diamond": _diamond,
    "bar": _bar,
    "crescent": _crescent,
    "frame": _frame,
}

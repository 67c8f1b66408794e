"""Appearance of the generated motion clips: a cluttered still scene, a camera that shakes, one shape that moves.

Nothing here knows a class. All is drawn from one stream of random numbers, which the class has no part in.

At most levels the picture has no edges: what leaves it on one side enters on the other. So every place is as likely
as any other in every frame, and no class can be told from where its shape is.

Array shapes: T time, H height, W width, h w the sides of a window that holds the shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidkit.data.synth.motions_levels import HARDEST, LEVELS, Level
from vidkit.data.synth.shapes import SHAPES, Floats

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_SHAPE_NAMES = tuple(SHAPES)
#: How a shape is coloured. Each tells which way up the shape is, so that even a disc is seen to turn.
TEXTURES = ("half", "spot", "stripes")

#: Of the picture's sides: where a shape that can leave the picture begins.
_MIDDLE = (0.25, 0.75)
_BLOTCHES = ((3, 40.0), (7, 30.0), (16, 22.0))
"""Cells across the picture, and how far light and dark lie apart."""
_NOISE = 3
_NOISE_PLATES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """A shape as it looks, apart from where it is."""

    shape: str
    texture: str
    radius: float
    """Sides of the picture's shorter side."""
    angle: float
    """Radians, when nothing has turned it yet."""
    colours: Pixels
    """(2, 3): of the two parts of its texture; dark and light, so that it stands out anywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything of a clip but its motion."""

    still: Pixels
    """(H, W, 3): background and clutter, which never move."""
    mover: Thing
    start: tuple[float, float]
    """(x, y) of the mover in the first frame, pixels."""
    shake: Ints
    """(T, 2): (y, x) of the camera, pixels; (0, 0) in the first frame."""
    noise: npt.NDArray[np.int16]
    """(plates, H, W, 1), used in turns."""
    turns: Ints
    """(T,): which plate."""
    edges: bool
    """What leaves the picture is gone; else it enters on the other side."""


def draw_scene(
    rng: np.random.Generator, height: int, width: int, frames: int, level: Level = LEVELS[HARDEST]
) -> Scene:
    """A scene of `height` x `width` pixels, as crowded and as shaken as the level has it."""
    side, reach = min(height, width), level.reach
    still = _background(rng, height, width)
    for _ in range(int(rng.integers(*level.clutter))):
        thing = draw_thing(rng, level.radius)
        x, y = rng.random(2) * (width, height)
        once = np.ones(1)
        paint(still[None], thing, x * once, y * once, thing.radius * side * once, thing.angle * once)
    mover = draw_thing(rng, level.radius)
    low, high = _MIDDLE if level.edges else (0.0, 1.0)
    x, y = (low + (high - low) * rng.random(2)) * (width, height)
    steps = rng.integers(-1, 2, (frames, 2))
    steps[0] = 0
    return Scene(
        still=still,
        mover=mover,
        start=(float(x), float(y)),
        shake=np.clip(np.cumsum(steps, axis=0), -reach, reach),
        noise=rng.integers(-_NOISE, _NOISE + 1, (_NOISE_PLATES, height, width, 1), dtype=np.int16),
        turns=rng.integers(0, _NOISE_PLATES, frames),
        edges=level.edges,
    )


def draw_thing(rng: np.random.Generator, radii: tuple[float, float]) -> Thing:
    """A thing whose looks are all at random, and so say nothing of how it moves; its radius is between `radii`."""
    shape, texture = int(rng.integers(0, len(_SHAPE_NAMES))), int(rng.integers(0, len(TEXTURES)))
    radius = radii[0] + (radii[1] - radii[0]) * rng.random()
    tint = (rng.random((2, 3)) - 0.5) * 150
    light = np.array([20 + 60 * rng.random(), 175 + 70 * rng.random()])
    if rng.random() < 0.5:
        light = light[::-1]
    return Thing(
        shape=_SHAPE_NAMES[shape],
        texture=TEXTURES[texture],
        radius=radius,
        angle=2 * math.pi * rng.random(),
        colours=_pixels(light[:, None] + tint - tint.mean(axis=1, keepdims=True)),
    )


def film(scene: Scene, x: Floats, y: Floats, angle: Floats, scale: Floats) -> Pixels:
    """(T, H, W, 3) uint8: the scene with its mover displaced by (`x`, `y`) pixels, turned by `angle` radians and
    grown by the factor `scale` in each frame; arrays (T,).
    """
    height, width = scene.still.shape[:2]
    rows = (np.arange(height) + scene.shake[:, :1]) % height
    columns = (np.arange(width) + scene.shake[:, 1:]) % width
    clip = scene.still[rows[:, :, None], columns[:, None, :]]
    _paint_mover(clip, scene, scene.mover, x, y, angle, scale)
    noisy: Pixels = np.clip(clip + scene.noise[scene.turns], 0, 255).astype(np.uint8)
    return noisy


def shares(scene: Scene, x: Floats, y: Floats, angle: Floats, scale: Floats, cells: int) -> Pixels:
    """(T, cells, cells) uint8: how much of each cell of the picture the mover covers in `film`'s frames, of 255.

    Raises:
        ValueError: the picture's sides are no multiples of `cells`.
    """
    height, width = scene.still.shape[:2]
    clip = np.zeros((len(x), height, width, 1), np.uint8)
    white = replace(scene.mover, colours=np.full((2, 1), 255, np.uint8))
    _paint_mover(clip, scene, white, x, y, angle, scale)
    parts = clip.reshape(len(x), cells, height // cells, cells, width // cells)
    return _pixels(parts.mean(axis=(2, 4)))


def _paint_mover(
    clip: Pixels, scene: Scene, mover: Thing, x: Floats, y: Floats, angle: Floats, scale: Floats
) -> None:
    paint(
        clip,
        mover,
        scene.start[0] + x - scene.shake[:, 1],
        scene.start[1] + y - scene.shake[:, 0],
        mover.radius * min(clip.shape[1:3]) * scale,
        mover.angle + angle,
        edges=scene.edges,
    )


def paint(
    clip: Pixels, thing: Thing, x: Floats, y: Floats, radius: Floats, angle: Floats, *, edges: bool = False
) -> None:
    """Blend an anti-aliased shape into every frame of `clip` (T, H, W, C), in place; arrays are (T,), in pixels.

    All frames at once, in a window around the shape; its rows and columns are taken modulo the picture's. With
    `edges`, those outside it stay as they are.
    """
    frames, height, width = clip.shape[:3]
    # sines and powers differ in the last bit between machines; rounding makes them equal again
    x, y, radius = (np.round(values * 64) / 64 for values in (x, y, radius))
    cos, sin = np.round(np.cos(angle), 6)[:, None, None], np.round(np.sin(angle), 6)[:, None, None]
    half = math.ceil(radius.max() * 1.45 + 1)
    high, wide = min(2 * half + 1, height), min(2 * half + 1, width)
    top = np.floor(y).astype(np.int64)[:, None] - high // 2 + np.arange(high)  # (T, h)
    left = np.floor(x).astype(np.int64)[:, None] - wide // 2 + np.arange(wide)  # (T, w)
    size = radius[:, None, None]
    across = ((left + 0.5 - x[:, None]) / radius[:, None])[:, None, :]
    down = ((top + 0.5 - y[:, None]) / radius[:, None])[:, :, None]
    u, v = across * cos + down * sin, down * cos - across * sin  # (T, h, w)
    weight = np.rint(np.clip(0.5 - SHAPES[thing.shape](u, v) * size, 0, 1) * 256).astype(np.int32)[..., None]
    if edges:
        inside = ((top >= 0) & (top < height))[:, :, None] & ((left >= 0) & (left < width))[:, None, :]
        weight *= inside[..., None]
    second = np.clip(0.5 - _texture(thing.texture, u, v) * size, 0, 1)[..., None]
    first_colour, second_colour = thing.colours.astype(np.float64)
    colour = np.rint(first_colour + (second_colour - first_colour) * second).astype(np.int32)
    at = (np.arange(frames)[:, None, None], (top % height)[:, :, None], (left % width)[:, None, :])
    patch = clip[at].astype(np.int32)
    clip[at] = ((patch * (256 - weight) + colour * weight + 128) >> 8).astype(np.uint8)


def _texture(name: str, u: Floats, v: Floats) -> Floats:
    """Distance to the edge of the second colour, in radii, negative where it is."""
    found: Floats
    if name == "half":
        found = u
    elif name == "spot":
        found = np.sqrt((u - 0.45) * (u - 0.45) + v * v) - 0.35
    else:
        # two bands on one side of the middle only: stripes all over would look alike after half a turn
        found = np.minimum(np.abs(u - 0.25) - 0.14, np.abs(u - 0.8) - 0.16)
    return found


def _pixels(values: Floats) -> Pixels:
    result: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return result


def _background(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """(H, W, 3): soft blotches of several sizes, which join at the picture's edges."""
    base = 70 + 110 * rng.random() + (rng.random(3) - 0.5) * 60
    light = np.zeros((height, width, 3))
    for cells, strength in _BLOTCHES:
        grid = (rng.random((cells, cells, 3)) - 0.5) * strength * 2
        grid = 0.7 * grid.mean(axis=2, keepdims=True) + 0.3 * grid
        light += _stretched(_stretched(grid, height).swapaxes(0, 1), width).swapaxes(0, 1)
    return _pixels(base + light)


def _stretched(values: Floats, size: int) -> Floats:
    """(n, ...) -> (size, ...): joined linearly, the last to the first."""
    cells = len(values)
    at = np.arange(size) * (cells / size)
    low = at.astype(np.int64)
    part = (at - low).reshape(-1, *[1] * (values.ndim - 1))
    stretched: Floats = values[low] * (1 - part) + values[(low + 1) % cells] * part
    return stretched

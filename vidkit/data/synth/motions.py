"""Generated clips whose class is a motion, and nothing but a motion: 64 x 64 pixels, 32 frames, 2 to 48 classes.

One textured shape moves in a still scene that is full of others like it, filmed by a camera that shakes. What a
clip looks like (shapes, colours, textures, background, size, place, shaking) is drawn independently of its class:
with one seed and number, the first frame is the same to the last pixel whatever the class. Only how the shape goes
on from there tells it. Most patches carry nothing, as the scene is still.

A class is one motion of a whole clip: a direction with its course of speed (steady, accelerating, braking, stop and
go), a path of two legs, a zigzag, a swing, a circle, or turning and growing on the spot. Distance, phase, number of
turns and so on are drawn anew for each clip, so that neither the distance covered nor the speed of one frame tells
the class. A left-right flip turns some classes into others.

Lengths are in shorter sides of the picture, x to the right and y downwards. T: frames.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from vidkit.data.synth.clips import ClipLook
from vidkit.data.synth.motions_levels import HARDEST, level_of
from vidkit.data.synth.motions_scene import Pixels, Scene, draw_scene, film, shares
from vidkit.data.synth.plan import Plan, PlannedClip, Request, balanced, share_videos
from vidkit.data.synth.shapes import Floats
from vidkit.errors import ConfigError

SIZE, FRAMES, FPS = 64, 32, 16.0
#: Below, shapes are too small for their textures, and a pixel of shaking is as large as a motion.
SMALLEST = 32

#: The picture is divided into so many cells a side, to say where something moves.
CELLS = 16

#: No shape reaches further from its centre, in radii.
REACH = 1.25

SPLITS = {"train": 0.7, "val": 0.15, "test": 0.15}

#: third words of seeds; `Request.rng` has the small numbers
_LOOK, _MOTION = 101, 102


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Where the shape is, against the first frame: arrays (T,). The first frame has 0 everywhere."""

    x: Floats
    y: Floats
    angle: Floats
    """Radians, clockwise."""
    growth: Floats
    """Logarithm of the factor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """What differs between clips of one class."""

    distance: float
    """Of a whole path."""
    phase: float
    """Of what repeats, radians."""
    rate: float
    """0 to 1: how often it repeats, between its bounds."""
    size: float
    """0 to 1: how far it swings, between its bounds."""
    switch: float
    """When a second leg begins, as a part of the clip."""
    sign: int
    """1 or -1: to which side it begins."""


# --- courses of speed: part of the time -> part of the way ---------------------------------------


def _steady(p: Floats) -> Floats:
    return p


def _accelerating(p: Floats) -> Floats:
    return p * p


def _braking(p: Floats) -> Floats:
    return p * (2 - p)


def _stop_and_go(p: Floats) -> Floats:
    """Three times: go, then stand."""
    started = np.minimum(np.floor(3 * p), 2)
    gone: Floats = (started + np.minimum(1.0, 2 * (3 * p - started))) / 3
    return gone


# --- motions -------------------------------------------------------------------------------------

Motion = Callable[[Floats, Chance], Course]
Pace = Callable[[Floats], Floats]


def _course(
    p: Floats,
    *,
    x: Floats | float = 0.0,
    y: Floats | float = 0.0,
    angle: Floats | float = 0.0,
    growth: Floats | float = 0.0,
) -> Course:
    still = np.zeros_like(p)
    return Course(x=x + still, y=y + still, angle=angle + still, growth=growth + still)


def _glide(direction: tuple[float, float], pace: Pace, p: Floats, chance: Chance) -> Course:
    way = chance.distance * pace(p)
    return _course(p, x=direction[0] * way, y=direction[1] * way)


def _two_legs(first: tuple[float, float], second: tuple[float, float], p: Floats, chance: Chance) -> Course:
    before = chance.distance * np.minimum(p, chance.switch)
    after = chance.distance * np.maximum(p - chance.switch, 0)
    return _course(p, x=first[0] * before + second[0] * after, y=first[1] * before + second[1] * after)


def _zigzag(direction: tuple[float, float], p: Floats, chance: Chance) -> Course:
    way = 0.8 * chance.distance * p
    # a triangle wave from 0 to 1 and back, two and a half to three and a half times
    aside = np.abs((2.5 + chance.rate) * p % 1.0 * 2 - 1)
    aside = (aside[0] - aside) * (0.14 + 0.06 * chance.size) * chance.sign
    dx, dy = direction
    return _course(p, x=dx * way - dy * aside, y=dy * way + dx * aside)


def _wave(p: Floats, chance: Chance, least: float, most: float) -> Floats:
    """A sine of `least` to `most` periods and any phase, shifted to begin at 0."""
    turns = least + (most - least) * chance.rate
    wave: Floats = np.sin(2 * math.pi * turns * p + chance.phase) - math.sin(chance.phase)
    return wave


def _swing(direction: tuple[float, float], p: Floats, chance: Chance) -> Course:
    way = (0.16 + 0.08 * chance.size) * _wave(p, chance, 1.5, 2.5)
    return _course(p, x=direction[0] * way, y=direction[1] * way)


def _circle(turn: int, p: Floats, chance: Chance) -> Course:
    radius = 0.15 + 0.07 * chance.size
    angle = turn * 2 * math.pi * (1 + 0.75 * chance.rate) * p + chance.phase
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return _course(p, x=x - x[0], y=y - y[0])


def _spin(turn: int, p: Floats, chance: Chance) -> Course:
    return _course(p, angle=turn * 2 * math.pi * (0.7 + 0.5 * chance.rate) * p)


def _rock(p: Floats, chance: Chance) -> Course:
    return _course(p, angle=(0.7 + 0.4 * chance.size) * _wave(p, chance, 1.5, 2.5))


def _grow(turn: int, p: Floats, chance: Chance) -> Course:
    return _course(p, growth=turn * (0.5 + 0.15 * chance.size) * p)


def _pulse(p: Floats, chance: Chance) -> Course:
    return _course(p, growth=(0.25 + 0.1 * chance.size) * _wave(p, chance, 1.5, 2.5))


_HALF = math.sqrt(0.5)
_AXES = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
_DIAGONALS = {
    "up and right": (_HALF, -_HALF),
    "up and left": (-_HALF, -_HALF),
    "down and right": (_HALF, _HALF),
    "down and left": (-_HALF, _HALF),
}
_EIGHT = {**_AXES, **_DIAGONALS}
_SWINGS = {
    "left and right": (1.0, 0.0),
    "up and down": (0.0, 1.0),
    "along the rising diagonal": (_HALF, -_HALF),
    "along the falling diagonal": (_HALF, _HALF),
}


def _motions() -> dict[str, Motion]:
    found: dict[str, Motion] = {}
    found |= {f"moving {name}": partial(_glide, way, _steady) for name, way in _EIGHT.items()}
    found |= {"circling clockwise": partial(_circle, 1), "circling anticlockwise": partial(_circle, -1)}
    found |= {"spinning clockwise": partial(_spin, 1), "spinning anticlockwise": partial(_spin, -1)}
    found |= {"growing": partial(_grow, 1), "shrinking": partial(_grow, -1)}
    found |= {f"swinging {name}": partial(_swing, way) for name, way in _SWINGS.items()}
    found |= {
        f"{name} then {other}": partial(_two_legs, way, turned)
        for name, way in _AXES.items()
        for other, turned in _AXES.items()
        if way[0] * turned[0] + way[1] * turned[1] == 0
    }
    found |= {f"zigzagging {name}": partial(_zigzag, way) for name, way in _AXES.items()}
    found |= {f"accelerating {name}": partial(_glide, way, _accelerating) for name, way in _AXES.items()}
    found |= {f"braking {name}": partial(_glide, way, _braking) for name, way in _AXES.items()}
    found |= {"pulsing": _pulse, "rocking": _rock}
    # last, so that fewer classes are easier ones: they differ from the first eight in the course of speed alone
    found |= {f"stop and go {name}": partial(_glide, way, _stop_and_go) for name, way in _EIGHT.items()}
    return found


#: Class name -> motion; the position is the number of the class where clips are drawn.
MOTIONS = _motions()
NAMES = tuple(MOTIONS)


def class_name(index: int) -> str:
    """
    >>> class_name(0), class_name(8), class_name(47)
    ('moving right', 'circling clockwise', 'stop and go down and left')

    Raises:
        ConfigError: there is no such class.
    """
    if not 0 <= index < len(NAMES):
        raise ConfigError(f"there is no motion {index}; expected 0 to {len(NAMES) - 1}")
    return NAMES[index]


def course(class_index: int, frames: int, rng: np.random.Generator) -> Course:
    """One draw of a class's motion over a whole clip."""
    chance = Chance(
        distance=0.5 + 0.3 * rng.random(),
        phase=2 * math.pi * rng.random(),
        rate=rng.random(),
        size=rng.random(),
        switch=0.4 + 0.2 * rng.random(),
        sign=1 if rng.random() < 0.5 else -1,
    )
    return MOTIONS[class_name(class_index)](np.arange(frames) / max(1, frames - 1), chance)


def draw(look: ClipLook, *, seed: int = 0, index: int = 0, level: int = HARDEST) -> Pixels:
    """The frames of one clip, a function of the arguments alone. `look.class_index` counts `NAMES`.

    Args:
        seed: of the whole dataset.
        index: of the clip in it.
        level: a number in `LEVELS`.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        ConfigError: no such class or level.
    """
    scene, moved = _drawn(look, seed, index, level)
    return film(scene, *_in_pixels(look, moved))


def places(look: ClipLook, *, seed: int = 0, index: int = 0, level: int = HARDEST) -> Floats:
    """Where the moving shape is in each frame of `draw`'s clip, to tell it from the rest of the picture.

    Returns:
        (T, 3): x, y of its centre and its radius; pixels. Without edges, the centre is within the picture.
    """
    scene, moved = _drawn(look, seed, index, level)
    x, y, _, scale = _in_pixels(look, moved)
    x, y = scene.start[0] + x - scene.shake[:, 1], scene.start[1] + y - scene.shake[:, 0]
    if not scene.edges:
        x, y = x % look.width, y % look.height
    return np.stack([x, y, scene.mover.radius * min(look.height, look.width) * scale], axis=1)


def moving_shares(
    look: ClipLook, *, seed: int = 0, index: int = 0, level: int = HARDEST, cells: int = CELLS
) -> Pixels:
    """(T, cells, cells) uint8: how much of each cell of the picture the moving shape covers, of 255.

    Raises:
        ConfigError: the picture's sides are no multiples of `cells`.
    """
    if look.height % cells or look.width % cells:
        raise ConfigError(f"a picture of {look.width}x{look.height} cannot be divided into {cells} x {cells} cells")
    scene, moved = _drawn(look, seed, index, level)
    return shares(scene, *_in_pixels(look, moved), cells)


def moving(look: ClipLook, *, seed: int = 0, index: int = 0, level: int = HARDEST) -> dict[str, object]:
    """Where something moves, as the JSON file beside a clip says it: for oracle masks and honest overlaps.

    `boxes`: (T, 4) left, top, right, bottom around the shape, in parts of the picture; what reaches beyond 0 or 1
    is on the other side where the picture has no edges, else out of sight. `shares`: (T, cells, cells) uint8, how
    much of each cell of the picture the shape covers, of 255; compressed by zlib, then base64.
    """
    place = places(look, seed=seed, index=index, level=level) / (look.width, look.height, 1)
    far = REACH * place[:, 2:] / (look.width, look.height)
    boxes = np.concatenate([place[:, :2] - far, place[:, :2] + far], axis=1)
    found: dict[str, object] = {"boxes": np.round(boxes, 4).tolist()}
    if look.width % CELLS == 0 and look.height % CELLS == 0:
        grid = moving_shares(look, seed=seed, index=index, level=level)
        found |= {"cells": CELLS, "shares": base64.b64encode(zlib.compress(grid.tobytes(), 9)).decode("ascii")}
    return {"moving": found}


def _drawn(look: ClipLook, seed: int, index: int, level: int) -> tuple[Scene, Course]:
    moved = course(look.class_index, look.frames, np.random.default_rng([seed, index, _MOTION]))
    rng = np.random.default_rng([seed, index, _LOOK])
    return draw_scene(rng, look.height, look.width, look.frames, level_of(level)), moved


def _in_pixels(look: ClipLook, moved: Course) -> tuple[Floats, Floats, Floats, Floats]:
    """x, y, angle and scale, as `film` takes them."""
    side = min(look.height, look.width)
    return side * moved.x, side * moved.y, moved.angle, np.exp(moved.growth)


def plan(ask: Request) -> Plan:
    """Class folders in split folders.

    Raises:
        ConfigError: pictures that are too small.
    """
    width, height = ask.size or (SIZE, SIZE)
    if min(width, height) < SMALLEST:
        raise ConfigError(
            f"size is {width}x{height}; expected sides of at least {SMALLEST} pixels for motions",
            field="size",
            hint=f"below, shapes are too small for their motion to be seen; {SIZE}x{SIZE} is usual",
        )
    keys = balanced(ask, ask.splits(SPLITS))
    videos = share_videos(keys, ask.distinct)
    clips = tuple(
        PlannedClip(
            path=f"{split}/{class_name(c)}/{i:06d}.mp4",
            split=split,
            video=video,
            look=ask.look(c, SIZE, SIZE, FRAMES, FPS),
        )
        for i, ((split, c), video) in enumerate(zip(keys, videos, strict=True))
    )
    return Plan(clips=clips, texts={}, classes=NAMES[: ask.classes])

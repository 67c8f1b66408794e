"""Small generated clips of moving shapes: what tests, the demo and benchmarks run on.

A class is a motion and a shape ("disc moving left"), so that one still picture does not tell it, and
a left-right flip turns some classes into others. Everything else is random for each clip: colours,
background, size, place, speed, noise. Whatever matters lies in the central square of the picture,
so a class stays recognisable after a centre crop and scaling to 64x64.

Array shapes: T time, H height, W width, C colour channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vidkit.data.synth.shapes import SHAPES, Floats
from vidkit.errors import ConfigError

Pixels: TypeAlias = npt.NDArray[np.uint8]

# --- classes -----------------------------------------------------------------------------------

#: Motion -> what a left-right flip makes of it.
MOTIONS: dict[str, str] = {
    "moving left": "moving right",
    "moving right": "moving left",
    "moving up": "moving up",
    "moving down": "moving down",
    "circling clockwise": "circling anticlockwise",
    "circling anticlockwise": "circling clockwise",
    "growing": "growing",
    "shrinking": "shrinking",
    "climbing to the left": "climbing to the right",
    "climbing to the right": "climbing to the left",
    "zigzagging down": "zigzagging down",
    "blinking": "blinking",
}

#: A small still dot in a corner of the central square: a third factor where a dataset needs more classes.
#: Name -> (x, y) in sides of the central square from its centre, and what a flip makes of it.
DOTS: dict[str, tuple[tuple[float, float] | None, str]] = {
    "": (None, ""),
    "dot top left": ((-0.4, -0.4), "dot top right"),
    "dot top right": ((0.4, -0.4), "dot top left"),
    "dot bottom left": ((-0.4, 0.4), "dot bottom right"),
    "dot bottom right": ((0.4, 0.4), "dot bottom left"),
}

SHAPE_NAMES, _MOTION_NAMES, _DOT_NAMES = tuple(SHAPES), tuple(MOTIONS), tuple(DOTS)
NUM_CLASSES = len(MOTIONS) * len(SHAPES) * len(DOTS)


def class_parts(index: int) -> tuple[str, str, str]:
    """(motion, shape, dot) of a class. Shapes alternate in pairs within each motion, so any first few
    classes share motions among shapes and shapes among motions: neither alone gives the class away.

    Raises:
        ConfigError: there is no such class.
    """
    if not 0 <= index < NUM_CLASSES:
        raise ConfigError(
            f"generated class {index} does not exist; expected 0 to {NUM_CLASSES - 1}",
            hint=f"ask for at most {NUM_CLASSES} classes",
        )
    rest, shape_in_pair = divmod(index, 2)
    rest, motion = divmod(rest, len(MOTIONS))
    dot, pair = divmod(rest, len(SHAPE_NAMES) // 2)
    return _MOTION_NAMES[motion], SHAPE_NAMES[2 * pair + shape_in_pair], _DOT_NAMES[dot]


def class_index(motion: str, shape: str, dot: str = "") -> int:
    """Inverse of `class_parts`."""
    pair, shape_in_pair = divmod(SHAPE_NAMES.index(shape), 2)
    rest = _DOT_NAMES.index(dot) * (len(SHAPE_NAMES) // 2) + pair
    return (rest * len(MOTIONS) + _MOTION_NAMES.index(motion)) * 2 + shape_in_pair


def class_name(index: int) -> str:
    """
    >>> class_name(0), class_name(3), class_name(120)
    ('disc moving left', 'square moving right', 'disc moving left, dot top left')
    """
    motion, shape, dot = class_parts(index)
    return f"{shape} {motion}, {dot}" if dot else f"{shape} {motion}"


def mirrored_class(index: int) -> int:
    """The class that a clip of class `index` shows after a left-right flip."""
    motion, shape, dot = class_parts(index)
    return class_index(MOTIONS[motion], shape, DOTS[dot][1])


# --- motions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pose:
    """One frame of a motion; lengths in sides of the central square, from its centre, y downwards."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    opacity: float = 1.0


_REACH = 0.32


def _fade(p: float) -> float:
    """A pass begins and ends faint, so that the jump back to its start does not look like a motion."""
    return max(0.0, min(1.0, p / 0.12, (1 - p) / 0.12))


def _line(dx: float, dy: float, p: float, aside: float) -> _Pose:
    along = (2 * p - 1) * _REACH
    return _Pose(x=along * dx - aside * dy, y=along * dy + aside * dx, opacity=_fade(p))


def _circle(turn: float, p: float) -> _Pose:
    angle = turn * 2 * math.pi * p
    return _Pose(x=0.25 * math.cos(angle), y=0.25 * math.sin(angle))


def _scale(p: float, aside: float) -> _Pose:
    return _Pose(x=aside, y=-aside, scale=0.45 + 1.35 * p, opacity=_fade(p))


def _zigzag(p: float, aside: float) -> _Pose:
    swing = abs((3 * p + 0.25) % 1.0 * 4 - 2) - 1  # from -1 to 1 and back, three times a pass
    return _Pose(x=0.26 * swing + aside / 3, y=(2 * p - 1) * _REACH, opacity=_fade(p))


def _blink(p: float, aside: float) -> _Pose:
    return _Pose(x=aside, y=aside, opacity=1.0 if 2 * p % 1.0 < 0.5 else 0.0)


def _pose(motion: str, p: float, aside: float) -> _Pose:
    """Where a shape is at part `p` (0 to 1) of a pass; `aside` shifts the whole path sideways."""
    match motion:
        case "moving left":
            return _line(-1, 0, p, aside)
        case "moving right":
            return _line(1, 0, p, aside)
        case "moving up":
            return _line(0, -1, p, aside)
        case "moving down":
            return _line(0, 1, p, aside)
        case "circling clockwise":
            return _circle(1, p)
        case "circling anticlockwise":
            return _circle(-1, p)
        case "growing":
            return _scale(p, aside)
        case "shrinking":
            return _scale(1 - p, aside)
        case "climbing to the left":
            return _line(-0.75, -0.75, p, aside)
        case "climbing to the right":
            return _line(0.75, -0.75, p, aside)
        case "zigzagging down":
            return _zigzag(p, aside)
        case "blinking":
            return _blink(p, aside)
    raise ValueError(f"no such motion: {motion!r}")


# --- drawing -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipLook:
    """What a generated clip looks like, apart from what is random."""

    class_index: int
    width: int = 340
    height: int = 256
    frames: int = 300
    fps: float = 30.0

    def __post_init__(self) -> None:
        class_parts(self.class_index)
        if min(self.width, self.height) < 8 or self.frames < 1 or not 0 < self.fps <= 1000:
            raise ConfigError(
                f"cannot draw {self.frames} frames of {self.width}x{self.height} at {self.fps} fps; "
                "expected at least 1 frame, sides of at least 8 pixels, and above 0 fps"
            )


_PASS_SECONDS = 2.5
_NOISE_PLATES = 8


def draw(look: ClipLook, *, seed: int = 0, index: int = 0) -> Pixels:
    """The frames of one clip, a function of `look`, `seed` and `index` alone.

    Args:
        look: class, size, length.
        seed: of the whole dataset.
        index: of the clip in it.

    Returns:
        (T, H, W, 3) uint8 RGB.
    """
    rng = np.random.default_rng([seed, index])
    motion, shape, dot = class_parts(look.class_index)
    side = min(look.width, look.height)
    centre_x, centre_y = look.width / 2, look.height / 2
    back, colour = _palette(rng)
    radius = side * (0.13 + 0.05 * rng.random())
    tilt = (rng.random() - 0.5) * 0.25
    aside = (rng.random() - 0.5) * 0.24

    scene = _background(rng, look.height, look.width, back)
    corner = DOTS[dot][0]
    if corner is not None:
        x, y = centre_x + side * corner[0], centre_y + side * corner[1]
        _paint(scene, "disc", x, y, side * 0.075, 0.0, colour, 1.0)
    # a few noisy copies of the still scene, in turns: noise for every frame would cost more than the rest
    noise = rng.integers(-5, 6, (_NOISE_PLATES, look.height, look.width, 1), dtype=np.int16)
    plates = np.clip(scene.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    turns = rng.integers(0, _NOISE_PLATES, look.frames)

    passes = max(1.0, round(look.frames / look.fps / _PASS_SECONDS)) * (0.85 + 0.3 * rng.random())
    # a clip of one pass shows it from its start; in a longer one the start does not matter
    start = rng.random() * (1.0 if passes > 1.5 else 0.15)
    clip = np.empty((look.frames, look.height, look.width, 3), np.uint8)
    for t in range(look.frames):
        pose = _pose(motion, (start + passes * t / look.frames) % 1.0, aside)
        clip[t] = plates[turns[t]]
        x, y = centre_x + side * pose.x, centre_y + side * pose.y
        _paint(clip[t], shape, x, y, radius * pose.scale, tilt, colour, pose.opacity)
    return clip


def _paint(
    picture: Pixels, shape: str, x: float, y: float, radius: float, tilt: float, colour: Pixels, opacity: float
) -> None:
    """Blend one anti-aliased shape into `picture` (H, W, 3), in place; touches its surroundings only."""
    height, width = picture.shape[:2]
    # sines and powers differ in the last bit between machines; rounding makes them equal again
    x, y, radius = (round(value * 64) / 64 for value in (x, y, radius))
    cos, sin = round(math.cos(tilt), 6), round(math.sin(tilt), 6)
    reach = radius * 1.3 + 1
    top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    if top >= bottom or left >= right or opacity <= 0:
        return
    across = (np.arange(left, right) + (0.5 - x)) / radius
    down = ((np.arange(top, bottom) + (0.5 - y)) / radius)[:, None]
    distance = SHAPES[shape](across * cos + down * sin, down * cos - across * sin) * radius
    cover = np.clip(0.5 - distance, 0, 1) * (256 * round(opacity, 6))
    weight = np.rint(cover).astype(np.int32)[:, :, None]
    patch = picture[top:bottom, left:right]
    patch[:] = (patch * (256 - weight) + colour * weight + 128) >> 8


def _pixels(values: Floats) -> Pixels:
    result: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return result


def _palette(rng: np.random.Generator) -> tuple[Floats, Pixels]:
    """Background and shape colour, far apart in brightness: dark on light, or light on dark."""
    dark, light = 25 + 60 * rng.random(), 190 + 50 * rng.random()
    tint = (rng.random((2, 3)) - 0.5) * 2
    tint -= tint.mean(axis=1, keepdims=True)  # changes the hue and leaves the brightness
    if rng.random() < 0.5:
        dark, light = light, dark
    back: Floats = np.clip(dark + 35 * tint[0], 0, 255)
    return back, _pixels(light + 90 * tint[1])


def _background(rng: np.random.Generator, height: int, width: int, back: Floats) -> Pixels:
    """(H, W, 3): a smooth gradient, soft blotches, or clutter of large faint shapes."""
    kind = int(rng.integers(0, 3))
    step = (rng.random(2) - 0.5) * 50
    slope = np.linspace(-1, 1, width) * step[0]
    slope = slope + np.linspace(-1, 1, height)[:, None] * step[1]
    light = slope / (1 if kind == 0 else 3)
    if kind == 1:
        for cells in (4, 9, 20):
            light = light + _blotches(rng, height, width, cells) * (40 / cells**0.5)
    scene = _pixels(back + light[:, :, None])
    if kind == 2:
        side = min(height, width)
        for _ in range(14):
            shape = SHAPE_NAMES[int(rng.integers(0, len(SHAPE_NAMES)))]
            x, y, size, tilt, strength = (float(value) for value in rng.random(5))
            shade = _pixels(back + (rng.random(3) - 0.5) * 90)
            radius = side * (0.06 + 0.3 * size)
            _paint(scene, shape, x * width, y * height, radius, 6 * tilt, shade, 0.3 + strength / 2)
    return scene


def _blotches(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """(H, W) in [-1, 1]: random values on a coarse grid, joined linearly."""
    grid = rng.random((cells + 1, cells + 1)) * 2 - 1

    def stretch(values: Floats, size: int) -> Floats:
        at = np.arange(size) * (cells / size)
        low = at.astype(np.int64)
        part = (at - low)[:, None]
        turned: Floats = (values[low] * (1 - part) + values[low + 1] * part).T
        return turned

    return stretch(stretch(grid, height), width)


# --- encoding ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Codec:
    encoder: str
    container: str
    options: dict[str, str]


# cpu-independent: x264's fast paths read uninitialised memory where a side is no multiple of 16, and
# then give other bytes on every run. crf 20 keeps enough of the noise that a 340x256 clip of 10 s has
# about 0.7 MB and costs as much to decode as one of Kinetics.
_CODECS: dict[str, _Codec] = {
    "h264": _Codec(
        encoder="libx264",
        container="mp4",
        options={"preset": "veryfast", "crf": "20", "x264-params": "cpu-independent=1"},
    ),
    # what XviD wrote into the AVI files of older datasets
    "mpeg4": _Codec(encoder="mpeg4", container="avi", options={"qmin": "3", "qmax": "5"}),
    "vp9": _Codec(
        encoder="libvpx-vp9",
        container="webm",
        options={"deadline": "realtime", "cpu-used": "8", "crf": "33", "b": "0"},
    ),
}


def encode(
    frames: Iterable[Pixels], path: str | os.PathLike[str], fps: float, codec: str = "h264", *, audio: bool = False
) -> None:
    """Write RGB frames (H, W, 3) as a file of the same bytes every time, for one version of PyAV.

    4:2:0 has half the colour samples each way, so H.264 clips with an odd side are stored as 4:4:4.

    Args:
        frames: (T, H, W, 3) uint8, or an iterable of frames.
        path: of the file; its suffix should be .mp4 for "h264", .avi for "mpeg4" and .webm for "vp9".
        fps: frames a second.
        codec: "h264", "mpeg4" or "vp9".
        audio: add a quiet tone (H.264 only), as long as the video.
    """
    import av
    from av.video.reformatter import VideoReformatter

    if codec not in _CODECS:
        raise ConfigError(f"codec is {codec!r}; expected {' or '.join(map(repr, _CODECS))}")
    how, rate = _CODECS[codec], Fraction(fps).limit_denominator(1001)
    reformatter, stream, sound, count = VideoReformatter(), None, None, 0
    options = {"fflags": "+bitexact"}  # no dates, versions or random ids in the headers
    with av.open(os.fspath(path), "w", format=how.container, container_options=options) as output:
        for count, frame in enumerate(frames, 1):
            if stream is None:
                stream = _open_stream(output, how, rate, frame)
                sound = output.add_stream("aac", rate=16000, layout="mono") if audio else None
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            yuv = reformatter.reformat(rgb, format=stream.pix_fmt, threads=1)
            yuv.pts, yuv.time_base = count - 1, 1 / rate
            output.mux(stream.encode(yuv))
        if stream is None:
            raise ConfigError("a clip needs at least one frame", file=path)
        output.mux(stream.encode(None))
        if sound is not None:
            _add_tone(output, sound, samples=int(16000 * count / rate))


def _open_stream(output: Any, how: _Codec, rate: Fraction, frame: Pixels) -> Any:
    import av

    stream: Any = output.add_stream(how.encoder, rate=rate, options=dict(how.options))
    stream.height, stream.width = frame.shape[:2]
    odd = stream.height % 2 or stream.width % 2
    stream.pix_fmt = "yuv444p" if odd and how.encoder == "libx264" else "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def _add_tone(output: Any, stream: Any, samples: int) -> None:
    import av

    wave = (np.sin(np.arange(samples) * (2 * math.pi * 440 / 16000)) / 8).astype(np.float32)
    for start in range(0, samples, 1024):
        chunk = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts = 16000, start
        output.mux(stream.encode(chunk))
    output.mux(stream.encode(None))

"""Generated clips: what is drawn can be told apart, and what is encoded comes back."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vidkit.data.synth import clips as synthetic
from vidkit.data.synth.clips import (
    DOTS,
    MOTIONS,
    NUM_CLASSES,
    SHAPE_NAMES,
    ClipLook,
    class_index,
    class_name,
    class_parts,
    draw,
    encode,
    mirrored_class,
)
from vidkit.data.synth.shapes import SHAPES
from vidkit.errors import ConfigError

# --- classes ---------------------------------------------------------------------------------------


def test_class_names_are_unique_and_parts_invert() -> None:
    assert NUM_CLASSES >= 400 + 118
    assert len({class_name(i) for i in range(NUM_CLASSES)}) == NUM_CLASSES
    assert all(class_index(*class_parts(i)) == i for i in range(NUM_CLASSES))


def test_mirror_is_its_own_inverse_and_changes_left_and_right() -> None:
    assert all(mirrored_class(mirrored_class(i)) == i for i in range(NUM_CLASSES))
    assert class_name(mirrored_class(class_index("moving left", "disc"))) == "disc moving right"
    for i in range(NUM_CLASSES):
        name = class_name(i)
        sided = any(word in name for word in ("left", "right", "clockwise"))
        assert (mirrored_class(i) != i) == sided, name


@pytest.mark.parametrize("classes", [4, 8, 12, 24])
def test_in_the_first_classes_neither_motion_nor_shape_gives_the_class_away(classes: int) -> None:
    parts = [class_parts(i) for i in range(classes)]
    for k in (0, 1):
        values = [part[k] for part in parts]
        assert all(values.count(value) > 1 for value in values)


@pytest.mark.parametrize("bad", [-1, NUM_CLASSES])
def test_unknown_class_is_named(bad: int) -> None:
    with pytest.raises(ConfigError, match=rf"class {bad} does not exist; expected 0 to {NUM_CLASSES - 1}"):
        ClipLook(class_index=bad)


def test_impossible_look_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot draw 0 frames of 64x64"):
        ClipLook(class_index=0, width=64, height=64, frames=0)


# --- shapes against polygons -----------------------------------------------------------------------


def inside_polygon(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """The even-odd rule, one edge at a time."""
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


def star_corners() -> list[tuple[float, float]]:
    inner = 0.309017 / math.cos(math.pi / 5)
    around = [(inner if k % 2 else 1.0, math.pi * k / 5) for k in range(10)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in around]


CORNERS = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "bar": [(-1, -0.27), (1, -0.27), (1, 0.27), (-1, 0.27)],
    "diamond": [(0, -1), (1 / 1.35, 0), (0, 1), (-1 / 1.35, 0)],
    "star": star_corners(),
}


@pytest.mark.parametrize("shape", CORNERS)
def test_inside_of_a_shape_is_the_inside_of_its_polygon(shape: str) -> None:
    at = np.linspace(-1.2, 1.2, 61) + 0.0011
    distance = SHAPES[shape](*np.meshgrid(at, at))
    for i, y in enumerate(at):
        for j, x in enumerate(at):
            assert (distance[i, j] < 0) == inside_polygon(x, y, CORNERS[shape]), (shape, x, y)


@pytest.mark.parametrize("shape", SHAPE_NAMES)
def test_shapes_are_symmetric_and_fit_the_painted_patch(shape: str) -> None:
    at = np.linspace(-1.6, 1.6, 81)
    x, y = np.meshgrid(at, at)
    distance = SHAPES[shape](x, y)
    np.testing.assert_allclose(distance, distance[:, ::-1], atol=1e-12)
    assert (np.hypot(x, y)[distance < 0]).max() < 1.3
    # about a distance: edges are neither jagged nor blurred (at a corner two slopes of 1 meet)
    slope = np.hypot(*np.gradient(distance, at, at))[np.abs(distance) < 0.2]
    assert slope.max() < 1.5
    assert 0.7 < np.median(slope) < 1.2


# --- drawing ---------------------------------------------------------------------------------------


def test_frames_are_what_was_asked_for() -> None:
    clip = draw(ClipLook(class_index=5, width=57, height=41, frames=9))
    assert clip.shape == (9, 41, 57, 3)
    assert clip.dtype == np.uint8
    assert clip.flags.c_contiguous


def test_same_seed_same_pixels_and_other_numbers_other_pixels() -> None:
    look = ClipLook(class_index=5, width=64, height=48, frames=6)
    first = draw(look, seed=3, index=7)
    np.testing.assert_array_equal(first, draw(look, seed=3, index=7))
    for seed, index in ((3, 8), (4, 7), (7, 3)):
        assert (first != draw(look, seed=seed, index=index)).mean() > 0.5


_HASH = """
import hashlib
from vidkit.data.synth.clips import ClipLook, draw
digest = hashlib.sha256()
for i in range(30):
    digest.update(draw(ClipLook(class_index=i * 19, width=96, height=71, frames=20), seed=1, index=i).tobytes())
print(digest.hexdigest())
"""


def test_pixels_do_not_depend_on_the_processor() -> None:
    """numpy has a code path for each vector extension; without AVX and FMA the pixels are the same."""
    found = set()
    for disabled in ("", "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_ICL AVX512_SPR X86_V3 X86_V4 ASIMDFHM SVE"):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        command = [sys.executable, "-W", "ignore", "-c", _HASH]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_importing_brings_in_neither_torch_nor_pandas() -> None:
    code = "import sys, vidkit.data.synth.layouts; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- can the classes be told apart? --------------------------------------------------------------------


def as_a_model_sees_it(clip: np.ndarray, size: int = 64) -> np.ndarray:
    """(T, size, size) brightness after a centre crop to a square and scaling."""
    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crops = clip[:, top : top + side, left : left + side]
    return np.stack([np.asarray(Image.fromarray(f).resize((size, size))).mean(axis=2) for f in crops])


def foreground(seen: np.ndarray) -> np.ndarray:
    """Shapes are dark on light or light on dark: far from the usual brightness."""
    return np.abs(seen - np.median(seen)) > 55


def tell_motion(seen: np.ndarray) -> str:
    """Motion of the one shape in (T, S, S), by its area and the path of its centre."""
    masks = foreground(seen)
    area = masks.sum(axis=(1, 2))
    if (area < 4).mean() > 0.3:
        return "blinking"
    rows, columns = np.mgrid[: seen.shape[1], : seen.shape[2]]
    centre = np.stack([(masks * columns).sum(axis=(1, 2)), (masks * rows).sum(axis=(1, 2))], axis=1)
    centre = centre / np.maximum(area, 1)[:, None]
    lag = 3  # frames: long enough that steps stand out from what masks lose to noise
    whole = (area[lag:] >= 4) & (area[:-lag] >= 4)
    growth = np.log(np.maximum(area[lag:], 1) / np.maximum(area[:-lag], 1))[whole]
    if abs(np.median(growth)) > 0.04:
        return "growing" if np.median(growth) > 0 else "shrinking"
    step = (centre[lag:] - centre[:-lag])[whole]
    step = step[np.hypot(*step.T) < 16]  # not the jump back to the start of a pass
    length = np.hypot(*step.T)
    straight = np.hypot(*step.sum(axis=0)) / length.sum()
    if straight < 0.6:
        turns = step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0]
        sense = np.median(np.sign(turns[length[1:] > 0.5]))
        rising = (step[:, 1] < -0.5).mean()
        if rising < 0.2:
            return "zigzagging down"
        return "circling clockwise" if sense > 0 else "circling anticlockwise"
    dx, dy = step.mean(axis=0)
    if abs(dx) > 0.4 * abs(dy) and abs(dy) > 0.4 * abs(dx):
        return "climbing to the left" if dx < 0 else "climbing to the right"
    if abs(dx) > abs(dy):
        return "moving left" if dx < 0 else "moving right"
    return "moving up" if dy < 0 else "moving down"


LOOKS = {
    "kinetics": {"width": 340, "height": 256, "frames": 90, "fps": 30.0},
    "demo": {"width": 96, "height": 72, "frames": 48, "fps": 24.0},
    "tall": {"width": 60, "height": 90, "frames": 60, "fps": 24.0},
}


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.parametrize("motion", MOTIONS)
def test_motion_can_be_told_at_64_pixels_and_a_flip_mirrors_it(motion: str, kind: str) -> None:
    right = total = 0
    for index, shape in enumerate(SHAPE_NAMES[::2] if kind == "demo" else SHAPE_NAMES[1::4]):
        look = ClipLook(class_index=class_index(motion, shape), **LOOKS[kind])
        seen = as_a_model_sees_it(draw(look, seed=2, index=index))
        right += tell_motion(seen) == motion
        right += tell_motion(seen[:, :, ::-1]) == MOTIONS[motion]
        total += 2
    assert right >= 0.9 * total


def shape_mask(mask: np.ndarray) -> np.ndarray:
    """The shape's bounding square, scaled to 32x32, as 0 and 1."""
    rows, columns = np.nonzero(mask)
    y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    half = max(np.ptp(rows), np.ptp(columns)) / 2 + 0.5
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return (
        np.asarray(
            image.resize(
                (32, 32), box=(max(0, x + 0.5 - half), max(0, y + 0.5 - half), x + 0.5 + half, y + 0.5 + half)
            )
        )
        > 127
    )


def test_shapes_can_be_told_at_64_pixels() -> None:
    at = np.linspace(-1.3, 1.3, 200)
    templates = {name: shape_mask(SHAPES[name](*np.meshgrid(at, at)) < 0) for name in SHAPE_NAMES}
    right = total = 0
    for name in SHAPE_NAMES:
        for index in range(6):
            look = ClipLook(class_index=class_index("moving up", name), width=170, height=128, frames=40)
            masks = foreground(as_a_model_sees_it(draw(look, seed=1, index=index)))
            inner = masks[:, 2:-2, 2:-2].sum(axis=(1, 2))
            seen = shape_mask(masks[int(np.argmax(inner))])
            right += max(templates, key=lambda t: (templates[t] & seen).sum() / (templates[t] | seen).sum()) == name
            total += 1
    assert right >= 0.9 * total


def test_everything_that_matters_lies_in_the_central_square() -> None:
    for motion in MOTIONS:
        wide = ClipLook(class_index=class_index(motion, "disc"), width=200, height=80, frames=60)
        clip = draw(wide, seed=0, index=1).astype(int)
        still = (clip.max(axis=0) - clip.min(axis=0)).max(axis=2) <= 2 * 5
        assert still[:, :60].all(), motion
        assert still[:, -60:].all(), motion


def test_dots_are_where_they_are_named() -> None:
    for dot, (place, _) in DOTS.items():
        look = ClipLook(class_index=class_index("blinking", "disc", dot), width=120, height=120, frames=2)
        mask = foreground(draw(look, seed=5, index=3)[0].mean(axis=2))
        corners = {
            "dot top left": mask[:24, :24],
            "dot top right": mask[:24, -24:],
            "dot bottom left": mask[-24:, :24],
            "dot bottom right": mask[-24:, -24:],
        }
        found = {name for name, corner in corners.items() if corner.mean() > 0.3}
        assert found == ({dot} if place else set())


# --- encoding --------------------------------------------------------------------------------------


def decode(path: Path) -> np.ndarray:
    with av.open(os.fspath(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("width", "height", "codec"),
    [
        (340, 256, "h264"),
        (64, 48, "h264"),
        (41, 40, "h264"),
        (40, 41, "h264"),
        (10, 10, "h264"),
        (11, 13, "h264"),
        (128, 127, "h264"),
        (426, 240, "vp9"),
        (427, 240, "vp9"),
    ],
)
def test_encoded_frames_come_back_and_bytes_repeat(width: int, height: int, codec: str, tmp_path: Path) -> None:
    frames = draw(ClipLook(class_index=30, width=width, height=height, frames=12), seed=1, index=2)
    first, second = tmp_path / "first", tmp_path / "second"
    encode(frames, first, 12, codec)
    waste = [np.full(n, 173, np.uint8) for n in (1000, 70000, 300000)]  # other memory for the encoder
    encode(frames, second, 12, codec)
    del waste
    assert digest(first) == digest(second)
    back = decode(first)
    assert back.shape == frames.shape
    error = ((back.astype(float) - frames) ** 2).mean()
    assert 10 * math.log10(255**2 / error) > 25


def test_encoded_header_says_what_it_is(tmp_path: Path) -> None:
    frames = draw(ClipLook(class_index=3, width=64, height=48, frames=30))
    for codec, name, pix_fmt in (("h264", "h264", "yuv420p"), ("vp9", "vp9", "yuv420p")):
        encode(frames, tmp_path / codec, 12, codec)
        with av.open(os.fspath(tmp_path / codec)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == (name, pix_fmt)
            assert float(stream.average_rate) == pytest.approx(12)
            assert not container.streams.audio
            assert "creation_time" not in container.metadata
            times = [frame.time for frame in container.decode(video=0)]
        np.testing.assert_allclose(times, np.arange(30) / 12, atol=2e-3)


def test_odd_sizes_are_stored_without_subsampling(tmp_path: Path) -> None:
    encode(draw(ClipLook(class_index=3, width=41, height=40, frames=2)), tmp_path / "odd", 30)
    with av.open(os.fspath(tmp_path / "odd")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv444p"


def test_audio_is_as_long_as_the_video(tmp_path: Path) -> None:
    frames = draw(ClipLook(class_index=3, width=64, height=48, frames=45))
    encode(frames, tmp_path / "a", 30, audio=True)
    encode(frames, tmp_path / "b", 30, audio=True)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert decode(tmp_path / "a").shape == frames.shape
    with av.open(os.fspath(tmp_path / "a")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples / 16000 == pytest.approx(1.5, abs=0.15)


def test_encode_refuses_unknown_codecs_and_empty_clips(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="codec is 'h265'; expected 'h264' or 'mpeg4' or 'vp9'"):
        encode([], tmp_path / "x", 30, "h265")
    with pytest.raises(ConfigError, match="a clip needs at least one frame"):
        encode([], tmp_path / "x", 30)


def test_fractional_rates_are_kept(tmp_path: Path) -> None:
    encode(draw(ClipLook(class_index=3, width=64, height=48, frames=3)), tmp_path / "x", 29.97)
    with av.open(os.fspath(tmp_path / "x")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(29.97, abs=0.01)


def test_palette_keeps_shape_and_background_apart() -> None:
    for seed in range(300):
        back, colour = synthetic._palette(np.random.default_rng(seed))
        assert abs(back.mean() - colour.mean()) > 75

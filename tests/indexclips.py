"""Clips whose frames show their own number, so that a test can say exactly which frames came back.

Written with PyAV alone, the same bytes on every run of one PyAV.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FRAMES, WIDTH, HEIGHT, FPS = 48, 128, 96, 25

# --- frames that carry their index -------------------------------------------------------------

BITS = 8  # blocks in a row
ROWS = 4  # low byte and its check, high byte and its check
CHECKS = (255, 0b01010101)  # check = byte xor this; the second tells the code from its mirror images


def _block_edges(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column edges of the code. It lies in the central square, so a centre crop keeps it."""
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    rows = top + side * np.linspace(0.125, 0.875, ROWS + 1)
    columns = left + side * np.linspace(0.0, 1.0, BITS + 1)
    return rows, columns


def _code_bits(index: int) -> np.ndarray:
    """(ROWS, BITS) of 0 and 1, most significant bit first."""
    low, high = index & 255, index >> 8
    rows = np.array([low, low ^ CHECKS[0], high, high ^ CHECKS[1]], np.uint8)
    return np.unpackbits(rows[:, None], axis=1)


@functools.lru_cache(maxsize=8)
def _texture(height: int, width: int) -> np.ndarray:
    """(H, 3W, 3) uint8: something for the codec to work on, so that files are not a few bytes long."""
    coarse = np.random.default_rng(7).integers(40, 216, (height // 4 + 1, 3 * width // 4 + 1, 3), np.uint8)
    return np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1)[:height, : 3 * width]


def indexed_frame(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a moving texture with `index` (0 to 65535) written over it."""
    shift = (index * 3) % (2 * width)
    frame = _texture(height, width)[:, shift : shift + width].copy()
    rows, columns = (np.round(edges).astype(int) for edges in _block_edges(height, width))
    for bits, top, bottom in zip(_code_bits(index), rows[:-1], rows[1:], strict=True):
        for bit, left, right in zip(bits, columns[:-1], columns[1:], strict=True):
            frame[top:bottom, left:right] = 255 if bit else 0
    return frame


def read_index(frame_HWC: np.ndarray) -> int:
    """The index that a frame shows, also after a centre crop to a square and scaling down to 32 pixels.

    Raises:
        ValueError: the check rows disagree (turned, mirrored, cropped elsewhere, or damaged).
    """
    grey = frame_HWC.astype(np.float64).mean(axis=2) if frame_HWC.ndim == 3 else frame_HWC.astype(np.float64)
    rows, columns = _block_edges(*grey.shape)
    levels = np.empty((ROWS, BITS))
    for i in range(ROWS):
        for j in range(BITS):
            top, bottom = _middle(rows[i], rows[i + 1])
            left, right = _middle(columns[j], columns[j + 1])
            levels[i, j] = grey[top:bottom, left:right].mean()
    low, low_check, high, high_check = (int(byte) for byte in np.packbits(levels > 128, axis=1)[:, 0])
    if (low ^ low_check, high ^ high_check) != CHECKS:
        raise ValueError(
            f"no readable index: the four rows are {low:08b} {low_check:08b} {high:08b} {high_check:08b}"
        )
    return low | high << 8


def _middle(low: float, high: float) -> tuple[int, int]:
    """The middle half of a block, at least one pixel: edges blur under lossy coding."""
    quarter = (high - low) / 4
    first = int(low + quarter)
    return first, max(first + 1, int(np.ceil(high - quarter)))


X264_EXACT = "cpu-independent=1"

# --- writing -----------------------------------------------------------------------------------


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """SVT-AV1 as root makes the process that calls it a real-time one, and so every child of it. Two test processes
    that are never interrupted leave their children no processor, and wait for them for ever.
    """
    if not hasattr(os, "sched_getscheduler"):  # not Linux: nothing to give back
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def write_frames(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container: str = "mp4",
    fps: int | Fraction = FPS,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    first_pts: int = 0,
    audio: bool = False,
) -> None:
    """Encode RGB or RGBA frames (H, W, 3 or 4) with one thread and bit-exact headers.

    `pts` (in `time_base`) sets each frame's time; otherwise frames follow each other at `fps`.
    """
    video_options = {"crf": "23", "preset": "veryfast", "g": "24"} if codec == "libx264" else {}
    if codec == "libx264":
        # x264's fast paths read uninitialised memory where a size is no multiple of 16: other bytes every run
        video_options["x264-params"] = X264_EXACT
    mux_options = {"fflags": "+bitexact", **(container_options or {})}
    with (
        own_priority(),
        av.open(os.fspath(path), "w", format=container, container_options=mux_options) as output,
    ):
        stream: Any = None
        sound = output.add_stream("aac", rate=16000, layout="mono") if audio else None
        for i, frame in enumerate(frames):
            if stream is None:
                stream = output.add_stream(codec, rate=fps, options={**video_options, **(options or {})})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.thread_count = 1
                stream.codec_context.flags |= av.codec.context.Flags.bitexact
                if time_base is not None:
                    stream.codec_context.time_base = time_base
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame), format="rgba" if frame.shape[2] == 4 else "rgb24"
            )
            picture.pts = first_pts + i if pts is None else pts[i]
            picture.time_base = time_base or 1 / Fraction(fps)
            output.mux(stream.encode(picture))
        if stream is not None:
            output.mux(stream.encode(None))
        if sound is not None:
            add_tone(output, sound)


def add_tone(output: Any, stream: Any, seconds: float = FRAMES / FPS, form: str = "fltp") -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) * (2 * np.pi * 440 / 16000)).astype(np.float32) / 4
    for start in range(0, len(samples) - 1023, 1024):
        part = samples[None, start : start + 1024]
        part = (part * 32767).astype(np.int16) if form == "s16" else part
        tone = av.AudioFrame.from_ndarray(part, format=form, layout="mono")
        tone.sample_rate, tone.pts = 16000, start
        output.mux(stream.encode(tone))
    output.mux(stream.encode(None))


#: What `indexed_clip` has encoded, by what was asked for: the same few clips are the input of hundreds of tests.
ENCODED: dict[str, bytes] = {}


def indexed_clip(
    path: Path, frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT, first: int = 0, **how: Any
) -> None:
    """A clip whose frame k shows index `first + k`; `how` goes to `write_frames`."""
    asked = repr((frames, width, height, first, sorted(how.items())))
    if asked in ENCODED:
        path.write_bytes(ENCODED[asked])
        return
    write_frames(path, (indexed_frame(first + k, width, height) for k in range(frames)), **how)
    ENCODED[asked] = path.read_bytes()

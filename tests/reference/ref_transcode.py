"""What a stored clip should show, the slow way: exact times, a search for each frame, PIL for scaling."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from PIL import Image


def choose(
    times_s: Sequence[Fraction], end_s: Fraction, *, max_frames: int | None, fps: float | None
) -> list[tuple[int, Fraction]]:
    """(index, time it is shown at) of each stored frame.

    Args:
        times_s: when each source frame is shown, in seconds after the first.
        end_s: when the last one disappears.
    """
    rate = None if fps is None else Fraction(fps).limit_denominator(1001)
    count = len(times_s) if rate is None else max(1, round(end_s * rate))
    if max_frames is not None and count > max_frames:
        count, step = max_frames, end_s / max_frames
    elif rate is None:
        return list(enumerate(times_s))
    else:
        step = 1 / rate
    chosen = []
    for k in range(count):
        middle = k * step + step / 2
        on_screen = [i for i, time in enumerate(times_s) if time <= middle]
        chosen.append((max(on_screen), k * step))
    return chosen


def fit(frame_HWC: np.ndarray, *, crop: bool, stored: tuple[int, int], even: bool = False) -> np.ndarray:
    """Centre square or whole picture, scaled to `stored` (width, height) by PIL's bicubic filter.

    `even`: the square's side and corner are even numbers, as 4:2:0 wants them; a pixel less, and beside the centre.
    """
    height, width = frame_HWC.shape[:2]
    if crop:
        side = min(height, width) & (~1 if even else ~0)
        top, left = (height - side) // 2, (width - side) // 2
        if even:
            top, left = top & ~1, left & ~1
        frame_HWC = frame_HWC[top : top + side, left : left + side]
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame_HWC)).resize(stored, Image.Resampling.BICUBIC))


def luma(frame_HWC: np.ndarray) -> np.ndarray:
    """Brightness alone: 4:2:0 halves the colours, and the two scalers halve them at different points."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame_HWC)).convert("L"))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels over all values of two uint8 arrays."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))

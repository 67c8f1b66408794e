"""Choosing frames, crops and clips one at a time, in plain loops: slow, and plain to check by eye."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def strided(count: int, start: int, frames: int, stride: int) -> list[int]:
    """Frame numbers; once the clip is over, its last frame again and again."""
    found = []
    for t in range(frames):
        at = start + t * stride
        found.append(at if at < count else count - 1)
    return found


def possible_starts(count: int, frames: int, stride: int) -> list[int]:
    """Starts from which every frame exists; the first frame where there is none."""
    starts = [s for s in range(count) if s + (frames - 1) * stride < count]
    return starts or [0]


def segment_choices(count: int, frames: int) -> list[set[int]]:
    """For each of `frames` equal pieces of the time line, the frames on screen somewhere in it.

    Frame i is on screen from i up to i + 1.
    """
    found = []
    for t in range(frames):
        first, last = Fraction(t * count, frames), Fraction((t + 1) * count, frames)
        found.append({i for i in range(count) if i < last and i + 1 > first})
    return found


def segment_middles(count: int, frames: int) -> list[int]:
    """The frame on screen in the middle of each piece."""
    return [
        next(i for i in range(count) if i <= Fraction((2 * t + 1) * count, 2 * frames) < i + 1)
        for t in range(frames)
    ]


def resize_bilinear(picture_HWC: np.ndarray, size: int) -> np.ndarray:
    """(S, S, C) float64: every output pixel is a mean of source pixels, weighted by a triangle that is as wide
    as two output pixels are in the source, at least two source pixels.
    """
    height, width, channels = picture_HWC.shape
    out = np.zeros((size, size, channels))
    rows, columns = (_triangles(side, size) for side in (height, width))
    for y in range(size):
        for x in range(size):
            for i, wy in rows[y]:
                for j, wx in columns[x]:
                    out[y, x] += wy * wx * picture_HWC[i, j]
    return out


def _triangles(side: int, size: int) -> list[list[tuple[int, float]]]:
    scale = side / size
    reach = max(1.0, scale)
    found = []
    for o in range(size):
        centre = (o + 0.5) * scale
        weights = [(i, max(0.0, 1 - abs(i + 0.5 - centre) / reach)) for i in range(side)]
        total = sum(w for _, w in weights)
        found.append([(i, w / total) for i, w in weights if w > 0])
    return found


def quota(fraction: float, count: int) -> int:
    """Clips to keep of a class that has `count`: the nearest whole number, halves up, at least one."""
    exact = Fraction(str(fraction)) * count
    nearest = exact.numerator // exact.denominator
    if exact - nearest >= Fraction(1, 2):
        nearest += 1
    return max(1, nearest)


def global_batches(order: list[int], size: int, tail: str) -> list[list[int]]:
    """An epoch as one process with the whole batch sees it."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for clip in order:
        batch.append(clip)
        if len(batch) == size:
            batches.append(batch)
            batch = []
    if batch and tail == "keep":
        batches.append(batch)
    if batch and tail == "pad":
        again = 0
        while len(batch) < size:
            batch.append(order[again % len(order)])
            again += 1
        batches.append(batch)
    return batches


def rank_share(batches: list[list[int]], rank: int, batch_size: int) -> list[list[int]]:
    """The part of each batch that one process gets: ranks lie one after the other."""
    shares = []
    for batch in batches:
        share = batch[rank * batch_size : (rank + 1) * batch_size]
        if share:
            shares.append(share)
    return shares

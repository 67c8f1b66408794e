"""Reading frames the slow, obvious way: decode everything from the start with plain PyAV, count, pick.

Nothing here knows of seeking, packets, indices or time: what comes out k-th is frame k.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np


def all_frames(data: bytes) -> list[np.ndarray]:
    """Every frame as (H, W, 3) uint8 RGB, turned upright."""
    with av.open(io.BytesIO(data)) as container:
        frames = []
        for frame in container.decode(video=0):
            # a display matrix turns anticlockwise by so many degrees
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
        return frames


def pick(data: bytes, indices: Sequence[int]) -> list[np.ndarray]:
    frames = all_frames(data)
    return [frames[i] for i in indices]


def times_s(data: bytes) -> list[Fraction]:
    """When each frame is shown, in seconds after the first one."""
    with av.open(io.BytesIO(data)) as container:
        base = container.streams.video[0].time_base
        assert base is not None
        times = [frame.pts * Fraction(base.numerator, base.denominator) for frame in container.decode(video=0)]
    return [time - times[0] for time in times]

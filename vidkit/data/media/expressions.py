"""Expressions of ffmpeg's filters that choose frames and give them their times.

Each is a tree, so that it costs log(n) a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def one_of(name: str, values: Sequence[int]) -> str:
    """1 where the variable `name` is one of `values`, which ascend."""
    if len(values) == 1:
        return f"eq({name},{values[0]})"
    half = len(values) // 2
    return f"if(lt({name},{values[half]}),{one_of(name, values[:half])},{one_of(name, values[half:])})"


def times_by_number(pts: Sequence[int]) -> str:
    """Gives frame N its time `pts[N]`."""
    return _by_number(_even_runs(pts))


def _by_number(runs: Sequence[tuple[int, int, int]]) -> str:
    if len(runs) == 1:
        first, time, gap = runs[0]
        return f"{time - first * gap}+N*{gap}"
    half = len(runs) // 2
    return f"if(lt(N,{runs[half][0]}),{_by_number(runs[:half])},{_by_number(runs[half:])})"


def _even_runs(pts: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first frame, its time, ticks from each frame to the next) of runs at even distances."""
    runs: list[tuple[int, int, int]] = []
    for n, (time, after) in enumerate(pairwise(pts)):
        if not runs or runs[-1][2] != after - time:
            runs.append((n, time, after - time))
    return runs or [(0, pts[0], 0)]

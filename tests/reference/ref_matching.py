"""Slow, obvious matchers: every path of an alignment written out, every tuple compared by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cosine(a: Floats, b: Floats) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def cosines(query: Floats, support: Floats) -> Floats:
    """(T, D), (U, D) -> (T, U)."""
    return np.array([[cosine(q, s) for s in support] for q in query])


def chamfer(table: Floats) -> float:
    rows = [max(row) for row in table]
    columns = [max(column) for column in table.T]
    return (sum(rows) / len(rows) + sum(columns) / len(columns)) / 2


def paths(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    """Every path that OTAM allows through `rows` x `columns` cells, padding included, from corner to corner."""

    def onward(path: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        row, column = path[-1]
        if (row, column) == (rows - 1, columns - 1):
            yield path
            return
        steps = []
        if column + 1 < columns:
            steps.append((row, column + 1))
            if row + 1 < rows:
                steps.append((row + 1, column + 1))
        if row + 1 < rows and column in (0, 1, columns - 1):
            steps.append((row + 1, column))
        for step in steps:
            yield from onward([*path, step])

    yield from onward([(0, 0)])


def aligned_cost(cost: Floats, smooth: float) -> float:
    """The soft minimum over all paths; the minimum itself where `smooth` is 0."""
    rows, columns = cost.shape
    padded = np.zeros((rows, columns + 2))
    padded[:, 1:-1] = cost
    sums = [sum(padded[cell] for cell in path) for path in paths(rows, columns + 2)]
    if smooth == 0:
        return float(min(sums))
    least = min(sums)
    return float(least - smooth * math.log(sum(math.exp(-(one - least) / smooth) for one in sums)))


def otam(table: Floats, smooth: float) -> float:
    cost = 1 - table
    return -(aligned_cost(cost, smooth) + aligned_cost(cost.T, smooth)) / 2


def layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * weight + bias


def trx_score(
    support: Sequence[Floats], query: Floats, cardinality: int, weights: dict[str, Floats], positions: Floats
) -> float:
    """One class's clips (T, D each) against one query (T, D): a tuple at a time."""

    def tuples(clip: Floats) -> list[Floats]:
        seen = clip + positions
        return [np.concatenate([seen[i] for i in chosen]) for chosen in combinations(range(len(clip)), cardinality)]

    def key(x: Floats) -> Floats:
        linear = weights["key.weight"] @ x + weights["key.bias"]
        return layer_norm(linear, weights["norm.weight"], weights["norm.bias"])

    def value(x: Floats) -> Floats:
        result: Floats = weights["value.weight"] @ x + weights["value.bias"]
        return result

    known = [one for clip in support for one in tuples(clip)]
    total = 0.0
    asked = tuples(query)
    for one in asked:
        scores = [float(key(one) @ key(other)) / math.sqrt(len(key(other))) for other in known]
        shares = np.exp(np.array(scores) - max(scores))
        shares /= shares.sum()
        answer = sum(share * value(other) for share, other in zip(shares, known, strict=True))
        total += float(((value(one) - answer) ** 2).sum())
    return -total / len(asked)

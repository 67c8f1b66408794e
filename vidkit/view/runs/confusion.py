"""Where a model goes wrong: classes by accuracy, pairs that are taken for each other, and the matrix of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidkit.view.runs.predictions import Answers

#: Classes of a matrix that can be read, and pairs that are listed.
MOST_CLASSES, MOST_PAIRS = 40, 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Clips of one class that the model says to be of another."""

    true: str
    said: str
    clips: int
    share: float
    """Of the tested clips of `true`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfClass:
    """One class."""

    name: str
    clips: int
    right: int
    named: int
    """Clips that the model says to be of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Of a test."""

    classes: tuple[OfClass, ...]
    """With tested clips, least accurate first."""
    pairs: tuple[Pair, ...]
    names: tuple[str, ...]
    """Of the matrix: all classes that came up, or those with most errors, in the label map's order."""
    matrix: tuple[tuple[int, ...], ...]
    """Clips by own class (row) and the model's (column)."""
    all: bool
    """Whether the matrix has all classes that came up."""


def confusion(answers: Answers) -> Confusion:
    """Of clips with one label each."""
    counts_KK = answers.confusion()
    clips, right, named = counts_KK.sum(axis=1), counts_KK.diagonal(), counts_KK.sum(axis=0)
    there = np.flatnonzero(clips)
    order = sorted(there.tolist(), key=lambda i: (right[i] / clips[i], -clips[i], i))
    wrong_KK = counts_KK - np.diag(right)
    rows, columns = np.nonzero(wrong_KK)
    found = sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda ij: (-int(wrong_KK[ij]), ij))
    errors = wrong_KK.sum(axis=0) + wrong_KK.sum(axis=1)
    came_up = np.flatnonzero(clips + named)
    kept = came_up
    if len(came_up) > MOST_CLASSES:
        kept = np.sort(came_up[np.argsort(-errors[came_up], kind="stable")][:MOST_CLASSES])
    name = answers.classes
    return Confusion(
        classes=tuple(
            OfClass(name=name[i], clips=int(clips[i]), right=int(right[i]), named=int(named[i])) for i in order
        ),
        pairs=tuple(
            Pair(true=name[i], said=name[j], clips=int(wrong_KK[i, j]), share=float(wrong_KK[i, j] / clips[i]))
            for i, j in found[:MOST_PAIRS]
        ),
        names=tuple(name[i] for i in kept.tolist()),
        matrix=tuple(tuple(int(n) for n in row) for row in counts_KK[np.ix_(kept, kept)]),
        all=len(kept) == len(came_up),
    )

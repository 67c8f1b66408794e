"""From an encoder's features to what learners see: standardised, seen along the directions in which meta-train
classes differ, and for networks reduced, all by meta-train clips.

These are fixed maps, taken from the features of the encoder as it came. They hold gradients, so that an encoder can
be trained through them. Shapes: n clips, B some of them, T steps of W numbers, D = T W width of a feature, R of a
reduced one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.labelled import LabelledClips

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Map(Protocol):
    """A fixed map of features."""

    def __call__(self, features_BD: Tensor) -> Tensor:
        """float32 to float32, with the gradient."""


@dataclass(frozen=True, slots=True, eq=False)
class Standardise:
    """Features less their mean over meta-train clips, by their deviation there."""

    mean: Doubles
    """(D,)"""
    spread: Doubles
    """(D,); infinite for a number that never changes on meta-train."""

    def __call__(self, features_BD: Tensor) -> Tensor:
        """(B, D) to (B, D), in double precision within."""
        mean, spread = (torch.from_numpy(x).to(features_BD.device) for x in (self.mean, self.spread))
        return ((features_BD.double() - mean) / spread).float()


@dataclass(frozen=True, slots=True, eq=False)
class Reduce:
    """Scores on the first principal components of the meta-train clips, or of their steps, with a mean square of 1
    over these.
    """

    mean: Doubles
    """(D,)"""
    vectors: Doubles
    """(D, R)"""
    scale: float

    def __call__(self, features_BD: Tensor) -> Tensor:
        """(B, D) to (B, R), in double precision within."""
        mean, vectors = (torch.from_numpy(x).to(features_BD.device) for x in (self.mean, self.vectors))
        return ((features_BD.double() - mean) @ vectors / self.scale).float()


@dataclass(frozen=True, slots=True, eq=False)
class Discriminate:
    """Scores on the directions in which meta-train classes differ most, against how much clips of one class do:
    Fisher's linear discriminants (Rao 1948). Within a class, scores have unit variance by the shrunk covariance.
    """

    vectors: Doubles
    """(D, R)"""
    steps: int | None = None
    """None: of a whole clip. A number: of its first step, its first two, and so on to all of them, so that the last
    of the T rows has the clip's scores, and each the part of them that the clip has shown by then."""

    def __call__(self, features_BD: Tensor) -> Tensor:
        """(B, D) to (B, R), or to (B, T, R) with `steps`; in double precision within."""
        vectors = torch.from_numpy(self.vectors).to(features_BD.device)
        if self.steps is None:
            return (features_BD.double() @ vectors).float()
        features_BTW = features_BD.double().reshape(len(features_BD), self.steps, -1)
        parts_BTR = torch.einsum("btw,twr->btr", features_BTW, vectors.reshape(self.steps, -1, vectors.shape[1]))
        return parts_BTR.cumsum(dim=1).float()


@dataclass(frozen=True, slots=True)
class Steps:
    """A feature as its T steps."""

    count: int

    def __call__(self, features_BD: Tensor) -> Tensor:
        """(B, T W) to (B, T, W)."""
        return features_BD.reshape(len(features_BD), self.count, -1)


def through(maps: Sequence[Map], features_BD: Tensor) -> Tensor:
    """One map after the other."""
    for one in maps:
        features_BD = one(features_BD)
    return features_BD


def standardiser(
    array: Floats, clips: LabelledClips, split: ClassSplit, *, scale: bool = True
) -> Standardise | None:
    """None: fewer than two meta-train clips to take a mean from. Without `scale` the mean alone is taken away."""
    part = _meta_train(array, clips, split)
    if len(part) < 2:
        return None
    spread = part.std(axis=0)
    # a number that never changes on meta-train says nothing there, and must not become huge on meta-test
    spread[spread < 1e-6 * max(1e-12, float(spread.max()))] = np.inf
    return Standardise(part.mean(axis=0), spread if scale else np.ones_like(spread))


def reducer(array: Floats, clips: LabelledClips, split: ClassSplit, width: int) -> Reduce:
    """To `width` components of clips (n, D) or of the steps of clips (n, T, D), at most as many as there are
    meta-train rows.
    """
    part = _meta_train(array, clips, split).reshape(-1, array.shape[-1])
    mean = part.mean(axis=0)
    chosen = _signed(_principal(part - mean, min(width, len(part))))
    scale = float(np.sqrt(np.square((part - mean) @ chosen).mean()))
    return Reduce(mean, np.ascontiguousarray(chosen), max(scale, 1e-12))


#: Share of the pooled covariance that is replaced by the same variance in each direction: clips are few for the
#: numbers of a feature, and the smallest variances of few come out too small.
SHRINKAGE = 0.5


def check_discriminants(clips: LabelledClips, split: ClassSplit) -> None:
    """
    Raises:
        ConfigError: fewer than two meta-train classes have clips.
    """
    count = len(np.unique(_meta_train(clips.class_id, clips, split)))
    if count < 2:
        raise ConfigError(
            f"discriminants need two meta-train classes with clips, and there are {count}",
            field="discriminant",
            hint="give meta-train a share of the classes, or leave out --discriminant",
        )


def discriminator(array: Floats, clips: LabelledClips, split: ClassSplit) -> Discriminate:
    """Of standardised features (n, D) of whole clips, to at most one number fewer than meta-train has classes.

    Raises:
        ConfigError: as `check_discriminants`.
    """
    check_discriminants(clips, split)
    part, number = _meta_train(array, clips, split), _meta_train(clips.class_id, clips, split)
    part -= part.mean(axis=0)
    basis: Doubles | None = None
    numbers = part.shape[1]
    if numbers > len(part):  # all there is lies within the span of the clips
        basis = _principal(part, len(part))
        basis = basis[:, np.linalg.norm(basis, axis=0) > 0.5]
        part = part @ basis
    names, place, counts = np.unique(number, return_inverse=True, return_counts=True)
    means = np.stack([part[place == i].mean(axis=0) for i in range(len(names))])
    within = part - means[place]
    covariance = within.T @ within / len(part)
    even = max(float(np.trace(covariance)) / numbers, 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * even * np.eye(len(covariance))
    variances, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(variances)
    between = np.sqrt(counts / len(part))[:, None] * means @ whiten
    _, spread, directions = np.linalg.svd(between, full_matrices=False)
    found = whiten @ directions[: min(len(names) - 1, int((spread > 1e-6 * spread[0]).sum()))].T
    if basis is not None:
        found = basis @ found
    return Discriminate(np.ascontiguousarray(_signed(found)))


def _signed(vectors_DR: Doubles) -> Doubles:
    """Directions whose largest entries are positive: either sign is right, and libraries differ."""
    signed: Doubles = vectors_DR * np.sign(
        vectors_DR[np.abs(vectors_DR).argmax(axis=0), np.arange(vectors_DR.shape[1])]
    )
    return signed


def _principal(part_nD: Doubles, count: int) -> Doubles:
    """The first principal directions (D, count) of centred rows, by the smaller of the two matrices of products."""
    if part_nD.shape[1] <= len(part_nD):
        vectors: Doubles = np.linalg.eigh(part_nD.T @ part_nD)[1]
        return vectors[:, ::-1][:, :count]
    squares, left = np.linalg.eigh(part_nD @ part_nD.T)
    found: Doubles = part_nD.T @ left[:, ::-1][:, :count]
    # directions without variance stay near 0, as their scores are
    scale: Doubles = np.sqrt(np.maximum(squares[::-1][:count], 1e-12 * max(1e-300, float(squares[-1]))))
    return found / scale


def _meta_train(array: npt.NDArray[Any], clips: LabelledClips, split: ClassSplit) -> Doubles:
    number = {name: i for i, name in enumerate(clips.classes)}
    return array[np.isin(clips.class_id, [number[name] for name in split.train])].astype(np.float64)

"""Linear probes: ridge regression in closed form, and logistic regression by L-BFGS.

Both have a penalty on the squared weights alone, so both have their solution in the span of the training clips:
they are solved in its principal axes, whatever the width. Shapes: n training clips, m other ones, D width, R axes,
K classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Penalties on ridge's weights, as shares of the sum of squares of the standardised training clips.
RIDGE = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

#: Penalties on logistic regression's weights: with features of a mean square of 1, per clip.
LOGISTIC = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

#: Steps of L-BFGS at most.
STEPS = 200

#: Of the largest variance: axes with less say nothing but rounding.
_LEAST = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Standardised features of training clips in their principal axes, double precision."""

    mean: Tensor
    """(D,)"""
    spread: Tensor
    """(D,): deviations; infinite for a number that never changes."""
    vectors: Tensor
    """(D, R)"""
    train: Tensor
    """(n, R): coordinates of the training clips; axes are orthogonal over these."""

    def of(self, x_mD: Tensor) -> Tensor:
        """(m, R)."""
        return ((x_mD.double() - self.mean) / self.spread) @ self.vectors


def deviations(x_nD: Tensor) -> Tensor:
    """Of each number over the clips, (D,); infinite for one that never changes, which is then 0 for all."""
    spread = x_nD.std(dim=0, correction=0)
    return torch.where(spread > 1e-6 * spread.max().clamp_min(1e-12), spread, torch.inf)


def principal_axes(x_nD: Tensor) -> Axes:
    """Every number less its mean, by its deviation; then all axes in which the clips differ."""
    x_nD = x_nD.double()
    mean, spread = x_nD.mean(dim=0), deviations(x_nD)
    x_nD = (x_nD - mean) / spread
    count, width = x_nD.shape
    # by the smaller of the two matrices of products
    if width <= count:
        squares, vectors = torch.linalg.eigh(x_nD.T @ x_nD)
        kept = squares > _LEAST * squares.max().clamp_min(1e-300)
        vectors = vectors[:, kept]
        return Axes(mean, spread, vectors, x_nD @ vectors)
    squares, left = torch.linalg.eigh(x_nD @ x_nD.T)
    kept = squares > _LEAST * squares.max().clamp_min(1e-300)
    scale = squares[kept].sqrt()
    return Axes(mean, spread, x_nD.T @ (left[:, kept] / scale), left[:, kept] * scale)


def ridge(axes: Axes, targets_nK: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
    """Least squares on targets (0 and 1) less their mean; the weights' squares cost `penalty` times the features'.

    Returns:
        From features (m, D) to scores (m, K).
    """
    mean_K = targets_nK.double().mean(dim=0)
    squares_R = axes.train.square().sum(dim=0)
    weights_RK = axes.train.T @ (targets_nK.double() - mean_K) / (squares_R + penalty * squares_R.sum())[:, None]
    return lambda x_mD: axes.of(x_mD) @ weights_RK + mean_K


def logistic(axes: Axes, targets_nK: Tensor, penalty: float, *, several: bool) -> Callable[[Tensor], Tensor]:
    """The mean cross-entropy over clips plus `penalty / 2` times the squared weights, features scaled to a mean
    square of 1; the biases have no penalty. Softmax, or a sigmoid for each label where a clip may have `several`.

    Returns:
        From features (m, D) to log-odds (m, K).
    """
    train_nR, targets_nK = axes.train, targets_nK.double()
    scale = train_nR.square().sum(dim=1).mean().clamp_min(1e-300).sqrt()
    weights = torch.zeros(train_nR.shape[1], targets_nK.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(targets_nK.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, bias],
        max_iter=STEPS,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )
    x_nR = train_nR / scale

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits_nK = x_nR @ weights + bias
        if several:
            fit = torch.nn.functional.binary_cross_entropy_with_logits(logits_nK, targets_nK, reduction="none")
            value = fit.sum(dim=1).mean()
        else:
            value = torch.nn.functional.cross_entropy(logits_nK, targets_nK)
        value = value + penalty / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weights_RK, bias_K = weights.detach(), bias.detach()
    return lambda x_mD: axes.of(x_mD) / scale @ weights_RK + bias_K

"""A running mean of reconstruction errors at each position: what "error" masks are drawn in proportion to.

Shapes: B batch, N tokens, M targets.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn


class RunningErrors(nn.Module):
    """Exponential mean of each position's errors over steps, all processes together. Saved with the weights."""

    sums: Tensor

    def __init__(self, tokens: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        # Of errors and of their weights: their quotient has no trace of where it started, as in Adam.
        self.register_buffer("sums", torch.zeros(2, tokens))

    def mean(self) -> Tensor:
        """(N,) mean error of each position; where none was seen, that of all positions, or 1."""
        error_N, weight_N = self.sums
        whole = torch.where(weight_N.sum() > 0, error_N.sum() / weight_N.sum().clamp(min=1e-12), 1.0)
        mean_N = torch.where(weight_N > 0, error_N / weight_N.clamp(min=1e-12), whole)
        # An error of zero would never be drawn, while something must be.
        return mean_N.clamp(min=torch.finfo(torch.float32).tiny)

    @torch.no_grad()
    def update(self, targets_BM: Tensor, errors_BM: Tensor) -> None:
        """Take in the errors of a batch. A position keeps its mean where it was no target, or errors are not
        finite: such a step trains nothing else either.
        """
        tokens = self.sums.shape[1]
        errors_BM = errors_BM.float()
        # One place for each clip and token, then a sum: adding up in place would depend on the device's order.
        empty_BN = errors_BM.new_zeros(errors_BM.shape[0], tokens)
        error_BN = empty_BN.scatter(1, targets_BM, errors_BM)
        count_BN = empty_BN.scatter(1, targets_BM, 1.0)
        step_2N = torch.stack([error_BN.sum(dim=0), count_BN.sum(dim=0)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(step_2N)
        error_N, count_N = step_2N
        taken_N = (count_N > 0) & error_N.isfinite()
        mean_N = error_N / count_N.clamp(min=1)
        new_2N = torch.lerp(torch.stack([mean_N, torch.ones_like(mean_N)]), self.sums, self.momentum)
        self.sums.copy_(torch.where(taken_N, new_2N, self.sums))

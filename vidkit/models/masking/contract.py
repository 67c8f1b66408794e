"""What a masker gets and what it gives.

Every strategy has one form, `masker(tokens_BND, grid, num_visible, generator, side) -> Mask`. Masks are drawn on
the tokens' device; nothing waits for the device and nothing loops over the batch.

Shapes: B batch, N tokens, D width, V visible, M targets, T H W the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vidkit.settings.model import Grid


class Mask(NamedTuple):
    """Indices are distinct and ascending in each row, and no target is visible."""

    keep: Tensor
    """What the encoder sees, (B, V)."""
    targets: Tensor | None = None
    """What the decoder predicts and what is scored, (B, M). None: all that is not visible."""
    log_probs: Tensor | None = None
    """Log-probabilities of the tokens (B, N), where a network gave them."""
    order: Tensor | None = None
    """The visible tokens as they were drawn, first to last, (B, V), where a network drew them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What a strategy may know beside the tokens. A field is None where nobody gave it."""

    errors_N: Tensor | None = None  # noqa: N815
    """Running mean of the reconstruction error of each position."""
    shares_BN: Tensor | None = None  # noqa: N815
    """Share of each token that a dataset says is moving, 0 to 1."""


NO_SIDE = Side()


class Masker(Protocol):
    """Draws the masks of a batch."""

    def __call__(
        self,
        tokens_BND: Tensor,
        grid: Grid,
        num_visible: int,
        generator: torch.Generator | None = None,
        side: Side = NO_SIDE,
        /,
    ) -> Mask:
        """`num_visible` tokens of each clip. `tokens` are patches, (B, N, P), uint8 or in [0, 1]."""
        ...

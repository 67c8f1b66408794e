"""Masks that know what moves, because the dataset says so: the best and the worst that a sampler could learn there.

They are the test of a test. Where their probes do not come apart, no learned sampler's will.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.models.masking.contract import NO_SIDE, Mask, Side
from vidkit.settings.model import Grid


def oracle(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """Visible tokens on what moves, at random among those; where they are too few, any others fill up."""
    return Mask(_first(_moving(side).float(), num_visible, generator))


def anti_oracle(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """Visible tokens never on what moves, while there are others."""
    return Mask(_first((~_moving(side)).float(), num_visible, generator))


def _moving(side: Side) -> Tensor:
    if side.shares_BN is None:
        raise ConfigError(
            "oracle masks need a dataset that says where something moves",
            field="strategy",
            hint="pre-train on clips of `vidkit synth motions`, or choose a mask that needs no oracle",
        )
    return side.shares_BN > 0


def _first(wanted_BN: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` distinct indices a row: wanted ones first, equals in any order. (B, V), ascending."""
    noise_BN = torch.rand(wanted_BN.shape, device=wanted_BN.device, generator=generator)
    return (wanted_BN + noise_BN).topk(count, dim=1, sorted=False).indices.sort(dim=1).values

"""The paper's four strategies: tube, random, frame and adaptive."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.models.masking.contract import NO_SIDE, Mask, Masker, Side
from vidkit.models.masking.draw import gumbel_order, random_subset
from vidkit.settings.model import Grid


def tube(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """The same places in every frame (VideoMAE). Raises ConfigError where V is no multiple of T."""
    time, height, width = grid
    in_frame, rest = divmod(num_visible, time)
    if rest:
        raise ConfigError(f"tube masking cannot show {num_visible} tokens; expected a multiple of T = {time}")
    place_BV = random_subset(tokens_BND, height * width, in_frame, generator)
    start_T1 = torch.arange(time, device=tokens_BND.device)[:, None] * (height * width)
    return Mask((start_T1 + place_BV[:, None]).flatten(1))


def random(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """Any tokens, with equal probability (Feichtenhofer et al. 2022)."""
    time, height, width = grid
    return Mask(random_subset(tokens_BND, time * height * width, num_visible, generator))


def frame(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """Whole time steps while they fit into V; the rest are random tokens of one more time step."""
    time, height, width = grid
    space = height * width
    whole, rest = divmod(num_visible, space)
    device = tokens_BND.device
    frame_BT = torch.rand(tokens_BND.shape[0], time, device=device, generator=generator).argsort(dim=1)
    shown_BV = (frame_BT[:, :whole, None] * space + torch.arange(space, device=device)).flatten(1)
    if rest:
        part_BR = frame_BT[:, whole, None] * space + random_subset(tokens_BND, space, rest, generator)
        shown_BV = torch.cat([shown_BV, part_BR], dim=1)
    return Mask(shown_BV.sort(dim=1).values)


def adaptive(sampler: Callable[[Tensor], Tensor], *, ordered: bool = False) -> Masker:
    """Tokens drawn without replacement from the distribution that `sampler` gives (AdaMAE, algorithm 1).

    Args:
        sampler: tokens (B, N, D) -> log-probabilities (B, N), float32.
        ordered: whether the mask tells the order in which tokens were drawn.
    """

    def masker(
        tokens_BND: Tensor,
        grid: Grid,
        num_visible: int,
        generator: torch.Generator | None = None,
        side: Side = NO_SIDE,
    ) -> Mask:
        log_probs_BN = sampler(tokens_BND)
        order_BV = gumbel_order(log_probs_BN.detach(), num_visible, generator)
        return Mask(order_BV.sort(dim=1).values, log_probs=log_probs_BN, order=order_BV if ordered else None)

    return masker

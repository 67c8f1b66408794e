"""Masks from the clip's own motion: what changes most is seen or predicted, and the rest is dropped.

Shapes: B batch, N tokens, P values of a patch, V visible, K kept, M targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidkit.models.masking.contract import NO_SIDE, Mask, Masker, Side
from vidkit.models.masking.draw import gumbel_top_k, random_subset
from vidkit.models.tokenizers import to_unit
from vidkit.settings.model import Grid


def change(patches_BNP: Tensor, grid: Grid) -> Tensor:
    """Root of the summed squares between each patch and the one at its place a time step before. (B, N).

    The first time step takes the values of the second, as EVEREST has it; a single one is still everywhere.
    """
    batch = patches_BNP.shape[0]
    time = grid[0]
    values = to_unit(patches_BNP).view(batch, time, grid[1] * grid[2], -1)
    if time == 1:
        return values.new_zeros(batch, values.shape[2])
    step_BTS = torch.linalg.vector_norm(values[:, 1:] - values[:, :-1], dim=-1)
    return torch.cat([step_BTS[:, :1], step_BTS], dim=1).flatten(1)


def motion(kept: int) -> Masker:
    """Of the `kept` tokens that change most, V at random are visible, the others are targets (EVEREST, Hwang et al.
    2024, arXiv 2211.10636), here on pixels instead of token embeddings. Ties fall at random.
    """

    def masker(
        patches_BNP: Tensor,
        grid: Grid,
        num_visible: int,
        generator: torch.Generator | None = None,
        side: Side = NO_SIDE,
    ) -> Mask:
        change_BN = change(patches_BNP, grid)
        # Still backgrounds are equal to the last bit, and a fixed order would show their upper left corner.
        # A stable sort of shuffled tokens makes every order of equals equally likely.
        shuffle_BN = torch.rand(change_BN.shape, device=change_BN.device, generator=generator).argsort(dim=1)
        falling_BN = change_BN.gather(1, shuffle_BN).argsort(dim=1, descending=True, stable=True)
        kept_BK = shuffle_BN.gather(1, falling_BN)[:, :kept].sort(dim=1).values
        seen_BV = random_subset(patches_BNP, kept, num_visible, generator)
        hidden_BK = torch.ones_like(kept_BK).scatter_(1, seen_BV, 0)
        unseen_BM = hidden_BK.argsort(dim=1, descending=True, stable=True)[:, : kept - num_visible]
        return Mask(kept_BK.gather(1, seen_BV), targets=kept_BK.gather(1, unseen_BM))

    return masker


def error(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """Drawn without replacement in proportion to the running mean of errors at each position: where AdaMAE's
    sampling loss, as published, would take a sampler that sees nothing but positions. No network.
    """
    time, height, width = grid
    weight_N = side.errors_N
    if weight_N is None:
        weight_N = torch.ones(time * height * width, device=tokens_BND.device)
    log_BN = weight_N.float().log().expand(tokens_BND.shape[0], -1)
    return Mask(gumbel_top_k(log_BN, num_visible, generator))

"""Masks from shapes that no clip is asked for: blocks, and noise of a middle size.

Shapes: B batch, K blocks, T H W the grid, S = H * W, V visible.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidkit.models.masking.contract import NO_SIDE, Mask, Side
from vidkit.models.masking.draw import top_k
from vidkit.settings.model import Grid

#: Of V-JEPA's short-range masks: share of a frame, and the range of height over width.
BLOCK_SHARE = 0.15
BLOCK_ASPECT = (0.75, 1.5)
#: Most blocks of a clip: at 15 % each, the middle of a frame is covered long before.
MOST_BLOCKS = 64
#: Standard deviations of the two blurs, in tokens.
FINE, COARSE = 1.0, 2.0


def multi_block(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """Blocks over all time steps are hidden, one after another, until V tokens are left (V-JEPA, Bardes et al.
    2024, arXiv 2404.08471: blocks of 15 % of a frame).

    The number is exact: the last block is cut from its border inwards, and where no block falls but more must be
    hidden, places at random are. Unlike there, each block of each clip has a size of its own.
    """
    time, height, width = grid
    batch, device = tokens_BND.shape[0], tokens_BND.device
    left = num_visible / (time * height * width)
    blocks = min(MOST_BLOCKS, 2 * math.ceil(math.log(left) / math.log(1 - BLOCK_SHARE)) + 1)
    low, high = BLOCK_ASPECT
    draw_KB = torch.rand(3, blocks, batch, device=device, generator=generator)
    aspect_KB = low + (high - low) * draw_KB[0]
    tall_KB = (BLOCK_SHARE * height * width * aspect_KB).sqrt().round().clamp(1, height)
    wide_KB = (BLOCK_SHARE * height * width / aspect_KB).sqrt().round().clamp(1, width)
    top_KB = (draw_KB[1] * (height - tall_KB + 1)).floor().clamp(max=height - 1)
    first_KB = (draw_KB[2] * (width - wide_KB + 1)).floor().clamp(max=width - 1)
    row_H1 = torch.arange(height, device=device)[:, None]
    column_W = torch.arange(width, device=device)
    above = row_H1 - top_KB[..., None, None]
    before = column_W - first_KB[..., None, None]
    below = tall_KB[..., None, None] - 1 - above
    behind = wide_KB[..., None, None] - 1 - before
    depth_KBHW = torch.minimum(torch.minimum(above, below), torch.minimum(before, behind))
    inside_KBHW = depth_KBHW >= 0
    # The block that hides a place first, and how deep in it the place lies. A place that none hides comes last.
    number_KB11 = torch.arange(blocks, device=device, dtype=torch.float32)[:, None, None, None]
    order_KBHW = torch.where(inside_KBHW, number_KB11, float(blocks))
    hidden_BHW, by_BHW = order_KBHW.min(dim=0)
    depth_BHW = depth_KBHW.gather(0, by_BHW[None])[0].clamp(min=0)
    side_length = max(height, width)
    noise_BHW = torch.rand(batch, height, width, device=device, generator=generator)
    score_BS = (hidden_BHW + 0.5 * (1 - (depth_BHW + 0.9 * noise_BHW) / side_length)).flatten(1)
    # Places in order, so that whole tubes stay while V is a multiple of T; time steps at random within the last.
    rank_BS = score_BS.argsort(dim=1).argsort(dim=1)
    step_BT = torch.rand(batch, time, device=device, generator=generator)
    token_BN = (rank_BS[:, None] + 0.5 * step_BT[:, :, None]).flatten(1)
    return Mask(top_k(token_BN, num_visible))


def green(
    tokens_BND: Tensor,
    grid: Grid,
    num_visible: int,
    generator: torch.Generator | None = None,
    side: Side = NO_SIDE,
) -> Mask:
    """The V largest values of noise with a middle band of frequencies: blobs a few tokens wide that change smoothly
    in time. The difference of two Gaussian blurs of white noise (green noise, arXiv 2503.16311; here
    with deviations of one and two tokens).
    """
    margin = math.ceil(3 * COARSE)
    shape = (tokens_BND.shape[0], *(length + 2 * margin for length in grid))
    noise_BTHW = torch.randn(shape, device=tokens_BND.device, generator=generator)
    band_BTHW = _blurred(noise_BTHW, FINE, margin) - _blurred(noise_BTHW, COARSE, margin)
    return Mask(top_k(band_BTHW.flatten(1), num_visible))


def _blurred(noise_BTHW: Tensor, deviation: float, margin: int) -> Tensor:
    """A Gaussian blur along time, rows and columns, cut at `margin`, which each side loses."""
    place = torch.arange(-margin, margin + 1, device=noise_BTHW.device)
    weight = torch.exp(-0.5 * (place / deviation).square())
    weight = weight / weight.sum()
    for axis in (1, 2, 3):
        noise_BTHW = (noise_BTHW.unfold(axis, 2 * margin + 1, 1) * weight).sum(dim=-1)
    return noise_BTHW

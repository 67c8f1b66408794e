"""Which hidden tokens are predicted: all of them, or the part that a decoder mask leaves.

Shapes: B batch, N tokens, V visible, C candidates (hidden tokens that may be targets), M targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidkit.models.masking.count import share_of
from vidkit.models.masking.draw import masked_indices
from vidkit.settings.model import Grid, MaskConfig


def choose_targets(
    keep_BV: Tensor,
    candidates_BC: Tensor | None,
    grid: Grid,
    mask: MaskConfig,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The targets (B, M), ascending: `candidates`, or the complement of `keep`, and of these the part that
    `mask.targets` and `mask.target_ratio` say.

    "running-cell" prefers the cells of VideoMAE v2 (Wang et al. 2023, arXiv 2303.16727) that are hidden, and fills
    up or cuts to M at random: there, M varies with the clip.
    """
    time, height, width = grid
    if candidates_BC is None:
        candidates_BC = masked_indices(keep_BV, time * height * width)
    if mask.targets == "complement":
        return candidates_BC
    batch, hidden = candidates_BC.shape
    device = candidates_BC.device
    score_BC = torch.rand(batch, hidden, device=device, generator=generator)
    if mask.targets == "running-cell":
        start_B1 = (torch.rand(batch, 1, device=device, generator=generator) * 4).long().clamp(max=3)
        score_BC = score_BC + running_cells(candidates_BC, grid, mask.target_ratio, start_B1)
    chosen_BM = score_BC.topk(share_of(hidden, mask), dim=1, sorted=False).indices.sort(dim=1).values
    return candidates_BC.gather(1, chosen_BM)


def running_cells(tokens_BC: Tensor, grid: Grid, ratio: float, start_B1: Tensor) -> Tensor:
    """1 where a token belongs to the pattern of running cells, else 0: (B, C) token numbers -> (B, C).

    A cell of 2 x 2 places holds a queue of 4, of which `4 * ratio` are predicted; it moves on by one at each time
    step, from `start` on. So every place is predicted in `ratio` of the time steps.
    """
    _, height, width = grid
    step_BC = tokens_BC // (height * width)
    place_BC = tokens_BC // width % height % 2 * 2 + tokens_BC % width % 2
    return ((place_BC + step_BC + start_B1) % 4 < round(4 * ratio)).float()

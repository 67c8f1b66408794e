"""Seeds, generators and draws of indices that all strategies share.

Shapes: B batch, N tokens, D width, V visible, k drawn.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def mask_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed from which one step's masks on one rank are drawn. Stable over versions and machines."""
    digest = hashlib.sha256(f"mask:{seed}:{step}:{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def mask_generator(seed: int, step: int, rank: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` at the start of the stream of (seed, step, rank)."""
    return torch.Generator(device=device).manual_seed(mask_seed(seed, step, rank))


def gumbel_order(log_weights_BN: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """k distinct indices a row, drawn one after another in proportion to the weights left (Plackett-Luce).

    The k largest of `log_weight + Gumbel noise`, largest first, are such a draw (Yellott 1977; Kool et al. 2019).
    In logarithms a probability that would round to zero keeps its place. Returns (B, k), first drawn first.
    """
    # -log of a standard exponential is a standard Gumbel. Zero would be infinite noise; the clamp keeps ties out.
    wait_BN = torch.empty_like(log_weights_BN, dtype=torch.float32).exponential_(generator=generator)
    noise_BN = wait_BN.clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_()
    return (log_weights_BN.float() + noise_BN).topk(k, dim=1).indices


def gumbel_top_k(log_weights_BN: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """The same draw without its order: (B, k), ascending."""
    return gumbel_order(log_weights_BN, k, generator).sort(dim=1).values


def top_k(score_BN: Tensor, k: int) -> Tensor:
    """The indices of the k largest of each row: (B, k), ascending."""
    return score_BN.topk(k, dim=1, sorted=False).indices.sort(dim=1).values


def random_subset(like_BND: Tensor, total: int, k: int, generator: torch.Generator | None) -> Tensor:
    """k distinct numbers below `total` for each row of `like`, all subsets equally likely. (B, k), ascending."""
    noise = torch.rand(like_BND.shape[0], total, device=like_BND.device, generator=generator)
    return noise.topk(k, dim=1, sorted=False).indices.sort(dim=1).values


def masked_indices(keep_BV: Tensor, tokens: int) -> Tensor:
    """The indices that `keep` leaves out: (B, V) -> (B, M), ascending."""
    batch, visible = keep_BV.shape
    shown_BN = torch.zeros(batch, tokens, dtype=torch.uint8, device=keep_BV.device).scatter_(1, keep_BV, 1)
    # A stable sort by "shown" moves the masked ones to the front in order; nonzero() would wait for the device.
    return shown_BN.argsort(dim=1, stable=True)[:, : tokens - visible]


def visible_mask(keep_BV: Tensor, tokens: int) -> Tensor:
    """`keep` as booleans, True where visible: (B, V) -> (B, N)."""
    hidden_BN = torch.zeros(keep_BV.shape[0], tokens, dtype=torch.bool, device=keep_BV.device)
    return hidden_BN.scatter_(1, keep_BV, True)

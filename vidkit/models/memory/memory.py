"""External memory with least-recently-used access (Santoro et al. 2016, arXiv 1605.06065, section 3.2).

Pure functions over a batch of episodes. Shapes: B batch, M slots (rows), W numbers in a row, R heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: What every number of a new memory is. Zero would leave the cosine without a direction.
EMPTY = 1e-6

#: Added to the product of the two norms of a cosine: rows that were never written to have a cosine near 0.
EPS = 1e-3


class Memory(NamedTuple):
    """The memory of each episode after a step."""

    rows: Tensor
    """(B, M, W)."""
    read_weights: Tensor
    """(B, R, M): w^r of the last step."""
    usage: Tensor
    """(B, M): w^u. Carries no gradient: it only chooses rows."""


def empty_memory(batch: int, slots: int, width: int, heads: int, like: Tensor) -> Memory:
    """Before the first step: constant rows, nothing read, nothing used. Device and dtype of `like`."""
    return Memory(
        rows=like.new_full((batch, slots, width), EMPTY),
        read_weights=like.new_zeros(batch, heads, slots),
        usage=like.new_zeros(batch, slots),
    )


def least_used(usage_BM: Tensor, count: int) -> Tensor:
    """The `count` least used rows, least first; of equal ones the first. (B, M) -> (B, count)."""
    return usage_BM.argsort(dim=1, stable=True)[:, :count]


def write(memory: Memory, values_BRW: Tensor, gate_BR: Tensor) -> tuple[Tensor, Tensor]:
    """Add each head's value to the rows that its write weights name: (rows (B, M, W), write weights (B, R, M)).

    `w^w = g w^r + (1 - g) w^lu`, with g = sigmoid(alpha), the head's previous read weights w^r, and 1 for its
    least used row in w^lu: head j has the j-th least used row, so that heads do not write over each other. Least
    used rows are erased first. `gate_BR` is g.
    """
    heads = gate_BR.shape[1]
    least_BR = least_used(memory.usage, heads)
    gate_BR1 = gate_BR[..., None]
    weights_BRM = (gate_BR1 * memory.read_weights).scatter_add(2, least_BR[..., None], 1 - gate_BR1)
    kept_BM = torch.ones_like(memory.usage).scatter_(1, least_BR, 0.0)
    rows_BMW = torch.baddbmm(memory.rows * kept_BM[..., None], weights_BRM.transpose(1, 2), values_BRW)
    return rows_BMW, weights_BRM


def cosine(keys_BRW: Tensor, rows_BMW: Tensor) -> Tensor:
    """Cosine of every key with every row: (B, R, M)."""
    norms_BRM: Tensor = (
        torch.linalg.vector_norm(keys_BRW, dim=2)[..., None] * torch.linalg.vector_norm(rows_BMW, dim=2)[:, None]
    )
    return torch.bmm(keys_BRW, rows_BMW.transpose(1, 2)) / (norms_BRM + EPS)


def read(rows_BMW: Tensor, keys_BRW: Tensor, strength_BR: Tensor | None) -> tuple[Tensor, Tensor]:
    """What each head reads by content: (read vectors (B, R, W), read weights (B, R, M)).

    Weights are the softmax of the cosines, times `strength_BR` if given.
    """
    scores_BRM = cosine(keys_BRW, rows_BMW)
    if strength_BR is not None:
        scores_BRM = scores_BRM * strength_BR[..., None]
    weights_BRM = scores_BRM.softmax(dim=2)
    return torch.bmm(weights_BRM, rows_BMW), weights_BRM


def access(
    memory: Memory,
    *,
    keys_BRW: Tensor,
    values_BRW: Tensor,
    gate_BR: Tensor,
    strength_BR: Tensor | None,
    gamma: float,
) -> tuple[Tensor, Memory]:
    """One step: write, then read what is there now. (read vectors (B, R, W), memory after it).

    Usage is `w^u = gamma w^u + w^r + w^w`, summed over heads.
    """
    rows_BMW, written_BRM = write(memory, values_BRW, gate_BR)
    read_BRW, weights_BRM = read(rows_BMW, keys_BRW, strength_BR)
    with torch.no_grad():
        usage_BM = gamma * memory.usage + weights_BRM.sum(dim=1) + written_BRM.sum(dim=1)
    return read_BRW, Memory(rows=rows_BMW, read_weights=weights_BRM, usage=usage_BM)

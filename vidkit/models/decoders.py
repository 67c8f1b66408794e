"""A decoder block whose mask tokens look at visible tokens only.

Shapes: B batch, V visible, M targets, E width.
"""

from __future__ import annotations

import torch
from timm.layers import Mlp  # type: ignore[attr-defined]
from torch import Tensor, nn

from vidkit.models.layers import again_in_backward
from vidkit.settings.model import Recompute


class CrossBlock(nn.Module):
    """Mask tokens attend to the visible ones, and never to each other (CrossMAE, Fu et al. 2024, arXiv 2401.14391).

    So a token's prediction does not depend on which others are predicted, and cost grows with M * V instead of the
    square of their sum. Unlike there, every block reads the encoder's last output.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.norm_shown = nn.LayerNorm(width, eps=1e-6)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, hidden_BME: Tensor, shown_BVE: Tensor) -> Tensor:
        """(B, M, E) mask tokens and (B, V, E) visible ones -> (B, M, E)."""
        batch, _, width = hidden_BME.shape
        q = self.q(self.norm1(hidden_BME)).view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
        k, v = self.kv(self.norm_shown(shown_BVE)).view(batch, -1, 2, self.heads, q.shape[-1]).unbind(2)
        mixed = nn.functional.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2))
        hidden_BME = hidden_BME + self.proj(mixed.transpose(1, 2).reshape(batch, -1, width))
        result: Tensor = hidden_BME + self.mlp(self.norm2(hidden_BME))
        return result


def cross_decode(blocks: nn.ModuleList, hidden_BME: Tensor, shown_BVE: Tensor, recompute: Recompute) -> Tensor:
    """Blocks one after another. With "light" and "full" each is computed again in the backward pass."""
    again = recompute in ("light", "full") and torch.is_grad_enabled()
    for block in blocks:
        hidden_BME = (
            again_in_backward(block, block, hidden_BME, shown_BVE) if again else block(hidden_BME, shown_BVE)
        )
    return hidden_BME

"""Locality self-attention: a learned temperature, no token attends to itself (Lee et al. 2021, arXiv 2112.13492).

Shapes: B batch, N tokens, M the last of them, D width, H heads, E the width of a head.
"""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Attention  # type: ignore[attr-defined]
from torch import Tensor, nn

from vidkit.errors import ConfigError


class LocalityAttention(Attention):
    """timm's attention with two changes: `softmax(mask(q k^T) * score_scale) v`.

    - `score_scale` (H,), one number for each head of each layer, is the inverse of the paper's temperature. It
      starts at 1/sqrt(E), where plain attention stays.
    - The diagonal of the scores is minus infinity: each token looks at the others only. In an encoder that sees
      the visible tokens of a masked clip, the others are the other visible tokens.

    The scale goes into the queries, so that the fused kernels still do the rest.
    """

    def __init__(self, width: int, heads: int, *, qkv_bias: bool, dropout: float) -> None:
        super().__init__(width, num_heads=heads, qkv_bias=qkv_bias, proj_drop=dropout)
        self.score_scale = nn.Parameter(torch.full((heads,), self.head_dim**-0.5))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D), the projection included."""
        if attn_mask is not None or is_causal:
            raise NotImplementedError("locality self-attention has its own mask and takes no other")
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BND = self.mix(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        result: Tensor = self.proj_drop(self.proj(mixed_BND))
        return result

    def mix(self, q_BHME: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, start: int = 0) -> Tensor:
        """Values mixed for the queries of the tokens from `start` on: (B, H, M, E), M = N - start.

        Raises:
            ConfigError: there is one token only.
        """
        tokens = k_BHNE.shape[2]
        if tokens < 2:
            raise ConfigError(
                "locality self-attention over a single token: it has no other to attend to",
                field="attention",
                hint="show more tokens with a smaller mask ratio, or use plain attention",
            )
        # Scaled in float32 and rounded once: a half-precision scale could only take steps of 0.4 %.
        scaled_BHME = (q_BHME * self.score_scale[:, None, None]).to(q_BHME.dtype)
        number_N = torch.arange(tokens, device=k_BHNE.device)
        others_MN = number_N[start:, None] != number_N
        return nn.functional.scaled_dot_product_attention(
            scaled_BHME, k_BHNE, v_BHNE, attn_mask=others_MN, scale=1.0
        )

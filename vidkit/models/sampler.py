"""The adaptive token sampler: a small network that gives every token its probability of being visible.

Shapes: B batch, N tokens, D the tokens' width, E the sampler's own width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidkit.models.layers import make_blocks, run_blocks
from vidkit.settings.model import AdaMAEConfig, Recompute


class TokenSampler(nn.Module):
    """Tokens (B, N, D) -> log-probabilities (B, N), float32 (AdaMAE, equations 2 and 3, appendix A.2).

    "mha": learned positions, whole transformer blocks, Linear(E, 1). "mlp": learned positions, Linear(E, E),
    Linear(E, 1), with nothing in between, as the appendix has it. With `width_divisor` 2 a projection from D to
    E = D / 2 comes first. Tokens come without the encoder's positions; these are the sampler's own, zero at first,
    as in the released code, whose blocks have no query, key and value biases and norms with eps 1e-5.

    There is no bias where the softmax over tokens would take it out again: it would never get a gradient.
    """

    def __init__(self, config: AdaMAEConfig) -> None:
        super().__init__()
        settings = config.sampler
        width = config.encoder.width // settings.width_divisor
        # "mlp" has no blocks: what it keeps is small, and attention cannot be told from the rest
        self.recompute: Recompute = config.recompute.sampler if settings.kind == "mha" else "none"
        reduce = settings.width_divisor > 1
        self.reduce: nn.Module = nn.Linear(config.encoder.width, width) if reduce else nn.Identity()
        self.positions = nn.Parameter(torch.zeros(config.encoder.tokens, width))
        if settings.kind == "mha":
            self.blocks = make_blocks(
                settings.depth,
                width,
                settings.heads,
                settings.mlp_ratio,
                dropout=settings.dropout,
                qkv_bias=False,
                norm_eps=1e-5,
            )
        else:
            self.blocks = nn.ModuleList([nn.Linear(width, width, bias=False)])
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """(B, N) log-probabilities of each clip's tokens, float32 whatever the precision."""
        x_BNE = run_blocks(self.blocks, self.reduce(tokens_BND) + self.positions, self.recompute)
        # Half precision would round the scores to steps that the softmax turns into visible jumps.
        with torch.autocast(device_type=x_BNE.device.type, enabled=False):
            score_BN = nn.functional.linear(x_BNE.float(), self.score.weight.float()).squeeze(-1)
            return score_BN.log_softmax(dim=-1)

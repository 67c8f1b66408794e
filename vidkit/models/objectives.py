"""What a sampler is trained for, beside the paper's loss.

Shapes: B batch, N tokens, V visible, K masks of a clip.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidkit.models.losses import entropy
from vidkit.models.masking.draw import visible_mask


def plackett_luce_log_prob(log_probs_BN: Tensor, order_BV: Tensor) -> Tensor:
    """Log-probability that tokens are drawn without replacement in this order. (B, N), (B, V) -> (B,).

    The sum over draws of `log p - log(what is left)`, in logarithms throughout: a token whose probability rounds to
    zero counts.
    """
    drawn_BV = log_probs_BN.gather(1, order_BV)
    shown_BN = visible_mask(order_BV, log_probs_BN.shape[1])
    rest_B1 = log_probs_BN.masked_fill(shown_BN, -math.inf).logsumexp(dim=1, keepdim=True)
    # What is left before each draw: the tokens that are never drawn, and those drawn from here on.
    left_BV = torch.cat([rest_B1, drawn_BV.flip(1)], dim=1).logcumsumexp(dim=1)[:, 1:]
    return drawn_BV.sum(dim=1) - left_BV.sum(dim=1)


def drawn_set_loss(log_prob_KB: Tensor, error_KB: Tensor) -> Tensor:
    """A loss whose gradient is that of minus the expected error, estimated without bias from K masks of each clip.

    Each mask's advantage is its error less the mean of the clip's other masks (leave-one-out: Kool et al. 2019,
    "Buy 4 REINFORCE samples, get a baseline for free"). Errors are rewards: no gradient flows through them.
    """
    masks = error_KB.shape[0]
    error_KB = error_KB.detach()
    others_KB = (error_KB.sum(dim=0) - error_KB) / (masks - 1)
    return -(log_prob_KB * (error_KB - others_KB)).mean()


def entropy_shortfall(log_probs_BN: Tensor, floor: float) -> Tensor:
    """How far each clip's entropy lies below `floor * log N`, in nats, mean over the batch."""
    return (floor * math.log(log_probs_BN.shape[1]) - entropy(log_probs_BN)).clamp(min=0).mean()

"""Targets, the two losses of AdaMAE, and the figures that show a sampler's collapse.

Shapes: B batch, M masked tokens, N tokens, V visible tokens, P values of a patch, C channels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from vidkit.models.tokenizers import split_channels, to_unit
from vidkit.settings.model import ViTConfig

EPS = 1e-6


def patch_targets(patches_BMP: Tensor, channels: int, normalize: bool) -> Tensor:
    """What the decoder must predict: pixel values in [0, 1], or those normalised in each patch and channel.

    Normalised is `(x - mean) / (sqrt(var) + 1e-6)`, with the unbiased variance over the patch's t*p*p values of one
    channel, as released by VideoMAE and AdaMAE. (B, M, P) uint8 or in [0, 1] -> (B, M, P) float32.
    """
    target_BMP = to_unit(patches_BMP)
    if not normalize:
        return target_BMP
    centred, _, deviation = _centred(target_BMP, channels)
    return centred.div_(deviation + EPS).flatten(-2)


def patch_statistics(values_BMP: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of each patch and channel, (B, M, 1, C) each."""
    _, mean, deviation = _centred(values_BMP, channels)
    return mean, deviation


def _centred(values_BMP: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values less their mean (B, M, P / C, C), mean and deviation. Not `torch.var_mean`, which takes four times as
    long on a CPU where channels lie innermost.
    """
    values = split_channels(values_BMP, channels)
    mean = values.mean(dim=-2, keepdim=True)
    centred = values - mean
    deviation = torch.linalg.vector_norm(centred, dim=-2, keepdim=True) / math.sqrt(values.shape[-2] - 1)
    return centred, mean, deviation


def token_errors(predicted_BMP: Tensor, target_BMP: Tensor, kind: Literal["mse", "l1"]) -> Tensor:
    """Each token's reconstruction error L_R^i: squares or magnitudes, *averaged over the patch's P values*.

    Equation 4 writes a norm; the mean over values is what the released code takes, and what makes the sampling
    loss and its weight independent of the patch size. (B, M, P) -> (B, M), float32.
    """
    # torch's own losses would keep both sides for the backward pass, instead of their difference
    difference_BMP = predicted_BMP.float() - target_BMP
    return (difference_BMP.square() if kind == "mse" else difference_BMP.abs()).mean(dim=-1)


def sampling_loss(log_probs_BM: Tensor, errors_BM: Tensor) -> Tensor:
    """`-mean(log p_i * L_R^i)` over the masked tokens (equation 5 with logarithms, as the paper adds below it).

    The errors are rewards: no gradient flows through them.
    """
    return -(log_probs_BM * errors_BM.detach()).mean()


def entropy(log_probs_BN: Tensor) -> Tensor:
    """Entropy of each row's distribution, in nats; exp of it is the effective number of tokens. (B, N) -> (B,)."""
    return -(log_probs_BN.exp() * log_probs_BN).sum(dim=-1)


def motion_energy(video_BCTHW: Tensor, config: ViTConfig) -> Tensor:
    """Mean squared difference between each frame and the one before, averaged over a token's tubelet. (B, N).

    The first frame has none before it and counts as still. Units: squared pixel values in [0, 1].
    """
    batch = video_BCTHW.shape[0]
    time, height, width = config.grid
    shape = (batch, config.channels, time, config.tubelet, height, config.patch, width, config.patch)
    step = (to_unit(video_BCTHW[:, :, 1:]) - to_unit(video_BCTHW[:, :, :-1])).square_()
    still = torch.zeros_like(step[:, :, :1])
    return torch.cat([still, step], dim=2).view(shape).mean(dim=(1, 3, 5, 7)).flatten(1)


def motion_overlap(shown_BN: Tensor, energy_BN: Tensor, visible: int) -> Tensor:
    """Share of the visible tokens that are among the V tokens with most motion; V / N by chance. A scalar."""
    top_BV = energy_BN.topk(visible, dim=1, sorted=False).indices
    return shown_BN.gather(1, top_BV).float().mean()

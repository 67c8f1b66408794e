"""Targets, the two losses of AdaMAE, and the figures that show a sampler's collapse.

Shapes: B batch, M masked tokens, N tokens, V visible tokens, P values of a patch, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vidkit.models.products import linear, rows_in_cache
from vidkit.models.tokenizers import split_channels, to_unit
from vidkit.settings.model import LossConfig, ViTConfig

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


def head_errors(
    tail_BME: Tensor, head: nn.Linear, patches_BMP: Tensor, channels: int, settings: LossConfig
) -> Tensor:
    """L_R of each target (B, M), from what the head reads (B, M, E) and the true patches (B, M, P), on a CPU.

    The same as `token_errors(head(tail), patch_targets(...))`. Predictions are the largest tensors of a step: here
    they are made for a few tokens at a time, and once more in the backward pass, which is faster by far than to
    write them to memory.
    """
    errors_BM: Tensor = _HeadErrors.apply(tail_BME, head.weight, head.bias, patches_BMP, channels, settings)
    return errors_BM


class _HeadErrors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tail_BME: Tensor,
        weight_PE: Tensor,
        bias_P: Tensor,
        patches_BMP: Tensor,
        channels: int,
        settings: LossConfig,
    ) -> Tensor:
        ctx.save_for_backward(tail_BME, weight_PE, bias_P, patches_BMP)
        ctx.channels, ctx.settings = channels, settings
        errors_R = tail_BME.new_empty(tail_BME.shape[0] * tail_BME.shape[1])
        for part, _, difference_RP in _differences(tail_BME, weight_PE, bias_P, patches_BMP, channels, settings):
            if settings.kind == "mse":
                torch.linalg.vector_norm(difference_RP, dim=-1, out=errors_R[part]).square_()
            else:
                torch.sum(difference_RP.abs_(), dim=-1, out=errors_R[part])
        return errors_R.div_(weight_PE.shape[0]).view(tail_BME.shape[:2])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope_BM: Tensor) -> tuple[Tensor | None, ...]:
        tail_BME, weight_PE, bias_P, patches_BMP = ctx.saved_tensors
        squares = ctx.settings.kind == "mse"
        scale_R1 = (slope_BM.reshape(-1, 1) * ((2 if squares else 1) / weight_PE.shape[0])).contiguous()
        for_tail_RE = torch.empty_like(tail_BME).view(-1, tail_BME.shape[-1])
        for_weight_PE, for_bias_P = torch.zeros_like(weight_PE), torch.zeros_like(bias_P)
        for part, tail_RE, difference_RP in _differences(
            tail_BME, weight_PE, bias_P, patches_BMP, ctx.channels, ctx.settings
        ):
            slope_RP = (difference_RP if squares else difference_RP.sign_()).mul_(scale_R1[part])
            for_tail_RE[part] = linear(slope_RP, weight_PE.t())
            for_weight_PE += linear(tail_RE.t(), slope_RP.t()).t()
            for_bias_P += slope_RP.sum(dim=0)
        return for_tail_RE.view_as(tail_BME), for_weight_PE, for_bias_P, None, None, None


def _differences(
    tail_BME: Tensor,
    weight_PE: Tensor,
    bias_P: Tensor,
    patches_BMP: Tensor,
    channels: int,
    settings: LossConfig,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Prediction less target, for a few rows R of all B * M at a time: which, what the head reads, difference."""
    tail_RE = tail_BME.reshape(-1, tail_BME.shape[-1])
    patches_RP = patches_BMP.reshape(-1, patches_BMP.shape[-1])
    rows = max(16, rows_in_cache(patches_RP.shape[1]))
    for start in range(0, len(tail_RE), rows):
        part = slice(start, start + rows)
        target_RP = patch_targets(patches_RP[part], channels, settings.normalize)
        yield part, tail_RE[part], linear(tail_RE[part], weight_PE, bias_P).sub_(target_RP)


def sampling_loss(log_probs_BM: Tensor, errors_BM: Tensor) -> Tensor:
    """`-mean(log p_i * L_R^i)` over the masked tokens (equation 5 with logarithms, as the paper adds below it).

    The errors are rewards: no gradient flows through them.
    """
    return -(log_probs_BM * errors_BM.detach()).mean()


def entropy(log_probs_BN: Tensor) -> Tensor:
    """Entropy of each row's distribution, in nats; exp of it is the effective number of tokens. (B, N) -> (B,)."""
    return -(log_probs_BN.exp() * log_probs_BN).sum(dim=-1)


def effective_of_errors(errors_BM: Tensor, tokens: int) -> Tensor:
    """Effective number of N `tokens` of a draw in proportion to errors, of which M are known: N / M times exp of
    the entropy, mean over the batch. N where all errors are alike. A scalar.
    """
    errors_BM = errors_BM.float()
    share_BM = errors_BM / errors_BM.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    entropy_B = -torch.special.xlogy(share_BM, share_BM).sum(dim=1)
    found: Tensor = entropy_B.exp().mean() * (tokens / errors_BM.shape[1])
    return found


def motion_energy(patches_BNP: Tensor, config: ViTConfig) -> Tensor:
    """Mean squared difference between each frame and the one before, averaged over a token's tubelet. (B, N).

    The first frame has none before it and counts as still. Units: squared pixel values in [0, 1].
    """
    time, height, width = config.grid
    # a frame's part of a token lies in one piece: the last dimension
    frames = patches_BNP.view(len(patches_BNP), time, height * width, config.tubelet, -1)
    energy_BTS = _squares(frames[:, :, :, 1:], frames[:, :, :, :-1]).sum(dim=-1)
    energy_BTS[:, 1:] += _squares(frames[:, 1:, :, 0], frames[:, :-1, :, -1])
    return energy_BTS.flatten(1).div_(patches_BNP.shape[-1])


def _squares(after: Tensor, before: Tensor) -> Tensor:
    """Sum over the last dimension of squared differences, in units of [0, 1]."""
    if after.dtype != torch.uint8:
        return (after.float() - before.float()).square_().sum(dim=-1)
    # bytes are compared as bytes: a quarter of the memory to go through
    size = torch.maximum(after, before) - torch.minimum(after, before)
    return size.float().square_().sum(dim=-1).div_(255.0**2)


def motion_overlap(shown_BN: Tensor, energy_BN: Tensor, visible: int) -> Tensor:
    """Share of the visible tokens that are among the V tokens with most motion; V / N by chance. A scalar."""
    top_BV = energy_BN.topk(visible, dim=1, sorted=False).indices
    return shown_BN.gather(1, top_BV).float().mean()

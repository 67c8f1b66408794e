"""Clips to patches, patches to tokens, and back.

Shapes: B batch, C channels, T H W frames and pixels of a clip or tokens of a grid, N tokens, P values of a patch,
D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.models.products import linear, plain_on_cpu, rows_in_cache
from vidkit.settings.model import ViTConfig


def patchify(video_BCTHW: Tensor, config: ViTConfig) -> Tensor:
    """Cut a clip into its tokens' patches, in the clip's own dtype.

    (B, C, T*t, H*p, W*p) -> (B, T, H, W, t, p, p, C) -> (B, N, P). Tokens run time slowest, column
    fastest; within a patch frames run slowest and channels fastest, as in VideoMAE's targets.
    """
    batch = video_BCTHW.shape[0]
    time, height, width = config.grid
    t, p, c = config.tubelet, config.patch, config.channels
    cut = video_BCTHW.reshape(batch, c, time, t, height, p, width, p)
    return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, config.tokens, config.patch_values)


def unpatchify(patches_BNP: Tensor, config: ViTConfig) -> Tensor:
    """Inverse of `patchify`: (B, N, P) -> (B, C, frames, size, size)."""
    batch = patches_BNP.shape[0]
    time, height, width = config.grid
    t, p, c = config.tubelet, config.patch, config.channels
    cut = patches_BNP.reshape(batch, time, height, width, t, p, p, c)
    return cut.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(batch, c, time * t, height * p, width * p)


def take(rows_BND: Tensor, index_BK: Tensor) -> Tensor:
    """`rows[b, index[b, k]]` for every b and k: (B, N, D), (B, K) -> (B, K, D)."""
    batch, tokens, width = rows_BND.shape
    start_B1 = torch.arange(batch, device=index_BK.device).mul_(tokens)[:, None]
    flat = rows_BND.reshape(batch * tokens, width).index_select(0, (index_BK + start_B1).flatten())
    return flat.view(batch, index_BK.shape[1], width)


def split_channels(values_BNP: Tensor, channels: int) -> Tensor:
    """A view of patches with the channels apart: (B, N, P) -> (B, N, P / C, C)."""
    return values_BNP.view(*values_BNP.shape[:-1], -1, channels)


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 0 to 255 to float32 in [0, 1]; floating point input counts as being in [0, 1] already."""
    return pixels.float().div_(255.0) if pixels.dtype == torch.uint8 else pixels.float()


def normalised(patches_BNP: Tensor, mean_C: Tensor, deviation_C: Tensor) -> Tensor:
    """Patches in [0, 1], less each channel's mean, over its deviation: (B, N, P) -> (B, N, P), float32.

    Mean and deviation are written out for a whole patch: three channels at a time take a CPU 20 times as long.
    """
    positions = patches_BNP.shape[-1] // len(mean_C)
    mean_P, deviation_P = mean_C.repeat(positions), deviation_C.repeat(positions)
    values_BNP = to_unit(patches_BNP)
    if patches_BNP.dtype == torch.uint8:  # a copy of our own
        return values_BNP.sub_(mean_P).div_(deviation_P)
    return (values_BNP - mean_P) / deviation_P


def check_video(video: Tensor, config: ViTConfig) -> None:
    """Raises ConfigError where a batch of clips does not fit the model."""
    expected = (config.channels, config.frames, config.size, config.size)
    if video.ndim != 5 or tuple(video.shape[1:]) != expected:
        c, t, h, w = expected
        raise ConfigError(
            f"clips have shape {tuple(video.shape)}; the model takes (batch, {c}, {t}, {h}, {w}): "
            "batch, channels, frames, height, width",
            hint="sample and crop the clips to the model's frames and size, or change the model's settings",
        )
    if video.dtype != torch.uint8 and not video.is_floating_point():
        raise ConfigError(
            f"clips have dtype {video.dtype}; expected uint8, or floating point values in [0, 1]",
            hint="convert the clips with .to(torch.uint8)",
        )


class TubeletTokenizer(nn.Module):
    """A 3-D convolution whose stride is its kernel (AdaMAE, section 3.1), done as one matrix product over patches.

    That lets the caller tokenize only the patches it needs. Takes raw pixels: the per-channel mean and standard
    deviation of `config` are applied here, on the clip's device.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        kernel = (config.tubelet, config.patch, config.patch)
        self.proj = nn.Conv3d(config.channels, config.width, kernel, stride=kernel)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std), persistent=False)

    def inputs(self, video_BCTHW: Tensor, patches_BNP: Tensor) -> Tensor:
        """What `forward` reads of each token, given the clips and their patches: the patches."""
        return patches_BNP

    def forward(self, patches_BNP: Tensor) -> Tensor:
        """(B, N, P) pixels, uint8 or in [0, 1] -> (B, N, D) tokens."""
        # (D, C, t, p, p) -> (D, P) in the patches' order: channels fastest.
        weight_DP = self.proj.weight.permute(0, 2, 3, 4, 1).reshape(self.proj.out_channels, -1)
        bias_D = self.proj.bias
        if not torch.is_grad_enabled() and bias_D is not None:
            # Some versions of torch let autocast remember a parameter's half-precision copy that was made without
            # a gradient, and the call with a gradient that follows would get that one.
            bias_D = bias_D.detach()
        if torch.is_grad_enabled() or not plain_on_cpu(weight_DP):
            return linear(normalised(patches_BNP, self.pixel_mean, self.pixel_std), weight_DP, bias_D)
        # without a gradient nobody needs the values again: a few clips at a time, they never leave the cache
        clips = rows_in_cache(patches_BNP[0].numel())
        parts = (normalised(part, self.pixel_mean, self.pixel_std) for part in torch.split(patches_BNP, clips))
        return torch.cat([linear(part, weight_DP, bias_D) for part in parts])

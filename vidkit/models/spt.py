"""Shifted patch tokenization for clips (Lee et al. 2021, arXiv 2112.13492), and the choice of a tokenizer.

Shapes: B batch, C channels, T H W frames and pixels of a clip, N tokens, P values of a patch, Q = 5 P values that
a token is made of, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.models.products import linear
from vidkit.models.tokenizers import TubeletTokenizer, normalised, patchify
from vidkit.settings.model import Shifts, ViTConfig

Offset = tuple[int, int]


def shift_offsets(shifts: Shifts, patch: int) -> tuple[Offset, ...]:
    """The four shifts as (rows down, columns right), in pixels.

    "diagonal": half a patch to each corner, as in the paper. "cardinal": half a patch up, down, left, right.
    "pixel": one pixel up, down, left, right. Half of an odd patch is rounded down.
    """
    half = patch // 2
    offsets: dict[Shifts, tuple[Offset, ...]] = {
        "diagonal": ((-half, -half), (-half, half), (half, -half), (half, half)),
        "cardinal": ((-half, 0), (half, 0), (0, -half), (0, half)),
        "pixel": ((-1, 0), (1, 0), (0, -1), (0, 1)),
    }
    if shifts not in offsets:
        raise ConfigError(f"shifts is {shifts!r}; expected one of {', '.join(offsets)}", field="shifts")
    return offsets[shifts]


def shift(video_BCTHW: Tensor, offset: Offset, fill_C: Tensor) -> Tensor:
    """Every frame moved by `offset`, each by itself; what comes in at the edges has the values `fill`."""
    down, right = offset
    height, width = video_BCTHW.shape[-2:]
    moved = fill_C.to(video_BCTHW.dtype).view(1, -1, 1, 1, 1).expand_as(video_BCTHW).clone()
    to_rows, to_columns = _overlap(down, height), _overlap(right, width)
    from_rows, from_columns = _overlap(-down, height), _overlap(-right, width)
    moved[..., to_rows, to_columns] = video_BCTHW[..., from_rows, from_columns]
    return moved


def _overlap(by: int, length: int) -> slice:
    return slice(max(by, 0), length + min(by, 0))


class ShiftedPatchTokenizer(nn.Module):
    """The patch and four shifted ones, concatenated, LayerNorm, linear projection.

    Shifts are spatial: each frame moves by itself. A token therefore sees half a patch beyond its own on each side
    (one pixel with "pixel" shifts), at the price of a projection five times as large.

    In a masked autoencoder this means that **a visible token sees up to half a patch of its masked neighbours**,
    pixels that the decoder is asked for: the task is easier, and losses do not compare with those of the plain
    tokenizer. Targets and errors are those of the plain clip.

    Pixels that come in at a frame's edge are zero after normalisation, as in the paper, to within half of one of
    256 levels: the mean colour, rounded so that uint8 clips can hold it.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        offsets = shift_offsets(config.shifts, config.patch)
        values = (1 + len(offsets)) * config.patch_values
        self.offsets = offsets
        self.norm = nn.LayerNorm(values)
        self.proj = nn.Linear(values, config.width)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std), persistent=False)

    def inputs(self, video_BCTHW: Tensor, patches_BNP: Tensor) -> Tensor:
        """What `forward` reads of each token: its patch, then the shifted clips' patches. (B, N, Q), as the clips.

        Five times the clip's bytes; with uint8 clips still less than one float32 copy and a half.
        """
        level_C = (self.pixel_mean * 255).round()
        fill_C = level_C if video_BCTHW.dtype == torch.uint8 else level_C / 255
        moved = (patchify(shift(video_BCTHW, offset, fill_C), self.config) for offset in self.offsets)
        return torch.cat([patches_BNP, *moved], dim=-1)

    def forward(self, inputs_BNQ: Tensor) -> Tensor:
        """(B, N, Q) pixels, uint8 or in [0, 1] -> (B, N, D) tokens."""
        values_BNQ = self.norm(normalised(inputs_BNQ, self.pixel_mean, self.pixel_std))
        weight_DQ: Tensor = self.proj.weight
        bias_D: Tensor = self.proj.bias
        if not torch.is_grad_enabled():
            # Some versions of torch let autocast remember a parameter's half-precision copy that was made without
            # a gradient, and the call with a gradient that follows would get that one.
            weight_DQ, bias_D = weight_DQ.detach(), bias_D.detach()
        return linear(values_BNQ, weight_DQ, bias_D)


Tokenizer = TubeletTokenizer | ShiftedPatchTokenizer


def make_tokenizer(config: ViTConfig) -> Tokenizer:
    """The tokenizer that the settings ask for."""
    return ShiftedPatchTokenizer(config) if config.tokenizer == "spt" else TubeletTokenizer(config)

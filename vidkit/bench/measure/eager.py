"""AdaMAE as one writes it first: boolean masks, attention by its N x N matrices, all tokens everywhere.

A yardstick for the speed of a training step; to change what it does is to change what every ratio means. It works
on the weights of an `AdaMAE` by name, gives the same losses for the same mask, and shares no code with the model.
Every token is tokenized with its gradient, decoded, and passes the head; only then are the masked ones looked at.

Shapes: B batch, N tokens, V visible, M masked, D width, P values of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from vidkit.models.adamae import AdaMAE
from vidkit.settings.model import AdaMAEConfig

Weights = Mapping[str, Tensor]


class EagerStep:
    """Whole training steps on clips made of noise: forward, backward, AdamW as a loop over parameters."""

    def __init__(self, config: AdaMAEConfig, *, batch: int) -> None:
        vit = config.encoder
        model = AdaMAE(config, torch.Generator().manual_seed(0))
        self.config, self.visible = config, model.num_visible
        self.weights: Weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        shape = (batch, vit.channels, vit.frames, vit.size, vit.size)
        self.clips = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.optimizer = torch.optim.AdamW(model.parameters(), foreach=False, fused=False)

    def run(self) -> None:
        """One whole step; the weights change."""
        loss = losses(self.weights, self.config, self.clips, self.visible, dropout=self.config.sampler.dropout)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def losses(
    weights: Weights,
    config: AdaMAEConfig,
    video: Tensor,
    visible: int,
    *,
    keep_BV: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The loss of clips (B, C, T, H, W), uint8; with adaptive masks and a tubelet tokenizer.

    Args:
        keep_BV: tokens to show, instead of `visible` drawn ones.
    """
    vit, decoder = config.encoder, config.decoder
    clips = video.float() / 255
    mean, deviation = (torch.tensor(value).view(-1, 1, 1, 1) for value in (vit.pixel_mean, vit.pixel_std))
    kernel = (vit.tubelet, vit.patch, vit.patch)
    weight, bias = weights["tokenizer.proj.weight"], weights["tokenizer.proj.bias"]
    tokens = F.conv3d((clips - mean) / deviation, weight, bias, stride=kernel).flatten(2).transpose(1, 2)

    probabilities = _sampler(weights, config, tokens, dropout).softmax(dim=-1)
    if keep_BV is None:
        keep_BV = torch.multinomial(probabilities.detach(), visible)
    masked = torch.ones(tokens.shape[:2], dtype=torch.bool)
    masked.scatter_(1, keep_BV, False)

    batch, width = len(clips), vit.width
    x = (tokens + weights["encoder_positions"])[~masked].view(batch, -1, width)
    for index in range(vit.depth):
        x = _block(weights, f"encoder.{index}.", x, vit.heads)
    x = _norm(weights, "encoder_norm.", x) @ weights["project.weight"].T
    places = weights["decoder_positions"].expand(batch, -1, -1)
    hidden = weights["mask_token"] + places[masked].view(batch, -1, decoder.width)
    x = torch.cat([x + places[~masked].view(batch, -1, decoder.width), hidden], dim=1)
    for index in range(decoder.depth):
        x = _block(weights, f"decoder.{index}.", x, decoder.heads)
    predicted = _linear(weights, "head.", _norm(weights, "decoder_norm.", x))[:, -hidden.shape[1] :]

    wanted = _targets(config, clips)[masked].view(batch, -1, vit.patch_values)
    difference = predicted - wanted
    errors_BM = (difference**2 if config.loss.kind == "mse" else difference.abs()).mean(dim=-1)
    chosen = probabilities.log()[masked].view(batch, -1)
    sampling = -(chosen * errors_BM.detach()).mean()
    return errors_BM.mean() + config.loss.sampling_weight * sampling


def _sampler(weights: Weights, config: AdaMAEConfig, tokens: Tensor, dropout: float) -> Tensor:
    settings = config.sampler
    x = tokens.detach() if settings.input == "detached" else tokens
    x = x + weights["sampler.positions"]
    for index in range(settings.depth):
        x = _block(weights, f"sampler.blocks.{index}.", x, settings.heads, eps=1e-5, dropout=dropout)
    return (x @ weights["sampler.score.weight"].T)[..., 0]


def _targets(config: AdaMAEConfig, clips: Tensor) -> Tensor:
    """(B, N, P): each token's pixels, normalised in each patch and channel where the config says so."""
    vit = config.encoder
    t, p = vit.tubelet, vit.patch
    cubes = clips.unfold(2, t, t).unfold(3, p, p).unfold(4, p, p)  # (B, C, T, H, W, t, p, p)
    pixels = cubes.permute(0, 2, 3, 4, 5, 6, 7, 1).reshape(len(clips), vit.tokens, -1, vit.channels)
    if config.loss.normalize:
        pixels = (pixels - pixels.mean(dim=2, keepdim=True)) / (pixels.std(dim=2, keepdim=True) + 1e-6)
    return pixels.flatten(2)


def _block(weights: Weights, prefix: str, x: Tensor, heads: int, eps: float = 1e-6, dropout: float = 0.0) -> Tensor:
    """A pre-norm transformer block, (B, N, D)."""
    batch, tokens, width = x.shape
    normed = _norm(weights, prefix + "norm1.", x, eps)
    qkv = F.linear(normed, weights[prefix + "attn.qkv.weight"], weights.get(prefix + "attn.qkv.bias"))
    query, key, value = qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    scores = (query @ key.transpose(-2, -1)) / math.sqrt(width // heads)
    mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, tokens, width)
    x = x + F.dropout(_linear(weights, prefix + "attn.proj.", mixed), dropout)
    hidden = F.gelu(_linear(weights, prefix + "mlp.fc1.", _norm(weights, prefix + "norm2.", x, eps)))
    return x + F.dropout(_linear(weights, prefix + "mlp.fc2.", hidden), dropout)


def _norm(weights: Weights, prefix: str, x: Tensor, eps: float = 1e-6) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[prefix + "weight"], weights[prefix + "bias"], eps)


def _linear(weights: Weights, prefix: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[prefix + "weight"], weights[prefix + "bias"])

"""AdaMAE written out slowly: one clip at a time, masks as booleans, attention as softmax(q k / sqrt(d)) v.

Works on the parameters of a `vidkit.models.adamae.AdaMAE` by name, and shares no code with it: every token is
tokenized, every token is decoded, every token passes the head, and only then are the masked ones looked at.
Its cost is that of the usual eager implementation, so it also serves as the other side of a benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from vidkit.settings.model import AdaMAEConfig, ViTConfig


@dataclass(frozen=True)
class ReferenceOutput:
    loss: Tensor
    reconstruction_loss: Tensor
    sampling_loss: Tensor | None
    token_errors: list[Tensor]
    log_probs: list[Tensor]


def forward(
    weights: Mapping[str, Tensor], config: AdaMAEConfig, video: Tensor, keep: Tensor, dropout: float = 0.0
) -> ReferenceOutput:
    """Losses of clips (B, C, T, H, W) in [0, 1] or uint8, with the visible tokens `keep` (B, V)."""
    reconstruction, sampling, errors, probabilities = [], [], [], []
    for clip, visible in zip(video, keep, strict=True):
        clip = clip.float() / 255 if clip.dtype == torch.uint8 else clip
        masked = torch.ones(config.encoder.tokens, dtype=torch.bool)
        for index in visible.tolist():
            masked[index] = False
        tokens = tokenize(weights, config.encoder, clip)
        error = reconstruct(weights, config, tokens, clip, masked)
        errors.append(error)
        reconstruction.append(error.mean())
        if config.mask.strategy == "adaptive":
            seen = tokens.detach() if config.sampler.input == "detached" else tokens
            distribution = torch.distributions.Categorical(logits=logits(weights, config, seen, dropout))
            log_probs = distribution.log_prob(torch.arange(config.encoder.tokens))
            probabilities.append(log_probs)
            sampling.append(-(log_probs[masked] * error.detach()).mean())
    loss = sum(reconstruction[1:], reconstruction[0]) / len(reconstruction)
    mean_sampling = sum(sampling[1:], sampling[0]) / len(sampling) if sampling else None
    total = loss if mean_sampling is None else loss + config.loss.sampling_weight * mean_sampling
    return ReferenceOutput(total, loss, mean_sampling, errors, probabilities)


def sampling_loss(log_probs: Tensor, error: Tensor, masked: Tensor) -> Tensor:
    """-mean over masked tokens of log p_i * L_R^i, one token after another; `error` has masked tokens only."""
    total, count = torch.zeros(()), 0
    for log_prob, reward in zip(log_probs[masked], error, strict=True):
        total = total - log_prob * reward.item()
        count += 1
    return total / count


def tokenize(weights: Mapping[str, Tensor], vit: ViTConfig, clip: Tensor) -> Tensor:
    mean = torch.tensor(vit.pixel_mean).view(-1, 1, 1, 1)
    std = torch.tensor(vit.pixel_std).view(-1, 1, 1, 1)
    kernel = (vit.tubelet, vit.patch, vit.patch)
    weight, bias = weights["tokenizer.proj.weight"], weights["tokenizer.proj.bias"]
    out = F.conv3d(((clip - mean) / std)[None], weight, bias, stride=kernel)
    return out[0].flatten(1).transpose(0, 1)


def logits(weights: Mapping[str, Tensor], config: AdaMAEConfig, tokens: Tensor, dropout: float) -> Tensor:
    settings = config.sampler
    x = tokens
    if settings.width_divisor == 2:
        x = linear(weights, "sampler.reduce.", x)
    x = x + weights["sampler.positions"]
    if settings.kind == "mlp":
        x = x @ weights["sampler.blocks.0.weight"].T
    else:
        for index in range(settings.depth):
            x = block(weights, f"sampler.blocks.{index}.", x, settings.heads, eps=1e-5, dropout=dropout)
    return (x @ weights["sampler.score.weight"].T)[:, 0]


def reconstruct(
    weights: Mapping[str, Tensor], config: AdaMAEConfig, tokens: Tensor, clip: Tensor, masked: Tensor
) -> Tensor:
    vit, decoder = config.encoder, config.decoder
    x = (tokens + positions(vit.positions, vit.grid, vit.width))[~masked]
    for index in range(vit.depth):
        x = block(weights, f"encoder.{index}.", x, vit.heads)
    x = norm(weights, "encoder_norm.", x, 1e-6) @ weights["project.weight"].T
    table = positions(vit.positions, vit.grid, decoder.width)
    x = torch.cat([x + table[~masked], weights["mask_token"] + table[masked]])
    for index in range(decoder.depth):
        x = block(weights, f"decoder.{index}.", x, decoder.heads)
    x = linear(weights, "head.", norm(weights, "decoder_norm.", x, 1e-6))
    predicted = x[int((~masked).sum()) :]
    difference = predicted - targets(config, clip)[masked]
    return (difference**2 if config.loss.kind == "mse" else difference.abs()).mean(dim=1)


def targets(config: AdaMAEConfig, clip: Tensor) -> Tensor:
    vit = config.encoder
    t, p = vit.tubelet, vit.patch
    cubes = clip.unfold(1, t, t).unfold(2, p, p).unfold(3, p, p)  # (C, T, H, W, t, p, p)
    pixels = cubes.permute(1, 2, 3, 4, 5, 6, 0).reshape(vit.tokens, t * p * p, vit.channels)
    if config.loss.normalize:
        pixels = (pixels - pixels.mean(dim=1, keepdim=True)) / (pixels.std(dim=1, keepdim=True) + 1e-6)
    return pixels.flatten(1)


@lru_cache(maxsize=8)
def positions(kind: str, grid: tuple[int, int, int], width: int) -> Tensor:
    tokens = [(t, y, x) for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]
    if kind == "1d":
        return table(list(range(len(tokens))), width)
    side = 2 * (width // 6)
    return torch.cat(
        [
            table([t for t, _, _ in tokens], width - 2 * side),
            table([y for _, y, _ in tokens], side),
            table([x for _, _, x in tokens], side),
        ],
        dim=1,
    )


def table(numbers: list[int], width: int) -> Tensor:
    rows = []
    for number in numbers:
        angles = [number / math.pow(10000, 2 * (column // 2) / width) for column in range(width)]
        rows.append([math.cos(angle) if column % 2 else math.sin(angle) for column, angle in enumerate(angles)])
    return torch.tensor(rows)


def norm(weights: Mapping[str, Tensor], prefix: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[1:], weights[prefix + "weight"], weights[prefix + "bias"], eps)


def block(
    weights: Mapping[str, Tensor], prefix: str, x: Tensor, heads: int, eps: float = 1e-6, dropout: float = 0.0
) -> Tensor:
    """A pre-norm transformer block over the tokens of one clip, (N, D)."""
    tokens, width = x.shape
    qkv = F.linear(
        norm(weights, prefix + "norm1.", x, eps),
        weights[prefix + "attn.qkv.weight"],
        weights.get(prefix + "attn.qkv.bias"),
    )
    query, key, value = (part.view(tokens, heads, -1).transpose(0, 1) for part in qkv.chunk(3, dim=1))
    scores = query @ key.transpose(1, 2) / math.sqrt(width // heads)
    mixed = (scores.softmax(dim=-1) @ value).transpose(0, 1).reshape(tokens, width)
    x = x + F.dropout(linear(weights, prefix + "attn.proj.", mixed), dropout)
    hidden = F.gelu(linear(weights, prefix + "mlp.fc1.", norm(weights, prefix + "norm2.", x, eps)))
    return x + F.dropout(linear(weights, prefix + "mlp.fc2.", hidden), dropout)


def linear(weights: Mapping[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[prefix + "weight"], weights[prefix + "bias"])

"""The released VideoMAE and AdaMAE by the names in their checkpoints: random weights, and what the models compute.

Shares no code and no name table with vidkit. Works on normalised clips (B, C, T, H, W), with torch's own Conv3d.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1, 1)


def pretrained(
    *,
    width: int,
    depth: int,
    decoder_width: int,
    decoder_depth: int,
    patch: int,
    tokens: int,
    ratio: int,
    adaptive: bool,
) -> dict[str, Tensor]:
    """A state_dict of `PretrainVisionTransformer`, two frames in a token; with AdaMAE's sampler if `adaptive`."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (0.3 if len(shape) < 2 else shape[-1] ** -0.5)

    state: dict[str, Tensor] = {"mask_token": draw(1, 1, decoder_width)}
    if adaptive:
        state["encoder.pos_embed_probs"] = draw(1, tokens, width)
    state["encoder.patch_embed.proj.weight"] = draw(width, 3, 2, patch, patch) * 0.2
    state["encoder.patch_embed.proj.bias"] = draw(width)
    for index in range(depth):
        state |= _block(draw, f"encoder.blocks.{index}.", width, ratio, biases=True)
    state |= {"encoder.norm.weight": 1 + draw(width), "encoder.norm.bias": draw(width)}
    if adaptive:
        state |= _block(draw, "encoder.get_token_probs.0.", width, 4, biases=False)
        state |= {"encoder.get_token_probs.1.weight": draw(1, width), "encoder.get_token_probs.1.bias": draw(1)}
    for index in range(decoder_depth):
        state |= _block(draw, f"decoder.blocks.{index}.", decoder_width, ratio, biases=True)
    state |= {"decoder.norm.weight": 1 + draw(decoder_width), "decoder.norm.bias": draw(decoder_width)}
    values = 3 * 2 * patch * patch
    state |= {"decoder.head.weight": draw(values, decoder_width), "decoder.head.bias": draw(values)}
    state["encoder_to_decoder.weight"] = draw(decoder_width, width)
    return state


def _block(draw, prefix: str, width: int, ratio: int, *, biases: bool) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    state = {"attn.qkv.weight": draw(3 * width, width)}
    if biases:
        state |= {"attn.q_bias": draw(width), "attn.v_bias": draw(width)}
    state |= {"attn.proj.weight": draw(width, width), "attn.proj.bias": draw(width)}
    state |= {"mlp.fc1.weight": draw(ratio * width, width), "mlp.fc1.bias": draw(ratio * width)}
    state |= {"mlp.fc2.weight": draw(width, ratio * width), "mlp.fc2.bias": draw(width)}
    for norm in ("norm1", "norm2"):
        state |= {f"{norm}.weight": 1 + draw(width), f"{norm}.bias": draw(width)}
    return {prefix + name: value for name, value in state.items()}


def log_probs(state: Mapping[str, Tensor], video: Tensor) -> Tensor:
    """AdaMAE's probabilities of the tokens, (B, N)."""
    x = _tokens(state, "encoder.", video) + state["encoder.pos_embed_probs"]
    x = block(state, "encoder.get_token_probs.0.", x, heads=8, eps=1e-5)
    logits = F.linear(x, state["encoder.get_token_probs.1.weight"], state["encoder.get_token_probs.1.bias"])
    return logits.flatten(1).log_softmax(dim=1)


def predictions(
    state: Mapping[str, Tensor], video: Tensor, masked: Tensor, heads: int, decoder_heads: int
) -> Tensor:
    """Decoder outputs at the masked tokens (B, M, P); `masked` (B, N) has as many in each row."""
    batch = video.shape[0]
    x = _tokens(state, "encoder.", video)
    x = (x + _table(x.shape[1], x.shape[2]))[~masked].view(batch, -1, x.shape[2])
    for index in range(_depth(state, "encoder.blocks.")):
        x = block(state, f"encoder.blocks.{index}.", x, heads)
    x = _norm(state, "encoder.norm.", x, 1e-6)
    x = x @ state["encoder_to_decoder.weight"].T
    table = _table(masked.shape[1], x.shape[2]).expand(batch, -1, -1)
    visible, hidden = (table[where].view(batch, -1, x.shape[2]) for where in (~masked, masked))
    x = torch.cat([x + visible, state["mask_token"] + hidden], dim=1)
    for index in range(_depth(state, "decoder.blocks.")):
        x = block(state, f"decoder.blocks.{index}.", x, decoder_heads)
    x = _norm(state, "decoder.norm.", x[:, visible.shape[1] :], 1e-6)
    return F.linear(x, state["decoder.head.weight"], state["decoder.head.bias"])


def scores(state: Mapping[str, Tensor], video: Tensor, heads: int) -> Tensor:
    """The fine-tuned model: (B, K)."""
    x = _tokens(state, "", video)
    x = x + _table(x.shape[1], x.shape[2])
    for index in range(_depth(state, "blocks.")):
        x = block(state, f"blocks.{index}.", x, heads)
    return F.linear(_norm(state, "fc_norm.", x.mean(dim=1), 1e-6), state["head.weight"], state["head.bias"])


def block(state: Mapping[str, Tensor], prefix: str, x: Tensor, heads: int, eps: float = 1e-6) -> Tensor:
    batch, tokens, width = x.shape
    bias = None
    if f"{prefix}attn.q_bias" in state:
        bias = torch.cat([state[f"{prefix}attn.q_bias"], torch.zeros(width), state[f"{prefix}attn.v_bias"]])
    qkv = F.linear(_norm(state, f"{prefix}norm1.", x, eps), state[f"{prefix}attn.qkv.weight"], bias)
    query, key, value = qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) / math.sqrt(width // heads)).softmax(dim=-1)
    mixed = (weights @ value).transpose(1, 2).reshape(batch, tokens, width)
    x = x + F.linear(mixed, state[f"{prefix}attn.proj.weight"], state[f"{prefix}attn.proj.bias"])
    hidden = F.linear(
        _norm(state, f"{prefix}norm2.", x, eps), state[f"{prefix}mlp.fc1.weight"], state[f"{prefix}mlp.fc1.bias"]
    )
    return x + F.linear(F.gelu(hidden), state[f"{prefix}mlp.fc2.weight"], state[f"{prefix}mlp.fc2.bias"])


def _tokens(state: Mapping[str, Tensor], prefix: str, video: Tensor) -> Tensor:
    weight, bias = state[f"{prefix}patch_embed.proj.weight"], state[f"{prefix}patch_embed.proj.bias"]
    return F.conv3d((video - MEAN) / STD, weight, bias, stride=weight.shape[2:]).flatten(2).transpose(1, 2)


def _norm(state: Mapping[str, Tensor], prefix: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{prefix}weight"], state[f"{prefix}bias"], eps)


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _table(tokens: int, width: int) -> Tensor:
    rows = [[n / 10000 ** (2 * (column // 2) / width) for column in range(width)] for n in range(tokens)]
    return torch.tensor(
        [[math.cos(angle) if c % 2 else math.sin(angle) for c, angle in enumerate(row)] for row in rows]
    )[None]

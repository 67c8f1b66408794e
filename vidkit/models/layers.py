"""Positions, transformer blocks, recomputation and initialisation: what every video transformer here shares.

Shapes: B batch, N tokens, D width, V visible, M masked, T time, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidkit.models.lsa import LocalityAttention
from vidkit.models.products import linear
from vidkit.settings.model import AttentionKind, Grid, Positions, Recompute

Result = TypeVar("Result", Tensor, "tuple[Tensor, Tensor]")


def sincos_table(coordinates_N: Tensor, width: int) -> Tensor:
    """Sine-cosine table of Vaswani et al. 2017, section 3.5: sin in even columns, cos in odd ones.

    Columns 2i and 2i+1 share the frequency 10000^(-2i/width); of an odd width, the last has its sine alone. Returns
    (N, width), float64.
    """
    frequency_F = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle_NF = coordinates_N.to(torch.float64)[:, None] * frequency_F
    return torch.stack([angle_NF.sin(), angle_NF.cos()], dim=-1).flatten(1)[:, :width]


def position_table(kind: Positions, grid: Grid, width: int) -> Tensor:
    """Fixed positions of a grid's tokens, time slowest: (T*H*W, width), float32.

    "1d" numbers the tokens 0 to N-1 and takes one table over the number, as VideoMAE does. "3d" gives each of
    time, row and column a table over a third of the columns, in that order; what a third leaves over goes to time.
    """
    time, height, columns = grid
    tokens = time * height * columns
    if kind == "1d":
        return sincos_table(torch.arange(tokens), width).float()
    side = width // 6 * 2
    number = torch.arange(tokens)
    parts = [
        sincos_table(number // (height * columns), width - 2 * side),
        sincos_table(number // columns % height, side),
        sincos_table(number % columns, side),
    ]
    return torch.cat(parts, dim=1).float()


def make_blocks(
    depth: int,
    width: int,
    heads: int,
    mlp_ratio: float,
    *,
    drop_path: float = 0.0,
    dropout: float = 0.0,
    qkv_bias: bool = True,
    norm_eps: float = 1e-6,
    attention: AttentionKind = "plain",
) -> nn.ModuleList:
    """timm's pre-norm blocks (fused attention where torch has it). `drop_path` grows linearly up to the last block.

    `qkv_bias` adds a key bias that VideoMAE lacks. It adds the same number to every score of a query, which the
    softmax takes out again, so a converter may set it to zero or drop it.
    `dropout` acts after the attention's projection and at the end of the MLP, as in the released AdaMAE.
    `attention` "lsa" is locality self-attention; queries, keys, values and projection keep their names and shapes.
    """
    norm: Any = partial(nn.LayerNorm, eps=norm_eps)
    blocks = [
        Block(
            width,
            heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            proj_drop=dropout,
            drop_path=drop_path * index / max(depth - 1, 1),
            norm_layer=norm,
        )
        for index in range(depth)
    ]
    for block in blocks:
        block.mlp.drop1 = nn.Identity()  # timm drops inside the MLP as well
        if attention == "lsa":
            block.attn = LocalityAttention(width, heads, qkv_bias=qkv_bias, dropout=dropout)
    return nn.ModuleList(blocks)


def run_blocks(blocks: Iterable[nn.Module], x_BND: Tensor, recompute: Recompute = "none") -> Tensor:
    """Blocks one after another: (B, N, D) -> (B, N, D)."""
    for block in blocks:
        x_BND = run_block(block, x_BND, recompute)
    return x_BND


def run_block(block: Any, x_BND: Tensor, recompute: Recompute = "none", start: int = 0) -> Tensor:
    """`block(x)[:, start:]` without the queries, projections and MLP of the first `start` tokens.

    Every token still serves as key and value, so the result is the same.

    What is kept for the backward pass, in widths per token (at an MLP ratio of 4): 16 with "none"; 10 with "cheap",
    which computes norms and activations again; 5 with "light", which computes the whole part after the attention
    again, but for its last product; 1 with "full".
    """
    if recompute == "none" or not torch.is_grad_enabled():
        return whole_block(block, x_BND, start)
    if recompute == "full":
        return join([again_in_backward(block, whole_block, block, part, start) for part in cpu_parts(x_BND)])
    parts = []
    for part in cpu_parts(x_BND):
        mixed, shown = attend(block, part, start, keep_norm=False), part[:, start:]
        parts.append(finish(block, shown, mixed, recompute))
    return join(parts)


#: Tokens that one call on a CPU works on, where its activations are not kept anyway.
CPU_TOKENS = 2048


def cpu_parts(x_BND: Tensor) -> tuple[Tensor, ...]:
    """On a CPU a large batch in parts of whole clips, so that the hidden layer of one part is all there ever is.

    Elsewhere, and for a small batch, the batch as it is: one call, whatever its size.
    """
    slices = part_slices(x_BND)
    # not by index: the gradients of parts by index are each as large as the whole, and added up
    return (x_BND,) if len(slices) == 1 else torch.split(x_BND, [part.stop - part.start for part in slices])


def part_slices(x_BND: Tensor) -> list[slice]:
    """The clips of each part; see `cpu_parts`."""
    batch, tokens, _ = x_BND.shape
    if x_BND.device.type != "cpu" or batch * tokens <= CPU_TOKENS:
        return [slice(0, batch)]
    clips = max(1, CPU_TOKENS // tokens)
    return [slice(first, min(first + clips, batch)) for first in range(0, batch, clips)]


def join(parts: list[Tensor]) -> Tensor:
    """Parts of a batch as one, along the first dimension; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def again_in_backward(module: nn.Module, function: Callable[..., Result], *args: Any) -> Result:
    """`function(*args)`, keeping only its arguments: the backward pass computes the rest again.

    A product at the end of `function` is not computed again: it stops once it has what the backward pass needs.
    """
    # What is dropped at random must be dropped again; without dropout the generators need not be saved.
    randomised = any(
        (isinstance(part, nn.Dropout) and part.p > 0) or type(part).__name__ == "DropPath"
        for part in module.modules()
    )
    result: Result = checkpoint(function, *args, use_reentrant=False, preserve_rng_state=randomised)
    return result


def whole_block(block: Any, x_BND: Tensor, start: int) -> Tensor:
    """A block's outputs from token `start` on: (B, N, D) -> (B, N - start, D)."""
    result: Tensor = block(x_BND) if start == 0 else finish(block, x_BND[:, start:], attend(block, x_BND, start))
    return result


def attend(block: Any, x_BND: Tensor, start: int, keep_norm: bool = True) -> Tensor:
    """The first half of a block up to its attention: (B, N, D) -> (B, N - start, D), without the projection.

    Together with `finish` this is `block.forward` of timm for the blocks that `make_blocks` makes. `keep_norm`
    False: what the norm gives is computed again in the backward pass.
    """
    attention = block.attn
    batch, tokens, width = x_BND.shape
    heads = attention.num_heads
    if keep_norm:
        q_BMD, kv_BNC = queries_keys_values(block, x_BND, start)
    else:
        q_BMD, kv_BNC = again_in_backward(block.norm1, queries_keys_values, block, x_BND, start)
    if start == 0:
        q, k, v = kv_BNC.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        q = q_BMD.view(batch, tokens - start, heads, -1).transpose(1, 2)
        k, v = kv_BNC.view(batch, tokens, 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    if isinstance(attention, LocalityAttention):
        mixed = attention.mix(q, k, v, start)
    else:
        dropout = attention.attn_drop.p if block.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return mixed.transpose(1, 2).reshape(batch, tokens - start, width)


def queries_keys_values(block: Any, x_BND: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Queries of the tokens from `start` on (B, N - start, D), keys and values of all (B, N, 2 D), side by side.

    With `start` 0 one product gives all three, (B, N, 3 D), and the first tensor is empty.
    """
    attention = block.attn
    normed_BND = block.norm1(x_BND)
    if start == 0:
        return x_BND.new_empty(0), attention.qkv(normed_BND)
    width = x_BND.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q_bias, kv_bias = (None, None) if bias is None else (bias[:width], bias[width:])
    return linear(normed_BND[:, start:], weight[:width], q_bias), linear(normed_BND, weight[width:], kv_bias)


def finish(block: Any, x_BMD: Tensor, mixed_BMD: Tensor, recompute: Recompute = "none") -> Tensor:
    """The rest of a block: projection and residual, MLP and residual.

    The MLP's dropout is never computed again: its mask stands after the last product, which would have to be
    computed again as well to draw it.
    """
    if recompute == "light":
        x_BMD, change_BMD = again_in_backward(block, mix_and_change, block, x_BMD, mixed_BMD)
    else:
        x_BMD = add_mixed(block, x_BMD, mixed_BMD)
        if recompute == "cheap":
            hidden_BMF = again_in_backward(block.norm2, widen, block, x_BMD)
            change_BMD = again_in_backward(block.mlp.act, narrow, block, hidden_BMF)
        else:
            change_BMD = narrow(block, widen(block, x_BMD))
    result: Tensor = x_BMD + block.drop_path2(block.mlp.drop2(change_BMD))
    return result


def mix_and_change(block: Any, x_BMD: Tensor, mixed_BMD: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of a block's end, not yet added: tokens with what attention mixed in, and the MLP's change."""
    x_BMD = add_mixed(block, x_BMD, mixed_BMD)
    return x_BMD, narrow(block, widen(block, x_BMD))


def add_mixed(block: Any, x_BMD: Tensor, mixed_BMD: Tensor) -> Tensor:
    """Tokens and the projection of what attention mixed for them: (B, M, D)."""
    summed: Tensor = x_BMD + block.drop_path1(block.attn.proj_drop(block.attn.proj(mixed_BMD)))
    return summed


def widen(block: Any, x_BMD: Tensor) -> Tensor:
    """The MLP up to its activation: (B, M, D) -> (B, M, F)."""
    hidden_BMF: Tensor = block.mlp.fc1(block.norm2(x_BMD))
    return hidden_BMF


def narrow(block: Any, hidden_BMF: Tensor) -> Tensor:
    """Without the dropout after it."""
    change_BMD: Tensor = block.mlp.fc2(block.mlp.act(hidden_BMF))
    return change_BMD


def init_weights(model: nn.Module, *, linear: str = "xavier", generator: torch.Generator | None = None) -> None:
    """All initial values, in the order of `model.modules()`; the only place where weights are drawn.

    - linear layers: Xavier uniform ("xavier", pre-training) or normal with standard deviation 0.02 cut at one
      standard deviation ("normal", fine-tuning); bias 0
    - layer norms: weight 1, bias 0
    - the tokenizer's convolution: uniform within 1/sqrt(inputs of a token), weight and bias: torch's default,
      which VideoMAE and AdaMAE keep
    - parameters that a module owns itself are its own matter: `mask_token` normal 0.02 cut at one standard
      deviation, the sampler's `positions` 0, the `score_scale` of locality self-attention 1/sqrt(width of a head)

    As VideoMAE does it (`models/modeling_pretrain.py`, `modeling_finetune.py` there).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            if linear == "xavier":
                nn.init.xavier_uniform_(module.weight, generator=generator)
            else:
                cut_normal_(module.weight, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv3d):
            bound = (module.weight[0].numel()) ** -0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        for name, parameter in module.named_parameters(recurse=False):
            if name == "mask_token":
                cut_normal_(parameter, generator)
            elif name == "positions":
                nn.init.zeros_(parameter)
        if isinstance(module, LocalityAttention):
            nn.init.constant_(module.score_scale, module.head_dim**-0.5)


@torch.no_grad()
def cut_normal_(tensor: Tensor, generator: torch.Generator | None) -> None:
    """Normal with standard deviation 0.02, cut at one deviation, by the inverse of the error function.

    torch's own `trunc_normal_` has changed its way of drawing between versions.
    """
    inside = math.erf(0.5**0.5)
    tensor.uniform_(-inside, inside, generator=generator).erfinv_().mul_(0.02 * 2**0.5).clamp_(-0.02, 0.02)

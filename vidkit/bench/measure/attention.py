"""What attention, dropout and autocast keep on a GPU, for steps that are carried out without one.

Fake tensors live on the "cpu" device, where torch would take attention apart into its N x N matrices, drop with a
mask of floats, and leave softmax in half precision. Here the storage of the GPU's kernels is put in place.

Shapes: B batch, H heads, M queries, N keys, E width of a head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Attention = Literal["fused", "matrices"]
Device = Literal["cuda", "cpu"]

#: Queries that FlashAttention-2's backward kernel works on at once: its buffers are whole multiples.
QUERY_BLOCK = 128
HEAD_WIDTHS = (32, 64, 96, 128, 160, 192, 224, 256)


@contextlib.contextmanager
def kernel_storage(attention: Attention = "fused", device: Device = "cuda") -> Iterator[None]:
    """Within this context, functions of `torch.nn.functional` have the storage they have on `device`.

    A function mode would not do: it is off during a backward pass, where recomputation calls them again. So the
    functions of the module are exchanged, for every thread of the process, and put back at the end.

    Args:
        attention: "fused" keeps queries, keys, values, the output and one float32 for each query, as the fused
            kernels of torch do (FlashAttention-2, memory-efficient attention). It computes nothing. "matrices"
            computes and keeps the B x H x M x N scores, as code without fused attention does.
        device: "cuda", or "cpu", where only attention needs help.
    """
    others: dict[str, Callable[..., Tensor]] = {"scaled_dot_product_attention": partial(_attend, attention, device)}
    if device == "cuda":
        others["dropout"] = _dropout
        others |= {name: _in_float32(getattr(F, name)) for name in FLOAT32}
    usual = {name: getattr(F, name) for name in others}
    try:
        for name, function in others.items():
            setattr(F, name, function)
        yield
    finally:
        for name, function in usual.items():
            setattr(F, name, function)


#: Functions that CUDA's autocast computes in float32, and the CPU's in the dtype of their input.
FLOAT32 = ("softmax", "log_softmax", "layer_norm")


def _in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def widened(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002 - its name in torch
        half = input.dtype in (torch.bfloat16, torch.float16)
        return function(input.float() if half and torch.is_autocast_enabled("cpu") else input, *args, **kwargs)

    return widened


def _dropout(
    input: Tensor,  # noqa: A002 - its name in torch
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    """Dropout that keeps a mask of booleans."""
    if not training or p == 0:
        return input
    return torch.native_dropout(input, p, True)[0]


def _attend(
    attention: Attention,
    device: Device,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("only attention without dropout, causal masks and grouped heads is modelled")
    if torch.is_autocast_enabled("cpu"):
        half = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(half), key.to(half), value.to(half)
    if attention == "matrices":
        return matrices(query, key, value, attn_mask, scale)
    result: Tensor = _Fused.apply(query, key, value, attn_mask, device)
    return result


def matrices(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """`softmax(q k^T * scale) v`, with its matrices: (B, H, M, E), (B, H, N, E) twice -> (B, H, M, E)."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores_BHMN = (query * factor) @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores_BHMN = scores_BHMN.masked_fill(~attn_mask, float("-inf"))
    return F.softmax(scores_BHMN, dim=-1) @ value


class _Fused(torch.autograd.Function):
    """Allocates what a fused kernel allocates and computes nothing: for fake tensors only."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, device: Device
    ) -> Tensor:
        batch, heads, queries, width = query.shape
        # written as (B, M, H, E), so that joining the heads afterwards is a view
        out = query.new_empty(batch, queries, heads, width).transpose(1, 2)
        log_sum = query.new_empty(batch, heads, queries, dtype=torch.float32)
        # a mask is added to the scores, in their dtype, and read again in the backward pass
        bias = None if attn_mask is None else torch.empty_like(attn_mask, dtype=query.dtype)
        ctx.save_for_backward(query, key, value, out, log_sum, bias)
        ctx.device = device
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *_ = ctx.saved_tensors
        made = [part.new_empty(part.transpose(1, 2).shape).transpose(1, 2) for part in (query, key, value)]
        buffers = []
        if ctx.device == "cuda":
            batch, heads, queries, width = query.shape
            rows = -(-queries // QUERY_BLOCK) * QUERY_BLOCK
            buffers.append(query.new_empty(batch, heads, rows, dtype=torch.float32))
            if query.dtype != torch.float32:  # the queries' gradient is summed in float32
                columns = next((w for w in HEAD_WIDTHS if w >= width), width)
                buffers.append(query.new_empty(batch, heads, rows, columns, dtype=torch.float32))
        return *made, None, None

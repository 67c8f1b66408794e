"""The product of a linear layer, by the library that multiplies fastest on this processor.

torch multiplies float32 matrices on x86 with MKL, which takes its AVX-512 kernels on Intel's processors only.
oneDNN, which torch carries as well, asks the processor what it can do: on an AMD EPYC its float32 products take
less than half the time. Both round sums in float32; last bits differ, as they do between two processors.

Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _python_dispatch

from vidkit import processor

#: Float32 values that a core's caches hold.
CACHED_VALUES = 1 << 19


def linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: (..., K) -> (..., N)."""
    if not (plain_on_cpu(x) and torch.backends.mkldnn.enabled and onednn_is_faster()):
        return nn.functional.linear(x, weight_NK, bias_N)
    result: Tensor = _Product.apply(x, weight_NK, bias_N)
    return result


class Linear(nn.Linear):
    """A linear layer whose product is `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        return linear(x, self.weight, self.bias)


def use_fast_products(model: nn.Module) -> None:
    """Every linear layer of `model` multiplies by `linear` from now on; names and weights stay what they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear  # timm's blocks make their own layers, and cannot be told of another class


@cache
def onednn_is_faster(cpuinfo: Path = processor.CPUINFO) -> bool:
    """Whether this is an x86 processor with AVX-512 or AVX2 that is not Intel's, as far as Linux tells.

    Not measured at run time: a run that goes on must multiply as it began, to the bit.
    """
    both = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    if not (both and torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2")):
        return False
    return processor.fields(cpuinfo).get("vendor_id", "GenuineIntel") != "GenuineIntel"


def rows_in_cache(values: int) -> int:
    """Rows of so many float32 values that a CPU works on at a time: 2 MB for each core, which its caches hold."""
    return max(1, CACHED_VALUES * torch.get_num_threads() // values)


def plain_on_cpu(x: Tensor) -> bool:
    """Whether `x` is float32 in a CPU's memory, to be computed with as it is, with nobody watching the operations.

    What counts operations or memory knows aten's own only; so does a compiler.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    watched = type(x) not in (Tensor, nn.Parameter) or _python_dispatch.is_in_torch_dispatch_mode()
    return not watched and not torch.is_autocast_enabled("cpu") and x.numel() > 0


class _Product(torch.autograd.Function):
    """Differentiable as often as one likes: the gradients are products of the same kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_NK)
        return _multiply(x, weight_NK, bias_N)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_NK = ctx.saved_tensors
        for_x = for_weight = for_bias = None
        slope_MN = slope.reshape(-1, slope.shape[-1])
        if ctx.needs_input_grad[0]:
            for_x = linear(slope, weight_NK.t())
        if ctx.needs_input_grad[1]:
            x_MK = x.reshape(-1, x.shape[-1])
            # of the two ways to write the same product, oneDNN is faster at the one with more columns
            if slope_MN.shape[1] >= x_MK.shape[1]:
                for_weight = linear(x_MK.t(), slope_MN.t()).t()
            else:
                for_weight = linear(slope_MN.t(), x_MK.t())
        if ctx.needs_input_grad[2]:
            for_bias = slope_MN.sum(dim=0)
        return for_x, for_weight, for_bias


def _multiply(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight_NK, bias_N, "none", [], "")
    return found

"""Gradients taken within the forward pass.

A part of a model that ends in a scalar can be differentiated as soon as it is computed: its activations are let go
before the next part begins, and nothing is computed twice. What remains are the gradients of its inputs, which the
backward pass multiplies with the gradient of the scalar and hands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def gradients(value: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of a scalar with respect to `inputs`, which may be anything it was computed from. Frees its graph."""
    # what follows a backward pass in half precision is decided by the forward pass, not by the surrounding autocast
    with torch.autocast(value.device.type, enabled=False):
        return list(torch.autograd.grad(value, inputs))


def attach(value: Tensor, inputs: Sequence[Tensor], gradients: list[Tensor]) -> Tensor:
    """The scalar `value` as a differentiable function of `inputs` whose gradients are known.

    Takes over `gradients`: the list is emptied, and its tensors are changed and handed on by the backward pass,
    which can run once, as usual.
    """
    attached: Tensor = _Attach.apply(value.detach(), gradients, *inputs)
    return attached


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        # not save_for_backward: each tensor must have one owner, or the engine copies it into `.grad`
        ctx.gradients = list(gradients)
        gradients.clear()
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.gradients = ctx.gradients, None
        if found is None:
            raise RuntimeError("gradients that were taken in the forward pass serve one backward pass only")
        return None, None, *(gradient.mul_(outer) for gradient in found)

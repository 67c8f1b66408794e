"""Masks of one's own: `--mask module:function`.

A function takes what every masker takes, and gives the visible tokens (B, V), or a `Mask`:

    def first_tokens(tokens_BND, grid, num_visible, generator=None, side=None):
        return torch.arange(num_visible, device=tokens_BND.device).expand(tokens_BND.shape[0], -1)

`tokens_BND` are the clips' patches, (B, N, P), uint8 or in [0, 1].
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from vidkit.errors import ConfigError
from vidkit.models.masking.contract import NO_SIDE, Mask, Masker, Side
from vidkit.models.masking.count import num_visible
from vidkit.settings.mask import MaskConfig
from vidkit.settings.model import Grid, ViTConfig


def find(place: str) -> Any:
    """The function at "module:function".

    Raises:
        ConfigError: no such module, nothing of that name in it, or no function.
    """
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"mask {place}: cannot import {module}: {error}",
            field="--mask",
            hint="put its folder on PYTHONPATH, or install it",
        ) from error
    except AttributeError:
        raise ConfigError(f"mask {place}: module {module} has no {name}", field="--mask") from None
    if not callable(found):
        raise ConfigError(f"mask {place}: is a {type(found).__name__}, not a function", field="--mask")
    return found


def own(place: str) -> Masker:
    """The masker at "module:function", imported when it first draws, and looked at once.

    What it gives for the first batch is checked in full, for which the host waits; later ones by shape alone.
    """
    state: dict[str, Any] = {}

    def masker(
        tokens_BND: Tensor,
        grid: Grid,
        num_visible: int,
        generator: torch.Generator | None = None,
        side: Side = NO_SIDE,
    ) -> Mask:
        if not state:
            state["function"] = find(place)
        given = state["function"](tokens_BND, grid, num_visible, generator, side)
        mask = given if isinstance(given, Mask) else Mask(given)
        check_shapes(mask, place, tokens_BND, num_visible)
        if "seen" not in state and not isinstance(mask.keep, FakeTensor):
            check_values(mask, place, tokens_BND.shape[1])
            state["seen"] = True
        targets = None if mask.targets is None else mask.targets.sort(dim=1).values
        return Mask(mask.keep.sort(dim=1).values, targets)

    return masker


def try_out(mask: MaskConfig, vit: ViTConfig) -> None:
    """One draw for two black clips, before anything is trained with a mask of one's own.

    Raises:
        ConfigError: there is no such function, or what it gives is no mask.
    """
    visible = num_visible(vit.grid, mask.ratio, mask.rounding, mask.strategy)
    patches_BNP = torch.zeros(2, vit.tokens, vit.patch_values, dtype=torch.uint8)
    own(mask.strategy)(patches_BNP, vit.grid, visible, torch.Generator().manual_seed(0), NO_SIDE)


def check_shapes(mask: Mask, place: str, tokens_BND: Tensor, num_visible: int) -> None:
    """Raises ConfigError where a mask's tensors have the wrong type, number or device. Reads no value."""
    tokens = tokens_BND.shape[1]
    _check_tensor(mask.keep, place, "the visible tokens", tokens_BND)
    if mask.keep.shape[1] != num_visible:
        few = "few" if mask.keep.shape[1] < num_visible else "many"
        raise _wrong(place, f"gave {mask.keep.shape[1]} visible tokens a clip, too {few}; expected {num_visible}")
    if mask.targets is not None:
        _check_tensor(mask.targets, place, "the targets", tokens_BND)
        if not 1 <= mask.targets.shape[1] <= tokens - num_visible:
            expected = f"1 to {tokens - num_visible}"
            raise _wrong(place, f"gave {mask.targets.shape[1]} targets a clip; expected {expected}")


def check_values(mask: Mask, place: str, tokens: int) -> None:
    """Raises ConfigError where indices repeat or lie outside, or a target is visible. The host waits for them."""
    parts = {"visible token": mask.keep, "target": mask.targets}
    for name, index in parts.items():
        if index is None:
            continue
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= tokens:
            raise _wrong(place, f"gave {name} {low if low < 0 else high}; there are tokens 0 to {tokens - 1}")
        if _repeated(index) is not None:
            raise _wrong(place, "gave {} {} twice in clip {}".format(name, *(_repeated(index) or (0, 0))))
    if mask.targets is not None:
        both = _repeated(torch.cat([mask.keep, mask.targets], dim=1))
        if both is not None:
            raise _wrong(place, f"gave token {both[0]} of clip {both[1]} both as visible and as a target")


def _repeated(index_BK: Tensor) -> tuple[int, int] | None:
    """A number that a row has twice, and the row."""
    ordered = index_BK.sort(dim=1).values
    twice = (ordered.diff(dim=1) == 0).nonzero()
    if len(twice) == 0:
        return None
    row, column = twice[0].tolist()
    return int(ordered[row, column]), row


def _check_tensor(index: Any, place: str, what: str, tokens_BND: Tensor) -> None:
    if not isinstance(index, Tensor):
        raise _wrong(place, f"gave {what} as a {type(index).__name__}; expected an int64 tensor (batch, number)")
    if index.dtype != torch.int64:
        raise _wrong(place, f"gave {what} as {index.dtype}; expected torch.int64")
    batch = tokens_BND.shape[0]
    if index.ndim != 2 or index.shape[0] != batch:
        raise _wrong(place, f"gave {what} of shape {tuple(index.shape)}; expected ({batch}, number)")
    if index.device != tokens_BND.device:
        raise _wrong(place, f"gave {what} on {index.device}; expected {tokens_BND.device}")


def _wrong(place: str, what: str) -> ConfigError:
    return ConfigError(
        f"mask {place} {what}", field="--mask", hint="see vidkit.models.masking.contract for what a mask holds"
    )

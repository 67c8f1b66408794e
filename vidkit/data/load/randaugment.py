"""RandAugment of clips, with timm's scale of magnitudes ("rand-m9-mstd0.5-inc1") on torchvision's operations.

torchvision's own RandAugment counts magnitudes to 30 and has no deviation, so "magnitude 9" there is a
third of what the papers mean. Every frame of a clip gets the same operations with the same magnitudes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

#: What moves in from outside the picture: ImageNet's mean colour.
_FILL = [124, 116, 104]

#: An operation gets the clip, the strength v in [0, 1] and a sign.
Operation = Callable[["Tensor", float, int], "Tensor"]


def rand_augment(
    video_TCHW: Tensor, rng: np.random.Generator, *, ops: int = 2, magnitude: float = 9.0, std: float = 0.5
) -> Tensor:
    """Apply `ops` operations drawn with replacement, each with probability 0.5 (Cubuk et al. 2019, as in timm).

    Args:
        video_TCHW: uint8.
        magnitude, std: of a normal distribution on a scale of 0 to 10, cut to it.
    """
    operations = list(OPERATIONS.values())
    for number in rng.integers(len(operations), size=ops):
        applied, deviation, sign = rng.random() < 0.5, rng.standard_normal(), 1 if rng.random() < 0.5 else -1
        if applied:
            strength = min(max(magnitude + std * deviation, 0.0), 10.0) / 10
            video_TCHW = operations[number](video_TCHW, strength, sign)
    return video_TCHW


def torchvision_v2() -> Any:
    """Loaded at the first use: it takes seconds (and carries no types)."""
    return import_module("torchvision.transforms.v2")


def _call(name: str, video: Tensor, *arguments: object, **options: object) -> Tensor:
    result: Tensor = getattr(torchvision_v2().functional, name)(video, *arguments, **options)
    return result


def _affine(video: Tensor, *, move: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    how: dict[str, object] = {"angle": 0.0, "translate": list(move), "scale": 1.0, "shear": list(shear)}
    corner = [0.0, 0.0]  # shears leave the top left corner where it is, as PIL's do
    return _call("affine", video, **how, interpolation=_bilinear(), fill=_FILL, center=corner)


def _bilinear() -> Any:
    return torchvision_v2().InterpolationMode.BILINEAR


def _posterize(video: Tensor, v: float, sign: int) -> Tensor:
    return _call("posterize", video, max(1, 4 - int(4 * v)))  # bits kept; none at all would be a black clip


def _solarize(video: Tensor, v: float, sign: int) -> Tensor:
    threshold = 256 - int(256 * v)
    return _call("solarize", video, threshold) if threshold < 256 else video


def _solarize_add(video: Tensor, v: float, sign: int) -> Tensor:
    return video + (video < 128).to(video.dtype) * min(128, int(110 * v))  # at most 127 + 128: no overflow


def _factor(name: str) -> Operation:
    return lambda video, v, sign: _call(name, video, max(0.1, 1 + sign * 0.9 * v))


#: The strengths are those of timm's "increasing" set: v = 1 is the strongest.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda video, v, sign: _call("autocontrast", video.contiguous()),  # 4 times as fast
    "Equalize": lambda video, v, sign: _call("equalize", video),
    "Invert": lambda video, v, sign: _call("invert", video),
    "Rotate": lambda video, v, sign: _call("rotate", video, sign * 30 * v, interpolation=_bilinear(), fill=_FILL),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _factor("adjust_saturation"),
    "Contrast": _factor("adjust_contrast"),
    "Brightness": _factor("adjust_brightness"),
    "Sharpness": _factor("adjust_sharpness"),
    "ShearX": lambda video, v, sign: _affine(video, shear=(math.degrees(math.atan(sign * 0.3 * v)), 0.0)),
    "ShearY": lambda video, v, sign: _affine(video, shear=(0.0, math.degrees(math.atan(sign * 0.3 * v)))),
    "TranslateX": lambda video, v, sign: _affine(video, move=(round(sign * 0.45 * v * video.shape[-1]), 0)),
    "TranslateY": lambda video, v, sign: _affine(video, move=(0, round(sign * 0.45 * v * video.shape[-2]))),
}

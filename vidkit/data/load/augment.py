"""Crops, flips and erasing of clips; the choices by a row's own generator.

Choices are made apart from pixels, so that the same clip gets the same crop whether it is decoded, read
from a cache in host memory, or cropped in a batch on the device. All frames of a clip are treated alike.

Shapes: B batch, T time, H, W, C as stored, S side of the square that comes out. Clips lie in memory as
(T, H, W, C), as decoders write them, and are shown as (C, T, H, W): the device makes them contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from vidkit.data.load.batch import send
from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: As floats a batch takes 4 times its bytes, so a few clips are scaled at a time.
PIECE_BYTES = 1 << 28

#: Largest difference in place between the scales of a multi-scale crop's two sides (TSN).
_MAX_DISTORT = 1


class Box(NamedTuple):
    """Part of a picture, in pixels, and whether it is turned left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """What is random about a training clip's pictures. Order: crop, flip, RandAugment, erasing."""

    crop: Literal["random-resized", "multi-scale", "none"] = "random-resized"
    """"random-resized": area and aspect at random. "multi-scale": sides from `scales`, at fixed places (TSN).
    "none": the middle square, as in a test."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Share of the picture's area ("random-resized")."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width to height ("random-resized")."""
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    """Sides as shares of the short side ("multi-scale")."""
    flip: float = 0.5
    """Probability of a left-right flip, in datasets that allow it; never in others."""
    rand_ops: int = 0
    """RandAugment: operations on a clip, each applied with probability 0.5. 0: none."""
    rand_magnitude: float = 9.0
    """RandAugment, 0 to 10 as in timm's "rand-m9-mstd0.5-inc1" (torchvision counts to 30)."""
    rand_std: float = 0.5
    """RandAugment: standard deviation of the magnitude."""
    erase: float = 0.0
    """Probability that a rectangle is replaced by noise, the same one in all frames."""

    def __post_init__(self) -> None:
        faults = Faults()
        crops = ("random-resized", "multi-scale", "none")
        faults.check(self.crop in crops, "crop", self.crop, f"one of {', '.join(crops)}")
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            faults.check(0 < low <= high, name, (low, high), "two rising numbers above 0")
        faults.check(self.scale[1] <= 1, "scale", self.scale, "at most 1: the whole picture")
        good = bool(self.scales) and all(0 < scale <= 1 for scale in self.scales)
        faults.check(good, "scales", self.scales, "numbers above 0, at most 1")
        for name in ("flip", "erase"):
            faults.check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        faults.check(self.rand_ops >= 0, "rand_ops", self.rand_ops, "at least 0")
        faults.check(0 <= self.rand_magnitude <= 10, "rand_magnitude", self.rand_magnitude, "0 to 10")
        faults.check(self.rand_std >= 0, "rand_std", self.rand_std, "at least 0")
        faults.raise_if_any("augmentation settings")


#: What papers use, by name: a function gives the settings, so that a variant can change a field.
AUGMENTS: dict[str, Callable[[], Augment]] = {
    "none": lambda: Augment(crop="none", flip=0.0),
    "pretrain": Augment,  # AdaMAE: random resized crop from 0.5, flip
    "pretrain-multi-scale": lambda: Augment(crop="multi-scale"),  # VideoMAE
    "finetune": lambda: Augment(scale=(0.08, 1.0), rand_ops=2, erase=0.25),  # VideoMAE, AdaMAE
}


def named_augment(augment: Augment | str) -> Augment:
    """Settings as they are, or by their name in `AUGMENTS`.

    Raises:
        ConfigError: no such name.
    """
    if not isinstance(augment, str):
        return augment
    if augment not in AUGMENTS:
        raise ConfigError(f"augment is {augment!r}; expected one of {', '.join(AUGMENTS)}", field="augment")
    return AUGMENTS[augment]()


# --- choices -------------------------------------------------------------------------------------


def draw_box(augment: Augment, height: int, width: int, rng: np.random.Generator, *, flip: bool) -> Box:
    """A crop for one row. `flip`: whether the dataset allows it."""
    box = CROPS[augment.crop](augment, height, width, rng)
    turned = flip and augment.flip > 0 and bool(rng.random() < augment.flip)
    return box._replace(flip=turned)


def _random_resized(augment: Augment, height: int, width: int, rng: np.random.Generator) -> Box:
    """As torchvision draws it: ten attempts, then the middle at the nearest aspect."""
    low, high = math.log(augment.ratio[0]), math.log(augment.ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(*augment.scale)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    aspect = min(max(width / height, augment.ratio[0]), augment.ratio[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def _multi_scale(augment: Augment, height: int, width: int, rng: np.random.Generator) -> Box:
    """TSN's crop: sides whose scales are neighbours, at one of 13 places of a 5 x 5 grid."""
    sides = [max(1, int(min(height, width) * scale)) for scale in augment.scales]
    pairs = [(i, j) for i in range(len(sides)) for j in range(len(sides)) if abs(i - j) <= _MAX_DISTORT]
    i, j = pairs[rng.integers(len(pairs))]
    h, w = sides[i], sides[j]
    places = [(y, x) for y in range(5) for x in range(5) if (y + x) % 2 == 0]  # a chessboard's white squares
    y, x = places[rng.integers(len(places))]
    return Box(y * ((height - h) // 4), x * ((width - w) // 4), h, w)


def _middle(augment: Augment, height: int, width: int, rng: np.random.Generator) -> Box:
    return view_box(height, width, 0, 1)


CROPS: dict[str, Callable[[Augment, int, int, np.random.Generator], Box]] = {
    "random-resized": _random_resized,
    "multi-scale": _multi_scale,
    "none": _middle,
}


def view_box(height: int, width: int, view: int, views: int, share: float = 1.0) -> Box:
    """A test's square: its side is `share` of the short side; `views` squares lie evenly along the longer
    side (upright pictures from top to bottom), one lies in the middle.

    >>> [view_box(256, 340, s, 3) for s in range(3)][1]
    Box(top=0, left=42, height=256, width=256, flip=False)
    """
    side = max(1, round(min(height, width) * share))
    at = 0.5 if views == 1 else view / (views - 1)
    along_y = height > width
    top = int((height - side) * (at if along_y else 0.5))
    left = int((width - side) * (0.5 if along_y else at))
    return Box(top, left, side, side)


# --- pixels --------------------------------------------------------------------------------------


def crop_resize(frames_THWC: Tensor, box: Box, size: int) -> Tensor:
    """(T, C, S, S) uint8: cut, scale (bilinear, antialiased) and turn. Crops of size S keep their pixels."""
    from torch.nn.functional import interpolate

    top, left, height, width, flip = box
    # channels last: the layout for which torch scales uint8 fastest, and the decoder's own
    video_TCHW: Tensor = frames_THWC[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
    if (height, width) != (
        size,
        size,
    ):  # what transforms.v2.functional.resize does, but torchvision takes 3 s to load
        video_TCHW = interpolate(video_TCHW, (size, size), mode="bilinear", antialias=True)
    return video_TCHW.flip(-1) if flip else video_TCHW


def augment_row(video_TCHW: Tensor, augment: Augment, rng: np.random.Generator) -> Tensor:
    """RandAugment and erasing of one cropped row, uint8 in and out."""
    if augment.rand_ops:
        from vidkit.data.load.randaugment import rand_augment

        video_TCHW = rand_augment(
            video_TCHW, rng, ops=augment.rand_ops, magnitude=augment.rand_magnitude, std=augment.rand_std
        )
    if augment.erase and rng.random() < augment.erase:
        video_TCHW = erase(video_TCHW, rng)
    return video_TCHW


def erase(video_TCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """Replace a rectangle of 2 to 33 % of the area by noise with ImageNet's mean and deviation
    (Zhong et al. 2017; the settings of timm and VideoMAE). The place is the same in all frames.
    """
    import torch

    count, channels, height, width = video_TCHW.shape
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            break
    else:
        return video_TCHW
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    noise = rng.standard_normal((count, channels, h, w), np.float32)
    mean, std = (np.array(values, np.float32)[:, None, None] * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    patch = torch.from_numpy(np.clip(np.rint(noise * std + mean), 0, 255).astype(np.uint8))
    erased = video_TCHW.clone()
    erased[:, :, top : top + h, left : left + w] = patch.to(video_TCHW.device)
    return erased


def crop_resize_batch(video_BTHWC: Tensor, boxes: list[Box], size: int) -> Tensor:
    """(B, C, T, S, S) uint8: `crop_resize` of every clip in one go, each with its own box, on any device.

    Scaling is a product with two matrices of weights that are made on the device: rows, then columns.
    Rounded once, where torch's uint8 path rounds after each of the two: they differ by 1 at most.
    """
    import torch

    batch, time, height, width, channels = video_BTHWC.shape
    device = video_BTHWC.device
    table = send(torch.tensor([[*box] for box in boxes], dtype=torch.float32), device)
    top, left, high, wide, flip = table.unbind(1)
    rows_BSH = _weights(top, high, torch.zeros_like(flip), size, height)
    columns_BSW = _weights(left, wide, flip, size, width)
    out = torch.empty((batch, channels, time, size, size), dtype=torch.uint8, device=device)
    step = max(1, PIECE_BYTES // (4 * time * height * width * channels))
    for i in range(0, batch, step):
        part = slice(i, i + step)
        x = video_BTHWC[part].permute(0, 4, 1, 2, 3).to(torch.float32).flatten(1, 2)  # (b, C * T, H, W)
        x = rows_BSH[part, None] @ x @ columns_BSW[part, None].transpose(-1, -2)
        out[part] = x.round_().clamp_(0, 255).to(torch.uint8).view(-1, channels, time, size, size)
    return out


def _weights(start_B: Tensor, length_B: Tensor, flip_B: Tensor, size: int, full: int) -> Tensor:
    """(B, S, full): how much each source pixel adds to each output pixel. A triangle as wide as an output
    pixel is in the source, at least one pixel; pixels outside the box add nothing.
    """
    import torch

    scale = (length_B / size)[:, None, None]
    out = torch.arange(size, device=start_B.device, dtype=torch.float32)[None, :, None]
    out = torch.where(flip_B[:, None, None] > 0, size - 1 - out, out)
    at = torch.arange(full, device=start_B.device, dtype=torch.float32)[None, None, :] + 0.5
    start, end = start_B[:, None, None], (start_B + length_B)[:, None, None]
    weights = (1 - (at - (start + (out + 0.5) * scale)).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights * ((at > start) & (at < end))
    return weights / weights.sum(2, keepdim=True)


def normalise(
    video_uint8: Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    dtype: str = "float32",
) -> Tensor:
    """(B, C, T, H, W) uint8 -> the same shape, contiguous, `(x / 255 - mean) / std`. Runs where the clip lies,
    so that the bus carries bytes. Computed in float32 whatever `dtype` is: bfloat16 cannot count to 255.
    """
    import torch

    shape = (1, -1, 1, 1, 1)
    video = video_uint8.contiguous().to(torch.float32)
    scale = 1 / (255 * torch.tensor(std, device=video.device).view(shape))
    shift = torch.tensor(mean, device=video.device).view(shape) * 255
    return video.sub_(shift).mul_(scale).to(getattr(torch, dtype))

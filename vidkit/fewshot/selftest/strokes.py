"""Generated stroke characters: few-shot classes without a download.

A class is a few random smooth strokes. An instance is the same strokes with shaken control points, a small rotation
and a shift. Every number is drawn on the CPU from one seed, so that a device changes nothing but the rounding.

Shapes: K classes, B episodes, T steps of an episode, S strokes, P points along a stroke, X pixels on a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults

#: Most strokes of a character, and points that a stroke is drawn with.
STROKES, POINTS = 3, 16


@dataclass(frozen=True, kw_only=True, slots=True)
class StrokeConfig:
    """How a character looks, and how its instances differ. A picture is 2 units wide."""

    pixels: int = 20
    """On each side."""
    pen: float = 0.07
    """Standard deviation of the pen's width, in units."""
    shake: float = 0.03
    """Standard deviation of each control point, in units."""
    rotation: float = 11.25
    """Largest rotation of an instance either way, in degrees: the paper's pi / 16."""
    shift: float = 0.19
    """Largest shift of an instance either way, in units, along each axis: the paper's 10 of 105 pixels."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.pixels >= 4, "pixels", self.pixels, "at least 4")
        faults.check(self.pen > 0, "pen", self.pen, "above 0")
        for name in ("shake", "rotation", "shift"):
            faults.check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        faults.raise_if_any("stroke settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class Characters:
    """Classes as control points of cubic Bezier curves."""

    control: Tensor
    """(K, S, 4, 2): x to the right and y down, within about -1 to 1."""
    drawn: Tensor
    """(K, S): 1 for the strokes that the character has, 0 for those that it has not."""

    def __len__(self) -> int:
        return self.control.shape[0]

    def __repr__(self) -> str:
        return f"Characters({len(self)} classes)"


def make_characters(count: int, seed: int, *, rotations: bool = True) -> Characters:
    """`count` random characters; with `rotations` each turned by 90, 180 and 270 degrees is a class more (4 count).

    Class `4 i + q` is character i turned q times. Raises ConfigError unless count is at least 1.
    """
    if count < 1:
        raise ConfigError(f"{count} characters; expected at least 1", field="count")
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(count, STROKES, 1, 2, generator=generator) * 1.2 - 0.6
    # A stroke that wanders in steps has bends, and stays short enough to be told from others.
    steps = torch.randn(count, STROKES, 3, 2, generator=generator) * 0.5
    control = torch.cat([first, first + steps.cumsum(dim=2)], dim=2).clamp(-0.8, 0.8)
    strokes = torch.randint(2, STROKES + 1, (count, 1), generator=generator)
    drawn = (torch.arange(STROKES) < strokes).float()
    if not rotations:
        return Characters(control=control, drawn=drawn)
    x, y = control.unbind(dim=-1)
    turned = [torch.stack(pair, dim=-1) for pair in ((x, y), (-y, x), (-x, -y), (y, -x))]
    return Characters(control=torch.stack(turned, dim=1).flatten(0, 1), drawn=drawn.repeat_interleave(4, dim=0))


def split_characters(train: int, test: int, seed: int, *, rotations: bool = True) -> tuple[Characters, Characters]:
    """Characters to learn from and others to be tested on: one draw, then cut, each with its own rotations."""
    both = make_characters(train + test, seed, rotations=rotations)
    cut = train * (4 if rotations else 1)
    return (
        Characters(control=both.control[:cut], drawn=both.drawn[:cut]),
        Characters(control=both.control[cut:], drawn=both.drawn[cut:]),
    )


def instances(characters: Characters, classes: Tensor, config: StrokeConfig, generator: torch.Generator) -> Tensor:
    """Control points of one new instance of each class number in `classes` (n,): (n, S, 4, 2)."""
    count = classes.shape[0]
    shaken = characters.control[classes]
    shaken = shaken + torch.randn(shaken.shape, generator=generator) * config.shake
    angle, right, down = (torch.rand(3, count, generator=generator) * 2 - 1).unbind()
    angle = angle * math.radians(config.rotation)
    x, y = shaken.unbind(dim=-1)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    moved = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)
    return moved + torch.stack([right, down], dim=-1)[:, None, None] * config.shift


def render(control: Tensor, drawn: Tensor, config: StrokeConfig) -> Tensor:
    """Pictures of characters: control points (n, S, 4, 2), strokes (n, S) -> (n, X, X), 0 paper to 1 ink.

    Ink is laid down by a round soft pen along each stroke: sum of Gaussians, each of which is a product of one over
    rows and one over columns, then saturated.
    """
    s = torch.linspace(0, 1, POINTS, device=control.device)
    basis_P4 = torch.stack([(1 - s) ** 3, 3 * s * (1 - s) ** 2, 3 * s**2 * (1 - s), s**3], dim=1)
    # In units in which the pen's Gaussian is exp(-x^2).
    unit = config.pen * math.sqrt(2)
    path = torch.einsum("pc,nsca->nspa", basis_P4 / unit, control).flatten(1, 2)
    centre_X = (torch.arange(config.pixels, device=control.device) + 0.5) * (2 / config.pixels / unit) - 1 / unit
    # Far from the pen the ink stops at e^-40: denormal numbers would make this ten times slower.
    columns, rows = ((at[..., None] - centre_X).square_().clamp_max_(40).neg_().exp_() for at in path.unbind(dim=2))
    rows *= drawn.repeat_interleave(POINTS, dim=1)[..., None]
    ink = torch.bmm(rows.transpose(1, 2), columns)
    return 1 - torch.exp(-2 * ink)


def draw_episodes(
    characters: Characters,
    batch: int,
    way: int,
    shots: int,
    config: StrokeConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Episodes of `way` classes with `shots` instances each, in random order.

    Classes and their labels are drawn anew for each episode, so that a label says nothing from one to the next.

    Returns:
        Pictures (B, T, X*X), T = way * shots, and labels (B, T) below `way`, on `device`.

    Raises:
        ConfigError: fewer classes than `way`.
    """
    if not 2 <= way <= len(characters):
        raise ConfigError(
            f"way is {way}; expected 2 to {len(characters)}, the number of classes",
            field="way",
            hint="choose a smaller way, or generate more characters",
        )
    chosen = torch.rand(batch, len(characters), generator=generator).topk(way, dim=1).indices
    order = torch.rand(batch, way * shots, generator=generator).argsort(dim=1)
    labels = order % way
    classes = chosen.gather(1, labels).flatten()
    control = instances(characters, classes, config, generator)
    pictures = render(control.to(device), characters.drawn[classes].to(device), config)
    return pictures.view(batch, way * shots, -1), labels.to(device)

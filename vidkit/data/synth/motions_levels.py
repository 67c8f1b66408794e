"""How hard the generated motion clips are: a dial from 1 to 5.

Level 5 is the scene as it was before there was a dial: small shapes in a crowd, a camera that shakes, no edges, and
40 classes. Each step down takes something away that hides the motion. What the class has no part in stays that way
at every level: with one seed and number, the first frame is the same whatever the class.
"""

from __future__ import annotations

from dataclasses import dataclass

from vidkit.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """What makes motions hard to see. Lengths are in shorter sides of the picture."""

    classes: int
    """Where the user does not say how many."""
    clutter: tuple[int, int]
    """Still shapes that look like the one that moves: from, up to and without."""
    reach: int
    """Pixels that the camera strays at most."""
    radius: tuple[float, float]
    """Of the moving shape and of the clutter."""
    edges: bool
    """What leaves the picture is gone. Without edges it enters again on the other side, so that every place is as
    likely as any other in every frame."""


LEVELS: dict[int, Level] = {
    1: Level(classes=4, clutter=(0, 1), reach=0, radius=(0.20, 0.26), edges=True),
    2: Level(classes=8, clutter=(0, 3), reach=0, radius=(0.18, 0.24), edges=True),
    3: Level(classes=12, clutter=(2, 6), reach=1, radius=(0.15, 0.21), edges=False),
    4: Level(classes=24, clutter=(5, 10), reach=2, radius=(0.12, 0.18), edges=False),
    5: Level(classes=40, clutter=(8, 13), reach=3, radius=(0.10, 0.16), edges=False),
}
HARDEST = max(LEVELS)


def level_of(number: int) -> Level:
    """
    Raises:
        ConfigError: there is no such level.
    """
    if number not in LEVELS:
        raise ConfigError(
            f"level is {number}; expected {min(LEVELS)} to {HARDEST}",
            field="level",
            hint=f"{min(LEVELS)} is the easiest, {HARDEST} the hardest",
        )
    return LEVELS[number]

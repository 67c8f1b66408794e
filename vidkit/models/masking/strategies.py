"""The strategies by name."""

from __future__ import annotations

from typing import get_args

from vidkit.models.masking.contract import Masker
from vidkit.models.masking.count import num_candidates
from vidkit.models.masking.fixed import frame, random, tube
from vidkit.models.masking.motion import error, motion
from vidkit.models.masking.oracle import anti_oracle, oracle
from vidkit.models.masking.own import own
from vidkit.models.masking.shapes import green, multi_block
from vidkit.settings.model import Grid, MaskConfig, Strategy

#: The strategies that need no network and no settings.
FIXED: dict[str, Masker] = {
    "tube": tube,
    "random": random,
    "frame": frame,
    "multi-block": multi_block,
    "green": green,
    "error": error,
    "oracle": oracle,
    "anti-oracle": anti_oracle,
}
STRATEGIES: tuple[str, ...] = get_args(Strategy)


def make_masker(mask: MaskConfig, grid: Grid) -> Masker | None:
    """The masker of these settings; None for "adaptive", which takes a network."""
    if ":" in mask.strategy:
        return own(mask.strategy)
    if mask.strategy == "motion":
        return motion(num_candidates(grid, mask))
    return FIXED.get(mask.strategy)

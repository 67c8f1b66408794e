"""Settings of masks: which tokens an encoder sees, and which a decoder predicts.

Shapes: N tokens, V visible, M predicted (targets), T H W the grid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from vidkit.settings.encode import Faults

Strategy = Literal[
    "tube", "random", "frame", "adaptive", "motion", "multi-block", "green", "error", "oracle", "anti-oracle"
]
Rounding = Literal["matched", "paper"]
Targets = Literal["complement", "running-cell", "random"]
Grid = tuple[int, int, int]

#: Those that ask the dataset where something moves.
ORACLES: tuple[Strategy, ...] = ("oracle", "anti-oracle")
#: The four of AdaMAE's Table 1.
PAPER_STRATEGIES: tuple[Strategy, ...] = ("tube", "random", "frame", "adaptive")
#: One's own masker, by the place of a function: "package.module:function".
OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
#: Shares that a pattern of 2 x 2 cells can have.
CELL_RATIOS = (0.25, 0.5, 0.75, 1.0)


def is_strategy(name: str) -> bool:
    """Whether `name` is a strategy's, or has the form of one's own masker."""
    return name in get_args(Strategy) or OWN.fullmatch(name) is not None


def strategies_in_words() -> str:
    """What `--mask` takes, in words for an error."""
    return f"one of {', '.join(get_args(Strategy))}, or your own as module:function"


#: Metadata of a field that came after configs had been hashed: at its default it is left out of `config_hash`.
LATER = MappingProxyType({"later": True})


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskConfig:
    """Which tokens an encoder does not see in pre-training, and how many; which of them are predicted."""

    strategy: str = "adaptive"
    """A `Strategy`, or one's own masker as "module:function"."""
    ratio: float = 0.95
    """Share of the tokens that is hidden."""
    rounding: Rounding = "matched"
    """How many tokens that leaves: the same for every strategy, or as the released code rounds for each."""
    targets: Targets = field(default="complement", metadata=LATER)
    """Which hidden tokens are predicted. "complement": all that the strategy leaves. "running-cell": 2 x 2 cells
    that shift by one place a time step (VideoMAE v2). "random": any. The last two with `target_ratio`."""
    target_ratio: float = field(default=1.0, metadata=LATER)
    """Share of those tokens that is predicted; of running cells 0.25, 0.5, 0.75 or 1."""
    motion_share: float = field(default=0.3, metadata=LATER)
    """Of "motion": share of all tokens, those that change most, that is seen or predicted; the rest is dropped."""
    error_momentum: float = field(default=0.99, metadata=LATER)
    """Of "error": what is kept of the running mean of errors in each step."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(is_strategy(self.strategy), "strategy", self.strategy, strategies_in_words())
        faults.check(0 < self.ratio < 1, "ratio", self.ratio, "above 0 and below 1")
        faults.check(self.rounding in get_args(Rounding), "rounding", self.rounding, "one of matched, paper")
        expected = "one of " + ", ".join(get_args(Targets))
        faults.check(self.targets in get_args(Targets), "targets", self.targets, expected)
        faults.check(0 < self.target_ratio <= 1, "target_ratio", self.target_ratio, "above 0, at most 1")
        faults.check(0 < self.motion_share <= 1, "motion_share", self.motion_share, "above 0, at most 1")
        faults.check(0 <= self.error_momentum < 1, "error_momentum", self.error_momentum, "at least 0, below 1")
        if self.targets == "complement":
            expected = "1 with targets complement; for fewer choose targets random or running-cell"
            faults.check(self.target_ratio == 1, "target_ratio", self.target_ratio, expected)
        elif self.targets == "running-cell":
            expected = "0.25, 0.5, 0.75 or 1 with targets running-cell"
            faults.check(self.target_ratio in CELL_RATIOS, "target_ratio", self.target_ratio, expected)
        faults.raise_if_any("mask settings")

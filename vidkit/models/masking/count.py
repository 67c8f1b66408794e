"""How many tokens are visible, and how many are predicted.

Shapes: N tokens, V visible, M targets, T H W the grid, S = H * W tokens of one time step.
"""

from __future__ import annotations

from fractions import Fraction

from vidkit.errors import ConfigError
from vidkit.settings.mask import MaskConfig, is_strategy, strategies_in_words
from vidkit.settings.model import Grid, Rounding


def num_visible(grid: Grid, ratio: float, rounding: Rounding = "matched", strategy: str = "adaptive") -> int:
    """V: the number of visible tokens.

    "matched": `T * floor((1 - ratio) * H * W + 0.5)` for every strategy, exact in decimals.
    "paper": what the released code of AdaMAE and VideoMAE makes of the ratio, floating point included:
    tube `T * (S - int(ratio * S))`, random `N - int(ratio * N)`, adaptive `int(N * (1 - ratio))`. Neither has frame
    masking; frame shows as many whole frames as fit, at least one. Strategies that neither has round as random
    does, exact in decimals.

    >>> [num_visible((8, 14, 14), 0.95, "paper", strategy) for strategy in ("tube", "random", "adaptive")]
    [80, 79, 78]

    Raises:
        ConfigError: the ratio is not between 0 and 1, or leaves no token visible, or none hidden.
    """
    time, height, width = grid
    space = height * width
    tokens = time * space
    if not 0 < ratio < 1:
        raise ConfigError(f"mask ratio is {ratio!r}; expected a number above 0 and below 1", field="ratio")
    if not is_strategy(strategy):
        raise ConfigError(f"mask strategy is {strategy!r}; expected {strategies_in_words()}", field="strategy")
    if rounding not in ("matched", "paper"):
        raise ConfigError(f"rounding is {rounding!r}; expected 'matched' or 'paper'", field="rounding")
    exact = Fraction(str(ratio))  # of the decimal text: 1 - 0.95 in binary is not 1/20
    if rounding == "matched":
        visible = time * int((1 - exact) * space + Fraction(1, 2))
    elif strategy == "tube":
        visible = time * (space - int(ratio * space))
    elif strategy == "random":
        visible = tokens - int(ratio * tokens)
    elif strategy == "adaptive":
        visible = int(tokens * (1 - ratio))
    elif strategy != "frame":
        visible = tokens - int(exact * tokens)
    else:
        visible = space * max(1, int((1 - exact) * time))
    if not 0 < visible < tokens:
        what = "no token visible" if visible <= 0 else "no token hidden"
        raise ConfigError(
            f"mask ratio {ratio} leaves {what} of {tokens} ({time} x {height} x {width})",
            field="ratio",
            hint=f"choose a {'smaller' if visible <= 0 else 'larger'} ratio, or smaller patches",
        )
    return visible


def num_targets(grid: Grid, mask: MaskConfig) -> int:
    """M: the number of tokens that are predicted, N - V unless the strategy or `targets` takes fewer.

    One's own masker may give targets of its own; this is then their number where it gives none.

    Raises:
        ConfigError: as `num_visible`, or nothing is left to predict.
    """
    visible = num_visible(grid, mask.ratio, mask.rounding, mask.strategy)
    hidden = num_candidates(grid, mask) - visible
    return share_of(hidden, mask)


def num_candidates(grid: Grid, mask: MaskConfig) -> int:
    """Tokens that are visible or may be predicted: N, but for "motion", which drops those that change least."""
    time, height, width = grid
    tokens = time * height * width
    if mask.strategy != "motion":
        return tokens
    visible = num_visible(grid, mask.ratio, mask.rounding, mask.strategy)
    kept = int(Fraction(str(mask.motion_share)) * tokens + Fraction(1, 2))
    if kept <= visible:
        raise ConfigError(
            f"motion_share {mask.motion_share:g} keeps {kept} of {tokens} tokens, and ratio {mask.ratio:g} shows "
            f"{visible}: none is left to predict",
            field="motion_share",
            hint="choose a larger mask ratio or motion_share",
        )
    return kept


def share_of(hidden: int, mask: MaskConfig) -> int:
    """`target_ratio` of a number of hidden tokens, rounded to the nearest. ConfigError where that is none."""
    targets = int(Fraction(str(mask.target_ratio)) * hidden + Fraction(1, 2))
    if targets < 1:
        raise ConfigError(
            f"target_ratio {mask.target_ratio:g} of {hidden} hidden tokens leaves no target",
            field="target_ratio",
            hint="choose a larger one",
        )
    return targets

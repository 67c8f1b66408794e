"""Which tokens stay visible: how many, and which.

Every strategy has one form, `masker(tokens_BND, grid, num_visible, generator) -> keep_BV, log_probs_BN or None`.
`keep` holds the indices of the visible tokens, distinct and ascending in each row. Masks are drawn on the tokens'
device; nothing waits for the device and nothing loops over the batch.

Shapes: B batch, N tokens, D width, V visible, M masked, T H W the grid, S = H * W tokens of one time step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.settings.model import Grid, Rounding, Strategy

Masker = Callable[[Tensor, Grid, int, "torch.Generator | None"], "tuple[Tensor, Tensor | None]"]


def num_visible(grid: Grid, ratio: float, rounding: Rounding = "matched", strategy: Strategy = "adaptive") -> int:
    """V: the number of visible tokens.

    "matched": `T * floor((1 - ratio) * H * W + 0.5)` for every strategy, exact in decimals.
    "paper": what the released code of AdaMAE and VideoMAE makes of the ratio, floating point included:
    tube `T * (S - int(ratio * S))`, random `N - int(ratio * N)`, adaptive `int(N * (1 - ratio))`. Neither has frame
    masking; frame shows as many whole frames as fit, at least one.

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
    if strategy not in STRATEGIES:
        expected = ", ".join(STRATEGIES)
        raise ConfigError(f"mask strategy is {strategy!r}; expected one of {expected}", field="strategy")
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


def mask_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed from which one step's masks on one rank are drawn. Stable over versions and machines."""
    digest = hashlib.sha256(f"mask:{seed}:{step}:{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def mask_generator(seed: int, step: int, rank: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` at the start of the stream of (seed, step, rank)."""
    return torch.Generator(device=device).manual_seed(mask_seed(seed, step, rank))


def tube(
    tokens_BND: Tensor, grid: Grid, num_visible: int, generator: torch.Generator | None = None
) -> tuple[Tensor, None]:
    """The same places in every frame (VideoMAE). Raises ConfigError where V is no multiple of T."""
    time, height, width = grid
    in_frame, rest = divmod(num_visible, time)
    if rest:
        raise ConfigError(f"tube masking cannot show {num_visible} tokens; expected a multiple of T = {time}")
    place_BV = random_subset(tokens_BND, height * width, in_frame, generator)
    start_T1 = torch.arange(time, device=tokens_BND.device)[:, None] * (height * width)
    return (start_T1 + place_BV[:, None]).flatten(1), None


def random(
    tokens_BND: Tensor, grid: Grid, num_visible: int, generator: torch.Generator | None = None
) -> tuple[Tensor, None]:
    """Any tokens, with equal probability (Feichtenhofer et al. 2022)."""
    time, height, width = grid
    return random_subset(tokens_BND, time * height * width, num_visible, generator), None


def frame(
    tokens_BND: Tensor, grid: Grid, num_visible: int, generator: torch.Generator | None = None
) -> tuple[Tensor, None]:
    """Whole time steps while they fit into V; the rest are random tokens of one more time step."""
    time, height, width = grid
    space = height * width
    whole, rest = divmod(num_visible, space)
    device = tokens_BND.device
    frame_BT = torch.rand(tokens_BND.shape[0], time, device=device, generator=generator).argsort(dim=1)
    shown_BV = (frame_BT[:, :whole, None] * space + torch.arange(space, device=device)).flatten(1)
    if rest:
        part_BR = frame_BT[:, whole, None] * space + random_subset(tokens_BND, space, rest, generator)
        shown_BV = torch.cat([shown_BV, part_BR], dim=1)
    return shown_BV.sort(dim=1).values, None


def adaptive(sampler: Callable[[Tensor], Tensor]) -> Masker:
    """Tokens drawn without replacement from the distribution that `sampler` gives (AdaMAE, algorithm 1).

    Args:
        sampler: tokens (B, N, D) -> log-probabilities (B, N), float32.
    """

    def masker(
        tokens_BND: Tensor, grid: Grid, num_visible: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        log_probs_BN = sampler(tokens_BND)
        return gumbel_top_k(log_probs_BN.detach(), num_visible, generator), log_probs_BN

    return masker


#: The strategies that need no network.
FIXED: dict[str, Masker] = {"tube": tube, "random": random, "frame": frame}
STRATEGIES = (*FIXED, "adaptive")


def gumbel_top_k(log_weights_BN: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """k distinct indices a row, drawn one after another in proportion to the weights left (Plackett-Luce).

    The k largest of `log_weight + Gumbel noise` are such a draw (Yellott 1977; Kool et al. 2019). In logarithms
    a probability that would round to zero keeps its place. Returns (B, k), ascending.
    """
    # -log of a standard exponential is a standard Gumbel. Zero would be infinite noise; the clamp keeps ties out.
    wait_BN = torch.empty_like(log_weights_BN, dtype=torch.float32).exponential_(generator=generator)
    noise_BN = wait_BN.clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_()
    return (log_weights_BN.float() + noise_BN).topk(k, dim=1, sorted=False).indices.sort(dim=1).values


def random_subset(like_BND: Tensor, total: int, k: int, generator: torch.Generator | None) -> Tensor:
    """k distinct numbers below `total` for each row of `like`, all subsets equally likely. (B, k), ascending."""
    noise = torch.rand(like_BND.shape[0], total, device=like_BND.device, generator=generator)
    return noise.topk(k, dim=1, sorted=False).indices.sort(dim=1).values


def masked_indices(keep_BV: Tensor, tokens: int) -> Tensor:
    """The indices that `keep` leaves out: (B, V) -> (B, M), ascending."""
    batch, visible = keep_BV.shape
    shown_BN = torch.zeros(batch, tokens, dtype=torch.uint8, device=keep_BV.device).scatter_(1, keep_BV, 1)
    # A stable sort by "shown" moves the masked ones to the front in order; nonzero() would wait for the device.
    return shown_BN.argsort(dim=1, stable=True)[:, : tokens - visible]


def visible_mask(keep_BV: Tensor, tokens: int) -> Tensor:
    """`keep` as booleans, True where visible: (B, V) -> (B, N)."""
    hidden_BN = torch.zeros(keep_BV.shape[0], tokens, dtype=torch.bool, device=keep_BV.device)
    return hidden_BN.scatter_(1, keep_BV, True)

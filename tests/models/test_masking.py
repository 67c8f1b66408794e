"""How many tokens are visible, and that each strategy draws what it says."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.models.masking import (
    FIXED,
    STRATEGIES,
    Mask,
    Masker,
    Side,
    adaptive,
    gumbel_top_k,
    mask_generator,
    mask_seed,
    masked_indices,
    num_visible,
    visible_mask,
)
from vidkit.models.masking.motion import motion
from vidkit.settings.mask import ORACLES, PAPER_STRATEGIES
from vidkit.settings.model import Grid

PAPER_GRID = (8, 14, 14)
RATIOS = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.875, 0.9, 0.95, 0.98]
GRIDS = [PAPER_GRID, (8, 8, 8), (4, 8, 8), (8, 14, 10), (1, 16, 16)]


def masker(strategy: str, tokens: int = 0) -> Masker:
    if strategy == "motion":
        return motion(max(tokens * 3 // 5, 1))
    if strategy in ORACLES:
        moving = torch.arange(tokens) % 3 == 0

        def informed(tokens_BND: Tensor, grid: Grid, visible: int, generator: Any = None, side: Any = None) -> Mask:
            shares = Side(shares_BN=moving.float().expand(tokens_BND.shape[0], -1))
            return FIXED[strategy](tokens_BND, grid, visible, generator, shares)

        return informed
    if strategy != "adaptive":
        return FIXED[strategy]
    skewed = torch.linspace(-4, 4, tokens).log_softmax(dim=0)
    return adaptive(lambda tokens_BND: skewed.expand(tokens_BND.shape[0], -1))


@pytest.mark.parametrize(
    ("ratio", "tube", "random", "adaptive"), [(0.90, 160, 157, 156), (0.95, 80, 79, 78)], ids=["90", "95"]
)
def test_paper_rounding_gives_the_published_counts(ratio: float, tube: int, random: int, adaptive: int) -> None:
    counts = {strategy: num_visible(PAPER_GRID, ratio, "paper", strategy) for strategy in PAPER_STRATEGIES}
    assert counts == {"tube": tube, "random": random, "adaptive": adaptive, "frame": 196}


@pytest.mark.parametrize(("ratio", "frames"), [(0.5, 4), (0.75, 2), (0.8, 1), (0.875, 1), (0.9, 1), (0.98, 1)])
def test_paper_frames_are_whole_and_at_least_one(ratio: float, frames: int) -> None:
    assert num_visible(PAPER_GRID, ratio, "paper", "frame") == 196 * frames


def test_paper_rounding_repeats_the_floating_point_of_the_released_code() -> None:
    """1000 * (1 - 0.9) is 99.99999999999997 in binary, so the released code shows 99."""
    assert num_visible((10, 10, 10), 0.9, "paper", "adaptive") == 99
    assert num_visible((10, 10, 10), 0.9, "matched", "adaptive") == 100


@pytest.mark.parametrize("grid", GRIDS)
def test_matched_is_exact_and_the_same_for_all(grid: Grid) -> None:
    time, height, width = grid
    for percent in range(50, 99):
        shown = (Decimal(100 - percent) / 100 * height * width).to_integral_value(ROUND_HALF_UP)
        for strategy in STRATEGIES:
            assert num_visible(grid, percent / 100, "matched", strategy) == time * int(shown)


def test_matched_rounds_a_half_up_whatever_binary_makes_of_it() -> None:
    """A tenth of 5 x 9 tokens is 4.5; in binary it falls short of that."""
    assert int((1 - 0.9) * 45 + 0.5) == 4
    assert num_visible((2, 5, 9), 0.9) == 10


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_ratios_outside_are_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="expected a number above 0 and below 1"):
        num_visible(PAPER_GRID, ratio)


@pytest.mark.parametrize(
    ("grid", "ratio", "rounding", "strategy", "words"),
    [
        ((8, 4, 4), 0.98, "matched", "tube", "0.98 leaves no token visible of 128 .8 x 4 x 4.\n.*a smaller ratio"),
        ((1, 4, 4), 0.98, "paper", "adaptive", "leaves no token visible of 16"),
        ((8, 4, 4), 0.01, "matched", "random", "leaves no token hidden of 128.*\n.*a larger ratio"),
        ((1, 4, 4), 0.5, "paper", "frame", "leaves no token hidden"),
    ],
)
def test_counts_that_leave_nothing_are_refused(
    grid: Grid, ratio: float, rounding: Any, strategy: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        num_visible(grid, ratio, rounding, strategy)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="'tubes'; expected one of tube, random, frame, adaptive"):
        num_visible(PAPER_GRID, 0.9, "matched", "tubes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'up'; expected 'matched' or 'paper'"):
        num_visible(PAPER_GRID, 0.9, "up")  # type: ignore[arg-type]


@pytest.mark.parametrize("rounding", ["matched", "paper"])
@pytest.mark.parametrize("grid", GRIDS[:3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_row_is_distinct_sorted_and_of_its_kind(strategy: Any, grid: Grid, rounding: Any) -> None:
    for ratio in RATIOS:
        check_rows(strategy, grid, ratio, rounding)


def check_rows(strategy: Any, grid: Grid, ratio: float, rounding: Any) -> None:
    time, height, width = grid
    space = height * width
    tokens = time * space
    visible = num_visible(grid, ratio, rounding, strategy)
    keep, _, log_probs, _ = masker(strategy, tokens)(
        torch.zeros(5, tokens, 2), grid, visible, mask_generator(0, 0, 0)
    )
    assert keep.shape == (5, visible)
    assert keep.dtype == torch.int64
    assert (keep.diff(dim=1) > 0).all()
    assert keep.min() >= 0
    assert keep.max() < tokens
    assert (log_probs is not None) == (strategy == "adaptive")
    shown = visible_mask(keep, tokens).view(5, time, space)
    if strategy == "tube":
        assert (shown == shown[:, :1]).all()
    if strategy == "frame":
        whole, rest = divmod(visible, space)
        in_frame = shown.sum(dim=2).sort(dim=1, descending=True).values
        expected = ([space] * whole + [rest] * (rest > 0) + [0] * time)[:time]
        assert in_frame.tolist() == [expected] * 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_follow_seed_step_and_rank(strategy: str) -> None:
    tokens = torch.zeros(4, 1568, 1)
    draw = [
        masker(strategy, 1568)(tokens, PAPER_GRID, 160, mask_generator(*triple))[0]
        for triple in ((0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert torch.equal(draw[0], draw[1])
    assert not any(torch.equal(draw[0], other) for other in draw[2:])


def test_mask_seeds_are_fixed_numbers_and_differ() -> None:
    """A resumed run, a newer version and another machine must draw the same masks."""
    assert mask_seed(0, 0, 0) == 8604591564002525009
    seeds = {mask_seed(*triple) for triple in itertools.product(range(10), repeat=3)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("strategy", "grid", "visible"), [("random", (1, 2, 3), 3), ("tube", (2, 2, 2), 4)])
def test_every_subset_is_equally_likely(strategy: str, grid: Grid, visible: int) -> None:
    draws = 30_000
    keep = FIXED[strategy](torch.zeros(draws, 1, 1), grid, visible, mask_generator(0, 0, 0)).keep
    counts = Counter(tuple(row) for row in keep.tolist())
    subsets = 20 if strategy == "random" else 6
    assert len(counts) == subsets
    assert chi_square(counts, dict.fromkeys(counts, 1 / subsets), draws) < upper_limit(subsets - 1)


def test_frames_are_equally_likely() -> None:
    keep = FIXED["frame"](torch.zeros(20_000, 1, 1), (4, 1, 2), 3, mask_generator(0, 0, 0)).keep
    counts = Counter(tuple(row) for row in keep.tolist())
    # A whole frame out of 4, then one of two tokens of one of the 3 others.
    assert len(counts) == 24
    assert chi_square(counts, dict.fromkeys(counts, 1 / 24), 20_000) < upper_limit(23)


def test_tube_needs_a_multiple_of_the_frames() -> None:
    with pytest.raises(ConfigError, match="cannot show 81 tokens; expected a multiple of T = 8"):
        FIXED["tube"](torch.zeros(1, 1568, 1), PAPER_GRID, 81, None)


@pytest.mark.parametrize("weights", [[0.4, 0.3, 0.2, 0.1], [0.9, 0.05, 0.03, 0.01, 0.01], [1 / 6] * 6])
def test_gumbel_top_k_is_plackett_luce(weights: list[float]) -> None:
    draws = 50_000
    for k in (1, 2, 3):
        rows = torch.tensor(weights).log().expand(draws, -1)
        keep = gumbel_top_k(rows, k, mask_generator(3, k, 0))
        assert (keep.diff(dim=1) > 0).all()
        exact = plackett_luce(weights, k)
        counts = Counter(tuple(row) for row in keep.tolist())
        assert chi_square(counts, exact, draws) < upper_limit(len(exact) - 1)


def plackett_luce(weights: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Probability of each set of k items drawn one after another without replacement: the sum over its orders."""
    exact: dict[tuple[int, ...], float] = Counter()
    for order in itertools.permutations(range(len(weights)), k):
        probability, left = 1.0, sum(weights)
        for item in order:
            probability *= weights[item] / left
            left -= weights[item]
        exact[tuple(sorted(order))] += probability
    return exact


def chi_square(counts: Counter[tuple[int, ...]], exact: dict[tuple[int, ...], float], draws: int) -> float:
    assert counts.keys() <= exact.keys()
    return sum((counts[key] - draws * p) ** 2 / (draws * p) for key, p in exact.items())


def upper_limit(freedom: int) -> float:
    """About the 99.99 % point of the chi-square distribution (Wilson and Hilferty)."""
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 3.72 * spread**0.5) ** 3)


def test_probabilities_too_small_for_float32_keep_their_order() -> None:
    """exp(-200) is zero in float32; a softmax followed by multinomial would fail here."""
    log_weights = torch.tensor([[0.0, -200.0, -400.0, -600.0]]).expand(100, -1)
    assert gumbel_top_k(log_weights, 3, mask_generator(0, 0, 0)).tolist() == [[0, 1, 2]] * 100


def test_adaptive_masks_carry_the_gradient_of_the_log_probabilities() -> None:
    logits = torch.zeros(2, 8, requires_grad=True)
    draw = adaptive(lambda tokens: (tokens.sum(dim=-1) * 0 + logits).log_softmax(dim=1))
    keep, _, log_probs, _ = draw(torch.zeros(2, 8, 3), (2, 2, 2), 3, mask_generator(0, 0, 0))
    assert not keep.requires_grad
    assert log_probs is not None
    log_probs[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].tolist() == [0.875, 0.875]


def test_masked_indices_are_the_rest() -> None:
    keep = torch.tensor([[1, 4], [0, 2], [3, 4]])
    assert masked_indices(keep, 5).tolist() == [[0, 2, 3], [1, 3, 4], [0, 1, 2]]
    assert visible_mask(keep, 5)[0].tolist() == [False, True, False, False, True]

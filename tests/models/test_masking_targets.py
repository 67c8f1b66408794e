"""New strategies, decoder masks and one's own: exact numbers, disjoint sets, what each is for, and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed

from tests.models.test_adamae import MINI, build, clips
from vidkit.errors import ConfigError
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import Mask, Side, choose_targets, make_masker, mask_generator, num_targets, num_visible
from vidkit.models.masking.own import own
from vidkit.models.masking.shapes import green, multi_block
from vidkit.models.masking.targets import running_cells
from vidkit.models.running_errors import RunningErrors
from vidkit.settings.model import DecoderConfig, MaskConfig

NETWORKLESS = ("tube", "random", "frame", "motion", "multi-block", "green", "error")
HERE = "tests.models.test_masking_targets"


@settings(max_examples=60, deadline=None)
@given(
    strategy=st.sampled_from(NETWORKLESS),
    grid=st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(2, 6)),
    ratio=st.sampled_from([0.5, 0.75, 0.9, 0.95]),
    targets=st.sampled_from([("complement", 1.0), ("running-cell", 0.5), ("random", 0.3)]),
    seed=st.integers(0, 1000),
)
def test_numbers_are_exact_and_sets_apart(strategy: str, grid: Any, ratio: float, targets: Any, seed: int) -> None:
    mask = MaskConfig(strategy=strategy, ratio=ratio, targets=targets[0], target_ratio=targets[1], motion_share=0.6)
    tokens = grid[0] * grid[1] * grid[2]
    try:
        visible, predicted = num_visible(grid, ratio), num_targets(grid, mask)
    except ConfigError:
        return
    masker = make_masker(mask, grid)
    assert masker is not None
    patches = torch.rand(3, tokens, 6, generator=torch.Generator().manual_seed(seed))

    def draw() -> tuple[Tensor, Tensor]:
        generator = mask_generator(seed, 0, 0)
        side = Side(errors_N=torch.linspace(0.1, 1, tokens))
        found = masker(patches, grid, visible, generator, side)
        return found.keep, choose_targets(found.keep, found.targets, grid, mask, generator)

    keep, chosen = draw()
    assert keep.shape == (3, visible)
    assert chosen.shape == (3, predicted)
    both = torch.cat([keep, chosen], dim=1).sort(dim=1).values
    assert both.min() >= 0
    assert both.max() < tokens
    assert (both.diff(dim=1) > 0).all(), "no token twice, none in both"
    assert (keep.diff(dim=1) > 0).all()
    assert (chosen.diff(dim=1) > 0).all()
    again = draw()
    assert torch.equal(keep, again[0])
    assert torch.equal(chosen, again[1])


def test_motion_takes_what_changes_most_and_drops_the_rest() -> None:
    mask = MaskConfig(strategy="motion", ratio=0.75, motion_share=0.5)
    patches = torch.zeros(2, 32, 3)  # 2 x 4 x 4; the last two rows of the second step differ
    patches[:, 24:] = 1.0
    masker = make_masker(mask, (2, 4, 4))
    assert masker is not None
    found = masker(patches, (2, 4, 4), 8, mask_generator(0, 0, 0))
    assert found.targets is not None
    kept = torch.cat([found.keep, found.targets], dim=1).sort(dim=1).values
    assert kept.tolist() == [[*range(8, 16), *range(24, 32)]] * 2
    assert not torch.equal(found.keep[0], found.keep[1])


def test_motion_shows_no_place_more_often_where_all_is_still() -> None:
    masker = make_masker(MaskConfig(strategy="motion", ratio=0.75, motion_share=0.5), (2, 2, 4))
    assert masker is not None
    keep = masker(torch.zeros(8000, 16, 1), (2, 2, 4), 4, mask_generator(0, 0, 0)).keep
    share = keep.flatten().bincount(minlength=16) / 8000
    assert (share - 0.25).abs().max() < 0.03


def test_error_draws_in_proportion() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    masker = make_masker(MaskConfig(strategy="error", ratio=0.75), (1, 2, 2))
    assert masker is not None
    keep = masker(torch.zeros(20_000, 4, 1), (1, 2, 2), 1, mask_generator(0, 0, 0), Side(errors_N=weights)).keep
    share = keep.flatten().bincount(minlength=4) / 20_000
    assert (share - weights / 10).abs().max() < 0.015


def test_blocks_are_tubes_and_hang_together() -> None:
    keep = multi_block(torch.zeros(64, 8 * 196, 1), (8, 14, 14), 8 * 20, mask_generator(0, 0, 0)).keep
    shown = torch.zeros(64, 8 * 196).scatter(1, keep, 1.0).view(64, 8, 14, 14)
    assert (shown == shown[:, :1]).all()
    assert neighbours(shown) > 2 * 20 / 196, "next to a visible place another is visible more often than by chance"


def test_green_noise_is_smooth_in_time_but_no_tube() -> None:
    keep = green(torch.zeros(64, 8 * 196, 1), (8, 14, 14), 160, mask_generator(0, 0, 0)).keep
    shown = torch.zeros(64, 8 * 196).scatter(1, keep, 1.0).view(64, 8, 14, 14)
    stays = (shown[:, 1:] * shown[:, :-1]).sum() / shown[:, 1:].sum()
    assert 0.3 < stays < 0.95
    assert neighbours(shown) > 3 * 160 / 1568
    places = shown.mean(dim=0)
    assert (places - 160 / 1568).abs().max() < 0.2, "no place is favoured"


def neighbours(shown: Tensor) -> float:
    """Share of visible tokens whose right neighbour is visible."""
    return float((shown[..., 1:] * shown[..., :-1]).sum() / shown[..., :-1].sum())


def test_running_cells_move_on_and_come_round() -> None:
    tokens = torch.arange(4 * 4 * 4)[None]
    cells = running_cells(tokens, (4, 4, 4), 0.5, torch.zeros(1, 1, dtype=torch.long)).view(4, 4, 4)
    assert cells[0, :2, :2].tolist() == [[1, 1], [0, 0]]
    assert cells[1, :2, :2].tolist() == [[1, 0], [0, 1]]
    assert (cells[:, ::2, ::2] == cells[:, :1, :1]).all()
    assert (cells.mean(dim=0) == 0.5).all()


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_fewer_targets_are_scored_alone(kind: Any) -> None:
    config = replace(
        MINI,
        mask=MaskConfig(strategy="random", ratio=0.75, targets="random", target_ratio=0.5),
        decoder=replace(MINI.decoder, kind=kind),
    )
    model, video = build(config), clips(MINI)
    out = model(video, mask_generator(0, 0, 0))
    assert out.targets.shape == (2, model.num_targets)
    shown = model.predict(video, mask_generator(0, 0, 0))
    assert torch.equal(shown.target.flatten(1).nonzero()[:, 1].view(2, -1), out.targets)
    score = shown.error.sum().item() / out.targets.numel()
    assert score == pytest.approx(out.reconstruction_loss.item(), rel=1e-5)


def test_a_cross_decoder_predicts_each_token_for_itself() -> None:
    config = replace(MINI, decoder=DecoderConfig(width=16, depth=2, heads=2, kind="cross"))
    model, video = build(config).eval(), clips(config)
    keep = model(video, mask_generator(0, 0, 0)).keep
    whole = model.predict(video, keep_BV=keep)
    fewer = replace(config, mask=replace(config.mask, targets="random", target_ratio=0.25))
    other = build(fewer).eval()
    other.load_state_dict(model.state_dict())
    part = other.predict(video, keep_BV=keep)
    assert int(part.target.sum()) == 2 * other.num_targets
    torch.testing.assert_close(part.error[part.target], whole.error[part.target])
    model(video).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.decoder.parameters())


def test_the_running_mean_follows_errors_and_is_saved() -> None:
    model = build(replace(MINI, mask=MaskConfig(strategy="error", ratio=0.75, error_momentum=0.5)))
    assert model.running_errors is not None
    assert (model.running_errors.mean() == 1).all()
    model.running_errors.update(torch.tensor([[0, 1], [1, 2]]), torch.tensor([[1.0, 2.0], [4.0, 6.0]]))
    assert model.running_errors.mean()[:3].tolist() == [1.0, 3.0, 6.0]
    assert model.running_errors.mean()[3].item() == pytest.approx(10 / 3), "not seen yet: the mean of all"
    model.running_errors.update(torch.tensor([[0]]), torch.tensor([[float("nan")]]))
    model.running_errors.update(torch.tensor([[0]]), torch.tensor([[4.0]]))
    assert model.running_errors.mean()[0].item() == pytest.approx((0.25 * 1 + 0.5 * 4) / 0.75)
    assert "running_errors.sums" in model.state_dict()
    before = model.running_errors.sums.clone()
    model.eval()(clips(MINI))
    assert torch.equal(before, model.running_errors.sums), "evaluation teaches nothing"
    model.train()(clips(MINI))
    assert not torch.equal(before, model.running_errors.sums)


def test_processes_share_one_running_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each of two processes sees is added up, as if one had seen both batches."""
    targets, errors = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[1.0, 2.0], [4.0, 6.0]])
    whole, half = RunningErrors(4, 0.9), RunningErrors(4, 0.9)
    whole.update(targets, errors)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)

    def add_the_other(step: Tensor) -> None:
        step += torch.tensor([[0.0, 4.0, 6.0, 0.0], [0.0, 1.0, 1.0, 0.0]])

    monkeypatch.setattr(distributed, "all_reduce", add_the_other)
    half.update(targets[:1], errors[:1])
    assert torch.equal(half.sums, whole.sums)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"strategy": "motion", "ratio": 0.5}, "motion_share 0.3 keeps .* none is left to predict"),
        ({"ratio": 0.5, "targets": "random", "target_ratio": 0.001}, "leaves no target"),
    ],
)
def test_masks_that_leave_no_target(mask: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaMAE(replace(MINI, mask=MaskConfig(**mask)))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"target_ratio": 0.5}, "target_ratio is 0.5; expected 1 with targets complement"),
        ({"targets": "running-cell", "target_ratio": 0.3}, "expected 0.25, 0.5, 0.75 or 1"),
        ({"targets": "cells"}, "one of complement, running-cell, random"),
        ({"strategy": "a.b:"}, "or your own as module:function"),
    ],
)
def test_settings_that_are_refused(mask: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskConfig(**mask)


# --- masks of one's own ----------------------------------------------------------------------------------


def first_tokens(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Tensor:
    return torch.arange(visible - 1, -1, -1, device=tokens.device).expand(tokens.shape[0], -1)


def too_few(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Tensor:
    return first_tokens(tokens, grid, visible - 1)


def repeats(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Tensor:
    return torch.full((tokens.shape[0], visible), 3)


def outside(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Tensor:
    return first_tokens(tokens, grid, visible) + tokens.shape[1]


def flat(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Tensor:
    return torch.arange(visible)


def floats(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Tensor:
    return first_tokens(tokens, grid, visible).float()


def overlapping(tokens: Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> Mask:
    keep = first_tokens(tokens, grid, visible)
    return Mask(keep, targets=keep[:, :2])


def test_ones_own_masker_trains() -> None:
    model = build(replace(MINI, mask=MaskConfig(strategy=f"{HERE}:first_tokens", ratio=0.75)))
    out = model(clips(MINI))
    assert out.keep.tolist() == [list(range(model.num_visible))] * 2
    out.loss.backward()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_few", "gave 3 visible tokens a clip, too few; expected 4"),
        ("repeats", "gave visible token 3 twice in clip 0"),
        ("outside", "gave visible token 19; there are tokens 0 to 15"),
        ("flat", r"gave the visible tokens of shape \(4,\); expected \(2, number\)"),
        ("floats", "gave the visible tokens as torch.float32; expected torch.int64"),
        ("overlapping", "gave token 2 of clip 0 both as visible and as a target"),
        ("NETWORKLESS", "is a tuple, not a function"),
        ("nothing", "has no nothing"),
    ],
)
def test_ones_own_masker_is_looked_at(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own(f"{HERE}:{name}")(torch.zeros(2, 16, 3), (1, 4, 4), 4)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot import no_such_masks"):
        own("no_such_masks:f")(torch.zeros(2, 16, 3), (1, 4, 4), 4)

"""Matchers against slow versions of themselves, alignments done by hand, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.reference import ref_matching as reference
from vidkit.fewshot.matchers.matching import MATCHERS, SMOOTH, aligned_cost, chamfer, diagonal, otam
from vidkit.fewshot.matchers.similarity import class_scores, step_cosines


def clips(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_step_cosines_are_those_of_each_pair_of_steps() -> None:
    query, support = clips(2, 3, 4, 5), clips(2, 2, 6, 5, seed=1)
    found = step_cosines(query, support)
    assert found.shape == (2, 3, 2, 4, 6)
    for b, q, s in np.ndindex(2, 3, 2):
        assert np.allclose(found[b, q, s], reference.cosines(query[b, q].numpy(), support[b, s].numpy()))
    with pytest.raises(ValueError, match="steps of 5 and of 4 numbers"):
        step_cosines(query, support[..., :4])


@pytest.mark.parametrize("smooth", [0.0, SMOOTH, 0.5])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (3, 1), (2, 2), (3, 4), (5, 3)])
def test_otam_is_the_minimum_over_every_path(rows: int, columns: int, smooth: float) -> None:
    cost = torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found = aligned_cost(cost, smooth)
    for i in range(2):
        assert found[i].item() == pytest.approx(reference.aligned_cost(cost[i].numpy(), smooth), abs=1e-9)


def test_otam_by_hand() -> None:
    """Steps a and b in an otherwise different clip: found at no cost one way, at that of the rest the other way."""
    a, b, c, d = torch.eye(4, dtype=torch.float64)
    long, short = torch.stack([c, a, b, d]), torch.stack([a, b])
    cost = 1 - step_cosines(long[None, None], short[None, None])[0, 0, 0]  # (4, 2)
    assert aligned_cost(cost, 0).item() == 0  # columns a, b are met in rows 1 and 2; rows 0 and 3 are free
    assert aligned_cost(cost.T, 0).item() == 2  # all of c, a, b, d must be met: c and d cost 1 each
    backwards = 1 - step_cosines(long.flip(0)[None, None], short[None, None])[0, 0, 0]
    assert aligned_cost(backwards, 0).item() == 1  # b before a: one of them is not found


def test_chamfer_and_diagonal() -> None:
    table = step_cosines(clips(1, 2, 4, 5), clips(1, 3, 4, 5, seed=1))
    for q, s in np.ndindex(2, 3):
        one = table[0, q, s].numpy()
        assert chamfer(table)[0, q, s].item() == pytest.approx(reference.chamfer(one))
        assert diagonal(table)[0, q, s].item() == pytest.approx(np.trace(one) / 4)
    with pytest.raises(ValueError, match="clips of 4 and 3 steps have no diagonal"):
        diagonal(table[..., :3])


def test_what_depends_on_the_order_of_steps() -> None:
    query, support = clips(1, 1, 6, 8), clips(1, 1, 6, 8, seed=3)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    plain, mixed = step_cosines(query, support), step_cosines(query[:, :, order], support)
    for name, same in {"mean": True, "chamfer": True, "diagonal": False, "otam": False}.items():
        assert torch.allclose(MATCHERS[name](plain), MATCHERS[name](mixed)) == same, name


@pytest.mark.parametrize("name", MATCHERS)
def test_a_clip_is_most_like_itself_and_either_way_round(name: str) -> None:
    both = clips(1, 4, 5, 16, seed=5)
    found = MATCHERS[name](step_cosines(both, both))[0]
    assert torch.allclose(found, found.T)
    if name != "mean":
        assert (found.argmax(dim=1) == torch.arange(4)).all()


def test_otam_has_a_gradient_everywhere_and_the_right_one() -> None:
    cost = torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: aligned_cost(x, 0.3), (cost,))
    aligned_cost(cost, 0.3).backward()
    assert cost.grad is not None
    assert (cost.grad > 0).sum() >= 11


def test_otam_stays_finite_where_all_is_alike() -> None:
    same = torch.ones(1, 1, 1, 8, 8)
    assert torch.isfinite(otam(same)).all()
    assert torch.isfinite(otam(-same)).all()


def test_class_scores_are_means_over_shots() -> None:
    scores = torch.tensor([[[1.0, 2.0, 3.0, 8.0]]])
    assert class_scores(scores, torch.tensor([[1, 0, 1, 0]]), 2).tolist() == [[[5.0, 2.0]]]

"""TRX against a version that compares one tuple at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.fewshot.made import config
from tests.reference import ref_matching as reference
from vidkit.fewshot.learners.training import EpisodeRows, predict_all
from vidkit.fewshot.learners.trx import TrxLearner, TrxNetwork


def network(steps: int = 4) -> TrxNetwork:
    return TrxNetwork(steps, 6, 5, torch.Generator().manual_seed(0)).double()


def episode() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    support = torch.randn(2, 6, 4, 6, generator=draw, dtype=torch.float64)
    query = torch.randn(2, 3, 4, 6, generator=draw, dtype=torch.float64)
    return support, torch.tensor([[2, 0, 1, 1, 2, 0], [0, 0, 1, 2, 1, 2]]), query


def test_scores_are_those_of_one_tuple_after_the_other() -> None:
    model, (support, slots, query) = network(), episode()
    found = model(support, slots, query, 3)
    assert found.shape == (2, 3, 3)
    positions = model.positions.numpy()
    for b, q, k in np.ndindex(2, 3, 3):
        own = [support[b, i].numpy() for i in range(6) if slots[b, i] == k]
        scores = [
            reference.trx_score(
                own,
                query[b, q].numpy(),
                cardinality,
                {name: value.detach().numpy() for name, value in attention.state_dict().items()},
                positions,
            )
            for cardinality, attention in zip((2, 3), model.attentions, strict=True)
        ]
        assert found[b, q, k].item() == pytest.approx(sum(scores) / 2)


def test_every_weight_has_a_gradient_and_the_order_of_steps_matters() -> None:
    model, (support, slots, query) = network(), episode()
    scores = model(support, slots, query, 3)
    scores.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name != "attentions.0.norm.bias" and name != "attentions.1.norm.bias":
            assert parameter.grad.abs().max() > 0, name
    assert not torch.allclose(scores, model(support, slots, query.flip(2), 3))


def test_clips_of_two_steps_have_pairs_alone() -> None:
    model = network(steps=2)
    assert len(model.attentions) == 1
    assert model.attentions[0].index.tolist() == [[0, 1]]


def test_clips_projected_once_for_all_episodes_give_the_same() -> None:
    learner: Any = TrxLearner(config("trx", way=3, shot=2, query=1, hidden=5))
    learner.model = TrxNetwork(4, 6, 5, torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(3)
    features = torch.randn(40, 4, 6, generator=draw)
    rows = torch.stack([torch.randperm(40, generator=draw)[:9] for _ in range(30)])
    slots = torch.tensor([0, 1, 2, 2, 1, 0]).repeat(30, 1)
    found = predict_all(learner, features, EpisodeRows(rows[:, :6], slots, rows[:, 6:], slots[:, :3]))
    assert torch.equal(found, learner.predict(features[rows[:, :6]], slots, features[rows[:, 6:]]))
    assert len(found.unique()) == 3

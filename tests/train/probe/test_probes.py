"""Probes against slow references: neighbours one by one, normal equations, scikit-learn, finite differences."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vidkit.errors import TrainingError
from vidkit.settings.probe import ProbeConfig
from vidkit.train.probe import attentive, knn, linear


def clips(count: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(width, generator=generator) * 3 + 0.1
    return torch.randn(count, width, generator=generator) * scale + 5


def hot(count: int, classes: int = 3, several: bool = False) -> torch.Tensor:
    targets = torch.zeros(count, classes)
    targets[torch.arange(count), torch.arange(count) % classes] = 1
    if several:
        targets[::2, 0] = 1
    return targets


# --- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 12])
def test_neighbours_one_by_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "PART", 3)
    train, other, targets = clips(12, 5), clips(7, 5, seed=1), hot(12)
    cosine, row = knn.neighbours(train, other, 12)
    found = knn.votes(cosine, row, targets, k)
    columns = list(zip(*train.tolist(), strict=True))
    mean = [statistics.mean(column) for column in columns]
    spread = [statistics.pstdev(column) for column in columns]

    def standard(clip: list[float]) -> list[float]:
        return [(x - m) / s for x, m, s in zip(clip, mean, spread, strict=True)]

    base = [standard(clip) for clip in train.tolist()]
    for clip, scores in zip(other.tolist(), found.tolist(), strict=True):
        mine = standard(clip)
        cosines = [
            sum(a * b for a, b in zip(mine, one, strict=True)) / math.hypot(*mine) / math.hypot(*one)
            for one in base
        ]
        nearest = sorted(range(12), key=lambda i: -cosines[i])[:k]
        weights = {i: math.exp(cosines[i] / knn.TEMPERATURE) for i in nearest}
        expected = [sum(w for i, w in weights.items() if i % 3 == c) / sum(weights.values()) for c in range(3)]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_a_clip_is_its_own_nearest_neighbour() -> None:
    train, targets = clips(20, 6), hot(20)
    pair = knn.neighbours(train, train, 5)
    assert pair[1][:, 0].tolist() == list(range(20))
    assert (knn.votes(*pair, targets, 1).argmax(dim=1) == targets.argmax(dim=1)).all()


# --- linear --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "width"), [(40, 6), (12, 30)])
def test_ridge_by_normal_equations(count: int, width: int) -> None:
    """More clips than numbers, and fewer; a number that never changes says nothing."""
    train, other, targets = clips(count, width), clips(9, width, seed=1), hot(count)
    train[:, 2], other[:, 2] = 7, 100
    for penalty in (1e-6, 1e-2, 1.0):
        found = linear.ridge(linear.principal_axes(train), targets, penalty)(other)
        x, y = train.double().numpy(), targets.double().numpy()
        used = x.std(axis=0) > 0
        mean, spread = x[:, used].mean(axis=0), x[:, used].std(axis=0)
        z = (x[:, used] - mean) / spread
        cost = penalty * np.square(z).sum() * np.eye(z.shape[1])
        weights = np.linalg.solve(z.T @ z + cost, z.T @ (y - y.mean(axis=0)))
        expected = (other.double().numpy()[:, used] - mean) / spread @ weights + y.mean(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("count", "width"), [(60, 5), (15, 40)])
def test_logistic_against_scikit_learn(count: int, width: int) -> None:
    train, other, targets = clips(count, width), clips(9, width, seed=1), hot(count)
    train[:, 0] += 4 * targets[:, 1] - 2 * targets[:, 2]
    axes = linear.principal_axes(train)
    scale = axes.train.square().sum(dim=1).mean().sqrt()
    for penalty in (1e-3, 1e-2):
        found = linear.logistic(axes, targets, penalty, several=False)(other).softmax(dim=1)
        theirs = LogisticRegression(C=1 / (penalty * count), tol=1e-10, max_iter=20_000)
        theirs.fit((axes.train / scale).numpy(), targets.argmax(dim=1).numpy())
        expected = theirs.predict_proba((axes.of(other) / scale).numpy())
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_logistic_of_several_labels_is_one_for_each() -> None:
    penalty = 1e-3
    train, other, targets = clips(50, 4), clips(9, 4, seed=1), hot(50, several=True)
    axes = linear.principal_axes(train)
    scale = axes.train.square().sum(dim=1).mean().sqrt()
    found = linear.logistic(axes, targets, penalty, several=True)(other).sigmoid()
    for label in range(3):
        theirs = LogisticRegression(C=1 / (penalty * 50), tol=1e-10, max_iter=20_000)
        theirs.fit((axes.train / scale).numpy(), targets[:, label].numpy())
        expected = theirs.predict_proba((axes.of(other) / scale).numpy())[:, 1]
        np.testing.assert_allclose(found[:, label], expected, atol=2e-4)


def test_axes_keep_all_distances() -> None:
    for count, width in ((30, 5), (8, 20)):
        train, other = clips(count, width), clips(6, width, seed=2)
        axes = linear.principal_axes(train)
        assert axes.train.shape == (count, min(width, count - 1))
        torch.testing.assert_close(axes.of(train), axes.train)
        standard = (train.double() - axes.mean) / axes.spread
        torch.testing.assert_close(torch.cdist(axes.train, axes.train), torch.cdist(standard, standard))
        gram = axes.train.T @ axes.train
        torch.testing.assert_close(gram, torch.diag(torch.diagonal(gram)), atol=1e-6, rtol=0)
        assert axes.of(other).shape == (6, min(width, count - 1))


# --- attentive -----------------------------------------------------------------------------------


def test_attention_by_loops() -> None:
    model = attentive.AttentivePool(3, 4, 2, 2, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        model.position.normal_(generator=torch.Generator().manual_seed(1))
        model.head.weight.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = model(x)
    key_weight, value_weight = model.key_value.weight.chunk(2)
    key_bias, value_bias = model.key_value.bias.chunk(2)
    for clip in range(2):
        steps = [x[clip, t] + model.position[t] for t in range(3)]
        keys = [key_weight @ step + key_bias for step in steps]
        values = [value_weight @ step + value_bias for step in steps]
        pooled = []
        for head in (slice(0, 2), slice(2, 4)):
            logits = [(model.query[head] @ key[head]).item() / math.sqrt(2) for key in keys]
            shares = [math.exp(one) / sum(map(math.exp, logits)) for one in logits]
            pooled.append(sum(share * value[head] for share, value in zip(shares, values, strict=True)))
        torch.testing.assert_close(found[clip], model.head(torch.cat(pooled)))  # type: ignore[arg-type]


def test_attentive_gradients() -> None:
    model = attentive.AttentivePool(2, 4, 2, 2, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,))
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        got = parameter.grad.flatten()
        for i in range(0, parameter.numel(), 3):
            with torch.no_grad():
                values = []
                for step in (1e-5, -1e-5):
                    parameter.view(-1)[i] += step
                    values.append(float(model(x).square().sum()))
                    parameter.view(-1)[i] -= step
            assert float(got[i]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-6), name


def test_attention_knows_order_and_is_the_same_for_a_seed() -> None:
    """Two classes that are one another in reverse: without positions nothing would tell them apart."""
    generator = torch.Generator().manual_seed(0)
    course = torch.randn(4, 6, generator=generator)
    noise = torch.randn(80, 4, 6, generator=generator) * 0.3
    targets = hot(80, classes=2)
    x = torch.where(targets[:, :1, None] > 0, course, course.flip(0)) + noise

    def accuracy(scores: object) -> float:
        return float((scores(x).argmax(dim=1) == targets.argmax(dim=1)).double().mean())  # type: ignore[operator]

    config = ProbeConfig(steps=150, batch=20, learning_rate=1e-2)
    found, done = attentive.fit(x, targets, config, several=False, judge=accuracy)
    assert accuracy(found) > 0.95
    assert done.accuracy == accuracy(found)
    torch.manual_seed(99)
    again, _ = attentive.fit(x, targets, config, several=False, judge=accuracy)
    assert torch.equal(found(x), again(x))
    with pytest.raises(TrainingError, match="the loss of the attentive probe is nan"):
        attentive.fit(x * torch.nan, targets, config, several=False, judge=accuracy)

"""Learners on clips as sequences: against one clip at a time, and on classes that differ in order alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fewshot.made import classes_of_eight, config
from tests.reference import ref_matching as reference
from vidkit.errors import ConfigError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit, split_classes
from vidkit.fewshot.episodes.draw import LabelledClips
from vidkit.fewshot.inputs.features import ClipFeatures
from vidkit.fewshot.inputs.maps import Steps, reducer
from vidkit.fewshot.learners.recurrent import classify, classify_late, read_sequence
from vidkit.fewshot.learners.table import LEARNERS as MADE
from vidkit.models.memory.episodic import BlackBox
from vidkit.models.memory.mann import Mann
from vidkit.settings.model import MannConfig, blackbox

WITHOUT_TRAINING = ("simpleshot", "cosine", "diagonal", "chamfer", "otam", "baseline++")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    return classes_of_eight(tmp_path_factory.mktemp("sequences"), 24)


@pytest.fixture(scope="module")
def split(clips: LabelledClips) -> ClassSplit:
    return split_classes(clips, shares=(0.5, 0.2, 0.3))


def in_order(clips: LabelledClips, noise: float = 0.3) -> ClipFeatures:
    """Every class shows the same four directions, in an order of its own: 24 orders, 24 classes."""
    rng = np.random.default_rng(0)
    orders = np.array([[i, j, k, 6 - i - j - k] for i in range(4) for j in range(4) for k in range(4)
                       if len({i, j, k}) == 3])  # fmt: skip
    steps = np.eye(4)[orders[rng.permutation(24)][clips.class_id]]
    array = steps + noise * rng.standard_normal(steps.shape)
    return ClipFeatures(array=array.astype(np.float32), name="made")


def test_order_is_seen_by_those_that_read_it(clips: LabelledClips, split: ClassSplit) -> None:
    settings = config(
        *WITHOUT_TRAINING, "trx", way=4, shot=1, query=2, episodes=150, steps=60, learning_rate=0.01, batch=8
    )
    found = {row.learner: row for row in fewshot.evaluate(clips, in_order(clips), split, settings).rows}
    for name in ("diagonal", "otam", "trx"):
        assert found[name].accuracy > 0.6, name
    for name in ("simpleshot", "cosine", "chamfer", "baseline++"):
        assert abs(found[name].accuracy - 0.25) < 0.12, name
    assert found["diagonal"].accuracy > found["otam"].accuracy  # which forgives shifts, and there are none
    assert found["trx"].training["steps"] == 60
    assert all(found[name].training == {} for name in WITHOUT_TRAINING)


@pytest.mark.parametrize("name", ["diagonal", "chamfer", "otam"])
def test_scores_are_means_over_shots_one_pair_at_a_time(name: str) -> None:
    draw = torch.Generator().manual_seed(4)
    support, query = (torch.randn(3, count, 5, 6, generator=draw, dtype=torch.float64) for count in (4, 7))
    slots = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1]])
    learner = MADE[name](config(name, way=2, shot=2))  # type: ignore[index]
    found = learner.predict(support, slots, query)
    for b, q in np.ndindex(3, 7):
        scores = np.zeros(2)
        for s in range(4):
            table = reference.cosines(query[b, q].numpy(), support[b, s].numpy())
            both = reference.aligned_cost(1 - table, 0.1) + reference.aligned_cost(1 - table.T, 0.1)
            one = {"diagonal": np.trace(table) / 5, "chamfer": reference.chamfer(table), "otam": -both / 2}[name]
            scores[slots[b, s]] += one / 2
        assert found[b, q] == scores.argmax()


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_a_batch_of_episodes_is_its_episodes(name: str) -> None:
    draw = torch.Generator().manual_seed(5)
    support, query = (torch.randn(4, count, 3, 8, generator=draw) for count in (6, 5))
    slots = torch.tensor([0, 1, 2, 2, 1, 0]).repeat(4, 1)
    learner: Any = MADE[name](config(name, way=3, shot=2))  # type: ignore[index]
    whole = learner.predict(support, slots, query)
    for b in range(4):
        assert torch.equal(learner.predict(support[b : b + 1], slots[:1], query[b : b + 1]), whole[b : b + 1])
    assert torch.equal(learner.predict(3 * support, slots, 2 * query), whole)  # lengths say nothing


def test_trx_needs_two_steps(clips: LabelledClips, split: ClassSplit) -> None:
    one = ClipFeatures(array=in_order(clips).array.reshape(len(clips), 1, -1), name="made")
    with pytest.raises(ConfigError, match=r"trx compares pairs of .* steps, and features have 1\n  -> choose"):
        fewshot.evaluate(clips, one, split, config("trx", way=2))


# --- clips as steps of recurrent learners -------------------------------------------------------------------------


def mann() -> Mann:
    settings = MannConfig(inputs=3, way=2, controller=8, slots=6, width=5, reads=2)
    return Mann(settings, torch.Generator().manual_seed(0)).double()


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_one_step_a_clip_is_a_step_of_the_papers() -> None:
    model, items = mann(), drawn(4, 5, 3)
    labels = torch.randint(0, 2, (4, 5), generator=torch.Generator().manual_seed(2))
    assert torch.equal(read_sequence(model, items[:, :, None], labels), model(items, labels))
    other = BlackBox(blackbox(3, 2, 8), torch.Generator().manual_seed(0)).double()
    queries = drawn(4, 6, 3, seed=3)
    found = classify(other, items[:, :, None], labels, queries[:, :, None])
    assert torch.equal(found, other.classify(items, labels, queries))


def test_a_label_comes_with_the_first_step_of_the_next_clip() -> None:
    """One step after the other by hand, with the memory at first and last steps."""
    model, items = mann(), drawn(2, 3, 4, 3)
    labels = torch.tensor([[0, 1, 1], [1, 0, 1]])
    state: Any = model.start(2)
    expected = []
    for clip in range(3):
        for step in range(4):
            told = torch.zeros(2, 2, dtype=torch.float64)
            if clip and not step:
                told[torch.arange(2), labels[:, clip - 1]] = 1
            seen = torch.cat([items[:, clip, step], told], dim=1)[:, None]
            logits, state = model.advance(seen, state, [step in (0, 3)])
        expected.append(logits[:, 0])
    found = read_sequence(model, items, labels)
    torch.testing.assert_close(found, torch.stack(expected, dim=1))
    # a clip's own label is not known when it is answered; the one before it is
    other = labels.clone()
    other[:, 1] = 1 - other[:, 1]
    again = read_sequence(model, items, other)
    assert torch.equal(again[:, :2], found[:, :2])
    assert not torch.allclose(again[:, 2], found[:, 2])
    late = classify_late(model, items[:, :2], labels[:, :2], items[:, 2:])
    torch.testing.assert_close(late[:, 0], found[:, 2])


def test_black_box_reads_every_step_and_queries_do_not_meet() -> None:
    model = BlackBox(blackbox(3, 2, 8), torch.Generator().manual_seed(0)).double()
    support, queries = drawn(2, 4, 5, 3), drawn(2, 3, 5, 3, seed=9)
    labels = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0]])
    found = classify(model, support, labels, queries)
    assert found.shape == (2, 3, 2)
    for i in range(3):
        torch.testing.assert_close(classify(model, support, labels, queries[:, i : i + 1])[:, 0], found[:, i])
    other = queries.clone()
    other[:, :, 2] += 1
    assert not torch.allclose(classify(model, support, labels, other), found)


def test_steps_and_their_components(clips: LabelledClips, split: ClassSplit) -> None:
    array = in_order(clips).array
    flat = torch.from_numpy(array.reshape(len(array), -1))
    assert torch.equal(Steps(4)(flat), torch.from_numpy(array))
    fewer = reducer(array, clips, split, 2)
    assert fewer(Steps(4)(flat)).shape == (len(array), 4, 2)
    number = {name: i for i, name in enumerate(clips.classes)}
    part = array[np.isin(clips.class_id, [number[name] for name in split.train])].reshape(-1, 4)
    left = np.linalg.svd((part - part.mean(axis=0)).astype(np.float64), full_matrices=False)[2][:2]
    scores = (array.astype(np.float64) - part.mean(axis=0)) @ left.T
    expected = np.abs(scores / np.sqrt(np.square((part - part.mean(axis=0)) @ left.T).mean()))
    np.testing.assert_allclose(np.abs(fewer(torch.from_numpy(array)).numpy()), expected, rtol=1e-3, atol=1e-4)


def test_without_scale_features_are_centred_alone(clips: LabelledClips, split: ClassSplit, tmp_path: Path) -> None:
    """Then one loud number decides; standardised, none is louder than another."""
    found = in_order(clips, noise=0.1).array.copy()
    found[:, :, 0] += 30 * np.random.default_rng(1).standard_normal(found.shape[:2])
    features = ClipFeatures(array=found, name="made")
    plain = config("diagonal", way=4, shot=1, query=2, episodes=100)
    scaled = fewshot.evaluate(clips, features, split, plain).rows[0]
    centred = config("diagonal", way=4, shot=1, query=2, episodes=100, standardise=False)
    loud = fewshot.evaluate(clips, features, split, centred).rows[0]
    assert (scaled.standardised, loud.standardised) == (True, False)
    assert scaled.accuracy > loud.accuracy + 0.2

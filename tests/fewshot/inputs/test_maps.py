"""What learners see of an encoder's features, against slow references and a library's eigenvectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch

from tests.fewshot.made import classes_of_eight
from vidkit.errors import ConfigError, VidkitError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit, split_classes
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.fewshot.inputs.features import ClipFeatures
from vidkit.fewshot.inputs.maps import SHRINKAGE, discriminator, reducer, standardiser
from vidkit.settings.fewshot import FewshotConfig

HOW: dict[str, Any] = {"way": 2, "query": 3, "episodes": 100}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    return classes_of_eight(tmp_path_factory.mktemp("few"), 60)


@pytest.fixture(scope="module")
def split(clips: LabelledClips) -> ClassSplit:
    return split_classes(clips, shares=(0.7, 0.1, 0.2))


def random(clips: LabelledClips, width: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((len(clips), width)).astype(np.float32)


def test_standardised_by_meta_train_alone(clips: LabelledClips, split: ClassSplit) -> None:
    array = (random(clips, 5) * [1, 10, 100, 0, 1] + [0, 5, 9, 7, 0]).astype(np.float32)
    inside = np.isin([clips.classes[i] for i in clips.class_id], split.train)
    array[~inside, 4] += 50
    standard = standardiser(array, clips, split)
    assert standard is not None
    found = standard(torch.from_numpy(array)).numpy()
    np.testing.assert_allclose(found[inside].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found[inside].std(axis=0), [1, 1, 1, 0, 1], atol=1e-5)
    assert found[~inside, 4].mean() > 40
    reduced = reducer(found, clips, split, 3)(torch.from_numpy(found)).numpy()
    assert reduced.shape == (len(clips), 3)
    assert np.square(reduced[inside]).mean() == pytest.approx(1)
    part = found[inside].astype(float) - found[inside].astype(float).mean(axis=0)
    _, _, vectors = np.linalg.svd(part, full_matrices=False)
    expected = part @ vectors[:3].T
    expected /= np.sqrt(np.square(expected).mean())
    np.testing.assert_allclose(np.abs(reduced[inside]), np.abs(expected), atol=1e-3)


def test_discriminants_solve_the_generalised_eigenproblem(clips: LabelledClips, split: ClassSplit) -> None:
    """Of scatter between and within classes; and by steps they end at those of the clip."""
    rng = np.random.default_rng(3)
    array = (random(clips, 12) * rng.uniform(0.2, 3, 12)).astype(np.float32)
    array[:, :6] += rng.standard_normal((len(clips.classes), 6))[clips.class_id] * rng.uniform(0.1, 1, 6)
    found = discriminator(array, clips, split)(torch.from_numpy(array)).numpy()
    assert found.shape == (len(clips), 12)
    within = between = np.zeros((12, 12))
    inside = np.isin([clips.classes[i] for i in clips.class_id], split.train)
    centre = array[inside].astype(float).mean(axis=0)
    for number in set(clips.class_id[inside].tolist()):
        part = array[clips.class_id == number].astype(float)
        mean = part.mean(axis=0)
        between = between + len(part) * np.outer(mean - centre, mean - centre) / inside.sum()
        within = within + (part - mean).T @ (part - mean) / inside.sum()
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / 12 * np.eye(12)
    expected = array @ scipy.linalg.eigh(between, within)[1][:, ::-1]
    np.testing.assert_allclose(found, np.sign((found * expected).sum(axis=0)) * expected, atol=2e-3)
    vectors = discriminator(array, clips, split).vectors
    assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(12)] > 0).all(), "libraries differ in signs"
    by_steps = replace(discriminator(array, clips, split), steps=4)(torch.from_numpy(array)).numpy()
    assert by_steps.shape == (len(clips), 4, 12)
    np.testing.assert_allclose(by_steps[:, -1], found, atol=1e-4)
    cut = array.copy()
    cut[:, 6:] = 0  # the first two steps of three numbers
    np.testing.assert_allclose(
        by_steps[:, 1], discriminator(array, clips, split)(torch.from_numpy(cut)).numpy(), atol=1e-4
    )


def test_discriminants_find_what_tells_classes_apart(clips: LabelledClips, split: ClassSplit) -> None:
    """A class is a shift of a few numbers among many that say nothing."""
    rng = np.random.default_rng(5)
    array = rng.standard_normal((len(clips), 2, 150)).astype(np.float32)
    array[:, :, :8] += 1.5 * rng.standard_normal((len(clips.classes), 1, 8))[clips.class_id]
    features = ClipFeatures(array=array, name="made")
    names = ("proto", "simpleshot", "diagonal")
    asked = FewshotConfig(**HOW, learners=names)
    before = {row.learner: row.accuracy for row in fewshot.evaluate(clips, features, split, asked).rows}
    assert discriminator(features.flat, clips, split).vectors.shape == (300, 41), "one fewer than classes"
    guesses: dict[str, dict[str, str]] = {}
    for form in ("clip", "steps"):
        for row in fewshot.evaluate(clips, features, split, replace(asked, discriminant=form)).rows:
            assert row.discriminant == form
            guesses.setdefault(row.learner, {})[form] = row.predictions_sha256
            assert row.accuracy > before[row.learner] + 0.05, (form, row.learner)
    same = {name for name, found in guesses.items() if found["clip"] == found["steps"]}
    assert same == {"proto", "simpleshot"}, "those that do not look at steps"
    with pytest.raises(ConfigError, match="two meta-train classes"):
        fewshot.evaluate(clips, features, replace(split, train=()), FewshotConfig(**HOW, discriminant="clip"))


def test_more_numbers_than_clips(clips: LabelledClips, split: ClassSplit) -> None:
    """Then the clips' own span is looked at alone, and nothing is lost by it."""
    few = replace(split, train=split.train[:6])  # of 48 clips
    array = random(clips, 70)
    array[:, :6] += 2 * np.random.default_rng(2).standard_normal((len(clips.classes), 6))[clips.class_id]
    found = discriminator(array, clips, few).vectors
    inside = np.isin([clips.classes[i] for i in clips.class_id], few.train)
    part, number = array[inside].astype(float), clips.class_id[inside]
    means = np.stack([part[number == i].mean(axis=0) for i in number])
    within, between = (np.cov(x.T, bias=True) for x in (part - means, means))
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / 70 * np.eye(70)
    expected = scipy.linalg.eigh(between, within)[1][:, ::-1][:, :5]
    np.testing.assert_allclose(found, np.sign((found * expected).sum(axis=0)) * expected, atol=1e-6)


def test_a_class_split_of_another_dataset(clips: LabelledClips, split: ClassSplit) -> None:
    other = replace(split, train=("somewhere else", *split.train))
    features = ClipFeatures(array=random(clips, 5)[:, None], name="made")
    with pytest.raises(VidkitError, match="somewhere else"):
        fewshot.evaluate(clips, features, other, FewshotConfig(way=2, query=3, discriminant="clip"))

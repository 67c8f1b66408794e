from __future__ import annotations

import numpy as np
import pytest

from tests.reference import ref_training
from vidkit.train.metrics import multi_label, single_label


@pytest.mark.parametrize(("clips", "classes"), [(50, 7), (9, 3), (1, 2), (40, 60)])
def test_single_label(clips: int, classes: int) -> None:
    rng = np.random.default_rng(clips)
    scores = rng.random((clips, classes)).astype(np.float32)
    labels = rng.integers(0, classes, clips)
    found = single_label(scores, labels)
    assert found["top1"] == pytest.approx(ref_training.accuracy(scores, labels, 1))
    assert found["top5"] == pytest.approx(ref_training.accuracy(scores, labels, 5))
    best = scores.argmax(axis=1)
    for label in range(classes):
        mine = labels == label
        expected = None if not mine.any() else pytest.approx((best[mine] == label).mean())
        assert found["per_class"][label] == expected
    assert found["mean_class"] == pytest.approx(np.mean([x for x in found["per_class"] if x is not None]))
    confusion = np.zeros((classes, classes), int)
    for true, predicted in zip(labels, best, strict=True):
        confusion[true, predicted] += 1
    assert found["confusion"] == confusion.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_multi_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((30, 6)).astype(np.float32)
    labels = (rng.random((30, 6)) < 0.3).astype(np.float32)
    labels[:, 2] = 0  # a label that no clip has
    found = multi_label(scores, labels)
    present = [i for i in range(6) if labels[:, i].any()]
    each = {i: ref_training.average_precision(scores[:, i].tolist(), labels[:, i].tolist()) for i in present}
    assert found["labels"] == len(present)
    assert found["per_class"] == [pytest.approx(each[i], abs=1e-6) if i in each else None for i in range(6)]
    assert found["mAP"] == pytest.approx(np.mean(list(each.values())), abs=1e-6)
    f1 = []
    for i in present:
        said, true = scores[:, i] >= 0.5, labels[:, i] > 0
        both = (said & true).sum()
        f1.append(2 * both / (said.sum() + true.sum()))
    assert found["f1"] == pytest.approx(np.mean(f1), abs=1e-6)


def test_one_label_or_none() -> None:
    scores = np.array([[0.9, 0.2], [0.1, 0.3], [0.8, 0.1]], np.float32)
    labels = np.array([[1, 0], [0, 0], [0, 0]], np.float32)
    found = multi_label(scores, labels)
    assert (found["mAP"], found["labels"], found["per_class"]) == (1.0, 1, [1.0, None])
    assert found["f1"] == pytest.approx(2 / 3)
    assert multi_label(scores, np.zeros((3, 2), np.float32))["mAP"] is None


def test_a_single_class() -> None:
    found = single_label(np.zeros((3, 1), np.float32), np.zeros(3, np.int64))
    assert (found["top1"], found["top5"], found["mean_class"]) == (1, 1, 1)
    assert (found["per_class"], found["confusion"]) == ([1.0], [[3]])

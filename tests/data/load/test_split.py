"""Opening a split, and keeping a class-balanced part of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data.tinyset import Clip, build, many
from tests.reference import ref_loader as ref
from vidkit.data.load.split import balanced_part, open_split
from vidkit.errors import ConfigError, DatasetError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [*many(11), Clip(status="failed"), Clip(status="missing"), Clip(labels=()), *many(3, split="val")]
    return build(tmp_path_factory.mktemp("split") / "data", clips)


def test_usable_clips_in_plan_order_and_the_others_named(dataset: Path) -> None:
    clips = open_split(dataset, "train")
    assert len(clips) == 12
    assert clips.key.to_pylist() == [f"{i:08d}" for i in (*range(11), 13)]
    assert clips.class_id.tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, -1]
    assert clips.classes == ("a", "class 0", "class 1", "class 2")
    assert [clips.shards[i] for i in clips.shard] == [f"train/{i // 5:06d}.tar" for i in (*range(11), 13)]
    assert [(bad.key, bad.status, bad.error) for bad in clips.unusable] == [
        ("00000011", "failed", "decode-error"),
        ("00000012", "missing", "missing"),
    ]
    assert clips.where(4) == "dataset 'tiny', shard train/000000.tar, key 00000004, clip made/4"
    assert len(open_split(dataset, "val")) == 3


def test_what_cannot_be_opened_says_what_to_do(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split is 'validation'; expected one of train, val, test"):
        open_split(dataset, "validation")
    with pytest.raises(DatasetError, match=r"no usable clip in split 'test' .*usable: train 12, val 3"):
        open_split(dataset, "test")
    with pytest.raises(DatasetError, match="no dataset in"):
        open_split(tmp_path, "train")


def test_a_shard_that_is_missing_or_cut_is_found_at_once(tmp_path: Path) -> None:
    root = build(tmp_path, many(6))
    shard = root / "train" / "000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    with pytest.raises(DatasetError, match=r"000001.tar: the shard has 9,728 bytes; it was built with 10,240"):
        open_split(root, "train")
    shard.unlink()
    with pytest.raises(DatasetError, match=r"000001.tar: the shard is not there\n  -> .*vidkit verify"):
        open_split(root, "train")


def single(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows and labels of so many clips in each class, mixed."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    return np.arange(len(labels)), labels, len(labels)


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 1.0])
def test_every_class_keeps_its_part(fraction: float) -> None:
    counts = [1, 2, 3, 10, 57, 400, 0, 6]
    rows, labels, total = single(counts)
    kept = balanced_part(rows, labels, total, fraction, 3)
    found = Counter(labels[kept].tolist())
    assert found == {c: ref.quota(fraction, n) for c, n in enumerate(counts) if n}
    assert (np.diff(kept) > 0).all()


def test_the_part_depends_on_the_seed_alone_and_grows() -> None:
    rows, labels, total = single([40, 40, 40])
    parts = [set(balanced_part(rows, labels, total, f, 5).tolist()) for f in (0.1, 0.2, 0.5, 1.0)]
    assert parts[0] < parts[1] < parts[2] < parts[3]
    assert balanced_part(rows, labels, total, 0.1, 5).tolist() == sorted(parts[0])
    others = [frozenset(balanced_part(rows, labels, total, 0.1, seed).tolist()) for seed in range(20)]
    assert len(set(others)) == 20
    chosen = Counter(i for other in others for i in other)
    assert max(chosen.values()) <= 8, "no clip is preferred"


def test_several_labels_a_clip() -> None:
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(500):  # label 0 in most clips, label 7 in very few
        for label in range(8):
            if rng.random() < 0.6 / (1 + label) ** 2:
                rows.append(i)
                labels.append(label)
    sizes = Counter(labels)
    for fraction in (0.01, 0.1, 0.3):
        kept = set(balanced_part(np.array(rows), np.array(labels), 500, fraction, 0).tolist())
        found = Counter(label for row, label in zip(rows, labels, strict=True) if row in kept)
        for label, count in sizes.items():
            assert found[label] >= ref.quota(fraction, count)
        labelled = len(set(rows))
        assert len(kept) <= sum(ref.quota(fraction, n) for n in sizes.values())
        assert len(kept) <= 1.3 * max(8, fraction * labelled), "labels share their clips"


def test_fraction_of_a_dataset_and_its_report(dataset: Path) -> None:
    clips = open_split(dataset, "train", label_fraction=0.5, seed=1)
    assert Counter(clips.class_id.tolist()) == {1: 2, 2: 2, 3: 2}
    report = clips.fraction
    assert report is not None
    assert (report.kept, report.of, report.classes, report.fewest, report.most, report.unlabelled) == (
        6,
        12,
        3,
        2,
        2,
        1,
    )
    assert str(report) == (
        "6 of 12 clips (50.0 %; 50 % asked for), 2 to 2 in each of 3 classes, 1 clips without a label left out"
    )
    keys = clips.key.to_pylist()
    assert keys == sorted(keys)
    whole = open_split(dataset, "train")
    for i, key in enumerate(keys):
        j = whole.key.to_pylist().index(key)
        assert (clips.offset[i], clips.nbytes[i], clips.where(i)) == (
            whole.offset[j],
            whole.nbytes[j],
            whole.where(j),
        )
    for bad in (0, -0.1, 1.5):
        with pytest.raises(ConfigError, match=r"label_fraction is .*; expected above 0, at most 1"):
            open_split(dataset, "train", label_fraction=bad)


def test_fraction_without_labels(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(labels=())] * 3)
    with pytest.raises(ConfigError, match="no clip of split 'train' has a label"):
        open_split(root, "train", label_fraction=0.5)


def test_fraction_with_several_labels(tmp_path: Path) -> None:
    sets = [("a",), ("a", "b"), ("a",), ("b", "c"), ("a",), ("a",), ("c", "a"), ("a", "b")]
    root = build(tmp_path, [Clip(labels=labels) for labels in sets], rule="multi-hot")
    clips = open_split(root, "train", label_fraction=0.3, seed=0)
    assert {label for i in range(len(clips)) for label in clips.labels(i)} == {0, 1, 2}
    for i in range(len(clips)):
        assert clips.labels(i) == sorted("abc".index(name) for name in sets[int(clips.key[i].as_py())])
    assert clips.fraction is not None
    assert clips.fraction.classes == 3

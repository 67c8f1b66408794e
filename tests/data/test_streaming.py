"""Streams give the samples that the dataset gives, in their own order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tests.data.tinyset import Clip, build, many
from vidkit.data import ClipDataset, collate, stream
from vidkit.errors import ConfigError, DatasetError

# webdataset leaves its files to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stream") / "data", many(12), per_shard=3)


def urls(root: Path) -> str:
    return f"{root}/train/{{000000..000003}}.tar"


def test_samples_are_those_of_the_dataset(dataset: Path) -> None:
    how: dict[str, Any] = {"frames": 4, "stride": 2, "size": 32, "repeats": 2, "seed": 4}
    clips = ClipDataset(dataset, "train", **how)
    found = {sample.key: sample for sample in stream(urls(dataset), flip=True, **how)}
    assert sorted(found) == [f"{i:08d}" for i in range(12)]
    for i in range(12):  # all clips are usable, so keys are the clips' numbers
        sample = found[f"{i:08d}"]
        assert torch.equal(sample.video, clips[i].video)
        assert torch.equal(sample.frames, clips[i].frames)
        assert (sample.class_id, sample.index) == (clips[i].class_id, i)


def test_order_and_epochs(dataset: Path) -> None:
    def keys(**how: Any) -> list[str]:
        return [sample.key for sample in stream(urls(dataset), frames=2, stride=1, **how)]

    assert keys() == keys()
    assert keys(epoch=1) != keys()
    assert keys(shuffle=0) == sorted(keys())
    assert keys(mode="views") == sorted(keys()), "a test comes as it lies"


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_through_workers(dataset: Path, workers: int) -> None:
    shards = stream(urls(dataset), frames=2, stride=1)
    loader = DataLoader(shards, batch_size=4, num_workers=workers, collate_fn=collate)
    keys = [key for batch in loader for key in batch.key]
    assert sorted(keys) == [f"{i:08d}" for i in range(12)]


def test_several_labels(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(labels=("a", "c")), Clip(labels=("b",))], rule="multi-hot")
    found = list(stream(f"{root}/train/000000.tar", frames=2, stride=1, labels=3, shuffle=0))
    assert [sample.multi_hot.tolist() for sample in found] == [[1, 0, 1], [0, 1, 0]]
    assert [sample.class_id for sample in found] == [-1, -1]


def test_a_broken_clip_is_an_error(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(), Clip(payload=b"\0" * 3000)])
    with pytest.raises(DatasetError, match=r"000000.tar: key 00000001, clip made/1: not-a-video"):
        list(stream(f"{root}/train/000000.tar", frames=2, stride=1))
    with pytest.raises(ConfigError, match="decoder is 'x'"):
        stream("x.tar", decoder="x")
    with pytest.raises(ConfigError, match="training=True or training=False"):
        stream("x.tar", mode="segments")

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


def read_by(monkeypatch: pytest.MonkeyPatch, rank: int, world: int, loader: Any) -> list[str]:
    """Keys that one process of several gets."""
    with monkeypatch.context() as patched:
        patched.setenv("RANK", str(rank))
        patched.setenv("WORLD_SIZE", str(world))
        return [key for batch in loader() for key in batch.key]


@pytest.mark.parametrize(("per_shard", "world", "workers"), [(3, 2, 2), (6, 2, 2), (12, 2, 0), (4, 4, 1)])
def test_few_shards_are_shared_by_clips(
    per_shard: int, world: int, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4, 2, 1 and 3 shards of 12 clips for 4, 4, 2 and 4 readers: everybody has clips, and each comes once."""
    root = build(tmp_path, many(12), per_shard=per_shard)
    shards = sorted(map(str, root.glob("train/*.tar")))

    def loader() -> Any:
        clips = stream(shards, frames=2, stride=1)
        return DataLoader(clips, batch_size=2, num_workers=workers, collate_fn=collate)

    found = [read_by(monkeypatch, rank, world, loader) for rank in range(world)]
    assert sorted(key for keys in found for key in keys) == [f"{i:08d}" for i in range(12)]
    assert [len(keys) for keys in found] == [12 // world] * world


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("per_shard", [3, 7])
def test_a_length_is_the_same_for_every_process(
    per_shard: int, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path, many(12), per_shard=per_shard)
    shards = sorted(map(str, root.glob("train/*.tar")))

    def loader(length: int = 9) -> Any:
        clips = stream(shards, frames=2, stride=1, length=length)
        return DataLoader(clips, batch_size=3, num_workers=workers, collate_fn=collate)

    found = [read_by(monkeypatch, rank, 2, loader) for rank in range(2)]
    assert [len(keys) for keys in found] == [9, 9], "more than a process has: some come again"
    assert found == [read_by(monkeypatch, rank, 2, loader) for rank in range(2)]
    every = read_by(monkeypatch, 0, 1, lambda: loader(25))
    assert len(every) == 25
    assert min(every.count(f"{i:08d}") for i in range(12)) >= 1


def test_clips_that_come_again_have_other_crops(dataset: Path) -> None:
    first, again = {}, {}
    for sample in stream(urls(dataset), frames=2, stride=1, length=24):
        (again if sample.key in first else first)[sample.key] = sample
    assert first.keys() == again.keys()
    assert len(first) == 12
    assert not any(torch.equal(first[key].video, again[key].video) for key in first)
    with pytest.raises(ConfigError, match="length is 0"):
        stream(urls(dataset), length=0)


def test_more_readers_than_clips(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "13")
    monkeypatch.setenv("WORLD_SIZE", "14")
    with pytest.raises(DatasetError, match=r"worker 0 of process 13 has no clip: the 4 shards hold fewer clips"):
        list(stream(urls(dataset), frames=2, stride=1, length=4))

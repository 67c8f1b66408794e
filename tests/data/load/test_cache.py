"""Caches give the pixels of the uncached loader, take the memory that they say, and refuse what does not fit."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import forked
from tests.data import builds
from tests.data.tinyset import Clip, build, many
from vidkit.data import ClipBatch, ClipDataset, ClipLoader
from vidkit.data.load import cache
from vidkit.data.load.augment import Augment
from vidkit.data.load.cache import DeviceCache, HostCache, available_memory, check_fits, clip_bytes
from vidkit.data.load.order import Request
from vidkit.data.media.frames import decode_frames
from vidkit.errors import ClipError, ConfigError, DatasetError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [*many(13), *many(6, split="val")]
    return build(tmp_path_factory.mktemp("cache") / "data", clips)


def batches(
    dataset: Path, how: dict[str, Any], split: str = "train", epochs: int = 2, **more: Any
) -> list[ClipBatch]:
    clips = ClipDataset(dataset, split, **{"frames": 4, "stride": 2, **more})
    loader = ClipLoader(clips, batch_size=3, **how)
    found = [batch for _ in range(epochs) for batch in loader]
    assert len(found) == epochs * len(loader)
    return found


def same(ours: list[ClipBatch], theirs: list[ClipBatch], tolerance: int = 0) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.key == b.key
        for name in ("class_id", "index", "view", "frames"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert (a.multi_hot is None) == (b.multi_hot is None)
        assert a.video.shape == b.video.shape
        assert (a.video.int() - b.video.int()).abs().max() <= tolerance


HOST = {"cache": "host"}
DEVICE = {"cache": "device", "device": "cpu"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("repeats", [1, 2])
def test_host(dataset: Path, workers: int, repeats: int) -> None:
    how = {"repeats": repeats, "size": 32, "augment": "finetune"}
    same(batches(dataset, {**HOST, "workers": workers}, **how), batches(dataset, {}, **how))


@pytest.mark.parametrize("workers", [0, 2])
def test_device(dataset: Path, workers: int) -> None:
    same(batches(dataset, {**DEVICE, "workers": workers}), batches(dataset, {}), tolerance=1)


def test_device_without_scaling(dataset: Path) -> None:
    still = Augment(crop="none", flip=0.5)
    same(batches(dataset, DEVICE, augment=still), batches(dataset, {}, augment=still))


def test_device_with_everything(dataset: Path) -> None:
    """Operations come after the crop, whose pixels may differ by 1: compared where nothing is scaled."""
    much = Augment(crop="none", rand_ops=2, erase=0.5)
    found = batches(dataset, DEVICE, augment=much, repeats=2)
    same(found, batches(dataset, {}, augment=much, repeats=2))


def test_tests(dataset: Path) -> None:
    how = {"mode": "views", "views": (3, 2), "crop_share": 0.75}
    for size, tolerance in ((48, 0), (32, 1)):
        expected = batches(dataset, {}, "val", size=size, **how)
        same(batches(dataset, HOST, "val", size=size, **how), expected)
        same(batches(dataset, DEVICE, "val", size=size, **how), expected, tolerance)


def test_segments(dataset: Path) -> None:
    expected = batches(dataset, {}, mode="segments", training=True)
    same(batches(dataset, DEVICE, mode="segments", training=True), expected, tolerance=1)


def test_several_labels(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(labels=labels) for labels in (("a",), ("a", "b"), ("c",))], rule="multi-hot")
    for how in (HOST, DEVICE):
        (found,), (expected,) = batches(root, how, epochs=1), batches(root, {}, epochs=1)
        assert found.multi_hot is not None
        assert expected.multi_hot is not None
        assert torch.equal(found.multi_hot, expected.multi_hot)


def test_clips_of_all_lengths_and_sizes_in_host_memory(tmp_path: Path) -> None:
    clips = [Clip(frames=3), Clip(frames=30, width=96), Clip(frames=11, height=80), Clip(frames=1)]
    root = build(tmp_path, clips)
    data = ClipDataset(root, "train")
    host = HostCache(data, workers=2)
    assert (
        host._decoded.memory.nbytes
        == clip_bytes(data).sum()
        == 3 * sum(c.frames * c.width * c.height for c in clips)
    )
    for i, clip in enumerate(clips):
        whole = decode_frames(data.bytes(i), range(clip.frames))
        np.testing.assert_array_equal(host.pictures(i, range(clip.frames)), whole)
        np.testing.assert_array_equal(host.pictures(i, [clip.frames - 1, 0, 0]), whole[[clip.frames - 1, 0, 0]])
    with pytest.raises(ConfigError, match=r"clips have 3 picture sizes, from \(64, 64\) to \(80, 64\)") as caught:
        DeviceCache(data, "cpu")
    assert "use --cache host" in str(caught.value)


def test_pieces_on_the_way_to_a_device(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ClipDataset(dataset, "train", frames=4, stride=2)
    whole = DeviceCache(data, "cpu")
    told: list[tuple[int, int]] = []
    for piece in (1, 700_000):
        monkeypatch.setattr(cache, "_PIECE", piece)
        told.clear()
        other = DeviceCache(data, "cpu", progress=lambda done, of: told.append((done, of)))
        assert torch.equal(whole.frames, other.frames)
        assert told == [(i, 13) for i in range(1, 14)]
    requests = [Request(4), Request(4, 1), Request(4, 0, 1), Request(2)]
    batch = whole.batch(requests)
    assert batch.index.tolist() == [4, 4, 4, 2]
    assert len({batch.video[i].numpy().tobytes() for i in range(3)}) == 3
    first = whole.first[4]
    assert torch.equal(whole.frames[first], torch.from_numpy(data.pictures(4, [0])[0]))


def test_what_does_not_fit(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ClipDataset(dataset, "train")
    needed = int(clip_bytes(data).sum())
    for how in (HOST, DEVICE):
        with pytest.raises(ConfigError) as caught:
            ClipLoader(data, batch_size=3, memory_limit=100_000, **how)
        words = str(caught.value)
        assert f"the decoded clips take {needed:,} bytes; the limit is 100,000 bytes" in words
        assert "-> use --cache none, a part of the clips (--label-fraction), or more memory" in words
        ClipLoader(data, batch_size=3, memory_limit=needed, **how)
    monkeypatch.setattr(cache, "available_memory", lambda: 2 * needed)
    HostCache(data)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"the decoded clips take .*; memory has room for"):
        HostCache(data)
    monkeypatch.setattr(cache, "available_memory", lambda: needed)
    with pytest.raises(ConfigError, match="cpu has room for"):
        DeviceCache(data, "cpu")
    monkeypatch.setattr(cache, "available_memory", lambda: None)
    HostCache(data)
    with pytest.raises(ConfigError, match=r"take 31.00 GB; the limit is 1.00 GB"):
        check_fits(31_000_000_000, 1_000_000_000, None, "memory")


def test_available_memory() -> None:
    found = available_memory()
    if not Path("/proc/meminfo").exists():
        pytest.skip("known on Linux only")
    assert found is not None
    assert 1e6 < found <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_containers_limit(tmp_path: Path) -> None:
    def write(name: str, text: object) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    proc, group = tmp_path / "proc", tmp_path / "group"
    assert available_memory(proc, group) is None
    write("proc/meminfo", "MemTotal:       200 kB\nMemAvailable:   100 kB\nHugePages_Total:       0")
    assert available_memory(proc, group) == 102_400
    write("group/memory.max", "max")
    assert available_memory(proc, group) == 102_400
    write("group/memory.max", 50_000)
    write("group/memory.current", 45_000)
    write("group/memory.stat", "anon 9\ninactive_file 20000\nactive_file 1000")
    assert available_memory(proc, group) == 26_000, "files that are only kept for later make room"
    write("group/memory/memory.limit_in_bytes", 30_000)
    write("group/memory/memory.usage_in_bytes", 29_000)
    write("group/memory/memory.stat", "cache 1\ntotal_inactive_file 10\ntotal_active_file 5")
    assert available_memory(proc, group) == 1015


@pytest.mark.parametrize("how", [HOST, {**HOST, "workers": 2}, DEVICE, {**DEVICE, "workers": 2}], ids=str)
def test_broken_clips(tmp_path: Path, how: dict[str, Any]) -> None:
    root = build(tmp_path, [*many(5), Clip(payload=b"\0" * 3000), *many(3)])
    clips = ClipDataset(root, "train", frames=2, stride=1)
    loader = ClipLoader(clips, batch_size=3, max_bad=1, **how)
    for _ in range(2):
        found = list(loader)
        assert sorted(key for batch in found for key in batch.key) == [f"{i:08d}" for i in range(9) if i != 5]
        assert [bad.index for batch in found for bad in batch.bad] == [5]
    assert loader.bad[5].where == "dataset 'tiny', shard train/000001.tar, key 00000005, clip made/5"
    with pytest.raises(DatasetError, match="key 00000005, clip made/5: not-a-video"):
        list(ClipLoader(clips, batch_size=3, **how))


def test_broken_clips_one_by_one(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(payload=b"\0" * 3000), Clip()])
    data = ClipDataset(root, "train", frames=2, stride=1)
    host = HostCache(data)
    for _ in range(2):
        with pytest.raises(ClipError, match="not-a-video"):
            host.pictures(0, [0])
    empty = DeviceCache(data, "cpu").batch([Request(0)])
    assert (len(empty), len(empty.bad)) == (0, 1)


@pytest.mark.parametrize("how", [HOST, DEVICE])
def test_memory_comes_back_though_an_epoch_was_left_in_the_middle(dataset: Path, how: dict[str, Any]) -> None:
    loader = ClipLoader(ClipDataset(dataset, "train", frames=4, stride=2), batch_size=3, **how)
    left = iter(loader)
    next(left)
    held = loader._device_cache.frames if how is DEVICE else loader._batches.dataset.cache._decoded.memory
    gone = weakref.ref(held)
    del held
    gc.disable()  # circles of references may wait for long
    try:
        loader.close()
        assert gone() is None
    finally:
        gc.enable()
    del left


def test_a_host_cache_is_not_copied_to_spawned_processes(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be sent to a spawned process"):
        pickle.dumps(HostCache(ClipDataset(dataset, "train")))


def test_letting_go(dataset: Path) -> None:
    loader = ClipLoader(ClipDataset(dataset, "train", frames=2, stride=1), batch_size=3, workers=1, **HOST)
    list(loader)
    loader.close()
    assert loader.state_dict()["epoch"] == 1


@pytest.mark.cuda
def test_on_a_gpu(dataset: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = batches(dataset, {"cache": "device", "device": "cuda"})
    assert all(batch.video.device.type == "cuda" for batch in found)
    same([batch.to("cpu") for batch in found], batches(dataset, {}), tolerance=1)
    pinned = next(iter(ClipLoader(ClipDataset(dataset, "train"), batch_size=3, workers=1, pin_memory=True)))
    assert pinned.video.is_pinned()
    assert pinned.video.permute(0, 2, 3, 4, 1).is_contiguous()
    assert pinned.to("cuda").video.stride() == pinned.video.stride()


class Slow(ClipDataset):
    def pictures(self, i: int, wanted: Any) -> Any:
        os.write(1, b"%d\n" % os.getpid())  # in one piece
        time.sleep(600)


def fill(dataset: Path) -> None:
    HostCache(Slow(dataset, "train"), workers=2)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it there")
def test_nobody_is_left_when_a_cache_is_being_filled(dataset: Path, tmp_path: Path) -> None:
    """Processes that fill it would otherwise keep its memory when the main one is killed."""
    said, deadline = tmp_path / "said", time.monotonic() + 60
    with forked.running(fill, dataset, says=said) as main:
        while len(children := set(said.read_text().splitlines())) < 2:
            assert main.is_alive(), said.read_text()
            time.sleep(0.01)
        main.kill()
        main.join()
        while any(builds.is_alive(int(child)) for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.01)

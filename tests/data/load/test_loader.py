"""Batches of real (small) datasets: the frames that come, determinism, resume, ranks, failures."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.tinyset import Clip, build, many
from tests.indexclips import read_index
from vidkit.data import ClipBatch, ClipDataset, ClipLoader, collate
from vidkit.data.load.augment import Augment, crop_resize
from vidkit.data.load.batch import BadClip
from vidkit.data.load.loader import DataWait
from vidkit.data.load.order import Request
from vidkit.data.load.shard_bytes import DiskShards
from vidkit.data.media.frames import decode_frames
from vidkit.errors import ConfigError, DatasetError, TrainingError

#: The pictures' numbers survive a crop to the middle, not every other one.
STILL = Augment(crop="none", flip=0.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [*many(23), Clip(status="missing"), *many(7, split="val"), *many(5, split="test", frames=9)]
    return build(tmp_path_factory.mktemp("loader") / "data", clips)


@pytest.fixture
def torch_quiet() -> Iterator[None]:
    """Torch warns of more workers than cores."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def numbers(video_CTHW: torch.Tensor) -> list[int]:
    """What the frames show."""
    return [read_index(frame) for frame in video_CTHW.permute(1, 2, 3, 0).numpy()]


def told(batch: ClipBatch) -> tuple[Any, ...]:
    """A batch as plain values that can be compared."""
    tensors = (batch.class_id, batch.index, batch.view, batch.frames, batch.video)
    return (*(tensor.contiguous().numpy().tobytes() for tensor in tensors), batch.key, len(batch.bad))


# --- one clip --------------------------------------------------------------------------------------


def test_a_clips_frames_are_the_ones_told(dataset: Path) -> None:
    clips = ClipDataset(dataset, "train", frames=6, stride=3, augment=STILL, size=48)
    for i in range(len(clips)):
        sample = clips[i]
        first = 100 * (i % 4)
        assert sample.video.shape == (1, 3, 6, 48, 48)
        assert sample.video.dtype == torch.uint8
        assert numbers(sample.video[0]) == [first + t for t in sample.frames[0].tolist()]
        assert (sample.index, sample.key, sample.class_id) == (i, f"{i:08d}", 1 + i % 3)
        assert sample.multi_hot is None
        assert (np.diff(sample.frames[0]) == 3).all()


def test_pixels_are_those_of_the_plain_decoder(dataset: Path) -> None:
    clips = ClipDataset(dataset, "train", frames=4, stride=2)
    row = clips.clips.dataset.ledger().to_pylist()[3]
    stored = (dataset / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["nbytes"]]
    sample = clips[3]
    box = clips.draw(Request(3)).boxes[0]
    pictures = torch.from_numpy(decode_frames(stored, sample.frames[0].tolist()))
    assert torch.equal(sample.video[0].transpose(0, 1), crop_resize(pictures, box, 64))


def test_epochs_differ_and_repeat_themselves(dataset: Path) -> None:
    clips = ClipDataset(dataset, "train", frames=4, stride=2)
    by_epoch = []
    for epoch in (0, 1, 0):
        clips.set_epoch(epoch)
        by_epoch.append(clips[5].video)
    assert torch.equal(by_epoch[0], by_epoch[2])
    assert not torch.equal(by_epoch[0], by_epoch[1])
    assert torch.equal(clips[-1].video, clips[len(clips) - 1].video)
    for i in (len(clips), -len(clips) - 1):
        with pytest.raises(IndexError, match="of 23"):
            clips[i]


def test_a_test_is_not_random(dataset: Path) -> None:
    first = ClipDataset(dataset, "val", mode="views", views=(2, 1), frames=4, stride=3, seed=1)
    second = ClipDataset(dataset, "val", mode="views", views=(2, 1), frames=4, stride=3, seed=2)
    second.set_epoch(9)
    for i in range(7):
        assert torch.equal(first[i].video, second[i].video)
    sample = first[1]
    assert sample.video.shape == (2, 3, 4, 64, 64)
    count = int(first.clips.frames[1])
    assert sample.frames.tolist() == [[0, 3, 6, 9], [count - 10 + t for t in (0, 3, 6, 9)]]
    assert [numbers(view) for view in sample.video] == [[100 + t for t in row] for row in sample.frames.tolist()]


def test_segments(dataset: Path) -> None:
    clips = ClipDataset(dataset, "val", mode="segments", training=False, frames=4, size=64)
    count = int(clips.clips.frames[0])
    assert numbers(clips[0].video[0]) == [int((t + 0.5) * count / 4) for t in range(4)]
    training = ClipDataset(dataset, "train", mode="segments", training=True, frames=8, augment=STILL)
    starts = set()
    for epoch in range(5):
        training.set_epoch(epoch)
        frames = training[0].frames[0]
        assert (frames // 3 == torch.arange(8)).all(), "one from each of 8 segments of 24 frames"
        starts.add(tuple(frames.tolist()))
    assert len(starts) == 5


def test_short_clips_repeat_their_last_frame(dataset: Path) -> None:
    clips = ClipDataset(dataset, "test", mode="views", frames=8, stride=2)
    assert numbers(clips[0].video[0]) == [0, 2, 4, 6, 8, 8, 8, 8]


def test_repeats_share_a_decode_and_differ_in_crop(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = ClipDataset(dataset, "train", frames=4, stride=2, repeats=3, size=32)
    asked: list[int] = []
    real = clips.pictures
    monkeypatch.setattr(clips, "pictures", lambda i, wanted: asked.append(i) or real(i, wanted))
    sample = clips[2]
    assert asked == [2]
    assert sample.video.shape == (3, 3, 4, 32, 32)
    assert sample.frames.unique(dim=0).shape == (1, 4)
    assert not torch.equal(sample.video[0], sample.video[1])
    batch = collate([clips[0], clips[1]])
    assert batch.view.tolist() == [0, 1, 2, 0, 1, 2]
    assert batch.index.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.key == ("00000000",) * 3 + ("00000001",) * 3
    assert torch.equal(batch.video[3:], clips[1].video)


def test_never_a_flip_where_the_dataset_forbids_it(tmp_path: Path) -> None:
    for flip in (False, True):
        root = build(tmp_path / str(flip), many(2), flip=flip)
        clips = ClipDataset(root, "train", augment=Augment(crop="none", flip=1.0), frames=4, stride=1, size=64)
        mirrored = clips[0].video[0]
        if flip:
            with pytest.raises(ValueError, match="no readable index"):
                numbers(mirrored)
            mirrored = mirrored.flip(-1)
        assert numbers(mirrored) == clips[0].frames[0].tolist()


def test_several_labels_become_a_vector(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(labels=("b", "c")), Clip(labels=("a",)), Clip(labels=())], rule="multi-hot")
    clips = ClipDataset(root, "train", frames=2, stride=1)
    batch = collate([clips[i] for i in range(3)])
    assert batch.multi_hot is not None
    assert batch.multi_hot.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert batch.class_id.tolist() == [-1, -1, -1]
    assert clips.unlabelled == 1
    assert clips.classes == ("a", "b", "c")


def test_pictures_that_are_not_square(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(width=96, height=64), Clip(width=64, height=112)])
    clips = ClipDataset(root, "train", mode="views", views=(1, 3), frames=2, stride=1)
    for i, along in ((0, 2), (1, 1)):
        pictures = torch.from_numpy(clips.pictures(i, clips[i].frames[0].tolist())).permute(3, 0, 1, 2)
        room = pictures.shape[along + 1] - 64
        for view, start in enumerate((0, room // 2, room)):
            assert torch.equal(clips[i].video[view], pictures.narrow(along + 1, start, 64))
    training = ClipDataset(root, "train", frames=2, stride=1)
    assert collate([training[0], training[1]]).video.shape == (2, 3, 2, 64, 64)


def test_settings_that_cannot_be(dataset: Path) -> None:
    for fault, words in (
        ({"mode": "segments"}, "training=True or training=False"),
        ({"seed": -1}, "seed is -1"),
        ({"decoder": "opencv"}, "decoder is 'opencv'; expected one of pyav, decord"),
        ({"augment": "mosaic"}, "augment is 'mosaic'"),
        ({"mode": "views", "views": (5, 3)}, "3 spatial views of square clips are one and the same"),
        ({"frames": 0}, "frames is 0"),
    ):
        with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
            ClipDataset(dataset, "train", **fault)  # type: ignore[arg-type]
    assert ClipDataset(dataset, "val", mode="views", views=(1, 3), crop_share=0.5).sampling.rows == 3


def test_decord_gives_the_same_frames(dataset: Path) -> None:
    pytest.importorskip("decord")
    ours, theirs = (ClipDataset(dataset, "train", frames=4, stride=2, decoder=name) for name in ("pyav", "decord"))
    for i in (0, 7):
        assert (ours[i].video.int() - theirs[i].video.int()).abs().float().mean() < 1


# --- batches ---------------------------------------------------------------------------------------


def all_batches(dataset: Path, workers: int, epochs: int = 2, **how: Any) -> list[tuple[Any, ...]]:
    clips = ClipDataset(dataset, "train", frames=4, stride=2, size=32, repeats=2, augment="finetune", seed=3)
    loader = ClipLoader(clips, batch_size=5, workers=workers, **how)
    found = [told(batch) for _ in range(epochs) for batch in loader]
    assert len(found) == epochs * len(loader)
    return found


def test_any_number_of_workers_gives_the_same_batches(dataset: Path, torch_quiet: None) -> None:
    expected = all_batches(dataset, 0)
    assert len(set(expected)) == len(expected) == 8
    for workers in (1, 2, 3):
        assert all_batches(dataset, workers) == expected
    torch.manual_seed(99)
    np.random.seed(99)
    assert all_batches(dataset, 0) == expected, "global generators have no part in it"


def test_batches_lie_in_memory_as_decoded(dataset: Path) -> None:
    """Channels last: nothing is moved around on the CPU before the bytes go to the device."""
    clips = ClipDataset(dataset, "train", frames=4, stride=2)
    for workers in (0, 1):
        batch = next(iter(ClipLoader(clips, batch_size=4, workers=workers)))
        assert batch.video.shape == (4, 3, 4, 64, 64)
        assert batch.video.permute(0, 2, 3, 4, 1).is_contiguous()
        moved = batch.to("cpu")
        assert moved.video.stride() == batch.video.stride()
        assert moved.key == batch.key


def test_loading_leaves_the_global_generators_alone(dataset: Path) -> None:
    """A resumed run makes one iterator more than an uninterrupted one; its dropout must not notice."""
    clips = ClipDataset(dataset, "train", frames=2, stride=1)
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1).item(), np.random.random()
    torch.manual_seed(0)
    np.random.seed(0)
    for workers in (0, 1):
        list(ClipLoader(clips, batch_size=8, workers=workers))
    assert (torch.rand(1).item(), np.random.random()) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_at_every_step(dataset: Path, workers: int) -> None:
    clips = ClipDataset(dataset, "train", frames=2, stride=2, size=32, seed=5)
    loader = ClipLoader(clips, batch_size=6)
    states, batches = [loader.state_dict()], []
    for _ in range(2):
        for batch in loader:
            batches.append(told(batch))
            states.append(loader.state_dict())
    assert len(batches) == 6
    assert [(s["epoch"], s["position"]) for s in states] == [
        (0, 0),
        (0, 6),
        (0, 12),
        (1, 0),
        (1, 6),
        (1, 12),
        (2, 0),
    ]
    again = ClipLoader(
        ClipDataset(dataset, "train", frames=2, stride=2, size=32, seed=5), batch_size=6, workers=workers
    )
    for step, state in enumerate(states[:6]):
        again.load_state_dict(json.loads(json.dumps(state)))
        found = []
        while again.epoch < 2:
            found += [told(batch) for batch in again]
        assert found == batches[step:]


def test_an_iteration_that_was_left_goes_on(dataset: Path) -> None:
    """With workers, too, which have prepared batches ahead by then."""
    clips = ClipDataset(dataset, "train", frames=2, stride=2, size=32)
    expected = [told(batch) for batch in ClipLoader(clips, batch_size=4)]
    loader = ClipLoader(clips, batch_size=4, workers=2)
    found = []
    while loader.epoch == 0:
        for batch in loader:
            found.append(told(batch))
            if len(found) in (1, 3, 5):
                break
        if len(found) == 5:
            assert (loader.steps_left, len(loader)) == (0, 5)
            assert loader.state_dict()["epoch"] == 1
            break
    assert found == expected
    assert next(iter(loader)).index.tolist() != []
    assert loader.epoch == 1


def test_a_state_of_another_run_is_refused(dataset: Path) -> None:
    loader = ClipLoader(ClipDataset(dataset, "train"), batch_size=4)
    state = loader.state_dict()
    with pytest.raises(ConfigError, match="the saved loader state has seed 1; this run has 0"):
        loader.load_state_dict({**state, "seed": 1})
    with pytest.raises(ConfigError, match="has clips 7; this run has 23"):
        loader.load_state_dict({**state, "clips": 7})


def test_ranks_see_the_parts_of_the_batch_of_one_process(dataset: Path) -> None:
    def batches(batch_size: int, **how: int) -> list[ClipBatch]:
        return list(
            ClipLoader(ClipDataset(dataset, "train", frames=2, stride=1, size=32), batch_size=batch_size, **how)
        )

    whole = batches(6)
    parts = [batches(2, rank=rank, world=3) for rank in range(3)]
    assert len(whole) == len(parts[0]) == len(parts[1]) == len(parts[2]) == 3
    for step, batch in enumerate(whole):
        assert torch.equal(batch.video, torch.cat([part[step].video for part in parts]))
        assert batch.key == parts[0][step].key + parts[1][step].key + parts[2][step].key


@pytest.mark.parametrize(("world", "batch_size"), [(1, 3), (2, 2), (3, 1), (4, 2)])
def test_a_test_counts_every_clip_once(dataset: Path, world: int, batch_size: int) -> None:
    seen: Counter[str] = Counter()
    for rank in range(world):
        clips = ClipDataset(dataset, "val", mode="views", views=(2, 1), frames=2, stride=2, size=32)
        loader = ClipLoader(clips, batch_size=batch_size, rank=rank, world=world)
        for _ in range(2):  # every iteration begins anew
            batches = list(loader)
            assert len(batches) == len(loader)
            assert loader.state_dict()["position"] == 0
        seen.update((key, int(view)) for batch in batches for key, view in zip(batch.key, batch.view, strict=True))
    assert seen == {(f"{i:08d}", view): 1 for i in range(24, 31) for view in range(2)}


def test_padding_uses_clips_again_with_other_crops(dataset: Path) -> None:
    clips = ClipDataset(dataset, "train", frames=2, stride=1, size=32)
    batches = list(ClipLoader(clips, batch_size=15, tail="pad"))
    keys = [key for batch in batches for key in batch.key]
    assert len(keys) == 30
    assert keys[23:] == keys[:7]
    for i in range(7):
        assert not torch.equal(batches[0].video[i], batches[1].video[8 + i])
    with pytest.raises(ConfigError, match=r"23 clips are fewer than one step takes \(30\)"):
        ClipLoader(clips, batch_size=15, world=2)


def test_the_number_of_shards_does_not_matter(tmp_path: Path) -> None:
    clips = many(9)
    found = []
    for per_shard in (1, 4, 100):
        root = build(tmp_path / str(per_shard), clips, per_shard=per_shard)
        loader = ClipLoader(ClipDataset(root, "train", frames=2, stride=1, size=32), batch_size=4, world=2, rank=1)
        found.append([told(batch) for batch in loader])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1


def test_more_shards_than_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidkit.data.load.shard_bytes._OPEN_SHARDS", 3)
    root = build(tmp_path, many(8), per_shard=1)
    clips = ClipDataset(root, "train", frames=2, stride=1, augment=STILL)
    for i in (0, 1, 2, 3, 0, 7, 6, 5, 1):
        assert numbers(clips[i].video[0])[0] // 100 == i % 4
    assert isinstance(clips.shards, DiskShards)
    assert len(clips.shards._open) == 3


def test_a_batch_can_be_sent_to_another_process(tmp_path: Path) -> None:
    root = build(tmp_path, [Clip(labels=("b", "c")), Clip(labels=("a",))], rule="multi-hot")
    batch = next(iter(ClipLoader(ClipDataset(root, "train", frames=2, stride=1), batch_size=2)))
    again = pickle.loads(pickle.dumps(batch))
    assert told(again) == told(batch)
    assert again.multi_hot is not None
    assert torch.equal(again.multi_hot, batch.multi_hot)


def test_a_dataset_can_be_sent_to_a_spawned_process(dataset: Path) -> None:
    clips = ClipDataset(dataset, "train", frames=2, stride=1)
    before = clips[3].video
    again = pickle.loads(pickle.dumps(clips))
    assert torch.equal(again[3].video, before)


# --- failures --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip 2 (train) and clip 21 (val) are not what they were when they were built."""
    clips = [*many(20), *many(4, split="val")]
    root = build(tmp_path_factory.mktemp("damaged") / "data", clips, name="broken")
    for row in ClipDataset(root, "train").clips.dataset.ledger().to_pylist():
        if row["key"] in ("00000002", "00000021"):
            with (root / row["shard"]).open("r+b") as shard:
                shard.seek(row["offset"] + 100)
                shard.write(b"\xa5" * (row["nbytes"] - 200))
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_stops_a_test(damaged: Path, workers: int) -> None:
    clips = ClipDataset(damaged, "val", mode="views", frames=2, stride=1)
    with pytest.raises(DatasetError) as caught:
        list(ClipLoader(clips, batch_size=2, workers=workers))
    words = str(caught.value)
    assert (
        "a clip could not be decoded: dataset 'broken', shard val/000000.tar, key 00000021, clip made/21: " in words
    )
    assert "-> see what is wrong with `vidkit verify DIR`" in words
    assert "Traceback" not in words
    with pytest.raises(DatasetError, match="key 00000021"):
        clips[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_is_left_out_of_training(
    damaged: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    clips = ClipDataset(damaged, "train", frames=2, stride=1, size=32, repeats=2)
    loader = ClipLoader(clips, batch_size=5, workers=workers, max_bad=1)
    with caplog.at_level(logging.WARNING, "vidkit.data"):
        for epoch in range(2):
            batches = list(loader)
            assert [len(batch) for batch in batches].count(10) == 3
            (short,) = [batch for batch in batches if batch.bad]
            assert len(short) == 8
            assert short.bad[0].where == "dataset 'broken', shard train/000000.tar, key 00000002, clip made/2"
            assert repr(short) == "ClipBatch(video (8, 3, 2, 32, 32), 1 clips left out)"
            keys = Counter(key for batch in batches for key in batch.key)
            assert keys == {f"{i:08d}": 2 for i in range(20) if i != 2}, f"nothing takes its place in epoch {epoch}"
    assert [record.getMessage() for record in caplog.records] == [f"left out (1 of at most 1): {loader.bad[2]}"]
    assert loader.state_dict()["bad"] == [2]
    resumed = ClipLoader(clips, batch_size=5, max_bad=0)
    with pytest.raises(DatasetError, match="key 00000002"):
        list(resumed)


def test_too_many_broken_clips_stop_training(damaged: Path) -> None:
    clips = ClipDataset(damaged, "train", frames=2, stride=1)
    assert ClipLoader(clips, batch_size=5).max_bad == 0, "1 % of 20 clips"
    assert ClipLoader(clips, batch_size=5, max_bad=0.1).max_bad == 2
    with pytest.raises(DatasetError, match=r"a clip could not be decoded: .*key 00000002"):
        list(ClipLoader(clips, batch_size=5))
    loader = ClipLoader(clips, batch_size=5, max_bad=2)
    loader.load_state_dict({**loader.state_dict(), "bad": [7, 9]})
    with pytest.raises(
        DatasetError, match=r"3 clips could not be decoded, more than the 2 that may be left out: .*key 00000002"
    ):
        list(loader)


def test_a_batch_without_a_clip_stops_training(damaged: Path) -> None:
    clips = ClipDataset(damaged, "train", frames=2, stride=1)
    with pytest.raises(DatasetError, match="key 00000002"):
        list(ClipLoader(clips, batch_size=1, max_bad=5))
    empty = collate([BadClip(0, "x", "empty", "y")])
    assert (len(empty), len(empty.bad)) == (0, 1)


def test_another_file_than_the_ledger_says(tmp_path: Path) -> None:
    short, small = Clip(frames=20), Clip(width=48, height=48)
    from tests.data.tinyset import encoded

    root = build(tmp_path, [Clip(payload=encoded(short, tmp_path)), Clip(payload=encoded(small, tmp_path)), Clip()])
    clips = ClipDataset(root, "train", frames=2, stride=1)
    with pytest.raises(DatasetError, match="truncated: the clip has 20 frames; the ledger says 24"):
        clips[0]
    with pytest.raises(DatasetError, match=r"decode-error: pictures of \(48, 48\); the ledger says \(64, 64\)"):
        clips[1]
    assert clips[2].video.shape == (1, 3, 2, 64, 64)


def test_a_shard_cut_while_training(tmp_path: Path) -> None:
    root = build(tmp_path, many(6))
    clips = ClipDataset(root, "train", frames=2, stride=1)
    shard = root / "train" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:20_000])
    with pytest.raises(DatasetError, match=r"truncated: the shard holds [\d,]+ of [\d,]+ bytes"):
        clips[4]
    shard.unlink()
    fresh = pickle.loads(pickle.dumps(clips))
    with pytest.raises(FileNotFoundError):
        (root / "train" / "000000.tar").read_bytes()
    with pytest.raises(DatasetError, match="the shard cannot be read: No such file"):
        fresh[0]


def test_loader_faults_at_once(dataset: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ClipLoader(ClipDataset(dataset, "train"), batch_size=4, workers=-1, prefetch=0, max_bad=-1, cache="device")
    for words in ("workers is -1", "prefetch is 0", "max_bad is -1", "device is None"):
        assert words in str(caught.value)


# --- the rest --------------------------------------------------------------------------------------


def test_waiting_is_timed() -> None:
    def slow() -> Iterator[int]:
        for i in range(4):
            time.sleep(0.02)
            yield i

    wait = DataWait(slow())
    for _ in wait:
        time.sleep(0.02)
    assert wait.batches == 4
    assert 0.08 <= wait.waited_s <= wait.total_s
    assert 0.2 < wait.share < 0.8
    wait.reset()
    assert (wait.batches, wait.waited_s) == (0, 0)


def test_the_package_does_not_import_torch() -> None:
    code = (
        "import sys, vidkit.data, vidkit.data.load.loader, vidkit.data.load.cache, vidkit.data.load.streaming;"
        "import vidkit.data.media.stored;"
        "from vidkit.data import ClipDataset, ClipLoader, collate, stream;"
        "print(sorted({'torch', 'torchvision', 'pandas', 'webdataset', 'timm', 'decord'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    import vidkit.data

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        vidkit.data.nothing  # noqa: B018


def test_a_dataset_that_vidkit_built(tmp_path: Path) -> None:
    """From the command to batches: every stored clip is read without a demuxer, and as the demuxer reads it."""
    from vidkit.data.media.stored import sample_table

    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name = "made"\ntitle = "made"\n[encode]\nsize = 32\nmax_frames = 12\n'
        '[[sources]]\nname = "clips"\nkind = "folders"\n'
    )
    from tests.indexclips import indexed_clip

    for name in ("train/x/a.mp4", "train/x/b.mp4", "train/y/c.mp4", "val/y/d.mp4"):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        indexed_clip(path, 30, 96, 64)
    command = [sys.executable, "-c", "from vidkit.cli.app import main; main()", "build-dataset", spec]
    command += ["--source", f"clips={tmp_path / 'clips'}", "--out", tmp_path / "out", "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True)
    for split, count in (("train", 3), ("val", 1)):
        clips = ClipDataset(tmp_path / "out", split, mode="views", frames=4, stride=3)
        assert len(clips) == count
        for i in range(count):
            assert sample_table(clips.bytes(i)) is not None
            video = clips[i].video[0].permute(1, 2, 3, 0).numpy()
            np.testing.assert_array_equal(video, decode_frames(clips.bytes(i), clips[i].frames[0].tolist()))
            assert [read_index(frame) for frame in video] == [
                (2 * t + 1) * 30 // 24 for t in clips[i].frames[0].tolist()
            ]


@pytest.mark.slow
def test_many_random_runs(tmp_path: Path) -> None:
    """Kill a run anywhere, any number of times, with any workers: the batches are those of one run."""
    root = build(tmp_path, many(31))
    rng = np.random.default_rng(0)
    how: dict[str, Any] = {"frames": 2, "stride": 2, "size": 32, "augment": "finetune"}
    expected = []
    loader = ClipLoader(ClipDataset(root, "train", **how), batch_size=4)
    while loader.epoch < 3:
        expected += [told(batch) for batch in loader]
    for _ in range(10):
        found: list[Any] = []
        state = ClipLoader(ClipDataset(root, "train", **how), batch_size=4).state_dict()
        while len(found) < len(expected):
            again = ClipLoader(ClipDataset(root, "train", **how), batch_size=4, workers=int(rng.integers(3)))
            again.load_state_dict(state)
            for batch in again:
                found.append(told(batch))
                state = again.state_dict()
                if rng.random() < 0.2:
                    break
        assert found == expected


# --- reading processes -----------------------------------------------------------------------------


def test_a_shard_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    """Also from a worker process, where torch would make a traceback of it."""
    root = build(tmp_path, many(12), per_shard=12)
    clips = ClipDataset(root, "train", frames=2, stride=1)
    (root / "train/000000.tar").unlink()
    loader = ClipLoader(clips, batch_size=2, workers=1)
    with pytest.raises(DatasetError) as caught:
        list(loader)
    loader.close()
    assert str(caught.value).splitlines() == [
        f"{root / 'train/000000.tar'}: the shard cannot be read: No such file or directory",
        "  -> see `vidkit verify`",
    ]


def _drain(batches: Iterator[ClipBatch], pid: int) -> None:
    """Until the process that reads them is gone; its pipe ends before it does, and only then comes its signal."""
    try:
        for _ in batches:
            pass
    finally:
        with contextlib.suppress(RuntimeError, ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()], ids=repr)
def test_a_worker_that_goes_in_the_middle_of_a_batch(dataset: Path, error: Exception) -> None:
    """Where torch has not heard of its end yet, the pipe is all that tells."""
    loader = ClipLoader(ClipDataset(dataset, "train", frames=2, stride=1), batch_size=4)

    def broken() -> Iterator[ClipBatch]:
        raise error
        yield

    loader._batches = broken()
    with pytest.raises(TrainingError, match=r"a process that reads clips was stopped: .*(reset by peer|EOFError)"):
        list(loader)


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    clips = ClipDataset(build(tmp_path, many(60)), "train", frames=2, stride=1)
    loader = ClipLoader(clips, batch_size=1, workers=1, prefetch=1)
    batches = iter(loader)
    next(batches)
    time.sleep(1)  # until it waits for work: killed with one of torch's locks in its hands, it would keep that
    pid = loader._batches._iterator._workers[0].pid
    os.kill(pid, signal.SIGKILL)
    # torch may notice in the middle of anything else that this process does
    with pytest.raises(
        (TrainingError, RuntimeError), match=r"DataLoader worker|process that reads clips was stopped"
    ):
        _drain(batches, pid)
    loader.close()


def test_decord_must_be_there(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidkit.data.load.clip_dataset.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"decord is not installed(.|\n)*vidkit\[decord\]"):
        ClipDataset(dataset, "train", decoder="decord")


def test_processes_count_together(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each of two processes left out is more than both may."""
    clips = ClipDataset(damaged, "train", frames=2, stride=1)
    one, other = (ClipLoader(clips, batch_size=1, world=2, rank=rank, max_bad=1) for rank in (0, 1))
    one.bad, other.bad = {3: BadClip(3, "here", "empty", "x")}, {1: BadClip(1, "there", "empty", "y")}
    both = [one.bad, other.bad]

    def gather(parts: list[Any], mine: Any) -> None:
        parts[:] = both

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    with pytest.raises(DatasetError, match="2 clips could not be decoded, more than the 1 that may"):
        one.share_bad()
    other.max_bad = 2
    other.share_bad()
    assert list(other.bad) == [1, 3]
    alone = ClipLoader(clips, batch_size=1, max_bad=1)
    alone.share_bad()
    assert alone.bad == {}


def test_other_work_is_no_waiting() -> None:
    wait = DataWait([1])
    for _ in wait:
        time.sleep(0.02)
    before = wait.total_s
    wait.leave_out(0.01)
    assert wait.total_s < before

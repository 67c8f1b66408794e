"""The raw-file way that the loader is compared with reads the same scene: frames, crops, pixels, order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench_loader
from benchmarks.parts import originals
from tests.benchmarks.test_benchmarks import run
from tests.indexclips import indexed_clip, read_index
from vidkit.data import ClipDataset, ClipLoader
from vidkit.data.load.augment import AUGMENTS, Box, crop_resize, draw_box, normalise
from vidkit.data.load.order import Request
from vidkit.data.manifests import load_spec

pytest.importorskip("decord")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(originals, a dataset made of them): 60 frames of 96x64, of which 20 of 64x64 are stored."""
    top = tmp_path_factory.mktemp("raw")
    for i in range(6):
        path = top / "source" / "clips" / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        indexed_clip(path, 60, 96, 64, 100 * i, options={"crf": "10"})
    spec = top / "spec.toml"
    spec.write_text(
        'name = "raw"\ntitle = "raw"\n[encode]\nsize = 64\nmax_frames = 20\ncrf = 10\n'
        '[[sources]]\nname = "clips"\nkind = "folders"\n'
    )
    command = [sys.executable, "-c", "from vidkit.cli.app import main; main()", "build-dataset", spec]
    command += ["--source", f"clips={top / 'source'}", "--out", top / "out", "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return top / "source", top / "out"


def number(frame_CHW: torch.Tensor) -> int:
    return read_index(frame_CHW.permute(1, 2, 0).contiguous().numpy())


def test_the_same_frames_of_the_same_clips(folders: tuple[Path, Path]) -> None:
    """Frames show their numbers; a crop to the middle keeps them readable."""
    source, out = folders
    dataset = ClipDataset(out, "train", frames=5, stride=3, size=64, augment="none")
    raw = originals.Originals(dataset, source, originals.as_bytes)
    for clip in range(6):
        for epoch in range(3):
            ours, (theirs, class_id) = dataset.read(Request(clip, epoch)), raw[Request(clip, epoch)]
            assert theirs.shape == ours.video[0].shape
            assert [number(frame) for frame in theirs.transpose(0, 1)] == [
                number(frame) for frame in ours.video[0].transpose(0, 1)
            ]
            assert class_id == ours.class_id
            stored = ours.frames[0].numpy()
            assert (originals.source_frames(stored, 20, 60) == 3 * stored + 1).all()


def test_the_same_crops(folders: tuple[Path, Path]) -> None:
    source, out = folders
    dataset = ClipDataset(out, "train", frames=2, stride=3, size=48)
    raw = originals.Originals(dataset, source, originals.as_bytes)
    apart, flipped = [], []
    for epoch in range(8):
        ours, (theirs, _) = dataset.read(Request(1, epoch)).video[0], raw[Request(1, epoch)]
        apart.append((ours.int() - theirs.int()).abs().float().mean().item())
        flipped.append((ours.int() - theirs.flip(-1).int()).abs().float().mean().item())
    assert max(apart) < 6 < min(flipped)
    assert bench_loader.check_same(dataset, source, 4) < bench_loader.CLOSE
    with pytest.raises(SystemExit, match="the originals show something else"):
        bench_loader.check_same(ClipDataset(out, "train", frames=2, seed=1), _shuffled(source), 6)


def _shuffled(source: Path) -> Path:
    """The same names, other clips."""
    other = source.with_name("shuffled")
    (other / "clips").mkdir(parents=True)
    for i in range(6):
        (other / "clips" / f"{i}.mp4").write_bytes((source / "clips" / f"{(i + 1) % 6}.mp4").read_bytes())
    return other


@pytest.mark.parametrize("flip", [False, True])
def test_released_pixels_are_ours_normalised(flip: bool) -> None:
    """PIL and torch both scale with antialiasing; rounding differs by one level."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    for box in (Box(3, 5, 40, 60, flip), Box(0, 0, 50, 70, flip), Box(9, 9, 32, 32, flip)):
        ours = crop_resize(torch.from_numpy(pictures), box, 32).permute(1, 0, 2, 3)
        assert torch.equal(originals.as_bytes(pictures, box, 32), ours)
        found = originals.as_released(pictures, box, 32)
        assert (found.shape, found.dtype) == ((3, 3, 32, 32), torch.float32)
        level = 1 / (255 * 0.224)
        torch.testing.assert_close(found, normalise(ours[None])[0], rtol=0, atol=1.01 * level)


def test_boxes_of_the_source() -> None:
    """A 64-pixel square is the middle 256 pixels of 340x256; a copy of the same size is the picture itself."""
    assert originals.source_box(Box(0, 0, 64, 64), (64, 64), (256, 340)) == Box(0, 42, 256, 256)
    assert originals.source_box(Box(16, 8, 32, 40, True), (64, 64), (256, 340)) == Box(64, 74, 128, 160, True)
    assert originals.source_box(Box(1, 2, 200, 300), (256, 340), (256, 340)) == Box(1, 2, 200, 300)
    for seed in range(50):
        drawn = draw_box(AUGMENTS["pretrain"](), 64, 64, np.random.default_rng(seed), flip=True)
        found = originals.source_box(drawn, (64, 64), (257, 341))
        assert 0 <= found.top < found.top + found.height <= 257
        assert 0 <= found.left < found.left + found.width <= 341


def test_the_same_order(folders: tuple[Path, Path]) -> None:
    source, out = folders
    dataset = ClipDataset(out, "train", frames=2, stride=1, size=32)
    loader = ClipLoader(dataset, batch_size=2)
    raw = originals.loader(originals.Originals(dataset, source, originals.as_bytes), batch=2, workers=1)
    for _ in range(2):
        ours, theirs = list(loader), list(raw)
        assert len(ours) == len(theirs) == 3
        for batch, (video, class_id) in zip(ours, theirs, strict=True):
            assert torch.equal(batch.class_id, class_id)
            assert (batch.video.int() - video.int()).abs().float().mean() < 10
            assert bench_loader.of_pair((video, class_id)) == bench_loader.count(batch) == 2
            assert bench_loader.normalised(batch) == 2


def test_jobs_store_as_the_specs_do(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    for job in bench_loader.JOBS.values():
        settings = load_spec(job.spec).encode
        text = bench_loader._toml(settings)
        spec.write_text(f'name = "a"\ntitle = "a"\n[encode]\n{text}[[sources]]\nname = "clips"\nkind = "folders"\n')
        assert load_spec(spec).encode == settings
    assert {job.target for job in bench_loader.JOBS.values() if job.size == 224} == {4}
    assert {job.target for job in bench_loader.JOBS.values() if job.size == 64} == {15}


def test_ratios_compare_like_with_like() -> None:
    speed = {"vidkit": [100.0, 10.0, 100.0], "vidkit, normalised here": [60.0, 6.0, 60.0]}
    speed |= {"decord on originals": [20.0, 2.0, 20.0], "decord on originals, as released": [15.0, 1.5, 15.0]}
    runs: dict[str, list[dict[str, Any]]] = {
        name: [{"clips_per_s": v, "cpu_ms_per_clip": 1000 / v, "cores_of_others": 0.5} for v in values]
        for name, values in speed.items()
    }
    found = bench_loader.summary(runs)
    assert {pair: ratio["median"] for pair, ratio in found["faster"].items()} == {
        "uint8 out": 5,
        "float32 out": 4,
        "as used": pytest.approx(6.667, abs=1e-3),
    }
    assert found["less_cpu"]["uint8 out"]["median"] == 5
    assert found["cores_of_others"] == 0.5


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    found, printed = run("bench_loader", tmp_path, "--jobs", "64")
    job = found["jobs"]["64"]
    assert {"vidkit", "decord on originals", "decord on originals, as released"} <= job["clips_per_s"].keys()
    assert set(job["faster"]) == set(job["less_cpu"]) == {"uint8 out", "float32 out", "as used"}
    assert job["target"] == 15
    assert job["stored_bytes"] < job["original_bytes"]
    assert job["levels_apart"] < 10
    assert found["workers"] == 2
    assert "vidkit against decord on the original files" in printed

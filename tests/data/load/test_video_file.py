"""Files as a test sees stored clips: the same frames, the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.tinyset import Clip, build
from tests.indexclips import indexed_clip, read_index
from vidkit.data import ClipDataset
from vidkit.data.load.sampling import Sampling
from vidkit.data.load.video_file import read_views
from vidkit.errors import ClipError

SIZES = ((64, 64), (96, 64), (64, 80))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Square, wide and upright clips."""
    clips = [
        Clip(labels=("a",), split="val", first=10 * i, frames=5 + 4 * i, width=w, height=h)
        for i, (w, h) in enumerate(SIZES)
    ]
    return build(tmp_path_factory.mktemp("data") / "d", clips)


def dataset(built: Path, views: tuple[int, int] = (1, 1), mode: str = "views", share: float = 1.0) -> ClipDataset:
    how: dict[str, Any] = {"frames": 4, "stride": 2, "mode": mode, "training": False, "size": 32}
    return ClipDataset(built, "val", views=views, crop_share=share, **how)


def as_files(dataset: ClipDataset, folder: Path) -> list[Path]:
    paths = [folder / f"{i}.mp4" for i in range(len(dataset))]
    for i, path in enumerate(paths):
        path.write_bytes(dataset.bytes(i))
    return paths


@pytest.mark.parametrize(
    ("mode", "views", "share"), [("views", (1, 1), 1), ("views", (3, 3), 0.8), ("segments", (2, 2), 0.9)]
)
def test_a_file_comes_out_as_a_stored_clip(
    built: Path, tmp_path: Path, mode: str, views: tuple[int, int], share: float
) -> None:
    stored = dataset(built, views, mode, share)
    for i, path in enumerate(as_files(stored, tmp_path)):
        found = list(read_views(path, stored.sampling))
        assert torch.equal(torch.cat([view.video for view in found]), stored[i].video)
        frames = np.repeat(np.stack([view.frames for view in found]), views[1], axis=0)
        assert np.array_equal(frames, stored[i].frames.numpy())


def test_the_frames_are_those_that_are_named(tmp_path: Path) -> None:
    """Of a container whose frame rate varies; a clip that is too short repeats its last frame."""
    path = tmp_path / "a.mkv"
    sampling = Sampling(frames=4, stride=3, mode="views", training=False, size=48)
    for count, expected in ((21, [5, 8, 11, 14]), (6, [0, 3, 5, 5]), (1, [0, 0, 0, 0])):
        times = np.cumsum([1 + i % 3 for i in range(count)]).tolist()
        indexed_clip(path, count, 96, 64, container="matroska", pts=times)
        (view,) = read_views(path, sampling)
        assert view.frames.tolist() == expected
        assert view.video.shape == (1, 3, 4, 48, 48)
        assert [read_index(frame.permute(1, 2, 0).numpy()) for frame in view.video[0].unbind(1)] == expected


def test_files_are_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training=False"):
        next(read_views(tmp_path / "a.mp4", Sampling()))
    with pytest.raises(ClipError, match="missing"):
        next(read_views(tmp_path / "a.mp4", Sampling(training=False, mode="views")))

"""What a source says of each clip in a file beside it: in the sample, in a loader's rows, or in the warnings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import vidkit
from vidkit.data import ClipDataset, ClipLoader
from vidkit.data.build.sidecar import read_sidecar
from vidkit.data.synth.clips import ClipLook
from vidkit.data.synth.layouts import SIDECAR, write_layout
from vidkit.data.synth.motions import FPS, NAMES, SIZE, moving_shares

FRAMES = 8


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of motions, of which one clip has a file beside it that is no JSON, and one has none."""
    root = tmp_path_factory.mktemp("sidecar")
    write_layout("motions", root / "clips", clips=12, classes=2, seed=5, frames=FRAMES, level=1)
    (root / "clips" / "train" / NAMES[0] / f"000000{SIDECAR}").write_text("{")
    (root / "clips" / "train" / NAMES[1] / f"000006{SIDECAR}").unlink()
    planned = vidkit.plan("motions", {"motions": root / "clips"})
    vidkit.build(planned, root / "built", quiet=True)
    return root / "built"


def test_each_sample_holds_what_lay_beside_its_clip(built: Path) -> None:
    clips = ClipDataset(built, "test", frames=FRAMES, stride=1, mode="views", augment="none")
    for i in range(len(clips)):
        name, number = str(clips.clips.clip_id[i]).split("/")[-2:]
        look = ClipLook(class_index=NAMES.index(name), width=SIZE, height=SIZE, frames=FRAMES, fps=FPS)
        wanted = moving_shares(look, seed=5, index=int(number), level=1)
        meta = clips.meta(i)
        assert meta["clip_id"] == str(clips.clips.clip_id[i])
        whole = ClipDataset(built, "test", frames=FRAMES, stride=1, mode="views", moving=16)[i]
        assert whole.moving is not None
        assert (whole.moving[0].numpy() == wanted).all()


def test_the_ledger_warns_where_there_is_none_and_where_it_is_broken(built: Path) -> None:
    rows = pyarrow.parquet.read_table(built / "clips.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 12
    said = {row["path"]: row["warnings"] for row in rows if row["warnings"]}
    first, second = f"train/{NAMES[0]}/000000", f"train/{NAMES[1]}/000006"
    assert set(said) == {f"{first}.mp4", f"{second}.mp4"}
    assert said[f"{first}.mp4"][0].startswith(f"{first}{SIDECAR} is not used: no JSON")
    assert said[f"{second}.mp4"] == [f"{second}{SIDECAR} is not used: the file was not found"]
    assert vidkit.verify(built).ok


def test_rows_are_the_same_from_every_way_of_reading(built: Path) -> None:
    """Augmented rows by workers, in this process, and from the caches."""
    how = {"frames": 4, "stride": 2, "moving": 8, "seed": 3, "repeats": 2}

    def batch(**given: object) -> tuple[np.ndarray, np.ndarray]:
        clips = ClipDataset(built, "val", **how)  # type: ignore[arg-type]
        loader = ClipLoader(clips, batch_size=len(clips), **given)  # type: ignore[arg-type]
        found = next(iter(loader))
        loader.close()
        assert found.moving is not None
        return found.video.numpy(), found.moving.numpy()

    video, moving = batch(workers=0)
    assert moving.shape == (len(video), 4, 8, 8)
    assert moving.any()
    for given in ({"workers": 1}, {"cache": "host"}, {"cache": "device", "device": "cpu"}):
        again = batch(**given)
        # the device scales all rows at once, which rounds otherwise by 1 here and there
        assert np.abs(again[0].astype(int) - video).max() <= 1
        assert (again[1] == moving).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "a list; expected an object"),
        ('{"labels": [], "key": 1}', "labels would replace the sample's own"),
        ("\x00", "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.more.json").write_text(text)
    found, wrong = read_sidecar(str(tmp_path), "x.mp4", ".more.json")
    assert found == {}
    assert wrong is not None
    assert wrong.startswith("x.more.json is not used: ")
    assert words in wrong


def test_one_outside_the_source_is_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "source"
    inside.mkdir()
    (tmp_path / "secret.json").write_text(json.dumps({"a": 1}))
    (inside / "x.json").symlink_to(tmp_path / "secret.json")
    assert read_sidecar(str(inside), "x.mp4", ".json")[0] == {}
    assert read_sidecar(str(inside), "x.mp4", ".json", follow_symlinks=True) == ({"a": 1}, None)

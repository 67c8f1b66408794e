"""Scores of video files: the same as an evaluation gives for stored clips, and an error for what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.tinyset import Clip, build
from tests.indexclips import indexed_clip
from tests.train import saved, small
from vidkit.cli.training import predict as command
from vidkit.data import ClipDataset, ClipLoader
from vidkit.errors import ConfigError, TrainingError
from vidkit.train import evaluate
from vidkit.train.inference import choose_device, views_of
from vidkit.train.predict import open_predictor

SIZES = ((64, 64), (96, 64), (64, 80))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Square, wide and upright clips."""
    clips = [
        Clip(labels=(small.NAMES[i % 3],), split="val", first=10 * i, frames=5 + 4 * i, width=w, height=h)
        for i, (w, h) in enumerate(SIZES)
    ]
    return build(tmp_path_factory.mktemp("data") / "d", clips)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ckpt") / "tuned.pt"
    saved.classifier(path)
    return path


def dataset(built: Path, views: tuple[int, int] = (1, 1), mode: str = "views", share: float = 1.0) -> ClipDataset:
    how: dict[str, Any] = {"frames": 4, "stride": 2, "mode": mode, "training": False, "size": 32}
    return ClipDataset(built, "val", views=views, crop_share=share, **how)


# --- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["single", "multi-hot"])
@pytest.mark.parametrize("views", [(1, 1), (3, 2)])
def test_scores_are_those_of_an_evaluation(tmp_path: Path, rule: str, views: tuple[int, int]) -> None:
    clips = [
        Clip(labels=small.NAMES[i : i + 2], split="val", first=9 * i, frames=14 + i, width=96) for i in range(3)
    ]
    built = build(tmp_path / "d", clips, rule=rule)
    model = saved.classifier(tmp_path / "c.pt", rule=rule)
    stored = dataset(built, views)
    expected = evaluate.predict(model, ClipLoader(stored, batch_size=2), "cpu").scores
    predictor = open_predictor(tmp_path / "c.pt", views=views, device="cpu")
    for i, found in enumerate(predictor.files(saved.as_files(stored, tmp_path / "files"))):
        assert found.error is None
        assert [guess.score for guess in found.guesses] == sorted((g.score for g in found.guesses), reverse=True)
        assert {guess.name for guess in found.guesses} == set(small.NAMES)
        for guess in found.guesses:
            assert guess.name == small.NAMES[guess.class_id]
            assert guess.score == pytest.approx(expected[i, guess.class_id], abs=1e-6)
        total = sum(guess.score for guess in found.guesses)
        assert (total == pytest.approx(1, abs=1e-6)) == (rule == "single")
        assert found.frames == tuple(map(tuple, stored[i].frames[:: views[1]].tolist()))


def test_the_stride_is_the_trainings(built: Path, tmp_path: Path) -> None:
    saved.classifier(tmp_path / "a.pt", stride=3)
    saved.classifier(tmp_path / "b.pt", mode="segments")
    saved.classifier(tmp_path / "c.pt", stride=None)
    assert open_predictor(tmp_path / "a.pt").views.stride == 3
    assert open_predictor(tmp_path / "a.pt", stride=5).views.stride == 5
    assert open_predictor(tmp_path / "b.pt").views.mode == "segments"
    assert open_predictor(tmp_path / "c.pt").views.stride == 4
    assert views_of({}, views=(2, 3)).views == (2, 3)


def test_classes_without_names(built: Path, tmp_path: Path) -> None:
    (first, *_) = saved.as_files(dataset(built), tmp_path / "files")
    model = saved.classifier(tmp_path / "a.pt")
    saved.save(tmp_path / "a.pt", model, {})
    (found,) = open_predictor(tmp_path / "a.pt").files([first], top=2)
    assert [guess.name for guess in found.guesses] == [f"class {guess.class_id}" for guess in found.guesses]
    assert len(found.guesses) == 2
    saved.save(tmp_path / "a.pt", model, {"classes": ["a", "b"]})
    with pytest.raises(ConfigError, match="names 2 classes, and its head has 3"):
        open_predictor(tmp_path / "a.pt")


def test_scores_that_are_not_finite(built: Path, tmp_path: Path) -> None:
    saved.classifier(tmp_path / "a.pt")
    saved.change(tmp_path / "a.pt", "head.bias", float("nan"))
    files = saved.as_files(dataset(built), tmp_path / "files")
    with pytest.raises(TrainingError, match=r"the scores of .*0\.mp4 are not finite"):
        list(open_predictor(tmp_path / "a.pt").files(files))


def test_no_classifier_no_device(tmp_path: Path) -> None:
    saved.adamae(tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="holds a model of kind 'adamae', which names no classes"):
        open_predictor(tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="cannot use device 'nonsense'"):
        choose_device("nonsense")
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert choose_device(None).type == "cpu"
        with pytest.raises(ConfigError, match="cannot use device 'cuda'"):
            choose_device("cuda")


# --- the command ---------------------------------------------------------------------------------


def run(checkpoint: Path, files: list[Path], **more: Any) -> int:
    how: dict[str, Any] = {"views": None, "top": 5, "stride": None, "device": "cpu", "as_json": False}
    return command.run(checkpoint, files, **how | more)


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, Path]:
    """A file for each way in which there is no video, by error code."""
    whole = tmp_path / "whole.mp4"
    indexed_clip(whole, 30, 64, 64)
    contents = {"empty": b"", "not-a-video": b"no video at all\n" * 99, "truncated": whole.read_bytes()[:3000]}
    files = {code: tmp_path / f"{code}.mp4" for code in contents}
    for code, data in contents.items():
        files[code].write_bytes(data)
    (tmp_path / "folder.mp4").mkdir()
    return {**files, "missing": tmp_path / "none.mp4", "unreadable": tmp_path / "folder.mp4"}


def test_others_are_still_predicted(
    built: Path, tuned: Path, broken: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_, last = saved.as_files(dataset(built), tmp_path / "files")
    files = [first, *broken.values(), last]
    assert run(tuned, files, as_json=True, top=2, views="2x1") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["scores"], found["views"], found["stride"]) == ("softmax", [2, 1], 2)
    assert [row["file"] for row in found["files"]] == list(map(str, files))
    assert [row["error"] for row in found["files"]] == [None, *broken, None]
    assert [len(row["top"]) for row in found["files"]] == [2, *[0] * len(broken), 2]
    assert all(row["message"] for row in found["files"][1:-1])
    assert run(tuned, files) == 1
    said = capsys.readouterr()
    for code, path in broken.items():
        assert f"{path}: {code}: " in said.err
    assert said.out.count("%") == 6
    assert all(f"{path}\n" in said.out for path in (first, last))


def test_all_is_well(built: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = saved.as_files(dataset(built), tmp_path / "[b]odd[/b]")
    assert run(tuned, files, top=1) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [line for line in said.out.splitlines() if not line.startswith("  ")] == list(map(str, files))


def test_what_cannot_be(built: Path, tuned: Path) -> None:
    for more, match in (({"top": 0}, "top is 0"), ({"views": "2"}, "views is '2'"), ({"views": "0x1"}, "views")):
        with pytest.raises(ConfigError, match=match):
            run(tuned, [built], **more)
    with pytest.raises(ConfigError, match="no video file"):
        run(tuned, [])

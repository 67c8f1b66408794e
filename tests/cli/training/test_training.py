"""The training commands, from a built dataset to predictions, as they are typed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.cli.typed import TINY, command, settings, stopped
from tests.data.tinyset import Clip, build
from tests.train import saved, small
from vidkit.cli.app import main
from vidkit.cli.training.recipe import default_recipe
from vidkit.models import checkpoints


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d", train=14)


def test_from_clips_to_predictions(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", built, "--batch-size", 4, "--workers", 0, "--cache", "none", "--recipe", "tiny"]
    pre = ["pretrain", *common, "--out", tmp_path / "pre", "--mask", "adaptive", "--ratio", 0.75, "--epochs", 1]
    assert command(monkeypatch, *pre, *settings(TINY)) == 0
    said = capsys.readouterr()
    assert "3 steps, 12 clips in" in said.out
    assert "recipe tiny: AdaMAE" in said.err
    init = tmp_path / "pre/checkpoints/last.pt"
    tune = ["finetune", *common, "--out", tmp_path / "ft", "--init", init, "--epochs", 2, "--json"]
    assert command(monkeypatch, *tune) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["status"] == "complete"
    best = tmp_path / "ft/checkpoints/best.pt"
    evaluate = ["evaluate", "--data", built, "--checkpoint", best, "--workers", 0]
    assert command(monkeypatch, *evaluate, "--views", "2x1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clips"], found["coverage"], found["views"]) == (7, 1.0, [2, 1])
    assert command(monkeypatch, *evaluate) == 0
    assert "7 of 7 clips (100.00%)" in capsys.readouterr().out
    picture = tmp_path / "masks.png"
    assert command(monkeypatch, "masks", "--checkpoint", init, "--data", built, "--out", picture) == 0
    assert picture.stat().st_size > 1000
    features = tmp_path / "features.parquet"
    assert command(monkeypatch, "extract", "--data", built, "--checkpoint", init, "--out", features) == 0
    assert command(monkeypatch, "convert", best, tmp_path / "released.pth", "--to", "videomae") == 0
    assert command(monkeypatch, "predict", "--checkpoint", best, tmp_path / "no.mp4") == 1


def test_a_run_that_is_there_already(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", "--data", built, "--out", tmp_path / "pre", "--recipe", "tiny", "--epochs", 1]
    words += ["--batch-size", 4, "--workers", 0, *settings(TINY)]
    assert command(monkeypatch, *words) == 0
    assert command(monkeypatch, *words) == 2
    assert "go on with it by --resume" in capsys.readouterr().err
    assert command(monkeypatch, *words, "--resume") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "none"], "there is no recipe 'none'"),
        (["--mask", "tubes"], "tubes not in literal|strategy is 'tubes'"),
        (["--ratio", "1.5"], "ratio is 1.5; expected above 0 and below 1"),
        (["--ratio", "0.999", "--recipe", "tiny"], "leaves no token visible"),
        (["--set", "optim.lr=1"], "there is no setting 'optim.lr'"),
        (["--set", "optim"], "'optim' is no setting; expected key=value"),
        (["--precision", "fp8"], "precision"),
        (["--batch-size", "1000", "--recipe", "tiny"], "fewer than one step takes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage(
    words: list[str],
    said: str,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, "pretrain", "--data", built, "--out", tmp_path / "pre", *words) == 2
    assert re.search(said, capsys.readouterr().err)


def test_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "finetune", "--data", tmp_path, "--out", tmp_path / "run") == 1
    assert "dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"synthetic": True, "flip": False, "settings": {"encode.size": 64}}, "tiny"),
        ({"flip": True, "settings": {"encode.size": 64}}, "small-64"),
        ({"flip": True, "settings": {"encode.size": 256}}, "adamae-k400"),
        ({"flip": False, "settings": {"encode.size": 256}}, "adamae-ssv2"),
    ],
)
def test_the_recipe_that_fits(facts: dict[str, object], expected: str) -> None:
    assert default_recipe(facts) == expected


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "classifier.pt"
    saved.classifier(path)
    return path


def test_what_an_evaluation_cannot_use(
    built: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", "--data", built, "--checkpoint", tuned, "--workers", 0]
    (tmp_path / "file").write_text("")
    for words, code, said in (
        (["--views", "2x4"], 2, r"4 spatial views of square clips are one and the same(.|\n)*use views 2x1"),
        (["--views", "2"], 2, "views is '2'; expected temporal x spatial, such as 5x3"),
        (["--views", "0x1"], 2, r"views is \(0, 1\); expected two numbers from 1"),
        (["--crop-share", "0"], 2, "crop_share is 0.0; expected above 0, at most 1"),
        (["--precision", "fp8"], 2, "precision is 'fp8'"),
        (["--split", "test"], 1, "no usable clip in split 'test'"),
        (["--out", tmp_path / "file/scores.parquet"], 1, "scores.parquet: cannot write: (.|\n)*give --out a place"),
        (["--out", tmp_path], 2, "is a folder; scores go to one file"),
        (["--checkpoint", tmp_path / "no.pt"], 2, "no.pt: cannot be read: No such file"),
    ):
        assert command(monkeypatch, *evaluate, *words) == code, words
        assert re.search(said, capsys.readouterr().err), words


def test_labels_for_a_model_of_another_project(
    built: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The released layout holds no classes; who knows them says so, and can evaluate."""
    facts = checkpoints.load(tuned).facts
    checkpoints.save(tmp_path / "ours.pt", replace(checkpoints.load(tuned), facts={**facts, "classes": []}))
    assert command(monkeypatch, "convert", tmp_path / "ours.pt", tmp_path / "theirs.pth", "--to", "videomae") == 0
    back = ["convert", tmp_path / "theirs.pth", tmp_path / "back.pt", "--to", "vidkit", "--heads", 2]
    back += ["--frames", 4, "--size", 32]
    assert command(monkeypatch, *back) == 0
    evaluate = ["evaluate", "--data", built, "--checkpoint", tmp_path / "back.pt", "--workers", 0, "--stride", 2]
    assert command(monkeypatch, *evaluate) == 2
    assert re.search(r"does not say which classes(.|\n)*vidkit convert --labels", capsys.readouterr().err)
    assert command(monkeypatch, *back, "--labels", built) == 0
    capsys.readouterr()
    assert command(monkeypatch, *evaluate, "--json") == 0
    ours = json.loads(capsys.readouterr().out)
    checkpoints.save(tmp_path / "ours.pt", replace(checkpoints.load(tuned), facts={**facts, "stride": 2}))
    assert command(monkeypatch, "convert", tuned, tmp_path / "named.pt", "--to", "vidkit", "--labels", built) == 0
    capsys.readouterr()
    assert command(monkeypatch, *evaluate[:4], tmp_path / "named.pt", *evaluate[5:], "--json") == 0
    assert json.loads(capsys.readouterr().out)["predictions_sha256"] == ours["predictions_sha256"]
    other = small.dataset(tmp_path / "d", train=2, val=1)
    assert command(monkeypatch, *back, "--labels", other) == 2
    assert "the head has 3 classes, the dataset 2" in capsys.readouterr().err


def test_no_memory_is_told(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, error in enumerate(
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            MemoryError(),
        )
    ):

        def run(*args: object, error: Exception = error, **more: object) -> None:
            raise error

        monkeypatch.setattr("vidkit.train.pretrain.run", run)
        words = ["pretrain", "--data", built, "--out", tmp_path / str(number), "--recipe", "tiny"]
        assert command(monkeypatch, *words) == 1
        said = capsys.readouterr().err
        assert re.search("memory", said)
        assert re.search(r"-> (use a smaller --batch-size|often memory has run out)", said)
    monkeypatch.setattr("vidkit.train.pretrain.run", lambda *args, **more: [][1])
    with pytest.raises(IndexError):
        main()


def test_a_stop_before_the_first_checkpoint(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vidkit.train.pretrain.run", stopped)
    words = ["pretrain", "--data", built, "--out", tmp_path / "a--resume", "--recipe", "tiny"]
    assert command(monkeypatch, *words) == 130
    said = capsys.readouterr().err
    assert "Stopped; before the first checkpoint. Go on with:" in said
    assert "--recipe tiny --resume\n" in said
    (tmp_path / "a--resume/checkpoints").mkdir(parents=True)
    (tmp_path / "a--resume/checkpoints/last.pt").touch()
    assert command(monkeypatch, *words) == 130
    assert "Stopped; a checkpoint was written." in capsys.readouterr().err


def test_one_of_several_processes_prints(
    built: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    words = ["evaluate", "--data", built, "--checkpoint", tuned, "--workers", 0, "--stride", 2, "--json"]
    assert command(monkeypatch, *words) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["extract", "--data", built, "--checkpoint", tuned, "--out", tmp_path / "features.parquet"]
    assert command(monkeypatch, *words) == 2
    assert "start it without torchrun" in capsys.readouterr().err


def test_a_dataset_without_a_validation_split(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As TinyVIRAT and the composite: training goes without evaluation, and says so; evaluation takes the test."""
    clips = [Clip(labels=(small.NAMES[i % 3],), frames=12, split="train" if i < 6 else "test") for i in range(9)]
    data = build(tmp_path / "d", clips)
    words = ["finetune", "--data", data, "--recipe", "tiny", "--epochs", 1, "--batch-size", 2, "--workers", 0]
    words += ["--label-fraction", 0.5, "--set", "optim.warmup_epochs=0"]
    assert command(monkeypatch, *words, "--out", tmp_path / "a", "--set", "val_split=val") == 2
    assert re.search(r"no usable clip in split 'val'(.|\n)*train 6, test 3(.|\n)*null", capsys.readouterr().err)
    assert not (tmp_path / "a").exists()
    assert command(monkeypatch, *words, "--out", tmp_path / "a", "--cache", "none") == 0
    said = capsys.readouterr().err
    assert "no clips in split 'val': no evaluation during training and no best checkpoint" in said
    assert "labels: 3 of 6 clips (50.0 %; 50 % asked for), 1 to 1 in each of 3 classes" in said
    assert command(monkeypatch, *words, "--out", tmp_path / "a", "--cache", "none", "--resume") == 0
    capsys.readouterr()
    last = tmp_path / "a/checkpoints/last.pt"
    assert command(monkeypatch, "evaluate", "--data", data, "--checkpoint", last, "--workers", 0, "--json") == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"

"""The training commands, from a built dataset to predictions, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.train import small
from vidkit.cli import main
from vidkit.commands.training import default_recipe

TINY = [
    "model.encoder.frames=4",
    "model.encoder.size=32",
    "model.encoder.width=32",
    "model.encoder.depth=2",
    "model.encoder.heads=2",
    "model.encoder.patch=8",
    "model.encoder.positions=1d",  # other projects know no others
    "model.decoder.width=16",
    "model.decoder.depth=1",
    "model.decoder.heads=2",
    "model.sampler.heads=2",
]


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["vidkit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def settings(pairs: list[str]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


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
    import re

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

"""The studies as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.studies import made as studies
from tests.cli.typed import MICRO, command, settings, stopped
from vidkit.cli.bench import report
from vidkit.cli.bench import studies as commands
from vidkit.cli.bench.asked import Asked
from vidkit.cli.datasets import build_dataset, drawn
from vidkit.errors import BuildError, ConfigError
from vidkit.settings.ablation import Study


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.dataset(tmp_path_factory.mktemp("data") / "d")


def words(study: str, built: Path, out: Path, *more: object) -> list[object]:
    return ["ablate", "--preset", study, "--data", built, "--out", out, "--recipe", "tiny", *MICRO, *more]


def test_a_study_from_a_command_to_its_files(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = words("reconstruction", built, out, "--seed", 0, "--seed", 1)
    assert command(monkeypatch, *given) == 0
    said = capsys.readouterr()
    assert "Reconstruction of a small dataset: recipe tiny, dataset tiny" in said.out
    assert "arm 10 of 10: mean colour, seed 1" in said.err
    assert "against pre-trained" in said.out
    assert command(monkeypatch, *given) == 2
    assert "go on with them by --resume" in capsys.readouterr().err
    assert command(monkeypatch, *given, "--seed", 2, "--resume", "--json") == 0
    said = capsys.readouterr()
    assert said.err.count("done before") == 10
    found = json.loads(said.out)
    assert (found["study"], found["dataset"]) == ("reconstruction", "tiny")
    assert [line["seeds"] for line in found["lines"]] == ["3 of 3"] * 5
    for name in ("report.md", "report.html", "plot-psnr.svg", "plot-psnr.png", "plan.json", "results.jsonl"):
        assert (out / name).exists()

    files = {name: tmp_path / f"t.{name}" for name in ("csv", "markdown", "html")}
    assert report.run([out], as_json=False, **files) == 0
    assert "3 of 3" in capsys.readouterr().out
    assert len(files["csv"].read_text().splitlines()) == 1 + 5 * 3 - 1, "nothing was trained for the mean colour"
    assert files["html"].read_text() == (out / "report.html").read_text()
    assert report.run([out], csv=None, markdown=None, html=None, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "reconstruction"
    with pytest.raises(ConfigError, match="--data is for pictures of masks"):
        report.run([out], csv=None, markdown=None, html=files["html"], as_json=False, data=built)
    assert report.run([out, out], csv=None, markdown=None, html=None, as_json=False, compare=True) == 0
    assert "PSNR of hidden patches, dB, A" in capsys.readouterr().out


def test_three_seeds_where_none_is_named(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, *words("mask-ratio", built, tmp_path / "out", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "5 arms x 3 seeds, recipe tiny" in said
    assert "80% of the tokens dropped in training" in said
    assert "clips to train on: 20" in said
    assert not (tmp_path / "out").exists()
    meta = words("meta", built, tmp_path / "out", "--dry-run", "--json", "--seed", 4)
    assert command(monkeypatch, *meta) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seeds"] == [4]
    assert {"mann", "mann, random encoder", "mann, pixels", "maml", "proto"} <= {
        arm["arm"] for arm in found["arms"]
    }


def test_settings_of_episodes(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = settings(["fewshot.way=2", "fewshot.query=2", "fewshot.episodes=4", "fewshot.steps=2"])
    few += settings(["fewshot.tune_episodes=2", "fewshot.finetune_steps=1", "fewshot.tune_steps=2"])
    few += settings(["fewshot.val_episodes=2", "fewshot.finetune_val_episodes=2", "fewshot.batch=2"])
    assert command(monkeypatch, *words("meta", built, tmp_path / "out", "--seed", 0, "--json"), *few) == 0
    found = json.loads(capsys.readouterr().out)
    assert {line["seeds"] for line in found["lines"]} == {"1 of 1"}
    assert "2-way 1-shot, 2 queries a class" in found["notes"][1]
    assert command(monkeypatch, *words("meta", built, tmp_path / "o", "--set", "fewshot.way=1")) == 2
    assert "way is 1; expected at least 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--preset", "masks"], "mask-ratio has a table of its own"),
        (["--memory-only"], "it has no memory-only form"),
        (["--steps", "0"], "--batch and --steps have no effect"),
        (["--contrast", "a:b"], "has measures and a reference arm of its own"),
        (["--equal", "compute"], "has measures and a reference arm of its own"),
        (["--set", "finetune.mask_ratio=0.5"], "it is what the study varies"),
        (["--set", "fewshot.learners=[]"], "the study has arms for them"),
        (["--set", "fewshot.nothing=1"], "there is no setting 'fewshot.nothing'"),
        (["--split", "test"], "tiny has no clips in split 'test' to test on"),
        (["--ratio", "0.5"], "a preset has its own masks"),
        (["--recipe", "none"], "there is no recipe 'none'"),
    ],
)
def test_what_cannot_be(
    more: list[str],
    said: str,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, *words("mask-ratio", built, tmp_path / "out"), *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "plan.json").exists()


def test_a_failed_arm_exits_1(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words("mask-ratio", built, tmp_path, "--seed", 0, "--set", "finetune.optim.batch_size=1000")
    assert command(monkeypatch, *given) == 1
    assert "fewer than one step takes" in capsys.readouterr().out


def test_a_stopped_study_says_how_to_go_on(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vidkit.train.pretrain.run", stopped)
    assert command(monkeypatch, *words("mask-ratio", built, tmp_path / "out")) == 130
    assert "finished arms are kept" in capsys.readouterr().err


def test_generated_clips_have_settings_of_their_own(built: Path, tmp_path: Path) -> None:
    from vidkit.settings.ablation import Grid, MeasureConfig, Measures

    how: dict[str, Any] = dict.fromkeys(("resume", "dry_run", "memory_only", "as_json"), False)
    options = Asked(
        data=None,
        out=tmp_path,
        grid=Grid(),
        presets=("meta",),
        recipe=None,
        split="val",
        measure=MeasureConfig(),
        executor="local",
        ray_address=None,
        measures=Measures(),
        again=False,
        contrasts=(),
        equal="tokens",
        changes=("fewshot.steps=7",),
        **how,
    )
    name, found = commands._settings(options, "meta")
    assert (name, found.fewshot.steps) == ("tiny", 7), "what is asked for holds"
    assert found.fewshot.tune_rate == commands.GENERATED["tune_rate"]
    assert found.pretrain.optim.epochs == commands.FEWSHOT_EPOCHS
    assert commands._settings(options, "mask-ratio")[1].pretrain.optim.epochs != commands.FEWSHOT_EPOCHS
    _, given = commands._settings(replace(options, data=built, recipe="tiny"), "meta")
    assert given.fewshot.tune_rate == 1e-4


@pytest.mark.parametrize(("study", "spec"), [("meta", "motions"), ("mask-ratio", "demo")])
def test_generated_clips_where_no_data_is_given(
    study: Study, spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def build(name: str, *, out: Path, source: list[str], **options: Any) -> int:
        asked.append((name, [word.partition("=")[0] for word in source]))
        if len(asked) > 1:
            return 1
        studies.dataset(out)
        return 0

    monkeypatch.setattr(build_dataset, "run", build)
    monkeypatch.setattr(drawn, "draw_beside", lambda out, kind, **options: out.with_name(kind))
    assert commands.embedded(study, tmp_path / "data") == tmp_path / "data"
    assert commands.embedded(study, tmp_path / "data") == tmp_path / "data"
    assert asked == [(spec, [spec])]
    with pytest.raises(BuildError, match="could not be built"):
        commands.embedded(study, tmp_path / "other")

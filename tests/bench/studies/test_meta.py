"""Few-shot learners on one list of episodes: what they share, what the encoder has seen, what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.bench.studies import made as studies
from tests.train import small
from vidkit.bench.report import table as report
from vidkit.bench.rows.schema import Row
from vidkit.bench.studies import meta as study_meta
from vidkit.bench.studies.work import FewshotSettings, Work
from vidkit.errors import ConfigError, TrainingError
from vidkit.fewshot.episodes.labelled import open_labelled
from vidkit.fewshot.episodes.lists import read_episodes
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.train import pretrain

CLASSES = tuple("abcdefgh")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.dataset(tmp_path_factory.mktemp("data") / "d", train=32, val=16, classes=CLASSES)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Row, ...]]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, studies.run("meta", data, out)


def test_every_arm_has_the_same_episodes(data: Path, whole: tuple[Path, tuple[Row, ...]]) -> None:
    out, rows = whole
    assert {row.status for row in rows} == {"ok"}, [row.reason for row in rows if row.reason]
    assert [row.plan.group for row in rows] == 2 * list(study_meta.ARMS)
    listed = read_episodes(out / "episodes.jsonl", data)
    assert len(listed.episodes) == 6
    for row in rows:
        found = row.found["fewshot"]
        assert found["episodes_sha256"] == listed.sha256
        assert row.counts["episodes"] == (3 if row.plan.group in ("finetune", "scratch") else 6)
        assert found["class_split_sha256"] == listed.split.sha256
        assert (found["way"], found["shot"], found["query"]) == (2, 1, 2)
        assert row.metrics["accuracy"] == found["accuracy"]
        assert row.half_widths["accuracy"] == found["half_width"]
        assert row.found["chance"] == 0.5
        assert row.counts["seen classes"] == 0
        assert found["learner"] == study_meta.ARMS[row.plan.group].learner
        assert row.config["fewshot"]["seeds"] == [row.plan.seed]


def test_the_encoder_has_seen_no_clip_of_a_test_class(data: Path, whole: tuple[Path, tuple[Row, ...]]) -> None:
    out, rows = whole
    listed = read_episodes(out / "episodes.jsonl", data)
    ledger = pq.read_table(out / "parts" / "meta-train" / "clips.parquet")
    assert set(ledger["class_name"].to_pylist()) == set(listed.split.train)
    assert not set(listed.split.train) & set(listed.split.test)
    for row in rows:
        if row.config["features"] == "pre-trained":
            facts = checkpoints.load(out / row.runs["pretrain"] / "checkpoints/last.pt").facts
            assert facts["dataset"] == "tiny, meta-train"
            assert facts["clips"] == 4 * len(listed.split.train)
    assert len({row.runs["pretrain"] for row in rows if "pretrain" in row.runs}) == 2, "one for each seed"


def test_features_are_those_that_the_arm_names(whole: tuple[Path, tuple[Row, ...]]) -> None:
    out, rows = whole
    arm = studies.by_arm(rows, 1)
    random = checkpoints.load(out / arm["mann, random encoder"].runs["encoder"])
    expected = AdaMAE(small.model(), torch.Generator().manual_seed(1)).state_dict()
    assert all(torch.equal(random.model[name], expected[name]) for name in expected)
    assert random.facts["stride"] == 2, "clips are looked at as after pre-training"
    assert arm["mann, random encoder"].runs["encoder"] == arm["proto, random encoder"].runs["encoder"]
    assert arm["mann, pixels"].found["fewshot"]["features"] == "pixels"
    hashes = {name: arm[name].found["fewshot"]["checkpoint_sha256"] for name in ("mann", "proto", "nn")}
    assert len(set(hashes.values())) == 1
    assert hashes["mann"] != arm["mann, random encoder"].found["fewshot"]["checkpoint_sha256"]
    assert {name for name, row in arm.items() if row.found["fewshot"]["training"].get("tune")} == {
        "mann, tuned",
        "mann, tuned from random",
        "proto, tuned",
        "proto, tuned from random",
    }
    assert arm["mann, tuned"].found["fewshot"]["checkpoint_sha256"] == hashes["mann"]
    plain = {name for name, row in arm.items() if row.found["fewshot"]["discriminant"] == "none"}
    assert plain == {"mann, components", "proto, components", "finetune", "scratch"}
    steps = {name for name, row in arm.items() if row.found["fewshot"]["discriminant"] == "steps"}
    assert steps == {"mann, by steps"} | {
        f"{name}{of}" for name in ("otam", "trx") for of in ("", ", random encoder", ", pixels")
    }
    pixels = [studies.by_arm(rows, seed)["proto, pixels"].found["fewshot"] for seed in (0, 1)]
    assert pixels[0]["predictions_sha256"] == pixels[1]["predictions_sha256"], "nothing in it depends on the seed"


def test_what_the_table_says(whole: tuple[Path, tuple[Row, ...]]) -> None:
    results = report.read_results([whole[0]])
    columns, cells = report.table(report.lines(results), brief=True)
    assert [column.name for column in columns] == [
        "arm",
        "seeds",
        "accuracy %",
        "accuracy over episodes",
        "accuracy against mann",
        "status",
    ]
    assert {row[0]: row[4] for row in cells}["mann"] == "–"
    said = "\n".join(report.notes(results, report.lines(results)))
    assert "2-way 1-shot, 2 queries a class, chance 50.0%; one list of 6 test episodes" in said
    assert "it has seen no clip of a meta-test class" in said
    assert ">chance<" in (whole[0] / "report.html").read_text()


def test_classes_are_divided_in_two_where_they_are_few(data: Path, tmp_path: Path) -> None:
    clips = open_labelled(data)
    two = study_meta._divided(clips, 2)
    assert [len(part) for part in (two.train, two.val, two.test)] == [4, 0, 4]
    many = open_labelled(studies.dataset(tmp_path / "d", train=26, val=0, classes=tuple("abcdefghijklm")))
    three = study_meta._divided(many, 2)
    assert [len(part) for part in (three.train, three.val, three.test)] == [8, 2, 3]
    with pytest.raises(ConfigError, match="'tiny' has 8 classes; 5-way episodes need 10") as caught:
        study_meta._divided(clips, 5)
    assert "--set fewshot.way=4" in str(caught.value)


def test_videos_that_show_classes_of_both_are_counted(data: Path, tmp_path: Path) -> None:
    clips = open_labelled(data)
    split = study_meta._divided(clips, 2)
    assert study_meta._shared(clips, split) == ""
    number = {name: i for i, name in enumerate(clips.classes)}
    group = clips.group.copy()
    for part in (split.train, split.test):
        group[[int((clips.class_id == number[part[0]]).argmax())]] = 10**6
    shared = study_meta._shared(replace(clips, group=group), split)
    assert shared == ", but 1 videos have clips in classes of both"


def test_more_shots_than_clips(data: Path, tmp_path: Path) -> None:
    few = FewshotSettings(way=2, shot=5, query=5, episodes=4)
    with pytest.raises(ConfigError, match="2-way episodes need 2 classes with 10 clips"):
        studies.run("meta", data, tmp_path, settings=studies.settings(fewshot=few))


def test_a_pretraining_that_fails_leaves_arms_without_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise TrainingError("diverged")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run", fails)
        rows = studies.by_arm(studies.run("meta", data, tmp_path, seeds=(0,)))
    good = {name for name, row in rows.items() if row.status == "ok"}
    assert good == {name for name, kind in study_meta.ARMS.items() if kind.source in ("random", "pixels")}
    text = "the pre-training that it shares with another row failed: diverged"
    assert rows["proto"].reason == text
    results = report.read_results([tmp_path])
    against = {row[0]: row[4] for row in report.table(report.lines(results), brief=True)[1]}
    assert set(against.values()) <= {"–", "failed: diverged", f"failed: {text}", "ok"}


def test_how_far_an_arm_is_goes_to_the_caller(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    asked = studies.todo("meta", data, tmp_path)
    work = Work(
        data=data,
        out=tmp_path,
        split=asked.split,
        recipe=asked.recipe,
        settings=asked.settings,
        seeds=(0,),
        tell=told.append,
    )
    plan = study_meta.prepare(work)
    one = next(one for one in plan.arms if one.config.arm == "mann, pixels")
    study_meta.run(work, plan, one)
    # four steps of training: each is told, the last one too
    assert [words.partition(", loss ")[0] for words in told] == [f"mann: step {n} of 4" for n in (1, 2, 3, 4)]
    assert "step" not in "".join(capsys.readouterr())
    study_meta.run(replace(work, quiet=True), plan, one)
    assert len(told) == 4

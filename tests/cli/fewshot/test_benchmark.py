"""A benchmark from end to end: a classifier of its meta-train classes, then few-shot tests on the others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli import typed
from tests.data.tinyset import Clip, build
from tests.train import saved, small
from vidkit.cli.training.finetune import _with_classes
from vidkit.data.load.split import open_split
from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.benchmarks import benchmark, divide
from vidkit.fewshot.episodes.draw import open_labelled
from vidkit.fewshot.inputs.encoder import open_encoder
from vidkit.fewshot.inputs.leaks import leaks
from vidkit.models import checkpoints
from vidkit.train import finetune

KNOWN = benchmark("hmdb51-arn")
TRAIN, VAL, TEST = KNOWN.classes["train"][:5], KNOWN.classes["val"][:5], KNOWN.classes["test"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the benchmark's classes 5, 5 and all 10, with three clips each, one of them in the val split."""
    names = [*TRAIN, *VAL, *TEST]
    clips = [Clip(labels=(name,), split="train", first=7 * i + k, frames=6) for i, name in enumerate(names)
             for k in range(2)]  # fmt: skip
    clips += [Clip(labels=(name,), split="val", first=7 * i + 3, frames=6) for i, name in enumerate(names)]
    return build(tmp_path_factory.mktemp("data") / "d", clips)


@pytest.fixture(scope="module")
def classifier(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the meta-train classes."""
    config = _with_classes(small.finetune(optim=small.optim(epochs=1, warmup_epochs=0)), built, None, KNOWN.name)
    assert config.data.classes == tuple(sorted(TRAIN))
    out = tmp_path_factory.mktemp("run")
    finetune.run(config, built, out, quiet=True)
    return out / "checkpoints/best.pt"


def test_only_clips_of_some_classes(built: Path) -> None:
    found = open_split(built, "train", classes=TRAIN)
    assert {found.classes[i] for i in found.class_id} == set(TRAIN)
    assert len(found) == 10
    assert len(open_split(built, "train", classes=TRAIN, label_fraction=0.5)) == 5
    with pytest.raises(ConfigError, match="there is no class 'x' in 'tiny'"):
        open_split(built, "train", classes=["x"])


def test_the_classifier_says_what_it_was_trained_on(built: Path, classifier: Path) -> None:
    facts = checkpoints.load(classifier).facts
    assert facts["trained_classes"] == sorted(TRAIN)
    assert set(facts["classes"]) == {*TRAIN, *VAL, *TEST}  # those of its head
    assert facts["clips"] == 10
    clips = open_labelled(built)
    encoder = open_encoder(clips, classifier)
    assert encoder.classes == tuple(sorted(TRAIN))
    said = leaks(encoder, clips, divide(KNOWN, clips).split)
    assert said[0] == "the encoder learned no label of a meta-test class"
    # the made dataset has no plan, so that nothing tells which build it was
    assert "whether the encoder saw meta-test clips is unknown" in said[1]
    assert said[2] == "the field reads 8 frames of a clip; this encoder reads 4"


def test_what_an_encoder_has_seen(built: Path, tmp_path: Path) -> None:
    clips = open_labelled(built)
    split = divide(KNOWN, clips).split
    plan: Any = {**clips.dataset.facts, "plan_sha256": "p"}
    planned = replace(clips, dataset=replace(clips.dataset, facts=plan))

    def said(**facts: Any) -> list[str]:
        saved.classifier(tmp_path / "c.pt", **facts)
        return leaks(open_encoder(planned, tmp_path / "c.pt"), planned, split)

    seen = said(trained_classes=["KICK", "z"], dataset="tiny", dataset_plan_sha256="p", init="pre.pt")
    assert "the encoder learned labels of 1 of 10 meta-test classes: 'kick'" in seen
    assert "the encoder was trained on this dataset: 20 of the 30 meta-test clips are in its training split" in seen
    assert any("pre.pt), whose data are unknown here" in text for text in seen)
    other = said(dataset="k400", dataset_plan_sha256="q")
    assert any("it was trained on another build ('k400')" in text for text in other)
    assert leaks(None, planned, split) == []


def test_from_benchmark_to_rows(
    built: Path,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "rows.jsonl"
    words = ["--data", built, "--benchmark", KNOWN.name, "--init", classifier, "--workers", 0, "--device", "cpu"]
    few = ["--episodes", 20, "--out", out]
    code, text, err = typed.said(
        monkeypatch, capsys, "fewshot", *words, *few, "--learner", "otam", "--learner", "simpleshot"
    )
    assert code == 0, err
    assert "5-way 1-shot, 1 queries a class: 20 episodes of 10 meta-test classes" in text
    assert "- the dataset has 5 of the 31 meta-train classes; it lacks " in text
    assert "- meta-test has 30 clips; 1,292 were listed" in text
    assert "- episodes is 20; the benchmark has 10,000" in text
    assert "the encoder learned no label of a meta-test class" in text
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["learner"] for row in rows] == ["otam", "simpleshot"]
    assert all(row["benchmark"] == KNOWN.name and len(row["departures"]) == 4 for row in rows)
    # Meta-Baseline: the classifier's encoder goes on with cosine prototypes
    tuned = ["--learner", "cosine", "--tune", 1, "--tune-steps", 2, "--json"]
    code, text, err = typed.said(monkeypatch, capsys, "fewshot", *words, *few, *tuned)
    assert code == 0, err
    found = json.loads(text)
    assert found["rows"][0]["training"]["tune"]["steps"] == 2
    assert found["rows"][0]["seen_classes"] == 0
    assert any(note.startswith("- episodes is 20") for note in found["notes"])
    code, _, err = typed.said(monkeypatch, capsys, "fewshot", *words, "--shot", 3)
    assert code == 2
    assert "5-way episodes need 5 classes with 4 clips (3 support, 1 query) each" in err
    assert "3 of the 4 clips needed" in err
    assert "lower shot to 2" in err


def test_a_class_with_too_few_clips_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in TEST for _ in range(2)][1:]
    data = build(tmp_path / "d", [Clip(labels=(name,), first=i, frames=4) for i, name in enumerate(names)])
    words = ["--data", data, "--benchmark", KNOWN.name, "--episodes", 5, "--learner", "diagonal", "--workers", 0]
    code, text, err = typed.said(monkeypatch, capsys, "fewshot", *words)
    assert code == 0, err
    assert "1 meta-test classes have too few clips, and are in no episode" in text
    assert f"('{TEST[0]}': 1 of the 2 clips needed)" in text
    assert "5 episodes of 9 meta-test classes" in text

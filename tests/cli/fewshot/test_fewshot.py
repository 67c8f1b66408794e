"""`vidkit fewshot` from clips to a table: features and their cache, what it says, how it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli import typed
from tests.data.tinyset import Clip, build
from tests.train import saved, small
from vidkit.data import ClipDataset
from vidkit.errors import ConfigError, DatasetError
from vidkit.fewshot.episodes.class_split import ClassSplit, split_classes
from vidkit.fewshot.episodes.draw import open_labelled
from vidkit.fewshot.evaluate import evaluate
from vidkit.fewshot.inputs.encoder import Seen, open_encoder
from vidkit.fewshot.inputs.features import clip_features
from vidkit.fewshot.selftest import run as selftest
from vidkit.fewshot.selftest.run import SelfTest
from vidkit.settings.fewshot import LEARNERS, FewshotConfig
from vidkit.train.features.file import open_features
from vidkit.train.features.readout import Reading, tokens_at

EPISODES = ["--way", 2, "--shot", 1, "--query", 2, "--episodes", 20, "--shares", "0.4,0.2,0.4", "--workers", 0]
NETWORK = ["--steps", 4, "--hidden", 8, "--batch", 2]
EACH = ["--tune-episodes", 3, "--finetune-steps", 2, "--finetune-rate", 1e-3]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of four clips over two splits, each class of brightness of its own, with a clip that failed."""
    clips = [
        Clip(labels=(f"c{i}",), split=split, first=90 * i + k, frames=12)
        for split, several in (("train", (0, 1, 2)), ("test", (3,)))
        for i in range(10)
        for k in several
    ]
    clips[4:4] = [Clip(labels=("c1",), status="failed")]
    return build(tmp_path_factory.mktemp("data") / "d", clips)


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> typed.Said:
    return typed.said(monkeypatch, capsys, "fewshot", *words)


def test_pixels_are_averages_of_the_stored_frames(built: Path, tmp_path: Path) -> None:
    clips = open_labelled(built, ("test", "train"))
    found = clip_features(clips, cache=tmp_path, workers=0, quiet=True)
    assert found.array.shape == (40, 4, 192)
    assert 0 <= found.array.min() < found.array.max() <= 1
    for row in (0, 5, 39):
        split, number = clips.place(row)
        dataset = ClipDataset(built, split, frames=8, mode="segments", training=False, size=32)
        video = dataset[number].video[0].double().numpy() / 255  # (3, 8, 32, 32)
        expected = video.reshape(3, 4, 2, 8, 4, 8, 4).mean(axis=(2, 4, 6))
        expected = expected.transpose(1, 0, 2, 3).reshape(4, 192)
        np.testing.assert_allclose(found.array[row], expected, atol=3e-4)  # half precision


def test_features_are_kept_by_what_they_depend_on(built: Path, tmp_path: Path) -> None:
    clips, cache = open_labelled(built), tmp_path / "cache"
    model = saved.adamae(tmp_path / "a.pt")
    how: dict[str, Any] = {"cache": cache, "workers": 0, "quiet": True, "device": "cpu"}
    first = clip_features(clips, tmp_path / "a.pt", **how)
    again = clip_features(clips, tmp_path / "a.pt", **how)
    assert (first.computed, again.computed) == (True, False)
    assert np.array_equal(first.array, again.array)
    assert first.file is not None
    assert open_features(first.file).facts["checkpoint_sha256"] == first.checkpoint_sha256
    dataset = ClipDataset(built, "train", frames=4, stride=2, mode="views", size=32)
    with torch.no_grad():
        (tokens,) = tokens_at(model, dataset[3].video, (Reading(2),))
    np.testing.assert_allclose(first.array[3, :, :32], tokens[0].mean(dim=1), rtol=1e-3, atol=1e-3)
    # layers and read-outs that the file holds compute nothing
    other = clip_features(clips, tmp_path / "a.pt", seen=Seen(layer=1, norm=False, readout="mean"), **how)
    assert (other.computed, other.array.shape) == (False, (40, 1, 32))
    saved.classifier(tmp_path / "c.pt")
    others = [
        clip_features(clips, tmp_path / "a.pt", stride=1, **how),
        clip_features(clips, tmp_path / "c.pt", **how),
        clip_features(open_labelled(built, ("train",)), tmp_path / "a.pt", **how),
        clip_features(clips, **how),
    ]
    assert all(other.computed for other in others)
    assert len({path.name for path in cache.iterdir()}) == 5
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    assert not clip_features(open_labelled(copy), tmp_path / "a.pt", **how).computed  # same content, same name
    (copy / "shards.json").write_text((copy / "shards.json").read_text() + "\n")
    assert clip_features(open_labelled(copy), tmp_path / "a.pt", **how).computed
    name = clip_features(clips, tmp_path / "a.pt", **{**how, "cache": None})
    assert name.file is None
    assert name.computed
    # a file that is of other clips is not believed
    swapped = open_labelled(built, ("test",))
    target = clip_features(swapped, **how).file
    assert target is not None
    train_only = clip_features(open_labelled(built, ("train",)), **how).file
    assert train_only is not None
    target.write_bytes(train_only.read_bytes())
    with pytest.raises(DatasetError, match="of other clips than the dataset's"):
        clip_features(swapped, **how)


def test_from_clips_to_rows(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.adamae(tmp_path / "a.pt")
    out = tmp_path / "out/rows.jsonl"
    learners = [word for name in LEARNERS for word in ("--learner", name)]
    common = ["--data", built, "--init", tmp_path / "a.pt", *learners, *EPISODES, *NETWORK, *EACH]
    common += ["--device", "cpu"]
    code, text, err = said(monkeypatch, capsys, *common, "--out", out, "--seeds", 2)
    assert code == 0, err
    assert "2-way 1-shot, 2 queries a class: 20 episodes of 4 meta-test classes for each of 2 seeds" in text
    assert "features: a.pt, slots-std of layer 2, norm, 2 x 64 numbers a clip (computed" in text
    assert "mann by instance (seed 1)" in text
    assert f"wrote {out}" in text
    assert "mann: step 4 of 4, loss" in err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["seed"], row["learner"]) for row in rows] == [(seed, name) for seed in (0, 1) for name in LEARNERS]
    first, few = rows[: len(LEARNERS)], len(LEARNERS) - 2
    assert [row["features"] for row in first] == ["a.pt"] * (few + 1) + ["random"]
    assert [row["read"] for row in first] == ["slots-std of layer 2, norm"] * few + [None] * 2
    assert [row["episodes"] for row in first] == [20] * few + [3] * 2
    assert [row["tune"] for row in first] == [0] * few + ["all"] * 2
    assert "fewer episodes are the first ones of the others' list" in text
    assert "finetune (seed 0): a network from a.pt for each episode, 2 steps, rate 0.001" in text
    assert "scratch (seed 1): a network from random weights for each episode" in text
    assert "scratch: episode 3 of 3, loss" in err
    assert rows[LEARNERS.index("mann")]["instances"] == 4  # as many as there are
    code, text, _ = said(monkeypatch, capsys, *common, "--out", out, "--json")
    found = json.loads(text)
    assert code == 0
    assert [row["predictions_sha256"] for row in found["rows"]] == [row["predictions_sha256"] for row in first]
    assert found["features"] is not None
    assert [one["learner"] for one in found["summary"]] == list(LEARNERS)


def test_the_layer_that_does_best_on_meta_val(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.adamae(tmp_path / "a.pt")
    given = ["--data", built, "--init", tmp_path / "a.pt", *EPISODES, "--json", "--learner", "proto"]
    found = json.loads(said(monkeypatch, capsys, *given, "--layer", "best").out)
    (note,) = found["notes"]
    assert note.startswith("read is what does best on meta-val with proto: layer 1")
    # a split by hand whose test classes are meta-val's: what each layer reaches there
    clips = open_labelled(built)
    split = split_classes(clips, seed=0, shares=(0.4, 0.2, 0.4))
    config = FewshotConfig(way=2, shot=1, query=2, episodes=20)
    on_val = ClassSplit(label_map_sha256=split.label_map_sha256, train=split.train, test=split.val)
    reached = {}
    for layer in (1, 2):
        for norm in (False, True):
            features = clip_features(
                clips, tmp_path / "a.pt", seen=Seen(layer=layer, norm=norm), workers=0, quiet=True
            )
            (row,) = evaluate(clips, features, on_val, config).rows
            reached[row.read] = row.accuracy
            assert f"{Reading(layer, norm)} {row.accuracy:.1%}" in note
    assert reached[found["rows"][0]["read"]] == max(reached.values())


def test_a_layer_that_cannot_be_chosen(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.adamae(tmp_path / "a.pt")
    given = ["--data", built, *EPISODES, "--layer"]
    assert "pixels have no layers" in said(monkeypatch, capsys, *given, "best").err
    few = ["--init", tmp_path / "a.pt", "--shares", "0.6,0,0.4"]
    assert "meta-val, which has 0 classes" in said(monkeypatch, capsys, *given, "best", *few).err
    assert "--layer is 'last'" in said(monkeypatch, capsys, *given, "last").err


def test_a_list_of_episodes_brings_its_settings(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "list.jsonl"
    words = ["--way", 3, "--query", 2, "--episodes", 7, "--shares", "0.4,0.2,0.4", "--out", listed]
    assert typed.command(monkeypatch, "episodes", built, *words) == 0
    capsys.readouterr()
    given = ["--data", built, "--episodes-list", listed, "--workers", 0, "--cache", tmp_path, "--json"]
    code, text, _ = said(monkeypatch, capsys, *given, "--learner", "nn")
    row = json.loads(text)["rows"][0]
    assert code == 0
    assert [row[name] for name in ("way", "shot", "query", "episodes")] == [3, 1, 2, 7]
    assert row["features"] == "pixels"
    code, _, err = said(monkeypatch, capsys, *given, "--way", 2, "--split-seed", 3)
    assert code == 2
    assert "--episodes-list brings its own settings; --way, --split-seed cannot change them" in err


def test_classes_that_the_encoder_was_trained_on_are_told(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.classifier(tmp_path / "c.pt", classes=10)
    model = saved.classifier(tmp_path / "c.pt", classes=10)
    saved.save(tmp_path / "c.pt", model, {"stride": 2, "classes": [f"c{i}" for i in range(10)], "rule": "single"})
    common = ["--data", built, "--init", tmp_path / "c.pt", *EPISODES, "--device", "cpu"]
    code, text, _ = said(monkeypatch, capsys, *common)
    assert code == 0
    assert "the encoder learned labels of 4 meta-test classes: they are not unseen" in text


def test_directions_in_which_classes_differ(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learners = ["--learner", "proto", "--learner", "otam", "--discriminant", "steps"]
    code, text, _ = said(monkeypatch, capsys, "--data", built, *EPISODES, *learners, "--json")
    assert code == 0
    assert [row["discriminant"] for row in json.loads(text)["rows"]] == ["steps", "steps"]
    code, text, _ = said(monkeypatch, capsys, "--data", built, *EPISODES, *learners)
    assert "clips were seen along the directions in which the meta-train classes differ" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--way", 9], "field 'way': 9-way episodes need 9 classes"),
        (["--way", 2, "--shot", 4], r"with 19 clips (4 support, 15 query) each"),
        (["--way", 2, "--shares", "0.8,0.2,0"], "the class split has no meta-test class"),
        (["--way", 2, "--splits", "val"], "no usable clip in split 'val'"),
        (
            ["--learner", "magic"],
            f"learner is 'magic'; expected some of {', '.join(LEARNERS)}",
        ),
        (["--init", "nowhere.pt", *EPISODES], "there is no such checkpoint"),
        (["--learner", "finetune"], "finetune starts from a trained encoder, and there is none"),
        (["--learner", "finetune", "--init", "random"], "from random weights it is --learner scratch"),
        (["--learner", "scratch", "--way", 9], "field 'way': 9-way episodes need 9 classes"),
        (["--learner", "scratch", "--way", 2, "--shot", 4], r"with 19 clips (4 support, 15 query) each"),
        (["--learner", "scratch", "--way", 2, "--splits", "val"], "no usable clip in split 'val'"),
        (["--learner", "scratch", "--way", 2, "--shares", "0.8,0.2,0"], "the class split has no meta-test class"),
        (["--discriminant", "lda"], "discriminant is 'lda'; expected one of none, clip, steps"),
        (["--discriminant", "clip", "--learner", "trx"], "discriminant is 'clip'; expected steps with trx"),
        (
            ["--way", 2, "--query", 1, "--shares", "0,0,1", "--discriminant", "clip"],
            "discriminants need two meta-train classes with clips, and there are 0",
        ),
        (["--tune", "2"], "there is no encoder whose blocks could learn"),
        (["--tune", "most"], "--tune is 'most'; expected a number of blocks, or all"),
        (["--tune", "5", "--init", "random", *EPISODES], "tune is 5; the encoder has 4 blocks"),
        (
            ["--tune", "1", "--init", "random", "--learner", "nn"],
            "expected 0 with nn: it is for proto, cosine, trx, mann",
        ),
        (["--learner", "finetune", "--init", "nowhere.pt", *EPISODES], "there is no such checkpoint"),
    ],
)
def test_bad_input_is_one_clear_error(
    built: Path,
    words: list[Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = said(monkeypatch, capsys, "--data", built, *words)
    assert code in (1, 2)
    assert (out, message in err) == ("", True), err
    assert err.count("vidkit: ") == 1


def test_a_checkpoint_for_larger_pictures(built: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    saved.adamae(tmp_path / "big.pt", encoder=replace(small.VIT, size=96))
    clips = open_labelled(built)
    with pytest.raises(ConfigError, match="takes 96 x 96 pixels; 'tiny' stores 64: enlarged pictures"):
        clip_features(clips, tmp_path / "big.pt", workers=0, quiet=True)
    with pytest.raises(ConfigError, match="takes 96 x 96 pixels; 'tiny' stores 64: enlarged pictures"):
        open_encoder(clips, tmp_path / "big.pt")


def test_an_encoder_that_learns_with_its_learners(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.adamae(tmp_path / "a.pt")
    out = tmp_path / "rows.jsonl"
    words = ["--data", built, *EPISODES, *NETWORK, "--learner", "proto", "--learner", "mann", "--device", "cpu"]
    words += ["--tune-steps", 2]
    code, text, err = said(monkeypatch, capsys, *words, "--init", tmp_path / "a.pt", "--tune", "all", "--out", out)
    assert code == 0, err
    assert "proto: the whole encoder of a.pt trained, step" in text
    assert "mann with its encoder: step 2 of 2, loss" in err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["tune"] for row in rows] == ["all", "all"]
    assert [row["training"]["tune"]["steps"] for row in rows] == [2, 2]
    code, text, err = said(monkeypatch, capsys, *words, "--init", "random", "--tune", 1)
    assert code == 0, err
    assert "features: random, slots-std of layer 4, norm, 4 x 192 numbers a clip (computed)" in text
    assert "proto: the last 1 of 4 blocks of random trained, step" in text


def test_a_network_from_scratch_needs_no_checkpoint(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", built, *EPISODES, *EACH, "--learner", "scratch", "--device", "cpu", "--json"]
    code, text, err = said(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    found = json.loads(text)
    row = found["rows"][0]
    assert (row["features"], row["width"], row["episodes"]) == ("random", 96, 3)
    assert found["features"] is None
    assert row["training"]["rates"] == [1e-3]


def test_no_dataset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(monkeypatch, capsys)
    assert code == 2
    assert "needs a dataset\n  -> give --data DIR, or run --self-test without one" in err


def test_a_list_that_cannot_be_is_told_before_the_encoder_runs(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "list.jsonl"
    words = ["--way", 2, "--query", 2, "--shares", "0.4,0.2,0.4", "--meta-split", "train", "--out", listed]
    assert typed.command(monkeypatch, "episodes", built, *words) == 0
    capsys.readouterr()
    cache = tmp_path / "cache"
    code, _, err = said(monkeypatch, capsys, "--data", built, "--episodes-list", listed, "--cache", cache)
    assert code == 2
    assert "of meta-train classes, which learners may have seen" in err
    assert not cache.exists()


def test_self_test(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def short() -> SelfTest:
        return SelfTest(**{**vars_of(selftest.quick()), "steps": 2, "test_episodes": 4, "train_characters": 5})

    monkeypatch.setitem(selftest.PRESETS, "quick", short)
    code, out, err = said(monkeypatch, capsys, "--self-test", "--device", "cpu")
    assert code == 1  # two steps teach nothing
    assert "3-way, unseen characters, 4 episodes" in out
    assert "goal missed" in out
    assert "mann: step 2 of 2" in err
    code, out, err = said(monkeypatch, capsys, "--self-test", "--json", "--device", "cpu")
    assert (code, err) == (1, "")
    assert json.loads(out)["faults"]
    assert said(monkeypatch, capsys, "--self-test", "--preset", "huge")[0] == 2
    assert "--preset is of the self-test" in said(monkeypatch, capsys, "--data", "x", "--preset", "full")[2]
    assert "leave out --data" in said(monkeypatch, capsys, "--self-test", "--data", "x")[2]


def vars_of(settings: SelfTest) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}

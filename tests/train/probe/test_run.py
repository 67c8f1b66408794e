"""Probes from clips to figures: baselines, files of features, the checkpoints of a run, and within pre-training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.tinyset import Clip, build
from tests.train import saved, small
from vidkit.cli.training import probe as command
from vidkit.errors import ConfigError, DatasetError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.settings.probe import ProbeConfig
from vidkit.settings.train import LogConfig
from vidkit.train import pretrain
from vidkit.train.features import extract
from vidkit.train.features.file import open_features
from vidkit.train.features.readout import Reading
from vidkit.train.probe import during as probes
from vidkit.train.probe import linear
from vidkit.train.probe.during import Hook, during
from vidkit.train.probe.run import How, probe, random_like
from vidkit.train.runs import RunFolder

HOW = How(workers=0, device="cpu", quiet=True)
QUICK = ProbeConfig(probes=("knn", "ridge"), steps=20)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three splits of three classes."""
    clips = [
        Clip(labels=(small.NAMES[i % 3],), split=split, first=i % 5, frames=12)
        for split, count in (("train", 12), ("val", 6), ("test", 6))
        for i in range(count)
    ]
    return build(tmp_path_factory.mktemp("data") / "d", clips)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ckpt") / "a.pt"
    saved.adamae(path)
    return path


@pytest.fixture(scope="module")
def run(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of pre-training that probe after each, and keep what they had then."""
    config = small.pretrain(optim=small.optim(epochs=2), log=LogConfig(every=1, keep_epochs=1), probe_epochs=1)
    out = tmp_path_factory.mktemp("run") / "pre"
    pretrain.run(config, built, out, quiet=True)
    return out


def test_an_encoder_beside_random_weights_and_pixels(built: Path, checkpoint: Path, tmp_path: Path) -> None:
    found = probe(built, checkpoint, QUICK, HOW)
    assert [arm.name for arm in found.baselines] == ["random", "pixels"]
    assert {cell.reading for cell in found.encoder.cells} == {Reading(i, n) for i in (1, 2) for n in (False, True)}
    assert {cell.reading for cell in found.baselines[1].cells} == {Reading(0, norm=False)}
    plain = json.loads(json.dumps(found.to_plain()))
    assert (plain["metric"], plain["encoder"]["test"]["clips"]) == ("top1", 6)
    assert plain["against"].keys() == {"random", "pixels"}
    assert json.dumps(probe(built, checkpoint, QUICK, HOW).to_plain()) == json.dumps(found.to_plain())
    # the same from a file of features
    extract.run(built, checkpoint, tmp_path / "f.parquet", workers=0, device="cpu", quiet=True)
    again = probe(built, checkpoint, QUICK, HOW, features=tmp_path / "f.parquet", baselines=False)
    assert again.to_plain()["encoder"] == found.to_plain()["encoder"]
    assert again.baselines == ()


def test_random_weights_are_of_the_same_shape(checkpoint: Path) -> None:
    loaded = checkpoints.load(checkpoint)
    one, again, other = (random_like(loaded, seed) for seed in (0, 0, 1))
    assert one.config == loaded.config
    assert one.model.keys() == loaded.model.keys()
    weight = "encoder.0.mlp.fc1.weight"
    assert torch.equal(one.model[weight], again.model[weight])
    assert not torch.equal(one.model[weight], other.model[weight])


def test_features_of_something_else(built: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    extract.run(built, checkpoint, out, splits=["train", "val"], workers=0, device="cpu", quiet=True)
    with pytest.raises(DatasetError, match="no features of split 'test'; there are train, val"):
        probe(built, checkpoint, QUICK, HOW, features=out)
    other = build(tmp_path / "d", [Clip(labels=("a",), frames=12)])
    with pytest.raises(DatasetError, match="features of another dataset: 'tiny'"):
        probe(other, checkpoint, QUICK, HOW, features=out)
    saved.classifier(tmp_path / "c.pt")
    extract.run(built, checkpoint, out, workers=0, device="cpu", quiet=True)
    with pytest.raises(
        ConfigError, match=r"the features are of another checkpoint: 'a.pt'\n  -> extract them again"
    ):
        probe(built, tmp_path / "c.pt", QUICK, HOW, features=out)
    without = small.dataset(tmp_path / "e", train=6, val=3)
    with pytest.raises(DatasetError, match="there are no clips of split 'test' to test on; there are train, val"):
        probe(without, checkpoint, QUICK, HOW)


def test_at_the_checkpoints_of_a_run(built: Path, run: Path, tmp_path: Path) -> None:
    told: list[str] = []
    points = during(built, run, QUICK, HOW, done=lambda point: told.append(point.checkpoint))
    assert [(point.checkpoint, point.step, point.clips) for point in points] == [
        ("beginning", 0, 0),
        ("epoch-0001.pt", 3, 12),
        ("epoch-0002.pt", 6, 24),
    ]
    assert told == [point.checkpoint for point in points]
    plain = [json.loads(json.dumps(point.to_plain())) for point in points]
    alone = probe(built, run / "checkpoints/epoch-0001.pt", QUICK, HOW, baselines=False).to_plain()
    assert plain[1]["test"] == json.loads(json.dumps(alone["encoder"]["test"]))
    # the beginning is what the run began with
    began = AdaMAE(small.model(), torch.Generator().manual_seed(0)).state_dict()
    loaded = checkpoints.load(run / "checkpoints/last.pt")
    assert all(torch.equal(value, began[name]) for name, value in random_like(loaded, 0).model.items())
    with pytest.raises(ConfigError, match="no run of vidkit"):
        during(built, tmp_path, QUICK, HOW)


def test_within_pretraining(built: Path, run: Path, tmp_path: Path) -> None:
    rows = [row for row in RunFolder(run).rows() if "val_probe_knn" in row]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0].keys() == {
        "step",
        "epoch",
        *(f"val_probe_{name}" for name in ("knn", "ridge", "ridge_mean", "between")),
    }
    assert not (run / "checkpoints/best.pt").exists(), "a probe chooses no checkpoint"
    # what is logged is what a probe of the kept checkpoint finds
    extract.run(
        built, run / "checkpoints/epoch-0001.pt", tmp_path / "f.parquet", workers=0, device="cpu", quiet=True
    )
    file = open_features(tmp_path / "f.parquet")
    train, val = (file.load(Reading(2), splits=[split]) for split in ("train", "val"))
    flat, other = (torch.from_numpy(part.array).flatten(1) for part in (train, val))
    hot = torch.nn.functional.one_hot(torch.from_numpy(train.class_ids), 3)
    scores = linear.ridge(linear.principal_axes(flat), hot, probes.PENALTY)(other)
    right = float((scores.argmax(dim=1).numpy() == val.class_ids).mean())
    assert rows[0]["val_probe_ridge"] == pytest.approx(right)
    # and learning goes on as without it
    config = small.pretrain(optim=small.optim(epochs=2), log=LogConfig(every=1))
    pretrain.run(config, built, tmp_path / "plain", quiet=True)
    with_probes = small.learnt([row for row in RunFolder(run).rows() if "loss" in row])
    plain = small.learnt(RunFolder(tmp_path / "plain").rows())
    # the first run's threads may be more than one
    for one, other in zip(with_probes, plain, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_probe_needs_labels(built: Path, tmp_path: Path) -> None:
    clips = [Clip(labels=(), split=split, frames=12) for split in ("train", "val")]
    unlabelled = build(tmp_path / "d", [*clips, Clip(labels=("a",), frames=12)])
    config = small.pretrain(probe_epochs=2)
    with pytest.raises(ConfigError, match=r"1 of 2 clips of split 'train' have no label\n  -> leave probe_epochs"):
        Hook(config, unlabelled, torch.device("cpu"))
    alone = build(tmp_path / "e", [Clip(labels=("a",), frames=12) for _ in range(4)])
    with pytest.raises(DatasetError, match="no usable clip in split 'val'"):
        Hook(config, alone, torch.device("cpu"))
    with pytest.raises(ConfigError, match="probe_epochs is -1; expected at least 0"):
        small.pretrain(probe_epochs=-1)
    assert replace(config, probe_epochs=0).probe_epochs == 0


def test_the_command(
    built: Path,
    checkpoint: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how: dict[str, Any] = {"probe": ["ridge"], "workers": 0, "device": "cpu"}
    assert command.run(built, checkpoint, **how) == 0
    said = capsys.readouterr()
    assert "chosen on val, tested once on test" in said.out
    assert "layer 2, norm" in said.out
    assert "24 clips x 4 readings x 2 steps x 64 numbers: up to" in said.err
    assert command.run(built, checkpoint, readout=["tokens"], baselines=False, as_json=True, **how) == 0
    found = json.loads(capsys.readouterr().out)
    assert {cell["readout"] for cell in found["encoder"]["cells"]} == {"tokens"}
    plot = tmp_path / "curve.svg"
    assert command.run(built, during=run, layers="2", plot=plot, **how) == 0
    assert "clips seen" in capsys.readouterr().out
    drawn = plot.read_text()
    assert drawn.lstrip().startswith("<svg")
    assert "ridge, val" in drawn
    assert "knn, val" not in drawn
    for words, match in (
        ({}, "give either a checkpoint or a run"),
        ({"checkpoint": checkpoint, "during": run}, "give either a checkpoint or a run"),
        ({"during": run, "features": checkpoint}, "features are of one checkpoint"),
        ({"during": run, "plot": tmp_path / "curve.png"}, "drawn as SVG"),
        ({"checkpoint": checkpoint, "plot": plot}, "a curve is of the checkpoints of a run"),
        ({"checkpoint": checkpoint, "readout": ["max"]}, "read-out is 'max'; expected some of mean"),
        ({"checkpoint": checkpoint, "readout": ["tokens", "mean"]}, "tokens are read alone"),
        ({"checkpoint": checkpoint, "layers": "last"}, "layers are 'last'; expected numbers, such as 6,9,12"),
    ):
        with pytest.raises(ConfigError, match=match):
            command.run(built, **words)  # type: ignore[arg-type]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="probe works in one process"):
        command.run(built, checkpoint)

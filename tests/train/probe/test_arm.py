"""What is chosen on which clips, figures against their definitions, and input that cannot be probed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from tests.train.probe import made
from vidkit.errors import ConfigError, DatasetError
from vidkit.settings.probe import ProbeConfig
from vidkit.train.features.readout import Reading
from vidkit.train.probe.arm import compared, probe_features
from vidkit.train.probe.run import plain_arm
from vidkit.train.probe.scores import Labels, figure, interval, spread

QUICK = ProbeConfig(steps=30, batch=16)


def labels(class_ids: list[int], classes: int = 3) -> Labels:
    hot = torch.nn.functional.one_hot(torch.tensor(class_ids), classes).float()
    return Labels(class_id=np.array(class_ids), hot=hot, several=False)


def test_the_layer_that_says_something_is_chosen(tmp_path: Path) -> None:
    arm = probe_features(made.write(tmp_path / "f.parquet"), QUICK, "encoder")
    assert len(arm.cells) == 2 * (4 * 3 + 1), "every layer and read-out, and the attentive probe of the fullest"
    assert arm.test.cell.reading == Reading(2)
    assert arm.test.cell.val == max(cell.val for cell in arm.cells)
    assert arm.test.value > 0.9
    assert arm.test.low < arm.test.value <= arm.test.high <= 1
    assert np.array(arm.test.figures["confusion"]).sum() == 30
    assert arm.test.figures["top1"] == arm.test.value
    nothing = arm.best(reading=Reading(1, norm=False), readout="slots-std", probe="ridge")
    assert nothing is not None
    assert nothing.val < 0.6
    one, other = (arm.spreads[reading, "slots-std"] for reading in made.READINGS)
    assert one.between is not None
    assert other.between is not None
    assert other.between > 3 * one.between
    assert arm.notes == ()


def test_the_same_call_finds_the_same(tmp_path: Path) -> None:
    file = made.write(tmp_path / "f.parquet", signals=(0.5, 1.0))
    torch.manual_seed(1)
    first = plain_arm(probe_features(file, QUICK, "encoder"))
    torch.manual_seed(2)
    assert plain_arm(probe_features(file, QUICK, "encoder")) == first


def test_test_clips_choose_nothing(tmp_path: Path) -> None:
    """With other test labels everything but the one figure is the same."""
    mine = {split: made.labels_of(count, "single") for split, count in (("train", 60), ("val", 30), ("test", 30))}
    config = replace(QUICK, probes=("knn", "ridge"))
    one = probe_features(made.write(tmp_path / "a.parquet", labels=mine), config, "x")
    file = made.write(tmp_path / "b.parquet", labels=mine)
    table = file.load(Reading(2))
    assert table.array.shape == (120, 3, 8)
    shifted = {**mine, "test": [[(one[0] + 1) % 3] for one in mine["test"]]}
    other = probe_features(made.write(tmp_path / "b.parquet", labels=shifted), config, "x")
    assert one.cells == other.cells
    assert one.test.cell == other.test.cell


def test_several_labels_are_scored_by_precision(tmp_path: Path) -> None:
    counts = {"train": 90, "val": 30, "test": 30}
    file = made.write(tmp_path / "f.parquet", rule="multi-hot", counts=counts, signals=(0.0, 2.5))
    arm = probe_features(file, replace(QUICK, steps=60), "encoder")
    assert arm.test.labels.metric == "mAP"
    assert arm.test.value == arm.test.figures["mAP"]
    assert 0.7 < arm.test.value < 1
    assert arm.test.low < arm.test.value < arm.test.high
    assert arm.spreads[Reading(2), "mean"].between is None
    assert compared(arm, arm) is None


def test_figures_by_their_definitions() -> None:
    mine = labels([0, 1, 2, 0, 1])
    scores = torch.eye(3)[[0, 1, 0, 0, 2]]
    assert figure(scores, mine) == 3 / 5
    expected = binomtest(3, 5).proportion_ci(method="wilson")
    assert interval(scores, mine, 0) == pytest.approx((expected.low, expected.high))
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    found = spread(x, labels([0, 0, 1, 1], classes=2))
    # mean (1, 1): distances 1, 5, 2, 2; class means (2, 0) and (0, 2), each 2 from it
    assert found.between == pytest.approx(8 / 10)
    assert found.within == pytest.approx(2 / 10)
    assert found.chance == pytest.approx(1 / 3)
    assert found.share == pytest.approx(10 / 18)
    same = spread(torch.ones(4, 2), labels([0, 0, 1, 1], classes=2))
    assert (same.share, same.between) == (0, None), "a collapsed encoder"


def test_two_arms_clip_by_clip(tmp_path: Path) -> None:
    config = replace(QUICK, probes=("ridge",))
    good = probe_features(made.write(tmp_path / "a.parquet"), config, "good")
    bad = probe_features(made.write(tmp_path / "b.parquet", signals=(0, 0)), config, "bad")
    found = compared(good, bad)
    assert found is not None
    right, other = (arm.test.scores.argmax(1).numpy() == arm.test.labels.class_id for arm in (good, bad))
    assert (found["better"], found["worse"]) == (int((right & ~other).sum()), int((other & ~right).sum()))
    assert found["p"] == pytest.approx(binomtest(found["better"], found["better"] + found["worse"]).pvalue)
    assert found["p"] < 0.01


# --- what cannot be ------------------------------------------------------------------------------


def test_no_validation_split(tmp_path: Path) -> None:
    file = made.write(tmp_path / "f.parquet", counts={"train": 30, "test": 12})
    with pytest.raises(DatasetError, match="there are no clips of split 'val' to choose on; there are train, test"):
        probe_features(file, QUICK, "encoder")
    with pytest.raises(ConfigError, match="splits is 'train, test, test'; expected three different ones"):
        replace(QUICK, choose="test")


def test_one_step_is_a_note(tmp_path: Path) -> None:
    arm = probe_features(made.write(tmp_path / "f.parquet", steps=1), QUICK, "encoder")
    assert arm.notes == ("one time step: slots, slots-std would be the mean over all, and are left out",)
    assert {cell.readout for cell in arm.cells} == {"mean", "mean-std"}
    assert {cell.probe for cell in arm.cells} == {"knn", "ridge", "logistic"}
    with pytest.raises(ConfigError, match=r"none of the probes \(attentive\) is for these features"):
        probe_features(made.write(tmp_path / "f.parquet", steps=1), replace(QUICK, probes=("attentive",)), "x")


def test_odd_classes_are_notes(tmp_path: Path) -> None:
    some = {"train": [[0]] * 10 + [[1]], "val": [[0], [1]] * 3, "test": [[0], [1], [], []]}
    arm = probe_features(made.write(tmp_path / "f.parquet", labels=some), QUICK, "encoder")
    assert arm.notes == (
        "1 of 3 classes have a single clip to learn from: b",
        "1 of 3 classes have no clip to learn from: c",
        "2 clips of split 'test' have no label and are left out",
    )
    assert len(arm.test.labels) == 2
    for counts, match in (
        ({**some, "train": [[1]] * 5}, "the clips that probes learn from are of 1 class; there must be two"),
        ({**some, "test": [[], []]}, "no clip of split 'test' has a label"),
    ):
        with pytest.raises(DatasetError, match=match):
            probe_features(made.write(tmp_path / "f.parquet", labels=counts), QUICK, "encoder")


def test_more_than_there_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made.write(tmp_path / "f.parquet")
    needed = 120 * 3 * 8 * (4 + 16)
    monkeypatch.setattr("vidkit.train.probe.arm.available_memory", lambda: needed - 1)
    with pytest.raises(ConfigError, match=r"120 clips of 3 x 8 numbers need about 0\.0 GB of memory; there"):
        probe_features(file, QUICK, "encoder")
    assert probe_features(file, replace(QUICK, readouts=("mean",), probes=("ridge",)), "encoder").cells
    monkeypatch.setattr("vidkit.train.probe.arm.available_memory", lambda: needed)
    assert probe_features(file, replace(QUICK, probes=("ridge",)), "encoder").cells


def test_readouts_that_the_file_has_not(tmp_path: Path) -> None:
    file = made.write(tmp_path / "f.parquet")
    with pytest.raises(ConfigError, match="are the read-out 'slots-std', of which 'tokens' cannot be made"):
        probe_features(file, replace(QUICK, readouts=("tokens",)), "encoder")
    arm = probe_features(file, replace(QUICK, readouts=("mean",), probes=("ridge",)), "encoder")
    assert len(arm.cells) == 2


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"probes": ()}, "probe is 'none'; expected some of knn, ridge, logistic, attentive"),
        ({"probes": ("svm",)}, "probe is 'svm'"),
        ({"test": "x"}, "test is 'x'"),
        ({"steps": 0, "learning_rate": 0.0}, "steps is 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ProbeConfig(**changes)

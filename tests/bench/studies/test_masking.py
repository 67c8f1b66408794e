"""A classification head with and without masking: what arms share, what they differ in, and both tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.bench.studies import made as studies
from tests.train import small
from vidkit.bench.report import table as report
from vidkit.bench.rows.schema import Row
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.classifier import MaskedClassifier
from vidkit.settings.train import ViewConfig
from vidkit.train import evaluate

TEST = ViewConfig(stride=2, batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.dataset(tmp_path_factory.mktemp("data") / "d", train=12, val=8)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Row, ...]]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, studies.run("mask-ratio", data, out, seeds=(3,))


def test_arms_differ_in_the_ratio_alone(whole: tuple[Path, tuple[Row, ...]]) -> None:
    _, rows = whole
    assert [row.status for row in rows] == ["ok"] * 5, [row.reason for row in rows]
    assert [(row.plan.group, row.counts["visible"]) for row in rows] == [
        ("no masking", 32),
        ("0.5", 16),
        ("0.7", 10),
        ("0.8", 6),
        ("0.9", 4),
    ]
    assert len({row.runs["pretrain"] for row in rows}) == 1
    configs = [dict(row.config["finetune"]) for row in rows]
    assert [config.pop("mask_ratio") for config in configs] == [None, 0.5, 0.7, 0.8, 0.9]
    assert all(config == configs[0] for config in configs)
    assert configs[0]["val_split"] is None, "nothing is chosen on the split that is tested"
    for row in rows:
        assert set(row.metrics) == {"top1", "top5", "top1_masked", "top5_masked"}
        assert row.counts["clips"] == 8
    assert rows[0].metrics["top1"] == rows[0].metrics["top1_masked"]


def test_both_tests_are_what_evaluation_says(data: Path, whole: tuple[Path, tuple[Row, ...]]) -> None:
    out, rows = whole
    row = rows[3]
    checkpoint = out / row.runs["finetune"] / "checkpoints/last.pt"
    found = evaluate.run(data, checkpoint, split="val", views=TEST, workers=0, quiet=True)
    assert found["top1"] == row.metrics["top1"]
    assert found["predictions_sha256"] == row.predictions_sha256
    loaded = checkpoints.load(checkpoint)
    model = MaskedClassifier(loaded.config, 6, seed=0).eval()  # type: ignore[arg-type]
    model.load_state_dict(loaded.model)
    clips = evaluate.open_test_split(data, "val", small.VIT, TEST)
    with torch.no_grad():
        scores = torch.cat(
            [model(torch.cat([clips[i].video for i in part])) for part in ([0, 1, 2, 3], [4, 5, 6, 7])]
        )
    labels = torch.tensor([clips[i].class_id for i in range(8)])
    assert float((scores.argmax(dim=1) == labels).double().mean()) == row.metrics["top1_masked"]


def test_the_papers_figures_stand_beside(whole: tuple[Path, tuple[Row, ...]]) -> None:
    results = report.read_results([whole[0]])
    columns, cells = report.table(report.lines(results), brief=True)
    names = [column.name for column in columns]
    quoted = names.index("paper (quoted) top-5")
    assert {row[0]: row[quoted] for row in cells} == {
        "no masking": "74.5",
        "0.5": "–",
        "0.7": "–",
        "0.8": "76.0",
        "0.9": "–",
    }
    assert "mAP %, all tokens" not in names
    said = "\n".join(report.notes(results, report.lines(results)))
    assert "Visible of 32 tokens: 0.5: 16, 0.7: 10, 0.8: 6, 0.9: 4." in said
    assert "One seed:" in said


def test_nothing_is_trained_for_a_ratio_that_leaves_nothing(data: Path, tmp_path: Path) -> None:
    vit = replace(small.VIT, patch=32)  # one token a time step
    large = studies.settings(pretrain=small.pretrain(model=small.model(encoder=vit)))
    with pytest.raises(ConfigError, match="leaves no token"):
        studies.run("mask-ratio", data, tmp_path, settings=large)
    assert not (tmp_path / "pretrain").exists()


def test_clips_with_several_labels(tmp_path: Path) -> None:
    data = small.dataset(tmp_path / "d", train=9, val=6, rule="multi-hot")
    rows = studies.run("mask-ratio", data, tmp_path / "out", seeds=(0,))
    assert [row.status for row in rows] == ["ok"] * 5, [row.reason for row in rows]
    assert set(rows[1].metrics) == {"mAP", "mAP_masked"}

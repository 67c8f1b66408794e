"""The deterministic values: known ones are there, they come out the same again, and changes of a model show."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vidkit.bench.regress import exact as regress_exact
from vidkit.bench.regress.compare import Findings, Measured, compare, read_baseline, write_baseline
from vidkit.data.dataset import open_dataset
from vidkit.data.media.transcode import encoder_fingerprint
from vidkit.models.adamae import AdaMAE
from vidkit.settings.model import MaskConfig, tiny
from vidkit.settings.recipes import RECIPES


def by_name(values: list[Measured]) -> dict[str, Any]:
    found = {measured.name: measured.value for measured in values}
    assert len(found) == len(values)
    return found


def test_tokens(tmp_path: Path) -> None:
    found = by_name(regress_exact.tokens(tmp_path))
    assert found["tokens/adamae-ssv2"] == 1568
    assert found["visible/adamae-ssv2"] == 80
    # as published for the released code, and matched beside it
    paper = {"tube": 80, "random": 79, "adaptive": 78}
    for strategy, visible in paper.items():
        assert found[f"visible/8x14x14/paper/{strategy}/0.95"] == visible
        assert found[f"visible/8x14x14/matched/{strategy}/0.95"] == 80
    assert found["visible/4x4x4/matched/adaptive/0.98"] == "refused"
    for name, recipe in RECIPES.items():
        with torch.device("meta"):
            model = AdaMAE(recipe().pretrain.model)
        assert found[f"visible/{name}"] == model.num_visible, "what the model itself shows"


def test_models_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deeper decoder changes what it costs, and nothing else."""

    def now() -> Findings:
        values = [*regress_exact.models(tmp_path), *regress_exact.predicted(tmp_path)]
        return Findings(conditions={}, values=tuple(values))

    other = replace(tiny(), mask=MaskConfig(strategy="tube", ratio=0.75))
    monkeypatch.setattr(regress_exact, "MODELS", {"tiny": tiny(), "other": other})
    before = now()
    found = by_name(list(before.values))
    assert found["model/tiny/parameters"] == sum(p.numel() for p in AdaMAE(tiny()).parameters())
    assert found["model/tiny/counted-training-macs"] == pytest.approx(found["model/tiny/training-macs"], rel=0.01)
    assert all(row.verdict == "same" for row in compare(before.stored(), now()))

    deeper = replace(other, decoder=replace(other.decoder, depth=3))
    monkeypatch.setattr(regress_exact, "MODELS", {"tiny": tiny(), "other": deeper})
    changed = {row.name for row in compare(before.stored(), now()) if row.failed}
    assert changed == {
        "model/other/parameters",
        "model/other/forward-macs",
        "model/other/training-macs",
        "model/other/counted-training-macs",
        "model/other/predicted-bytes-bf16-batch-16",
    }


def test_shards_and_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build and ten steps, written and read again; then ten steps more: the same losses, to the bit."""
    monkeypatch.setattr(regress_exact, "CLIPS", regress_exact.CLIPS // 2)  # one step an epoch, not two
    before = os.environ.get("ACCELERATE_USE_CPU")
    values = [*regress_exact.shards(tmp_path), *regress_exact.curve(tmp_path)]
    assert os.environ.get("ACCELERATE_USE_CPU") == before
    found = by_name(values)
    assert found["build/clips"] == regress_exact.CLIPS
    dataset = open_dataset(tmp_path / "dataset")
    for shard in dataset.shards:
        name = f"build/{shard['shard'][:-4]}"
        assert (found[f"{name}/bytes"], found[f"{name}/sha256"]) == (shard["bytes"], shard["sha256"])
    losses = found["losses/tiny/20-steps"]
    assert len(losses) == 10
    assert losses[-1] < 0.7 * losses[0]

    conditions = regress_exact.conditions()
    assert conditions["encoder"] == dataset.facts["encoder"] == encoder_fingerprint()
    findings = Findings(conditions=conditions, values=tuple(values))
    write_baseline(tmp_path / "regress.json", {"exact": findings.stored()})
    stored = read_baseline(tmp_path / "regress.json")["exact"]
    assert all(row.verdict == "same" for row in compare(stored, findings))

    (tmp_path / "run").rename(tmp_path / "first")
    (again,) = regress_exact.curve(tmp_path)
    assert again.value == losses


def test_another_encoder(tmp_path: Path) -> None:
    """Shards and losses belong to an encoder; plan and labels do not."""
    needs = {"encoder": {"pyav": "0"}}
    values = (
        Measured(name="build/plan-sha256", value="a"),
        Measured(name="build/train/000000/sha256", value="b", needs=("encoder",)),
    )
    stored = Findings(conditions=needs, values=values).stored()
    rows = compare(stored, Findings(conditions=regress_exact.conditions(), values=values))
    assert [row.verdict for row in rows] == ["same", "not comparable"]


@pytest.mark.slow
def test_everything_twice(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found.append(regress_exact.measure(tmp_path / name))
    rows = compare(found[0].stored(), found[1])
    assert {row.verdict for row in rows} == {"same"}

"""Fine-tuning and evaluation on small datasets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.tinyset import Clip, build
from tests.train import small
from tests.train.test_pretrain import Crash, crash_at
from vidkit.data import ClipDataset
from vidkit.errors import ConfigError, DatasetError
from vidkit.models import checkpoints
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.train import FinetuneConfig, LogConfig, ViewConfig
from vidkit.train import evaluate, finetune, pretrain
from vidkit.train.runs import RunFolder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture(scope="module")
def pretrained(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained")
    pretrain.run(small.pretrain(optim=small.optim(epochs=1, warmup_epochs=0)), built, out, quiet=True)
    return out / "checkpoints/last.pt"


def run(config: FinetuneConfig, built: Path, out: Path, **more: Any) -> dict[str, Any]:
    return finetune.run(config, built, out, quiet=True, **more)


def test_a_run(built: Path, pretrained: Path, tmp_path: Path) -> None:
    summary = run(small.finetune(), built, tmp_path, init=pretrained)
    assert {"top1", "top5", "mean_class"} == summary["metrics"].keys()
    rows = RunFolder(tmp_path).rows()
    tests = [row for row in rows if "val_top1" in row]
    assert [row["epoch"] for row in tests] == [1, 2, 3]
    assert summary["best"] == max(row["val_top1"] for row in tests)
    best = checkpoints.load(tmp_path / "checkpoints/best.pt")
    assert best.facts["metrics"]["top1"] == summary["best"]
    assert best.facts["classes"] == list(small.NAMES)
    # what evaluate says of that checkpoint is what the run said
    found = evaluate.run(
        built, tmp_path / "checkpoints/best.pt", split="val", views=small.finetune().views, workers=0, quiet=True
    )
    assert found["top1"] == summary["best"]
    assert (found["clips"], found["planned"], found["coverage"]) == (7, 7, 1.0)


def test_the_encoder_is_taken_over(built: Path, pretrained: Path, tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    real = finetune._losses

    def spy(*args: Any) -> Any:
        inner = real(*args)

        def losses(model: Any, batch: Any, number: int) -> Any:
            seen.append({name: value.clone() for name, value in model.state_dict().items()})
            return inner(model, batch, number)

        return losses

    config = small.finetune(freeze_encoder=True, encoder=replace(small.VIT, depth=1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finetune, "_losses", spy)
        run(config, built, tmp_path, init=pretrained)
    theirs = checkpoints.load(pretrained).model
    for state in (seen[0], seen[-1]):  # frozen: also at the end
        assert torch.equal(state["encoder.1.attn.qkv.weight"], theirs["encoder.1.attn.qkv.weight"])
        assert torch.equal(state["tokenizer.proj.weight"], theirs["tokenizer.proj.weight"])
    assert not torch.equal(seen[0]["head.weight"], seen[-1]["head.weight"])


@pytest.mark.parametrize("rule", ["single", "multi-hot"])
@pytest.mark.parametrize("at", [2, 5])
def test_resumed_runs_learn_the_same(at: int, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With drop path, Mixup, CutMix and smoothing on: all that is random is drawn anew from the step's number."""
    built = small.dataset(tmp_path / "d", rule=rule)
    config = small.finetune(dropout=0.1, log=LogConfig(every=2))
    run(config, built, tmp_path / "whole")
    with monkeypatch.context() as patched:
        crash_at(patched, at)
        with pytest.raises(Crash):
            run(config, built, tmp_path / "run")
    run(config, built, tmp_path / "run", resume=True)
    one, other = (RunFolder(tmp_path / name) for name in ("whole", "run"))
    assert small.learnt(one.rows()) == small.learnt(other.rows())
    a, b = (checkpoints.load(folder.last) for folder in (one, other))
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)


def test_several_labels(tmp_path: Path) -> None:
    built = small.dataset(tmp_path / "d", rule="multi-hot")
    summary = run(small.finetune(), built, tmp_path / "run")
    assert {"mAP", "f1"} == summary["metrics"].keys()
    found = evaluate.run(built, tmp_path / "run/checkpoints/best.pt", split="val", workers=0, quiet=True)
    assert 0 < found["mAP"] <= 1
    assert found["labels"] == 3


def test_clips_without_a_label_are_not_trained_on(tmp_path: Path) -> None:
    clips = [Clip(labels=("a",) if i % 2 else ("b",), frames=12) for i in range(8)]
    clips += [Clip(labels=(), frames=12) for _ in range(4)]
    built = build(tmp_path / "d", [*clips, Clip(labels=(), split="val", frames=12)])
    with pytest.raises(DatasetError, match="1 of 1 clips of split 'val' have no label"):
        run(small.finetune(), built, tmp_path / "run")
    summary = run(small.finetune(val_split=None), built, tmp_path / "run2")
    assert summary["steps"] == 6, "8 clips, 4 a step, 3 epochs"
    assert summary["metrics"] == {}


def test_part_of_the_labels(built: Path, tmp_path: Path) -> None:
    config = small.finetune(data=small.data(label_fraction=0.5), optim=small.optim(batch_size=2))
    run(config, built, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["clips"] == 8, "3, 3 and 2 of 5, 5 and 4"


# --- evaluation ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    run(small.finetune(optim=small.optim(epochs=1, warmup_epochs=0)), built, out)
    return out / "checkpoints/last.pt"


@pytest.mark.parametrize(("views", "batch_size", "workers"), [((1, 1), 3, 0), ((3, 1), 2, 1), ((2, 3), 16, 0)])
def test_scores_are_means_over_views(
    views: tuple[int, int], batch_size: int, workers: int, built: Path, tuned: Path, tmp_path: Path
) -> None:
    settings = ViewConfig(views=views, stride=2, batch_size=batch_size, crop_share=1.0 if views[1] == 1 else 0.75)
    out = tmp_path / "scores.parquet"
    found = evaluate.run(built, tuned, split="val", views=settings, workers=workers, out=out, quiet=True)
    model = checkpoints.build(checkpoints.load(tuned)).eval()
    assert isinstance(model, VideoClassifier)
    clips = ClipDataset(
        built,
        "val",
        mode="views",
        frames=4,
        stride=2,
        size=32,
        views=views,
        crop_share=settings.crop_share,
    )
    rows = pq.read_table(out).to_pylist()
    right = 0
    for i, row in enumerate(rows):
        sample = clips[i]
        with torch.no_grad():
            each = [torch.softmax(model(view[None])[0], dim=0) for view in sample.video]
        mean = sum(each) / len(each)
        assert row["scores"] == pytest.approx(mean.tolist(), abs=1e-5)
        assert (row["key"], row["labels"]) == (sample.key, [sample.class_id])
        right += int(np.argmax(row["scores"])) == sample.class_id
    assert found["top1"] == pytest.approx(right / 7)
    assert len(found["per_class"]) == 3
    assert sum(map(sum, found["confusion"])) == 7


def test_coverage_names_what_is_missing(built: Path, tuned: Path, tmp_path: Path) -> None:
    clips = [Clip(labels=(name,), split="val", frames=12) for name in small.NAMES]
    bad = [Clip(labels=("a",), split="val", status="failed"), Clip(labels=("b",), split="val", status="missing")]
    train = [Clip(labels=(name,), frames=12) for name in small.NAMES]
    other = build(tmp_path / "d", [*train, *clips, *bad])
    found = evaluate.run(other, tuned, split="val", workers=0, quiet=True)
    assert (found["clips"], found["planned"], found["coverage"]) == (3, 5, 0.6)
    assert [clip["status"] for clip in found["unusable"]] == ["failed", "missing"]


def test_a_clip_that_cannot_be_decoded_is_an_error(tuned: Path, tmp_path: Path) -> None:
    clips = [Clip(labels=(name,), split=split, frames=12) for split in ("train", "val") for name in small.NAMES]
    other = build(tmp_path / "d", [*clips, Clip(labels=("a",), split="val", payload=b"\0" * 2000)])
    with pytest.raises(DatasetError, match="a clip could not be decoded: dataset 'tiny', shard val/"):
        evaluate.run(other, tuned, split="val", workers=0, quiet=True)


def test_another_label_map(tuned: Path, pretrained: Path, tmp_path: Path) -> None:
    names = ("a", "c", "b")  # same names in the label map would sort alike: take others
    clips = [Clip(labels=(name,), split=split, frames=12) for split in ("train", "val") for name in (*names, "d")]
    other = build(tmp_path / "d", clips)
    with pytest.raises(ConfigError, match="another label map: it has 3 classes, the dataset 4"):
        evaluate.run(other, tuned, split="val", workers=0, quiet=True)
    clips = [Clip(labels=(name,), split=split, frames=12) for split in ("train", "val") for name in "abz"]
    third = build(tmp_path / "e", clips)
    with pytest.raises(ConfigError, match="class 2 is 'c' there and 'z' in the dataset"):
        evaluate.run(third, tuned, split="val", workers=0, quiet=True)
    with pytest.raises(ConfigError, match="class 2 is 'c' there and 'z' in the dataset"):
        run(small.finetune(), third, tmp_path / "run", init=tuned)
    with pytest.raises(ConfigError, match="holds a model of kind 'adamae'"):
        evaluate.run(third, pretrained, split="val", workers=0, quiet=True)


def test_an_encoder_of_another_size(built: Path, pretrained: Path, tmp_path: Path) -> None:
    """A checkpoint's own encoder settings hold."""
    run(small.finetune(encoder=replace(small.VIT, width=48)), built, tmp_path, init=pretrained)
    assert checkpoints.load(tmp_path / "checkpoints/last.pt").config.encoder == small.VIT

"""Reconstruction on a small part: figures against slow ones, and arms that differ in what they say only."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.bench.interrupted import learnt, stop_at
from tests.bench.studies import made as studies
from tests.train import small
from vidkit.bench.report import table as report
from vidkit.bench.rows.files import read_rows
from vidkit.bench.rows.schema import Row
from vidkit.bench.studies import reconstruction as study_reconstruction
from vidkit.bench.studies.reconstruction import fixed_masks
from vidkit.bench.studies.work import ArmConfig
from vidkit.data import ClipDataset
from vidkit.errors import ConfigError, TrainingError
from vidkit.models.adamae import AdaMAE
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import LossConfig
from vidkit.settings.train import ViewConfig
from vidkit.train import pretrain
from vidkit.train.runs import RunFolder

VISIBLE = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.dataset(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Row, ...]]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, studies.run("reconstruction", data, out)


def test_a_mask_depends_on_its_clip_only() -> None:
    one = fixed_masks([0, 1, 2, 3], 32, VISIBLE)
    assert torch.equal(one[[3, 1]], fixed_masks([3, 1], 32, VISIBLE))
    assert one.shape == (4, VISIBLE)
    assert all(len(set(row)) == VISIBLE for row in one.tolist())
    assert len({tuple(row) for row in one.tolist()}) == 4


@pytest.mark.parametrize("normalize", [True, False])
def test_figures_equal_slow_ones(normalize: bool, data: Path) -> None:
    settings = small.model(loss=LossConfig(normalize=normalize))
    model = AdaMAE(settings, torch.Generator().manual_seed(0)).eval()
    config = ArmConfig(
        study="reconstruction", arm="scratch", seed=0, split="val", test=ViewConfig(stride=2, batch_size=3)
    )
    judge = study_reconstruction._trained(model)
    found = study_reconstruction.score_clips(judge, data, small.VIT, config, VISIBLE, 0)
    clips = ClipDataset(data, "val", frames=4, stride=2, mode="views", size=32)
    assert found.loss is not None
    assert len(found.loss) == len(clips) == 8
    for i in range(len(clips)):
        video, keep = clips[i].video, fixed_masks([i], 32, VISIBLE)
        with torch.no_grad():
            assert found.loss[i] == pytest.approx(float(model(video, keep_BV=keep).reconstruction_loss), rel=1e-5)
            made = patchify(model.predict(video, keep_BV=keep).reconstruction, small.VIT)[0]
        true = patchify(video, small.VIT)[0].float() / 255
        hidden = [token for token in range(32) if token not in keep[0].tolist()]
        error = sum(float((made[token] - true[token]).square().mean()) for token in hidden) / len(hidden)
        assert found.mse_pixels[i] == pytest.approx(error, rel=1e-5)
        assert found.psnr[i] == pytest.approx(-10 * math.log10(error), rel=1e-5)
        if not normalize:
            assert found.loss[i] == pytest.approx(error, rel=1e-5)


def test_the_mean_colour(data: Path) -> None:
    config = ArmConfig(study="reconstruction", arm="mean colour", seed=0, split="val", test=ViewConfig(stride=2))
    judge = study_reconstruction._mean_colour(small.VIT)
    found = study_reconstruction.score_clips(judge, data, small.VIT, config, VISIBLE, 0)
    assert found.loss is None
    clips = ClipDataset(data, "val", frames=4, stride=2, mode="views", size=32)
    for i in (0, 5):
        patches = patchify(clips[i].video, small.VIT)[0].double().view(32, -1, 3) / 255
        keep = fixed_masks([i], 32, VISIBLE)[0].tolist()
        colour = patches[keep].mean(dim=(0, 1))
        hidden = [token for token in range(32) if token not in keep]
        assert found.mse_pixels[i] == pytest.approx(float((patches[hidden] - colour).square().mean()), rel=1e-6)


def test_arms_and_their_steps(whole: tuple[Path, tuple[Row, ...]]) -> None:
    out, rows = whole
    assert rows == read_rows(out)
    assert [row.status for row in rows] == ["ok"] * 10, [row.reason for row in rows]
    for seed in (0, 1):
        arm = studies.by_arm(rows, seed)
        steps = {
            name: (row.counts["steps on the larger part"], row.counts["steps on the small part"])
            for name, row in arm.items()
        }
        # 15 clips of three classes and 5 of one, 4 a step, 2 epochs
        assert steps == {
            "pre-trained": (6, 0),
            "continued": (6, 2),
            "scratch": (0, 2),
            "scratch, all steps": (0, 8),
            "mean colour": (0, 0),
        }
        assert arm["continued"].runs["larger"] == arm["pre-trained"].runs["larger"], "trained once"
        assert arm["continued"].metrics["psnr"] != arm["pre-trained"].metrics["psnr"]
        assert arm["scratch"].metrics["psnr"] != arm["continued"].metrics["psnr"]
        for row in arm.values():
            assert (row.counts["clips"], row.counts["visible"], row.counts["tokens"]) == (2, 8, 32)
            clips = pq.read_table(out / row.runs["clips"])
            assert sum(clips["psnr"].to_pylist()) / 2 == pytest.approx(row.metrics["psnr"])
            assert set(row.metrics) == {"psnr", "mse_pixels"} | (
                {"loss"} if row.plan.group != "mean colour" else set()
            )
            assert row.versions["torch"]
            assert row.config["seed"] == seed
    first, second = (studies.by_arm(rows, seed) for seed in (0, 1))
    assert first["mean colour"].metrics == second["mean colour"].metrics, "the same clips and masks for every seed"
    assert first["pre-trained"].metrics != second["pre-trained"].metrics


def test_the_continuation_begins_with_the_weights_before(data: Path, whole: tuple[Path, tuple[Row, ...]]) -> None:
    arm = studies.by_arm(whole[1])
    log = RunFolder(whole[0] / arm["continued"].runs["small"]).rows()
    scratch = RunFolder(whole[0] / arm["scratch"].runs["small"]).rows()
    assert log[0]["loss"] < scratch[0]["loss"], "same clips, same order"


def test_what_the_table_says(whole: tuple[Path, tuple[Row, ...]]) -> None:
    out, _ = whole
    results = report.read_results([out])
    columns, cells = report.table(report.lines(results))
    names = [column.name for column in columns]
    assert [row[0] for row in cells] == list(results.spec.arms)
    assert all(row[names.index("seeds")] == "2 of 2" for row in cells)
    said = "\n".join(report.notes(results, report.lines(results)))
    assert "Larger part: 3 classes (" in said
    assert "15 clips in split 'train', 6 steps" in said
    assert "8 of 32 tokens visible" in said
    assert "0.3 %" in said
    assert {path.name for path in out.glob("plot-*.svg")} == {"plot-psnr.svg", "plot-mse_pixels.svg"}
    assert "<svg" in (out / "report.html").read_text()
    assert (out / "report.md").read_text().startswith("## Reconstruction of a small dataset: recipe micro")


@pytest.mark.parametrize("step", [3, 7], ids=["first arm", "second arm"])
def test_an_interrupted_study_ends_in_the_same_rows(
    step: int, data: Path, whole: tuple[Path, tuple[Row, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(KeyboardInterrupt):
            studies.run("reconstruction", data, tmp_path)
    before = read_rows(tmp_path)
    assert len(before) == (0 if step == 3 else 1)
    shown = [line.status for line in report.lines(report.read_results([tmp_path]))]
    left = "0 of 2 seeds; 2 missing"
    assert shown == ([left] * 5 if step == 3 else ["1 of 2 seeds; 1 missing", *[left] * 4])
    with pytest.raises(ConfigError, match="holds results already"):
        studies.run("reconstruction", data, tmp_path)
    rows = studies.run("reconstruction", data, tmp_path, resume=True)
    assert all(row in rows for row in before), "finished arms did not run again"
    assert learnt(rows) == learnt(whole[1])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainingError("step 3: not finite (loss nan)", hint="try a lower rate"), "step 3: not finite (loss nan)"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "out of memory: CUDA out of memory",
        ),
    ],
    ids=["diverged", "no memory"],
)
def test_a_failed_arm_is_a_row_and_the_rest_go_on(
    error: Exception, said: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pretrain.run
    calls: list[Any] = []

    def sometimes(config: Any, part: Path, *args: Any, **kwargs: Any) -> Any:
        calls.append(part.name)
        if part.name == "larger":
            raise error
        return real(config, part, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run", sometimes)
        rows = studies.by_arm(studies.run("reconstruction", data, tmp_path, seeds=(0,)))
    assert {name: row.status for name, row in rows.items()} == {
        "pre-trained": "failed",
        "continued": "failed",
        "scratch": "ok",
        "scratch, all steps": "ok",
        "mean colour": "ok",
    }
    assert calls.count("larger") == 1, "what arms share is tried once"
    assert f"it shares with another row failed: {said}" in str(rows["continued"].reason)
    lines = {line.arm: line.status for line in report.lines(report.read_results([tmp_path]))}
    assert lines["pre-trained"].startswith(f"failed: {said}")
    again = studies.run("reconstruction", data, tmp_path, seeds=(0,), resume=True)
    assert {row.status for row in again} == {"ok"}


def test_more_seeds_join_and_other_settings_do_not(
    data: Path, whole: tuple[Path, tuple[Row, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies.run("reconstruction", data, tmp_path, seeds=(0,))
    other = studies.settings(pretrain=small.pretrain(optim=small.optim(epochs=1)))
    with pytest.raises(ConfigError, match="holds this study with other settings"):
        studies.run("reconstruction", data, tmp_path, resume=True, settings=other)
    with pytest.raises(ConfigError, match="the folder's study has study 'reconstruction'; now it is 'mask-ratio'"):
        studies.run("mask-ratio", data, tmp_path, resume=True)
    rows = studies.run("reconstruction", data, tmp_path, resume=True, seeds=(1,))
    assert {row.plan.seed for row in rows} == {1}
    assert [line.planned for line in report.lines(report.read_results([tmp_path]))] == [2] * 5
    assert learnt(rows) == learnt(tuple(row for row in whole[1] if row.plan.seed == 1))


def test_nothing_to_test_on_or_to_train_on(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="small has no clips in split 'test'"):
        studies.run("reconstruction", data, tmp_path / "a", split="test")
    with pytest.raises(ConfigError, match="'train' is trained on"):
        studies.run("reconstruction", data, tmp_path / "b", split="train")
    large = studies.settings(pretrain=small.pretrain(optim=small.optim(batch_size=12)))
    with pytest.raises(TrainingError, match="tiny, small has 5 clips to train on, fewer than one step takes"):
        studies.run("reconstruction", data, tmp_path / "c", settings=large)

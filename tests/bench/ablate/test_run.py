"""Ablations of micro models: interrupted, failed and resumed grids end in the rows of an uninterrupted one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from tests.bench.interrupted import learnt, stop_at
from tests.train import small
from vidkit.bench.ablate import run as ablate
from vidkit.bench.ablate.cells import Job, described, estimated_hours, fitting, from_grid, plan, preset, resolve
from vidkit.bench.ablate.journal import failures
from vidkit.bench.ablate.runner import Ablation, measured
from vidkit.bench.ablate.table1 import LOSSES, SAMPLERS, read_table1
from vidkit.bench.report import table as report
from vidkit.bench.rows.files import read_plan, read_rows
from vidkit.bench.rows.schema import Row
from vidkit.errors import ConfigError, TrainingError
from vidkit.settings import ablation as ablation_config
from vidkit.settings.ablation import Cell, Grid, MeasureConfig
from vidkit.settings.recipes import RECIPES, Recipe
from vidkit.settings.train import LogConfig, ViewConfig
from vidkit.train import pretrain


def recipe(**changes: Any) -> Recipe:
    optim = small.optim(epochs=2)
    made = Recipe(
        about="micro",
        pretrain=small.pretrain(optim=optim, log=LogConfig(every=1, save_epochs=1)),
        finetune=small.finetune(optim=replace(optim, layer_decay=0.75)),
        test=ViewConfig(stride=2, batch_size=4),
    )
    return replace(made, **changes)


def jobs(*, of: Recipe | None = None, memory_only: bool = False, **grid: Any) -> tuple[Job, ...]:
    of = of or recipe()
    return plan(from_grid(Grid(**grid), of), of, recipe_name="micro", memory_only=memory_only)


def ablation(data: Path | None, out: Path, todo: tuple[Job, ...], steps: int = 0) -> Ablation:
    return Ablation(jobs=todo, data=data, out=out, measure=MeasureConfig(batch=2, steps=steps, warmup=1))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d", train=9, val=6)


TWO = {"masks": ("adaptive", "tube"), "seeds": (3,)}


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Row, ...]]:
    """Two cells without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, ablate.run(ablation(data, out, jobs(**TWO)), quiet=True)


def test_rows_say_what_was_run(whole: tuple[Path, tuple[Row, ...]], data: Path) -> None:
    out, rows = whole
    assert rows == read_rows(out)
    assert [row.plan.in_grid.settings.mask for row in rows] == ["adaptive", "tube"]
    for row in rows:
        assert (row.status, row.reason) == ("ok", None)
        assert (row.plan.in_grid.visible, row.plan.in_grid.tokens) == (8, 32), "the same for every mask"
        assert (row.clips, row.coverage, row.split) == (6, 1.0, "val")
        assert 0 <= row.metrics["top1"] <= row.metrics["top5"] <= 1
        cell = row.plan.in_grid.settings
        assert (row.plan.seed, cell.epochs, cell.decoder_depth) == (3, 2, 1)
        assert row.config["pretrain"]["model"]["mask"]["strategy"] == row.plan.in_grid.settings.mask
        assert row.predicted_bytes is not None
        assert row.versions["torch"]
        assert row.machine["cores"]
        for place in row.runs.values():
            assert (out / place).exists()
    assert rows[0].plan.in_grid.settings.sampler == "mha-1"
    assert rows[1].plan.in_grid.settings.sampler is None
    found = read_plan(out)
    assert found is not None
    assert found.dataset == rows[0].dataset == "tiny"


@pytest.mark.parametrize("step", [2, 7], ids=["first cell", "second cell"])
def test_an_interrupted_grid_ends_in_the_same_table(
    step: int, data: Path, whole: tuple[Path, tuple[Row, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(step, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        ablate.run(ablation(data, tmp_path, jobs(**TWO)), quiet=True)
    with pytest.raises(ConfigError, match="holds results already"):
        ablate.run(ablation(data, tmp_path, jobs(**TWO)), quiet=True)
    before = read_rows(tmp_path)
    assert len(before) == (0 if step == 2 else 1)
    shown = [line.status for line in report.lines(report.read_results([tmp_path]))]
    assert shown == (["missing", "missing"] if step == 2 else ["ok", "missing"])
    told: list[str] = []
    rows = ablate.run(ablation(data, tmp_path, jobs(**TWO)), resume=True, quiet=True, tell=told.append)
    assert sum("done before" in words for words in told) == len(before)
    assert learnt(rows) == learnt(whole[1])
    assert all(row in rows for row in before), "finished cells did not run again"


def test_a_failed_cell_is_a_row_and_the_rest_go_on(
    data: Path, whole: tuple[Path, tuple[Row, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pretrain.run

    def sometimes(config: Any, *args: Any, **kwargs: Any) -> Any:
        if config.model.mask.strategy == "adaptive":
            raise TrainingError("step 3: not finite (loss nan)", hint="try a lower rate")
        return run(config, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run", sometimes)
        rows = ablate.run(ablation(data, tmp_path, jobs(**TWO)), quiet=True)
    assert [row.status for row in rows] == ["failed", "ok"]
    assert rows[0].reason == "step 3: not finite (loss nan)\n  -> try a lower rate"
    assert failures(rows) == rows[:1]
    assert [line.status for line in report.lines(report.read_results([tmp_path]))] == [
        "failed: step 3: not finite (loss nan)",
        "ok",
    ]
    again = ablate.run(ablation(data, tmp_path, jobs(**TWO)), resume=True, quiet=True)
    assert learnt(again) == learnt(whole[1])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_lack_of_memory_is_a_failed_cell(
    error: Exception, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(pretrain, "run", full)
    (row,) = ablate.run(ablation(data, tmp_path, jobs()), quiet=True)
    assert row.status == "failed"
    assert row.reason is not None
    assert row.reason.startswith("out of memory")
    assert "a smaller batch_size" in row.reason


def test_another_runtime_error_is_no_row(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pretrain, "run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        ablate.run(ablation(data, tmp_path, jobs()), quiet=True)


def test_settings_that_do_not_fit_the_data(data: Path, tmp_path: Path) -> None:
    base = recipe()
    large = replace(base, pretrain=replace(base.pretrain, optim=small.optim(batch_size=1000)))
    (row,) = ablate.run(ablation(data, tmp_path, jobs(of=large)), quiet=True)
    assert row.status == "failed"
    assert "fewer than one step takes" in str(row.reason)


def test_cells_share_a_pretraining(
    data: Path, whole: tuple[Path, tuple[Row, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other settings of the fine-tuning, what was pre-trained before serves again."""
    out, rows = whole
    base = recipe()
    other = replace(base, finetune=replace(base.finetune, dropout=0.25))
    todo = jobs(of=other, masks=("tube",), seeds=(3,))

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("pre-trained again")

    (tmp_path / "pretrain").symlink_to(out / "pretrain", target_is_directory=True)
    monkeypatch.setattr(pretrain, "run", never)
    (row,) = ablate.run(ablation(data, tmp_path, todo), quiet=True)
    assert row.status == "ok", row.reason
    assert row.runs["pretrain"] == rows[1].runs["pretrain"]
    assert row.plan.config_hash != rows[1].plan.config_hash


def test_a_shared_pretraining_fails_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def fails(config: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(config)
        raise TrainingError("diverged")

    monkeypatch.setattr(pretrain, "run", fails)
    base = recipe()
    other = replace(base, finetune=replace(base.finetune, dropout=0.25))
    rows = ablate.run(ablation(data, tmp_path, jobs() + jobs(of=other)), quiet=True)
    assert len(calls) == 1
    assert [row.reason for row in rows] == [
        "diverged",
        "the pre-training that it shares with another row failed: diverged",
    ]


def test_a_step_is_measured(data: Path, tmp_path: Path) -> None:
    (row,) = ablate.run(ablation(None, tmp_path, jobs(memory_only=True)), quiet=True)
    assert (row.plan.in_grid.kind, row.dataset, row.metrics) == ("memory", None, {})
    assert (row.device, row.batch, row.measured_bytes) == ("cuda", 16, None)
    assert row.predicted_bytes is not None
    assert row.predicted_matrices_bytes is not None
    assert row.predicted_matrices_bytes > row.predicted_bytes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = measured(jobs()[0].memory, MeasureConfig(steps=2, warmup=1))
    assert (found["device"], found["batch"]) == (device, 16)
    assert found["measured_bytes"] > 0
    assert found["step_clips_per_s"] > 0


def test_results_are_not_overwritten(data: Path, whole: tuple[Path, tuple[Row, ...]]) -> None:
    with pytest.raises(ConfigError, match="holds results already"):
        ablate.run(ablation(data, whole[0], jobs(**TWO)), quiet=True)


def test_another_dataset_does_not_join(whole: tuple[Path, tuple[Row, ...]], tmp_path: Path) -> None:
    other = small.dataset(tmp_path / "d", train=9, val=6, rule="multi-hot")
    facts = (other / "dataset.json").read_text().replace('"tiny"', '"another"')
    (other / "dataset.json").write_text(facts)
    with pytest.raises(ConfigError, match="holds results of dataset 'tiny'"):
        ablate.run(ablation(other, whole[0], jobs(**TWO)), resume=True, quiet=True)


def test_a_split_without_clips_is_found_before_training(data: Path, tmp_path: Path) -> None:
    todo = replace(ablation(data, tmp_path / "out", jobs()), split="test")
    with pytest.raises(ConfigError, match="no clips in split 'test'") as caught:
        ablate.run(todo, quiet=True)
    assert "choose one of train, val" in str(caught.value)


def test_clips_with_several_labels(tmp_path: Path) -> None:
    data = small.dataset(tmp_path / "d", train=9, val=6, rule="multi-hot")
    (row,) = ablate.run(ablation(data, tmp_path / "out", jobs(masks=("random",))), quiet=True)
    assert row.status == "ok", row.reason
    assert set(row.metrics) == {"mAP", "f1"}


# --- cells ---


def test_names_are_those_of_table_1() -> None:
    assert set(get_args(ablation_config.LossName)) == set(LOSSES)
    assert set(get_args(ablation_config.SamplerName)) == set(SAMPLERS)


@pytest.mark.parametrize("name", ["adamae-ssv2", "small-64", "tiny"])
def test_every_mask_sees_the_same_tokens(name: str) -> None:
    of = RECIPES[name]()
    wanted = preset("masks", of, (0, 1))
    found = plan(wanted, fitting(wanted, of), recipe_name=name)
    assert len(found) == 4 * 5 * 2
    for ratio in ablation_config.RATIOS:
        visible = {job.planned.in_grid.visible for job in found if job.planned.in_grid.settings.ratio == ratio}
        assert len(visible) == 1, f"{name} at {ratio}"


def test_the_papers_tables() -> None:
    of = RECIPES["adamae-ssv2"]()
    rows = read_table1()
    wanted = [one for table in "abcdef" for one in preset(f"table1{table}", of, (0,))]
    assert [one.paper[0].name for one in wanted] == [f"{row.table}.{row.row}" for row in rows]
    for one, row in zip(wanted, rows, strict=True):
        config = resolve(one.cell, of)
        assert config.pretrain.model == row.config(of.pretrain.model)
        assert config.pretrain.optim.epochs == row.epochs
    found = plan(wanted, of, recipe_name="adamae-ssv2")
    assert sum(len(job.planned.in_grid.paper) for job in found) == len(rows) == 27
    default = next(job for job in found if len(job.planned.in_grid.paper) > 1)
    assert len(default.planned.in_grid.paper) == 6, "the default is in every table, and runs once"
    memory = plan(wanted, of, recipe_name="adamae-ssv2", memory_only=True)
    assert len(memory) == len({row.config() for row in rows}), "epochs need no memory"


def test_epochs_of_another_recipe_are_shares() -> None:
    of = recipe(pretrain=small.pretrain(optim=small.optim(epochs=20, warmup_epochs=2)))
    epochs = [resolve(one.cell, of).pretrain.optim.epochs for one in preset("table1e", of, (0,))]
    assert epochs == [5, 12, 15, 20]
    short = resolve(Cell(epochs=5), of).pretrain.optim
    assert short.warmup_epochs == of.pretrain.optim.warmup_epochs / 4


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Cell(mask="tube", ratio=0.9), "1a.2"),
        (Cell(mask="frame", ratio=0.875), "1a.5"),
        (Cell(), "1a.6"),
        (Cell(ratio=0.8), "1b.5"),
        (Cell(decoder_depth=8), "1c.4"),
        (Cell(loss="l1"), "1d.2"),
        (Cell(sampler="mlp"), "1f.1"),
        (Cell(epochs=200), "1e.1"),
        (Cell(mask="tube", ratio=0.8), None),
        (Cell(loss="l1", ratio=0.9), None),
        (Cell(tokenizer="spt"), None),
    ],
)
def test_the_row_of_the_paper_that_corresponds(cell: Cell, expected: str | None) -> None:
    grid = Grid(
        masks=(cell.mask,),
        ratios=(cell.ratio,),
        decoder_depths=() if cell.decoder_depth is None else (cell.decoder_depth,),
        losses=() if cell.loss is None else (cell.loss,),
        samplers=() if cell.sampler is None else (cell.sampler,),
        epochs=() if cell.epochs is None else (cell.epochs,),
        tokenizers=() if cell.tokenizer is None else (cell.tokenizer,),
    )
    (one,) = from_grid(grid, RECIPES["adamae-ssv2"]())
    assert one.cell == cell
    assert [row.name for row in one.paper] == ([] if expected is None else [expected])


def test_seeds_are_of_one_group_and_other_settings_are_not() -> None:
    first, second = jobs(seeds=(0, 1))
    assert first.planned.group == second.planned.group
    assert first.planned.config_hash != second.planned.config_hash
    base = recipe()
    (other,) = jobs(of=replace(base, test=ViewConfig(stride=1)))
    assert other.planned.group != first.planned.group


def test_what_comes_to_the_same_runs_once() -> None:
    assert len(jobs(masks=("tube",), samplers=("mlp", "mha-1"))) == 1
    assert len(jobs(epochs=(2,)) + jobs()) == 2
    assert jobs(epochs=(2,))[0].planned.config_hash == jobs()[0].planned.config_hash


def test_settings_have_the_names_they_were_given() -> None:
    of = recipe()
    for loss in LOSSES:
        for sampler in SAMPLERS:
            cell = Cell(ratio=0.75, loss=loss, sampler=sampler)  # type: ignore[arg-type]
            found = described(cell, resolve(cell, of))
            assert (found.loss, found.sampler) == (loss, sampler)


def test_no_token_left() -> None:
    with pytest.raises(ConfigError, match=r"mask ratio 0\.99 leaves no token visible of 32"):
        jobs(ratios=(0.5, 0.99))


def test_smaller_patches_where_a_ratio_needs_them() -> None:
    of = recipe()
    assert fitting(from_grid(Grid(ratios=(0.5, 0.75)), of), of) == of
    wanted = from_grid(Grid(ratios=(0.5, 0.98)), of)
    made = fitting(wanted, of)
    assert made.pretrain.model.encoder == replace(small.VIT, patch=4)
    assert {job.planned.in_grid.tokens for job in plan(wanted, made, recipe_name="micro")} == {128}
    assert fitting(from_grid(Grid(ratios=(0.9999,)), of), of) == of, "no patch is small enough"
    tiny = RECIPES["tiny"]()
    found = plan(wanted, fitting(from_grid(Grid(ratios=(0.95,)), tiny), tiny), recipe_name="tiny")
    assert {job.planned.in_grid.tokens for job in found} == {256}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"masks": ("tubes",)}, "mask is 'tubes'; expected one of tube, random, frame, adaptive"),
        ({"ratios": (1.5,)}, "ratio is 1.5; expected above 0 and below 1"),
        ({"losses": ("l2",)}, "loss is 'l2'"),
        ({"samplers": ("cnn",)}, "sampler is 'cnn'"),
        ({"tokenizers": ("none",)}, "tokenizer is 'none'"),
        ({"epochs": (0,)}, "epochs is 0; expected at least 1"),
        ({"decoder_depths": (0,)}, "decoder_depth is 0"),
        ({"seeds": (-1,)}, "seed is -1"),
    ],
)
def test_bad_cells(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match="bad ablation cell") as caught:
        jobs(**bad)
    assert said in str(caught.value)


def test_no_such_preset() -> None:
    with pytest.raises(ConfigError, match="there is no preset 'table2'") as caught:
        preset("table2", recipe(), (0,))
    assert "choose masks, verdicts, table1a" in str(caught.value)


def test_estimated_hours_count_a_shared_pretraining_once() -> None:
    base = recipe()
    other = replace(base, finetune=replace(base.finetune, dropout=0.25))
    todo = jobs() + jobs(of=other)
    hours = estimated_hours(todo, clips=100, classes=3, rate=1e9)
    first, second = (hours[job.planned.config_hash] for job in todo)
    pretraining = 2 * todo[0].planned.in_grid.training_macs * 100 * 2 / (1e9 * 0.3) / 3600
    assert first - second == pytest.approx(pretraining)


def test_strategies_of_the_preset() -> None:
    assert ablation_config.masks_grid((0,)).masks == ("tube", "random", "frame", "adaptive"), "of the paper"

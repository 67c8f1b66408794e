"""What arms are measured by: on one list of masks, at shares of pre-training, and from the same beginnings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench.ablate.test_run import recipe
from tests.train import small
from vidkit.bench.ablate import run as ablate
from vidkit.bench.ablate.cells import Job, fitting, from_grid, plan, preset
from vidkit.bench.ablate.common import common_masks, look
from vidkit.bench.ablate.held import Held
from vidkit.bench.ablate.run import Ablation
from vidkit.bench.measure.flops import cost
from vidkit.bench.report.contrasts import named
from vidkit.bench.rows.files import read_plan, read_rows
from vidkit.data.load.loader import ClipLoader
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.losses import effective_of_errors
from vidkit.settings.ablation import Grid, MeasureConfig, Measures
from vidkit.settings.recipes import RECIPES
from vidkit.train import loop, pretrain
from vidkit.train.inference import open_views, views_of
from vidkit.train.probe.frozen import Part, probed
from vidkit.train.probe.scores import Labels
from vidkit.train.runs import RunFolder

MEASURES = Measures(names=("finetune-50", "ridge", "knn", "common-error"), shares=(0.5, 1.0), common_ratio=0.75)


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.motions(tmp_path_factory.mktemp("motions"))


def jobs(**grid: Any) -> tuple[Job, ...]:
    of = recipe()
    return plan(from_grid(Grid(**grid), of), of, recipe_name="micro")


@pytest.fixture(scope="module")
def out(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of one seed, by every measure but the slow ones."""
    folder = tmp_path_factory.mktemp("measures") / "out"
    todo = jobs(masks=("adaptive", "random"), ratios=(0.75,))
    contrasts = named.default([job.planned for job in todo])
    made = Ablation(
        jobs=todo,
        data=motions,
        out=folder,
        measure=MeasureConfig(batch=2, steps=0),
        measures=MEASURES,
        contrasts=contrasts,
    )
    ablate.run(made, quiet=True)
    return folder


def test_a_row_has_a_curve(out: Path) -> None:
    rows = read_rows(out)
    assert [row.status for row in rows] == ["ok", "ok"], rows[0].reason
    for row in rows:
        half, whole = row.curve
        assert (half.share, whole.share) == (0.5, 1.0)
        assert whole.step == row.counts["pretrain_steps"]
        assert half.step == round(whole.step / 2)
        assert [*whole.values] == list(MEASURES.names)
        assert row.common_error == whole.values["common-error"]
        assert row.metrics == {name: v for name, v in whole.values.items() if name != "common-error"}
        assert all(0 <= value <= 1 for value in row.metrics.values())
        clips = row.counts["pretrain_steps"] * 4
        assert row.counts["pretrain_macs"] == clips * row.plan.in_grid.training_macs
        assert 0 < row.looked["tokens_moving"] < 1
        assert 0 <= row.looked["visible_moving"] <= 1
        assert 1 < row.looked["ideal_effective_tokens"] <= 32
        assert ("effective_tokens" in row.looked) == (row.plan.in_grid.settings.mask == "adaptive")
        log = RunFolder(out / row.runs["pretrain"]).rows()
        assert all(1 < line["ideal_effective_tokens"] <= 32 for line in log)
        tuned = json.loads((out / "cells" / row.plan.config_hash / "finetune-50-at-50" / "config.json").read_text())
        assert tuned["config"]["data"]["label_fraction"] == 0.5
    found = read_plan(out)
    assert found is not None
    assert [(one.name, one.rows) for one in found.contrasts] == [("adaptive 0.75 against random 0.75", 0)]


def test_the_common_error_is_that_of_a_slow_reference(out: Path, motions: Path) -> None:
    """Clip by clip, from the pictures that a model makes."""
    for row in read_rows(out):
        model = checkpoints.build(checkpoints.load(RunFolder(out / row.runs["pretrain"]).last))
        vit = model.config.encoder
        dataset = open_views(motions, "val", vit, views_of({"stride": 2, "mode": "train"}))
        masks = common_masks(len(dataset), vit.grid, 0.75, 0)
        errors = []
        for number, batch in enumerate(ClipLoader(dataset, batch_size=1, workers=0)):
            seen = model.predict(batch.video, keep_BV=masks[number : number + 1])
            errors.append(float(seen.error[~seen.visible].mean()))
        assert len(errors) == len(dataset) > 1
        assert row.common_error == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_common_masks_do_not_depend_on_batches(out: Path, motions: Path) -> None:
    row = read_rows(out)[1]
    model = checkpoints.build(checkpoints.load(RunFolder(out / row.runs["pretrain"]).last))
    vit = model.config.encoder
    masks = common_masks(4, vit.grid, 0.75, 0)
    assert masks.shape == (4, 8)
    assert not torch.equal(masks, common_masks(4, vit.grid, 0.75, 1))
    dataset = open_views(motions, "val", vit, views_of({"stride": 2}))
    masks = common_masks(len(dataset), vit.grid, 0.75, 0)
    found = [
        look(model, ClipLoader(dataset, batch_size=size, workers=0), masks, 0, torch.device("cpu")).common_error
        for size in (1, 3)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_row_is_left_as_it_is_or_measured_again(
    out: Path, motions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("pre-trained again")

    monkeypatch.setattr(pretrain, "run", never)
    todo = jobs(masks=("adaptive", "random"), ratios=(0.75,))
    more = replace(MEASURES, names=("ridge", "attentive"))
    made = Ablation(jobs=todo[1:], data=motions, out=out, measure=MeasureConfig(batch=2, steps=0), measures=more)
    (kept,) = ablate.run(made, resume=True, quiet=True)
    assert "attentive" not in kept.metrics
    before = (out / "results.jsonl").read_text()
    (again,) = ablate.run(replace(made, again=True), resume=True, quiet=True)
    assert again.status == "ok", again.reason
    assert "attentive" in again.metrics, "measures that are asked for need no training"
    assert again.metrics["ridge"] == kept.metrics["ridge"]
    (out / "results.jsonl").write_text(before)


def test_arms_of_a_seed_begin_alike_and_see_the_same(motions: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Weights but the sampler's, clips, their order, frames, crops and flips."""
    tasks: dict[str, Any] = {}
    seen: dict[str, list[torch.Tensor]] = {}

    def caught(task: Any, run: Any, *args: Any, **kwargs: Any) -> Any:
        name = run.root.name
        tasks[name] = {key: value.clone() for key, value in task.model.state_dict().items()}
        seen[name] = [torch.cat([b.video.flatten().float(), b.index.float()]) for b in task.loader]
        return {}

    monkeypatch.setattr(loop, "fit", caught)
    masks = ("random", "adaptive", "tube", "error", "oracle", "motion")
    for job in jobs(masks=masks, ratios=(0.75,), seeds=(3,)):
        mask = job.planned.in_grid.settings.mask
        config = job.config.pretrain
        mask_config = replace(config.model.mask, motion_share=0.8)
        config = replace(config, model=replace(config.model, mask=mask_config))
        pretrain.run(config, motions, tmp_path / mask, quiet=True)
    for mask in masks[1:]:
        shared = {k: v for k, v in tasks[mask].items() if not k.startswith(("sampler.", "running_errors."))}
        assert shared.keys() == tasks["random"].keys()
        assert all(torch.equal(value, tasks["random"][key]) for key, value in shared.items()), mask
        assert len(seen[mask]) == len(seen["random"]) > 0
        assert all(torch.equal(one, other) for one, other in zip(seen[mask], seen["random"], strict=True)), mask
    (other,) = jobs(masks=("random",), ratios=(0.75,), seeds=(4,))
    pretrain.run(other.config.pretrain, motions, tmp_path / "other", quiet=True)
    assert not torch.equal(tasks["other"]["head.weight"], tasks["random"]["head.weight"])
    assert not torch.equal(seen["other"][0], seen["random"][0])


def test_effective_tokens_of_errors() -> None:
    assert float(effective_of_errors(torch.ones(3, 8), 32)) == pytest.approx(32)
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert float(effective_of_errors(one, 8)) == pytest.approx(2), "one of four, of eight"
    uneven = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
    share = uneven / uneven.sum(dim=1, keepdim=True)
    expected = torch.exp(torch.distributions.Categorical(probs=share).entropy()).mean() * 2
    assert float(effective_of_errors(uneven, 32)) == pytest.approx(float(expected), rel=1e-5)


def test_probes_find_what_is_there() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(240, 2, 6, generator=draw)
    kind = (features[:, 1, 2] > 0).long()
    labels = [
        Labels(class_id=part.numpy(), hot=torch.nn.functional.one_hot(part, 2).float(), several=False)
        for part in (kind[:200], kind[200:], torch.randint(2, (200,), generator=draw))
    ]
    fit, test = Part(features[:200], labels[0]), Part(features[200:], labels[1])
    found = probed(fit, test, ("ridge", "knn", "attentive"))
    assert [*found] == ["ridge", "knn", "attentive"]
    assert found["ridge"] > 0.8
    assert found["knn"] > 0.6
    assert found == probed(fit, test, ("ridge", "knn", "attentive")), "no chance is in it"
    assert probed(Part(features[:200], labels[2]), test, ("ridge",))["ridge"] < 0.75


def test_equal_compute_is_what_it_says() -> None:
    of = recipe()
    wanted = from_grid(Grid(masks=("random", "adaptive"), ratios=(0.5, 0.75)), of)
    made = plan(wanted, of, recipe_name="micro", equal="compute")
    budget = cost(replace(of.pretrain.model, mask=replace(of.pretrain.model.mask, strategy="random"))).training * 2
    for job in made:
        optim = job.config.pretrain.optim
        assert optim.length * job.planned.in_grid.training_macs == pytest.approx(budget)
        assert optim.epochs - 1 < optim.length <= optim.epochs
        assert optim.total_steps(1000) == round(1000 * optim.length)
    assert made[1].config.pretrain.optim.part_epochs is None, "random at the recipe's ratio is the budget"
    assert made[3].config.pretrain.optim.length < 2, "the sampler costs epochs"
    assert {job.planned.config_hash for job in made} & {job.planned.config_hash for job in jobs()} == set()
    same = plan(wanted, of, recipe_name="micro")
    assert all(job.config.pretrain.optim == of.pretrain.optim for job in same)


def test_a_run_of_part_epochs_ends_there(motions: Path, tmp_path: Path) -> None:
    config = small.pretrain(optim=small.optim(epochs=2, part_epochs=1.5))
    whole = pretrain.run(small.pretrain(optim=small.optim(epochs=2)), motions, tmp_path / "whole", quiet=True)
    part = pretrain.run(config, motions, tmp_path / "part", quiet=True, keep=(0.25,))
    assert part["steps"] == round(0.75 * whole["steps"])
    folder = RunFolder(tmp_path / "part")
    assert checkpoints.load(folder.last).facts["step"] == part["steps"]
    assert checkpoints.load(folder.step(max(1, round(0.25 * part["steps"])))).facts["step"] >= 1
    with pytest.raises(ConfigError, match="part_epochs is 3"):
        small.optim(epochs=2, part_epochs=3.0)


def test_the_preset_of_verdicts() -> None:
    wanted = preset("verdicts", RECIPES["tiny"](), ())
    assert len(wanted) == 15 * 5
    assert {one.cell.seed for one in wanted[:15]} == {0}, "seed by seed"
    of = fitting(wanted, RECIPES["tiny"]())
    contrasts = named.default([job.planned for job in plan(wanted, of, recipe_name="tiny")])
    assert sum("against random" in one.name for one in contrasts) == 8 + 5
    assert sum("oracle" in one.name and "against anti-oracle" in one.name for one in contrasts) == 2
    assert sum(one.kind == "trend" for one in contrasts) == 6


# --- bad input ---


def test_oracles_need_clips_that_say_what_moves(tmp_path: Path) -> None:
    data = small.dataset(tmp_path / "d", train=9, val=6)
    made = Ablation(jobs=jobs(masks=("random", "oracle")), data=data, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="mask oracle needs clips that say where something moves") as caught:
        ablate.run(made, quiet=True)
    assert "vidkit synth motions" in str(caught.value)
    assert not (tmp_path / "out").exists()


def too_few(tokens: torch.Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> torch.Tensor:
    return torch.arange(visible - 1).expand(len(tokens), -1)


def repeats(tokens: torch.Tensor, grid: Any, visible: int, generator: Any = None, side: Any = None) -> torch.Tensor:
    return torch.zeros(len(tokens), visible, dtype=torch.int64)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"masks": (f"{__name__}:too_few",)}, "gave 7 visible tokens a clip, too few; expected 8"),
        ({"masks": (f"{__name__}:repeats",)}, "gave visible token 0 twice in clip 0"),
        ({"masks": (f"{__name__}:nobody",)}, "has no nobody"),
        ({"ratios": (0.01,)}, "leaves no token hidden of 32"),
        (
            {"targets": ("random",), "target_ratios": (0.01,)},
            "target_ratio 0.01 of 24 hidden tokens leaves no target",
        ),
        ({"target_ratios": (0.5,)}, "a share of the targets needs to know which"),
        ({"masks": ("motion",), "ratios": (0.5,)}, "none is left to predict"),
        ({"decoders": ("deep",)}, "decoder is 'deep'; expected one of self, cross"),
    ],
)
def test_bad_cells_are_one_clear_error(grid: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs(**grid)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"names": ("linear",)}, "measure is 'linear'; expected one of finetune, finetune-P, ridge"),
        ({"names": ("finetune-0",)}, "measure is 'finetune-0'"),
        ({"names": ()}, "measure is 'none'"),
        ({"names": ("knn", "knn")}, "expected each once"),
        ({"shares": (0.5,)}, "the last of them 1"),
        ({"common_ratio": 1.0}, "common_ratio is 1.0"),
    ],
)
def test_bad_measures(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Measures(**bad)
    assert said in str(caught.value)


def test_targets_and_decoders_are_axes() -> None:
    made = jobs(targets=("complement", "random"), target_ratios=(0.5,), decoders=("self", "cross"))
    assert [job.planned.in_grid.targets for job in made] == [24, 24, 12, 12]
    assert [job.planned.in_grid.settings.decoder for job in made] == [None, "cross", None, "cross"]
    assert len({job.planned.group for job in made}) == 4
    assert made[0].planned.config_hash == jobs()[0].planned.config_hash
    macs = [job.planned.in_grid.training_macs for job in made]
    assert macs[3] < macs[2] < macs[0]


def test_the_held_clips_are_opened_once(motions: Path) -> None:
    held = Held(small.pretrain(), motions, "val")
    try:
        assert held.moving
        assert held.fit is held.fit
    finally:
        held.close()

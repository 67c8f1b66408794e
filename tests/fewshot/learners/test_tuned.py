"""Encoders that go on learning with a few-shot learner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.fewshot.made import TUNED, config, encoder, features, pools, without_times
from vidkit.errors import ConfigError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.draw import LabelledClips
from vidkit.fewshot.inputs.encoder import open_blocks
from vidkit.fewshot.inputs.maps import Map, Steps, reducer, standardiser, through
from vidkit.fewshot.inputs.pixels import ClipPixels, class_rows
from vidkit.fewshot.learners import training as fewshot_training
from vidkit.fewshot.learners.table import LEARNERS as MADE
from vidkit.fewshot.learners.table import kind_of
from vidkit.fewshot.learners.training import EpisodeRows, Pool
from vidkit.fewshot.learners.tuned import LiveFeatures, tune
from vidkit.settings.fewshot import ALL_BLOCKS


def expected_names(model: nn.Module, blocks: tuple[int, ...], norm: str, tokenizer: bool) -> set[str]:
    starts = [f"encoder.{i}." for i in blocks] + [norm + "."] + ["tokenizer."] * tokenizer
    return {name for name, _ in model.named_parameters() if name.startswith(tuple(starts))}


@pytest.mark.parametrize("name", TUNED)
@pytest.mark.parametrize("kind", ["adamae", "classifier"])
@pytest.mark.parametrize(("how", "blocks"), [(1, (2,)), (2, (1, 2)), (3, (0, 1, 2)), (ALL_BLOCKS, (0, 1, 2))])
def test_the_gradient_reaches_exactly_the_blocks_chosen(
    clips: LabelledClips,
    split: ClassSplit,
    pixels: ClipPixels,
    name: str,
    kind: str,
    how: int,
    blocks: tuple[int, ...],
) -> None:
    source = encoder(kind)
    settings = config(name, tune=how, steps=1)
    array = features(pixels, source).flat
    standard = standardiser(array, clips, split)
    assert standard is not None
    maps: tuple[Map, ...] = (standard, Steps(1)) if "step" in kind_of(name) else (standard,)  # type: ignore[arg-type]
    inputs = through(maps, torch.from_numpy(array))
    train, val, _ = pools(clips, split, settings)
    learner: Any = MADE[name](settings)  # type: ignore[index]
    learner.fit(inputs, train, val, 0, None)
    model = source.build()
    opened = open_blocks(model, how)
    norm = "encoder_norm" if kind == "adamae" else "fc_norm"
    names = expected_names(model, blocks, norm, how == ALL_BLOCKS)
    assert {key for key, value in model.named_parameters() if value.requires_grad} == names
    assert len(opened) == len(names)
    learner.loss(LiveFeatures(source, model, pixels, maps, inputs), train, 2, 0).backward()
    # a key's bias has no gradient but rounding errors
    reached = {key for key, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == names


def test_no_blocks_and_too_many() -> None:
    model = encoder().build()
    assert open_blocks(model, 0) == []
    assert not any(value.requires_grad for value in model.parameters())
    with pytest.raises(ConfigError, match=r"tune is 4; the encoder has 3 blocks\n  -> choose up to 3, or all"):
        open_blocks(model, 4)


# --- encoders that learn with a learner --------------------------------------------------------------------------


def test_live_features_are_those_of_the_table(clips: LabelledClips, split: ClassSplit, pixels: ClipPixels) -> None:
    source = encoder("classifier")
    array = features(pixels, source).flat
    standard = standardiser(array, clips, split)
    assert standard is not None
    fewer = reducer(standard(torch.from_numpy(array)).numpy(), clips, split, 5)
    table = through((standard, fewer), torch.from_numpy(array))
    live = LiveFeatures(source, source.build(), pixels, (standard, fewer), table)
    labelled = class_rows(clips, clips.classes)
    rows = labelled[torch.tensor([[3, 0, 9], [7, 7, 1]])]
    assert live.shape == table.shape == (140, 5)
    torch.testing.assert_close(live[rows], table[rows], rtol=1e-4, atol=1e-4)
    assert live[rows].requires_grad
    wrong = table + 1
    found = live.table(wrong, labelled[:50])
    torch.testing.assert_close(found[labelled[:50]], table[labelled[:50]], rtol=1e-4, atol=1e-4)
    assert torch.equal(found[labelled[50:]], wrong[labelled[50:]])


@pytest.mark.parametrize("name", TUNED)
def test_no_steps_leave_everything_as_with_a_frozen_encoder(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels, name: str
) -> None:
    source = encoder()
    given: dict[str, Any] = {"encoder": source, "pixels": pixels}
    settings = config(name, episodes=40)
    frozen = fewshot.evaluate(clips, features(pixels, source), split, settings).rows[0]
    row = fewshot.evaluate(
        clips, features(pixels, source), split, replace(settings, tune=2, tune_steps=0), **given
    ).rows[0]
    assert row.accuracy == pytest.approx(frozen.accuracy, abs=0.01)
    assert row.training["tune"]["kept_step"] == 0
    assert row.training["tune"]["val_accuracy"] == row.training["tune"]["val_accuracy_before"]
    assert (row.tune, frozen.tune) == (2, 0)
    for fact in ("kept_step", "loss", "val_accuracy"):
        assert row.training.get(fact) == frozen.training.get(fact)


@pytest.mark.parametrize("name", TUNED)
def test_tuned_rows_are_reproducible(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels, name: str
) -> None:
    source = encoder("classifier")
    given: dict[str, Any] = {"encoder": source, "pixels": pixels}
    settings = config(name, tune=ALL_BLOCKS, tune_rate=1e-3)
    found = features(pixels, source)
    before = {key: value.clone() for key, value in source.checkpoint.model.items()}
    torch.manual_seed(1)
    once = fewshot.evaluate(clips, found, split, settings, **given)
    torch.manual_seed(2)
    assert without_times(fewshot.evaluate(clips, found, split, settings, **given).rows) == without_times(once.rows)
    facts = once.rows[0].training["tune"]
    assert (facts["steps"], facts["of"], facts["blocks"]) == (3, 3, "all")
    assert np.isfinite(facts["loss"])
    # each learner and seed starts from the checkpoint's own weights
    assert all(torch.equal(value, before[key]) for key, value in source.checkpoint.model.items())


def test_an_encoder_learns_what_tells_classes_apart(clips: LabelledClips, split: ClassSplit) -> None:
    """Classes differ by how red they are, faintly; green and blue are loud and say nothing."""
    rng = np.random.default_rng(3)
    red = rng.normal(0, 20, len(clips.classes) + 1)[clips.class_id] + rng.normal(0, 2, len(clips))
    others = rng.normal(0, 40, (2, len(clips)))
    colours = np.clip(128 + np.stack([red, *others], axis=1), 0, 255).astype(np.uint8)
    video = np.broadcast_to(colours[:, :, None, None, None], (len(clips), 3, 2, 16, 16)).copy()
    pixels = ClipPixels(video=torch.from_numpy(video), place=torch.arange(len(clips)))
    source = encoder("classifier")
    settings = config(
        "proto", episodes=60, tune=ALL_BLOCKS, tune_steps=60, tune_rate=3e-3, tune_batch=2, val_episodes=20
    )
    found = features(pixels, source)
    frozen = fewshot.evaluate(clips, found, split, replace(settings, tune=0)).rows[0]
    tuned = fewshot.evaluate(clips, found, split, settings, encoder=source, pixels=pixels).rows[0]
    facts = tuned.training["tune"]
    assert facts["kept_step"] > 0
    assert facts["val_accuracy"] > facts["val_accuracy_before"]
    assert tuned.accuracy > frozen.accuracy + 0.05


def test_the_best_state_by_meta_val_stays(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = encoder()
    settings = config("maml", tune=1, tune_steps=10, tune_rate=1e-2)
    array = features(pixels, source).flat
    standard = standardiser(array, clips, split)
    assert standard is not None
    inputs = standard(torch.from_numpy(array))
    train, val, _ = pools(clips, split, settings)
    tables: list[Tensor] = []
    heads: list[Tensor] = []

    def run(val: Pool | None) -> tuple[Tensor, dict[str, Any], Any]:
        tables.clear()
        heads.clear()
        learner: Any = MADE["maml"](settings)
        learner.fit(inputs, train, None, 0, None)

        def predict(learner: Any, table: Tensor, rows: EpisodeRows) -> Tensor:
            tables.append(table)
            heads.append(learner.weights.last.weight.detach().clone())
            good = len(tables) == 3  # before the first step, after 2 and 4, ...
            return rows.query_slots + (0 if good else 1)

        monkeypatch.setattr(fewshot_training, "predict_all", predict)
        table, facts = tune(learner, "maml", source, pixels, (standard,), inputs, train, val, settings)
        return table, facts, learner

    table, facts, learner = run(val)
    assert (facts["kept_step"], facts["val_accuracy_before"], facts["val_accuracy"]) == (4, 0.0, 1.0)
    assert len(tables) == 6
    assert torch.equal(learner.weights.last.weight, heads[2])
    rows = class_rows(clips, split.test)
    last, facts, learner = run(None)
    assert (facts["kept_step"], facts["val_accuracy"], len(tables)) == (10, None, 0)
    assert not torch.allclose(last[rows], table[rows])
    # other clips are never asked for again
    other = class_rows(clips, split.train)
    assert torch.equal(last[other], inputs[other])

"""Few-shot learners that train a network of their own in each episode."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.fewshot.made import config, encoder, features, pools, without_times
from tests.train import small
from vidkit.errors import TrainingError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.draw import LabelledClips, draw_episodes
from vidkit.fewshot.episodes.lists import read_episodes, write_episodes
from vidkit.fewshot.inputs.pixels import ClipPixels, class_rows
from vidkit.fewshot.learners import finetune as fewshot_finetune
from vidkit.fewshot.learners.training import stack
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.fewshot import PIXEL_LEARNERS
from vidkit.train.descent import falling

# --- a network for each episode ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamae", "classifier"])
def test_finetune_starts_from_the_encoder_and_scratch_from_its_shape(pixels: ClipPixels, kind: str) -> None:
    source = encoder(kind)
    generator = torch.Generator().manual_seed(5)
    tuned = fewshot_finetune.network(config(), source, source, generator)
    fresh = fewshot_finetune.network(config(), source, None, torch.Generator().manual_seed(5))
    assert {name: value.shape for name, value in tuned.named_parameters()} == {
        name: value.shape for name, value in fresh.named_parameters()
    }
    for name, value in source.checkpoint.model.items():
        if name.startswith(("tokenizer.", "encoder.", "fc_norm.")):
            assert torch.equal(tuned.state_dict()[name], value)
    weight = "encoder.0.mlp.fc1.weight"
    assert not torch.equal(tuned.state_dict()[weight], fresh.state_dict()[weight])
    video = pixels.video[:3]
    for model in (tuned, fresh):
        assert not model(video).any()  # no class is preferred
    if kind == "classifier":
        torch.testing.assert_close(tuned.eval().features(video), source.build().features(video))


def test_a_fit_is_adamw_on_all_support_clips(pixels: ClipPixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the loop written out, and whatever the number of clips that go through at a time."""
    source = encoder()
    settings = config(finetune_steps=5, layer_decay=0.5)
    video, slots = pixels.video[:7], torch.tensor([0, 1, 2, 0, 1, 2, 0])
    monkeypatch.setattr(fewshot_finetune, "PART", 3)
    model = fewshot_finetune.network(settings, source, source, torch.Generator())
    slow = copy.deepcopy(model)
    loss = fewshot_finetune.fit_support(model, video, slots, 0.01, settings, "here")
    layers = {"tokenizer": 0, "fc_norm": 4, "head": 4}
    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in slow.named_parameters()}
    for step in range(5):
        value = nn.functional.cross_entropy(slow(video), slots)
        slow.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        parameters = dict(slow.named_parameters())
        norm = torch.stack([p.grad.norm() for p in parameters.values() if p.grad is not None]).norm()
        assert norm < settings.clip
        with torch.no_grad():
            for name, p in parameters.items():
                assert p.grad is not None
                first = name.split(".")[0]
                layer = int(name.split(".")[1]) + 1 if first == "encoder" else layers[first]
                rate = 0.01 * 0.5 ** (4 - layer) * falling(step, 5)
                p.mul_(1 - rate * (0.05 if p.ndim > 1 else 0.0))
                m, v = moments[name]
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.999).add_(0.001 * p.grad**2)
                p.sub_(rate * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8))
    assert loss == pytest.approx(value.item(), rel=1e-4)
    small.check_weights(dict(model.named_parameters()), dict(slow.named_parameters()))
    assert loss < np.log(3)


def test_a_loss_that_is_not_finite_stops(pixels: ClipPixels) -> None:
    model = fewshot_finetune.network(config(), encoder(), None, torch.Generator())
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan in finetune, episode 3 at rate 0.001"):
        fewshot_finetune.fit_support(
            model, pixels.video[:2], torch.tensor([0, 1]), 1e-3, config(), "finetune, episode 3"
        )


@pytest.mark.parametrize("name", sorted(PIXEL_LEARNERS))
def test_a_query_has_no_part_in_what_is_learned(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels, name: str
) -> None:
    """Another clip for one query, everything else as it was."""
    settings = config(name, finetune_rates=(1e-2,), finetune_steps=6)
    *_, test = pools(clips, split, settings)
    rows = stack(draw_episodes(test, 1))
    models: list[dict[str, Tensor]] = []
    source = encoder()

    def guesses(pixels: ClipPixels) -> Tensor:
        kept: list[VideoClassifier] = []
        made = fewshot_finetune.network

        def network(*args: Any) -> VideoClassifier:
            kept.append(made(*args))
            return kept[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fewshot_finetune, "network", network)
            found, _ = fewshot_finetune.run_episodes(name, settings, source, pixels, rows, None, seed=0)
        models.append(kept[0].state_dict())
        return found

    before = guesses(pixels)
    assert len(set(before.flatten().tolist())) == 3
    changed = 0
    for i in range(rows.query.shape[1]):
        video = pixels.video.clone()
        # of another class of the episode
        other = rows.query[0, (i + 1 + (rows.query_slots[0].roll(-1) == rows.query_slots[0])[i]) % 6]
        video[pixels.place[rows.query[0, i]]] = pixels.video[pixels.place[other]]
        after = guesses(replace(pixels, video=video))
        rest = torch.arange(6) != i
        assert torch.equal(before[0, rest], after[0, rest])
        assert all(torch.equal(models[0][key], models[-1][key]) for key in models[0])
        changed += int(before[0, i] != after[0, i])
    assert changed > 0


def test_the_rate_is_chosen_on_meta_val_and_the_same_episodes(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("finetune", finetune_rates=(0.1, 0.2, 0.3, 0.4))
    _, val, test = pools(clips, split, settings)
    rows = stack(draw_episodes(test, 3))
    shares = {0.1: 0, 0.2: 4, 0.3: 4, 0.4: 2}
    tried: list[tuple[float, tuple[int, ...]]] = []
    seen: list[tuple[str, int, int]] = []
    slots_of = {tuple(e.query.tolist()): e.query_slots for e in draw_episodes(val, 2)}

    def take(self: ClipPixels, wanted: Tensor) -> Tensor:
        return wanted

    def fit(model: Any, support: Tensor, slots: Tensor, rate: float, *rest: Any) -> float:
        tried.append((rate, tuple(support.tolist())))
        return 0.5

    def classify(model: Any, query: Tensor) -> Tensor:
        right = slots_of.get(tuple(query.tolist()))
        if right is None:
            return torch.zeros(6, dtype=torch.int64)
        found = torch.from_numpy(right).clone()
        found[shares[tried[-1][0]] :] = 9
        return found

    monkeypatch.setattr(ClipPixels, "take", take)
    monkeypatch.setattr(fewshot_finetune, "fit_support", fit)
    monkeypatch.setattr(fewshot_finetune, "classify", classify)
    report: Callable[..., None] = lambda name, done, total, loss: seen.append((name, done, total))  # noqa: E731
    _, facts = fewshot_finetune.run_episodes(
        "finetune", settings, encoder(), pixels, rows, val, seed=0, report=report
    )
    assert facts["rate"] == 0.2  # of equals the lowest
    assert facts["val_accuracies"] == pytest.approx([0, 4 / 6, 4 / 6, 2 / 6])
    assert facts["val_accuracy"] == pytest.approx(4 / 6)
    assert [rate for rate, _ in tried] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.2, 0.2, 0.2]
    assert len({support for _, support in tried[:8]}) == 2
    assert [support for _, support in tried[8:]] == [tuple(x.tolist()) for x in rows.support]
    assert seen == [("finetune", k, 11) for k in range(1, 12)]
    assert facts["trainings"] == 11
    _, facts = fewshot_finetune.run_episodes("finetune", settings, encoder(), pixels, rows, None, seed=0)
    assert (facts["rate"], facts["val_accuracy"], facts["val_episodes"]) == (0.3, None, 0)


def test_networks_tell_colours_apart_and_rows_say_how(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels
) -> None:
    settings = config(
        "finetune", "proto", "scratch", finetune_rates=(3e-3, 1e-2), finetune_steps=30, episodes=30, tune_episodes=6
    )
    source = encoder()
    result = fewshot.evaluate(clips, features(pixels, source), split, settings, encoder=source, pixels=pixels)
    tuned, proto, fresh = result.rows
    for row in (tuned, fresh):
        assert row.accuracy > 0.75
        assert (row.episodes, row.tune, row.standardised) == (6, "all", False)
        assert row.training["rate"] in (3e-3, 1e-2)
        assert row.training["trainings"] == 2 * 2 + 6
        assert row.training["loss"] < 0.6
        assert row.half_width > 0 or row.accuracy == 1
    assert tuned.training["parameters"] == fresh.training["parameters"]
    assert (proto.episodes, proto.tune, proto.standardised) == (30, 0, True)
    assert (tuned.features, tuned.checkpoint_sha256) == ("a.pt", "s")
    assert (fresh.features, fresh.checkpoint_sha256, fresh.seen_classes) == ("random", None, 0)
    assert [item.learner for item in result.summaries] == ["finetune", "proto", "scratch"]
    # alone, without features, with more of the other learners' episodes: the same
    alone = fewshot.evaluate(
        clips, None, split, replace(settings, learners=("scratch",), episodes=99), encoder=source, pixels=pixels
    )
    assert without_times(alone.rows) == without_times((fresh,))


def test_seeds_and_published_episodes(
    clips: LabelledClips, split: ClassSplit, pixels: ClipPixels, tmp_path: Path
) -> None:
    settings = config("finetune", "scratch", finetune_rates=(1e-2,))
    given: dict[str, Any] = {"encoder": encoder(), "pixels": pixels}
    own = fewshot.evaluate(clips, None, split, settings, **given)
    assert without_times(own.rows) == without_times(fewshot.evaluate(clips, None, split, settings, **given).rows)
    *_, test = pools(clips, split, settings)
    write_episodes(tmp_path / "list.jsonl", test, draw_episodes(test, 9))
    published = read_episodes(tmp_path / "list.jsonl", clips)
    theirs = fewshot.evaluate(
        clips, None, split, replace(settings, way=2, seeds=(0, 1)), published=published, **given
    )
    for a, b in zip(own.rows, theirs.rows[:2], strict=True):
        assert (a.predictions_sha256, a.accuracy, a.episodes) == (b.predictions_sha256, b.accuracy, 4)
    # the same episodes: fine-tuning has nothing random in it, new weights have
    assert theirs.rows[2].training["loss"] == theirs.rows[0].training["loss"]
    assert theirs.rows[3].training["loss"] != theirs.rows[1].training["loss"]
    # only meta-test and meta-val classes need clips
    inside = class_rows(clips, [*split.val, *split.test])
    fewer = replace(pixels, place=torch.full_like(pixels.place, -1).index_copy(0, inside, pixels.place[inside]))
    again = fewshot.evaluate(clips, None, split, settings, encoder=given["encoder"], pixels=fewer)
    assert without_times(again.rows) == without_times(own.rows)

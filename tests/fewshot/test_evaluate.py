"""Few-shot learners against slow references, on features that say all or nothing about the class."""

from __future__ import annotations

import copy
import json
import math
import re
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import t as student

from tests.fewshot.episodes.made import of_class, write
from tests.fewshot.made import classes_of_eight
from vidkit.errors import ConfigError, TrainingError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit, split_classes
from vidkit.fewshot.episodes.draw import (
    Episode,
    EpisodeSettings,
    LabelledClips,
    SequenceSettings,
    draw_episodes,
    draw_sequences,
    episode_pool,
    open_labelled,
)
from vidkit.fewshot.episodes.lists import read_episodes, write_episodes
from vidkit.fewshot.inputs.features import ClipFeatures
from vidkit.fewshot.learners.maml import Head, MamlLearner
from vidkit.fewshot.learners.plain import Ridge
from vidkit.fewshot.learners.recurrent import classify_late
from vidkit.fewshot.learners.table import LEARNERS as MADE
from vidkit.fewshot.learners.table import NETWORKS
from vidkit.fewshot.learners.training import judgement, predict_all, stack
from vidkit.models.memory.mann import Mann
from vidkit.settings.fewshot import LEARNERS, FewshotConfig
from vidkit.settings.model import MannConfig
from vidkit.train.descent import descend

Floats = npt.NDArray[np.float32]

SHARES = (0.7, 0.1, 0.2)

#: "trx" needs two steps; test_sequences.py has them
OF_ONE_STEP = tuple(name for name in MADE if name != "trx")
UNTRAINED = tuple(name for name in OF_ONE_STEP if name not in NETWORKS)

SMALL: dict[str, Any] = {
    "way": 2,
    "shot": 1,
    "query": 3,
    "episodes": 100,
    "hidden": 32,
    "slots": 16,
    "width": 16,
    "reads": 1,
    "instances": 4,
    "steps": 240,
    "learning_rate": 0.01,
    "val_episodes": 30,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    return classes_of_eight(tmp_path_factory.mktemp("few"), 60)


@pytest.fixture(scope="module")
def split(clips: LabelledClips) -> ClassSplit:
    return split_classes(clips, shares=SHARES)


def separable(clips: LabelledClips, width: int = 8, noise: float = 0.1) -> ClipFeatures:
    """Each class has a direction of its own."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((len(clips.classes), width))
    centres *= 3 / np.linalg.norm(centres, axis=1, keepdims=True)
    array = centres[clips.class_id] + noise * rng.standard_normal((len(clips), width))
    return ClipFeatures(array=array.astype(np.float32)[:, None], name="made")


def random(clips: LabelledClips, width: int = 8) -> ClipFeatures:
    array = np.random.default_rng(1).standard_normal((len(clips), width)).astype(np.float32)
    return ClipFeatures(array=array[:, None], name="made")


def config(*learners: str, **changes: Any) -> FewshotConfig:
    return FewshotConfig(**{**SMALL, "learners": learners or ("proto",)} | changes)


def raw(array: Floats, split: ClassSplit) -> ClassSplit:
    """The same test classes without meta-train, so that features are not standardised."""
    return ClassSplit(label_map_sha256=split.label_map_sha256, test=split.test)


# --- references --------------------------------------------------------------------------------------------------


def slow_proto(array: Floats, episode: Episode) -> list[int]:
    found = []
    support = list(zip(episode.support.tolist(), episode.support_slots.tolist(), strict=True))
    for row in episode.query.tolist():
        distances = []
        for slot in range(len(episode.class_ids)):
            members = [i for i, shown in support if shown == slot]
            mean = [sum(float(array[i][d]) for i in members) / len(members) for d in range(array.shape[1])]
            distances.append(sum((float(array[row][d]) - mean[d]) ** 2 for d in range(array.shape[1])))
        found.append(distances.index(min(distances)))
    return found


def slow_nn(array: Floats, episode: Episode) -> list[int]:
    def cosine(a: Any, b: Any) -> float:
        return float(np.dot(a, b)) / (math.hypot(*a) * math.hypot(*b))

    found = []
    for row in episode.query.tolist():
        scores = [cosine(array[row].astype(float), array[i].astype(float)) for i in episode.support.tolist()]
        found.append(int(episode.support_slots[scores.index(max(scores))]))
    return found


def slow_ridge(array: Floats, episode: Episode, ridge: float) -> list[int]:
    """The primal solution, with as many unknowns as numbers in a feature."""
    x = array[episode.support].astype(np.float64)
    mean = x.mean(axis=0)
    x = x - mean
    way = len(episode.class_ids)
    targets = np.eye(way)[episode.support_slots] - 1 / way
    penalty = ridge * np.square(x).sum(axis=1).mean()
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets)
    return [int(i) for i in ((array[episode.query] - mean) @ weights).argmax(axis=1)]


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("name", ["proto", "nn", "linear"])
def test_learners_without_weights_agree_with_slow_references(
    clips: LabelledClips, split: ClassSplit, name: str, shot: int
) -> None:
    array = separable(clips, width=5, noise=2.0).flat
    pool = episode_pool(clips, EpisodeSettings(way=4, shot=shot, query=3), split, "test")
    drawn = draw_episodes(pool, 30)
    settings = config(name, way=4, shot=shot)
    learner = MADE[name](settings)  # type: ignore[index]
    assert learner.fit(torch.from_numpy(array), None, None, 0, None) == {}
    found = predict_all(learner, torch.from_numpy(array), stack(drawn)).tolist()
    slow = {
        "proto": lambda e: slow_proto(array, e),
        "nn": lambda e: slow_nn(array, e),
        "linear": lambda e: slow_ridge(array, e, settings.ridge),
    }[name]
    assert found == [slow(episode) for episode in drawn]  # type: ignore[no-untyped-call]
    wrong = (torch.tensor(found) != stack(drawn).query_slots).double().mean()
    assert 0.1 < wrong < 0.75  # neither trivial nor chance


@pytest.mark.parametrize("name", ["proto", "nn", "linear"])
def test_other_names_for_the_classes_change_nothing_else(
    clips: LabelledClips, split: ClassSplit, name: str
) -> None:
    features = torch.from_numpy(separable(clips, noise=2.0).flat)
    pool = episode_pool(clips, EpisodeSettings(way=4, shot=2, query=3), split, "test")
    rows = stack(draw_episodes(pool, 20))
    learner = MADE[name](config(name, way=4, shot=2))  # type: ignore[index]
    other = torch.tensor([2, 0, 3, 1])
    renamed = rows._replace(support_slots=other[rows.support_slots])
    assert torch.equal(predict_all(learner, features, renamed), other[predict_all(learner, features, rows)])


def test_equal_support_clips_leave_ridge_finite() -> None:
    support = torch.ones(1, 4, 3)
    found = Ridge(config(way=2, shot=2)).predict(support, torch.tensor([[0, 1, 0, 1]]), torch.randn(1, 2, 3))
    assert found.shape == (1, 2)


def test_queries_of_the_mann_are_next_steps_of_its_sequence() -> None:
    """The last step of a sequence that ends in the query, whatever that step's own label is."""
    generator = torch.Generator().manual_seed(0)
    model = Mann(MannConfig(inputs=3, way=2, controller=8, slots=6, width=5, reads=2), generator)
    support = torch.randn(4, 5, 3, generator=generator)
    query = torch.randn(4, 6, 3, generator=generator)
    labels = torch.randint(0, 2, (4, 5), generator=generator)
    found = classify_late(model, support[:, :, None], labels, query[:, :, None])
    for i in range(query.shape[1]):
        for own in (0, 1):
            whole = model(
                torch.cat([support, query[:, i : i + 1]], dim=1),
                torch.cat([labels, torch.full((4, 1), own)], dim=1),
            )
            torch.testing.assert_close(found[:, i], whole[:, -1])


# --- results -----------------------------------------------------------------------------------------------------


def test_maml_takes_gradient_steps_on_the_support_and_its_outer_gradient_is_first_order() -> None:
    """One episode after the other, with autograd for the inner steps."""
    generator = torch.Generator().manual_seed(0)
    learner = MamlLearner(config(way=2))
    learner.model = model = Head(3, 5, 2, generator)
    torch.nn.init.normal_(model.last.weight, generator=generator)
    support, query = torch.randn(4, 6, 3, generator=generator), torch.randn(4, 2, 3, generator=generator)
    slots = torch.tensor([[0, 1, 0, 1, 1, 0]] * 4)
    found = learner.scores(support, slots, query)
    outer = torch.zeros_like(model.first.weight)
    for i in range(4):
        own = copy.deepcopy(model)
        for _ in range(5):
            loss = torch.nn.functional.cross_entropy(own(support[i]), slots[i])
            names = [p for name, p in own.named_parameters() if name != "log_rate"]
            slopes = torch.autograd.grad(loss, names)
            with torch.no_grad():
                for value, slope in zip(names, slopes, strict=True):
                    value.sub_(0.1 * slope)
        expected = own(query[i])
        torch.testing.assert_close(found[i], expected)
        outer += torch.autograd.grad(expected.square().sum(), own.first.weight)[0]
    found.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.first.weight.grad, outer)


def test_separable_features_are_told_apart_by_every_learner(clips: LabelledClips, split: ClassSplit) -> None:
    result = fewshot.evaluate(clips, separable(clips), split, config(*OF_ONE_STEP))
    by_name = {row.learner: row for row in result.rows}
    assert list(by_name) == list(OF_ONE_STEP)
    for name in UNTRAINED:
        assert (by_name[name].accuracy, by_name[name].half_width) == (1.0, 0.0)
        assert by_name[name].training == {}
    for name in ("mann", "blackbox", "maml"):
        # of classes never seen: a network interpolates between the directions that it learned from
        assert by_name[name].accuracy > 0.9
        facts = by_name[name].training
        assert facts["loss"] < 0.3
        assert facts["val_accuracy"] > 0.8
    found = [one.accuracy for one in by_name["mann"].by_instance]
    assert len(found) == 4
    assert 0.4 < found[0] < 0.85  # chance to what elimination allows, 75 %
    assert min(found[1:]) > 0.85
    assert not by_name["proto"].by_instance


def test_a_mann_learns_from_clips_of_several_steps(clips: LabelledClips, split: ClassSplit) -> None:
    """Labels come four steps apart, and each clip is answered at its last step."""
    steps = np.repeat(separable(clips).array, 4, axis=1)
    steps += 0.3 * np.random.default_rng(0).standard_normal(steps.shape).astype(np.float32)
    (row,) = fewshot.evaluate(clips, ClipFeatures(array=steps, name="made"), split, config("mann")).rows
    assert row.accuracy > 0.8
    found = [one.accuracy for one in row.by_instance]
    assert 0.4 < found[0] < 0.85
    assert min(found[1:]) > 0.75


def test_a_projection_learns_which_numbers_matter(clips: LabelledClips, split: ClassSplit) -> None:
    """Eight numbers that say the class among 60 that say nothing."""
    noise = np.random.default_rng(2).standard_normal((len(clips), 60)).astype(np.float32)
    features = ClipFeatures(array=np.concatenate([separable(clips).array, noise[:, None]], axis=2), name="made")
    plain = fewshot.evaluate(clips, features, split, config("proto", way=5)).rows[0]
    learned = fewshot.evaluate(clips, features, split, config("proto", way=5, project=16, steps=100)).rows[0]
    assert learned.accuracy > plain.accuracy + 0.1
    assert learned.training["parameters"] == 16 * 68


def test_random_features_give_chance(clips: LabelledClips, split: ClassSplit) -> None:
    settings = config(*OF_ONE_STEP, way=4, query=4, episodes=300, steps=20)
    for row in fewshot.evaluate(clips, random(clips), split, settings).rows:
        # few clips make episodes alike, so that the interval over episodes is a little too narrow
        assert abs(row.accuracy - 0.25) < 3 * row.half_width
        assert 0.005 < row.half_width < 0.04
        assert row.chance == 0.25


def test_the_interval_is_over_episodes(clips: LabelledClips, split: ClassSplit) -> None:
    features = separable(clips, noise=2.0)
    row = fewshot.evaluate(clips, features, raw(features.flat, split), config("proto", episodes=50)).rows[0]
    assert not row.standardised
    pool = episode_pool(clips, EpisodeSettings(way=2, shot=1, query=3), split, "test")
    shares = []
    for episode in draw_episodes(pool, 50):
        guesses = slow_proto(features.flat, episode)
        shares.append(statistics.mean(float(g == s) for g, s in zip(guesses, episode.query_slots, strict=True)))
    assert row.accuracy == pytest.approx(statistics.mean(shares))
    assert row.half_width == pytest.approx(1.96 * statistics.stdev(shares) / math.sqrt(50))
    assert row.interval == "95 %: mean +- 1.96 s / sqrt(episodes)"


def test_by_instance_counts_what_sequences_show(
    clips: LabelledClips, split: ClassSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that is right from the 3rd time on."""
    pool = episode_pool(clips, SequenceSettings(way=2, instances=4), split, "test")
    drawn = draw_sequences(pool, 20)

    def predict(self: Any, features: Any, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        assert rows.tolist() == [one.rows.tolist() for one in drawn]
        late = torch.from_numpy(np.stack([one.instance for one in drawn])) >= 3
        return torch.where(late, slots, 1 - slots)

    monkeypatch.setattr("vidkit.fewshot.learners.recurrent.MannLearner.predict_sequences", predict)
    row = fewshot.evaluate(clips, separable(clips), split, config("mann", episodes=20, steps=1)).rows[0]
    assert [(one.instance, one.accuracy) for one in row.by_instance] == [(1, 0), (2, 0), (3, 1), (4, 1)]


def test_same_seed_same_numbers_and_no_learner_moves_another(clips: LabelledClips, split: ClassSplit) -> None:
    settings = config("mann", "blackbox", "nn", steps=12, episodes=20)
    features = separable(clips, noise=1.0)

    def rows(settings: FewshotConfig) -> list[dict[str, Any]]:
        found = [asdict(row) for row in fewshot.evaluate(clips, features, split, settings).rows]
        for row in found:
            row["training"].pop("seconds", None)
        return found

    torch.manual_seed(5)
    once = rows(settings)
    torch.manual_seed(6)
    assert rows(settings) == once
    assert rows(replace(settings, learners=("nn", "blackbox"))) == [once[2], once[1]]
    other = rows(replace(settings, seeds=(1,)))
    for a, b in zip(once, other, strict=True):
        assert a["predictions_sha256"] != b["predictions_sha256"]


def test_seeds_are_summed_up(clips: LabelledClips, split: ClassSplit) -> None:
    result = fewshot.evaluate(clips, separable(clips, noise=2.0), split, config("nn", "proto", seeds=(3, 4, 5)))
    assert [(row.seed, row.learner) for row in result.rows] == [(s, n) for s in (3, 4, 5) for n in ("nn", "proto")]
    for summary in result.summaries:
        means = [row.accuracy for row in result.rows if row.learner == summary.learner]
        widths = [row.half_width for row in result.rows if row.learner == summary.learner]
        assert summary.accuracy == pytest.approx(statistics.mean(means))
        assert summary.half_width_seeds == pytest.approx(
            student.ppf(0.975, 2) * statistics.stdev(means) / math.sqrt(3)
        )
        assert min(widths) / 2 < summary.half_width < max(widths) / 1.5
    one = fewshot.evaluate(clips, separable(clips, noise=2.0), split, config("nn", seeds=(3,)))
    assert one.summaries[0].half_width_seeds is None
    assert one.summaries[0].half_width == pytest.approx(one.rows[0].half_width)


def test_a_published_list_gives_the_same_row(clips: LabelledClips, split: ClassSplit, tmp_path: Path) -> None:
    features = separable(clips, noise=2.0)
    settings = config("proto", "blackbox", steps=10, episodes=25)
    pool = episode_pool(clips, EpisodeSettings(way=2, shot=1, query=3), split, "test")
    write_episodes(tmp_path / "list.jsonl", pool, draw_episodes(pool, 25))
    published = read_episodes(tmp_path / "list.jsonl", clips)
    own = fewshot.evaluate(clips, features, split, settings)
    theirs = fewshot.evaluate(
        clips, features, split, replace(settings, way=5, query=9, seeds=(0, 1)), published=published
    )
    for a, b in zip(own.rows, theirs.rows[:2], strict=True):
        assert (a.predictions_sha256, a.accuracy) == (b.predictions_sha256, b.accuracy)
        assert (a.episodes_sha256, b.episodes_sha256) == (None, published.sha256)
    # the same episodes for each seed: only what was trained differs
    assert theirs.rows[2].predictions_sha256 == theirs.rows[0].predictions_sha256
    assert theirs.rows[3].predictions_sha256 != theirs.rows[1].predictions_sha256


def test_the_best_state_by_meta_val_stays(clips: LabelledClips, split: ClassSplit) -> None:
    features = torch.from_numpy(separable(clips).flat)
    settings = EpisodeSettings(way=2, shot=1, query=3)
    val = episode_pool(clips, settings, split, "val")
    model = torch.nn.Linear(1, 1, bias=False)
    seen: list[float] = []

    class Fake:
        """Right in a share of the episodes that the weight alone decides."""

        def fit(self, *args: Any) -> dict[str, Any]:
            return {}

        def predict(self, support: Any, slots: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
            seen.append(model.weight.item())
            good = len(seen) == 4
            return torch.zeros(query.shape[:2], dtype=torch.int64) + (0 if good else 9)

    groups = [{"params": list(model.parameters()), "lr": 0.01}]
    judge = judgement(Fake(), lambda: features, val, 30)
    done = descend(
        lambda step: model.weight.sum(), groups, name="fake", steps=20, clip=10, modules=[model], judge=judge
    )
    assert (done.kept_step, done.accuracy) == (8, 0.5)
    assert model.weight.item() == pytest.approx(seen[3])
    assert len(set(seen)) == 10
    assert not model.training
    last = descend(lambda step: model.weight.sum(), groups, name="fake", steps=20, clip=10)
    assert (last.kept_step, last.accuracy) == (20, None)
    assert model.weight.item() < seen[3]


def test_a_loss_that_is_not_finite_stops() -> None:
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="the loss of x is nan at step 1\n  -> choose a smaller learning rate"):
        descend(
            lambda step: model.weight.sum() * math.nan,
            [{"params": list(model.parameters()), "lr": 0.1}],
            name="x",
            steps=5,
            clip=1,
        )


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "shares", "message"),
    [
        (
            {"way": 13},
            (0.7, 0.1, 0.2),
            r"13-way episodes need 13 classes .* in meta-test of 'few' 12 of 12 qualify",
        ),
        (
            {"shot": 6},
            (0.7, 0.1, 0.2),
            r"with 9 clips \(6 support, 3 query\) each.*lower query to 2 or lower shot to 5",
        ),
        ({}, (0.9, 0.1, 0.0), "the class split has no meta-test class"),
        (
            {"learners": ("mann",)},
            (0.0, 0.5, 0.5),
            "mann learns from meta-train classes, and .* has none",
        ),
        ({"learners": ("mann",), "way": 7}, SHARES, r"7-way .* in meta-val of 'few' 6 of 6 qualify"),
        (
            {"learners": ("mann",), "instances": 9},
            (0.7, 0.1, 0.2),
            r"2 classes with 9 clips each; .*lower instances to 8",
        ),
    ],
)
def test_episodes_that_cannot_be(
    clips: LabelledClips, changes: dict[str, Any], shares: tuple[float, ...], message: str
) -> None:
    divided = split_classes(clips, shares=shares)
    with pytest.raises(ConfigError) as raised:
        fewshot.check(clips, divided, config(**{"learners": ("proto",)} | changes))
    assert re.search(message, str(raised.value).replace("\n  ->", " ->"))


def test_a_mann_needs_two_videos_of_a_class(tmp_path: Path) -> None:
    rows = [row for i in range(8) for row in of_class(f"c{i}", [(f"v{i}", 6)])]
    clips = open_labelled(write(tmp_path / "d", rows))
    divided = split_classes(clips, shares=(0.5, 0.0, 0.5))
    with pytest.raises(ConfigError, match="2-way episodes need 2 classes"):
        fewshot.check(clips, divided, config("mann"))
    shared = config("mann", allow_shared_groups=True, instances=None)
    fewshot.check(clips, divided, shared)


def test_settings_are_checked_together() -> None:
    with pytest.raises(ConfigError) as raised:
        FewshotConfig(way=1, episodes=1, learners=("mann", "magic"), seeds=(0, 0))  # type: ignore[arg-type]
    known = f"some of {', '.join(LEARNERS)}"
    for part in ("way", "episodes", "mann, magic", known, "seeds"):
        assert part in str(raised.value)


def test_a_list_of_seen_classes_is_refused(clips: LabelledClips, split: ClassSplit, tmp_path: Path) -> None:
    pool = episode_pool(clips, EpisodeSettings(way=2, shot=1, query=3), split, "train")
    write_episodes(tmp_path / "list.jsonl", pool, draw_episodes(pool, 3))
    published = read_episodes(tmp_path / "list.jsonl", clips)
    with pytest.raises(ConfigError, match="of meta-train classes, which learners may have seen"):
        fewshot.evaluate(clips, separable(clips), split, config(), published=published)
    with pytest.raises(ConfigError, match="3 features for 480 clips"):
        fewshot.evaluate(clips, ClipFeatures(array=np.zeros((3, 1, 2), np.float32), name="x"), split, config())


def test_results_are_written_whole_and_replace_only_results(
    clips: LabelledClips, split: ClassSplit, tmp_path: Path
) -> None:
    result = fewshot.evaluate(clips, separable(clips), split, config("nn", "mann", steps=2, episodes=5))
    out = tmp_path / "deep/rows.jsonl"
    fewshot.write_rows(out, result)
    fewshot.write_rows(out, result)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["learner"] for row in rows] == ["nn", "mann"]
    assert rows[1]["label_map_sha256"] == clips.label_map_sha256
    assert rows[1]["class_split_sha256"] == split.sha256
    assert set(rows[1]["versions"]) == {"vidkit", "torch", "numpy", "python"}
    assert [one["instance"] for one in rows[1]["by_instance"]] == [1, 2, 3, 4]
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no few-shot results, so it is not replaced"):
        fewshot.write_rows(tmp_path / "notes.txt", result)
    with pytest.raises(ConfigError, match="is a folder"):
        fewshot.write_rows(tmp_path, result)

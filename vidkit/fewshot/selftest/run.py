"""The self-test of the MANN: does it bind labels that it has just been told? (Santoro et al. 2016, section 4)

Episodes of generated characters, labels late by one step. A MANN and an LSTM of equal size learn from some
characters and are tested on others, by instance number: the 1st time that an episode shows a class a learner can
only guess, leaving out the labels it has heard; from the 2nd time on it can know.

Published for Omniglot, in per cent by instance 1, 2, 3, 4, 5, 10: MANN 36.4, 82.8, 91.0, 92.6, 94.9, 98.1 and LSTM
24.4, 49.5, 55.3, 61.0, 63.6, 62.5. Characters here are others, so that only the shape of these numbers compares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.fewshot.selftest.strokes import Characters, StrokeConfig, draw_episodes, split_characters
from vidkit.models.memory.episodic import EpisodicLearner, LSTMLearner
from vidkit.models.memory.mann import Mann, equal_lstm, parameter_count
from vidkit.settings.encode import Faults
from vidkit.settings.model import MannConfig
from vidkit.train.descent import descend

Learner = Literal["mann", "lstm", "pixels"]

#: Seeds of what is drawn, so that no two streams are the same.
TRAIN_STREAM, TEST_STREAM = 1_000_003, 2_000_003

#: Episodes that are evaluated at a time.
TEST_BATCH = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """Accuracies that the MANN must reach on classes it has not seen.

    At the 1st instance it must lie between chance and what elimination allows: more means that a label leaks.
    """

    second: float
    last: float
    over_lstm: float = 0.0
    """The last instance must be so much better than the LSTM's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """All settings of a run."""

    mann: MannConfig = field(default_factory=MannConfig)
    strokes: StrokeConfig = field(default_factory=StrokeConfig)
    shots: int = 10
    """Instances of each class in an episode."""
    train_characters: int = 1200
    """Each is four classes, with its rotations. Numbers are those of Omniglot's split."""
    test_characters: int = 423
    steps: int = 3000
    batch: int = 16
    """Episodes in a step."""
    learning_rate: float = 3e-3
    decay_from: float = 0.7
    """Share of the steps after which the learning rate falls, in a straight line, to a hundredth."""
    clip: float = 10.0
    """Largest norm of the gradient."""
    test_episodes: int = 1000
    goal: Goal = Goal(second=0.80, last=0.95, over_lstm=0.10)

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("shots", "train_characters", "test_characters", "steps", "batch"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.test_episodes >= 2, "test_episodes", self.test_episodes, "at least 2, for an interval")
        pixels = self.strokes.pixels**2
        faults.check(self.mann.inputs == pixels, "mann.inputs", self.mann.inputs, f"{pixels}, the picture's pixels")
        for name in ("train_characters", "test_characters"):
            classes = 4 * getattr(self, name)
            faults.check(
                self.mann.way <= classes, "mann.way", self.mann.way, f"at most {classes}, the classes of {name}"
            )
        faults.check(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        faults.check(0 <= self.decay_from <= 1, "decay_from", self.decay_from, "0 to 1")
        faults.check(self.clip > 0, "clip", self.clip, "above 0")
        faults.raise_if_any("self-test settings")


def full() -> SelfTest:
    """5-way, 10 instances, 20 x 20 pixels, the paper's network."""
    return SelfTest()


def quick() -> SelfTest:
    """A smaller task for every push: 3-way, 6 instances, 10 x 10 pixels, less variation."""
    return SelfTest(
        mann=MannConfig(inputs=100, way=3, controller=64, slots=32, width=20, reads=2),
        strokes=StrokeConfig(pixels=10, pen=0.13, shake=0.02, rotation=5.0, shift=0.05),
        shots=6,
        train_characters=300,
        test_characters=100,
        steps=800,
        test_episodes=300,
        goal=Goal(second=0.75, last=0.85),
    )


PRESETS: dict[str, Callable[[], SelfTest]] = {"quick": quick, "full": full}


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How training stands."""

    learner: str
    step: int
    steps: int
    loss: float
    """Mean cross-entropy in nats since the last report; ln(way) when nothing has been learned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Accuracy of one learner at one instance number."""

    learner: str
    instance: int
    """1 for the first time that the episode shows the class."""
    accuracy: float
    half_width: float
    """Of the 95 % interval, 1.96 standard errors over episodes."""
    episodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How one learner's training ended."""

    learner: str
    parameters: int
    loss: float
    """Training loss at the end, in nats."""
    seconds: float
    """Of training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Of all learners."""

    settings: SelfTest
    seed: int
    device: str
    torch: str
    rows: tuple[Row, ...]
    trained: tuple[Trained, ...]

    def accuracy(self, learner: str) -> tuple[float, ...]:
        """By instance number; empty if the learner did not run."""
        return tuple(row.accuracy for row in self.rows if row.learner == learner)

    def faults(self) -> tuple[str, ...]:
        """What the goal asks for and the MANN did not reach; empty if all is well."""
        mann, lstm, goal = self.accuracy("mann"), self.accuracy("lstm"), self.settings.goal
        found = []
        if not mann:
            return ("the MANN did not run",)
        way = self.settings.mann.way
        low, high = 1 / way, elimination(way)
        margin = next(row.half_width for row in self.rows if row.learner == "mann")
        if not low - margin <= mann[0] <= high + margin:
            found.append(
                f"1st instance {mann[0]:.1%}; expected {low:.1%} to {high:.1%}, or within {margin:.1%} of it"
            )
        if len(mann) > 1 and mann[1] < goal.second:
            found.append(f"2nd instance {mann[1]:.1%}; expected at least {goal.second:.0%}")
        if mann[-1] < goal.last:
            found.append(f"last instance {mann[-1]:.1%}; expected at least {goal.last:.0%}")
        if lstm and mann[-1] < lstm[-1] + goal.over_lstm:
            found.append(f"last instance {mann[-1]:.1%}, LSTM {lstm[-1]:.1%}; expected {goal.over_lstm:.0%} more")
        nothing = math.log(way)
        found += [
            f"{item.learner}: the loss stayed at {item.loss:.3f}, ln {way} is {nothing:.3f}: nothing was learned"
            for item in self.trained
            if item.loss > 0.97 * nothing
        ]
        return tuple(found)


def elimination(way: int) -> float:
    """Best accuracy at the 1st instance: a class known to be new has one of the labels not heard so far.

    The mean of 1/way, 1/(way - 1), ..., 1: 45.7 % for five classes.
    """
    return sum(1 / left for left in range(1, way + 1)) / way


def run(
    settings: SelfTest | str = "full",
    *,
    steps: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    device: str | None = None,
    learners: tuple[Learner, ...] = ("mann", "lstm", "pixels"),
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train and test each learner on the same episodes.

    Args:
        settings: of the run, or the name of a preset.
        steps, batch: instead of those in the settings.
        seed: of the characters, episodes and initial weights.
        device: "cpu", "cuda", ...; None is the first GPU if there is one.
        learners: "pixels" is the nearest neighbour in pixels among what the episode has shown, and learns nothing.
        progress: called about a hundred times for each learner that trains.

    Raises:
        ConfigError: unknown preset or learner, settings that do not fit together.
        TrainingError: a loss that is not finite.
    """
    if isinstance(settings, str):
        if settings not in PRESETS:
            raise ConfigError(f"preset is {settings!r}; expected one of {', '.join(PRESETS)}", field="preset")
        settings = PRESETS[settings]()
    settings = replace(
        settings,
        steps=settings.steps if steps is None else steps,
        batch=settings.batch if batch is None else batch,
    )
    unknown = sorted(set(learners) - set(get_args(Learner)))
    if unknown:
        raise ConfigError(
            f"learner is {unknown[0]!r}; expected one of {', '.join(get_args(Learner))}", field="learner"
        )
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    train_set, test_set = split_characters(settings.train_characters, settings.test_characters, seed)
    rows: list[Row] = []
    trained: list[Trained] = []
    for name in learners:
        predict: Predict = nearest_pixels
        if name != "pixels":
            model = make_learner(name, settings.mann, seed).to(place)
            trained.append(fit(model, name, train_set, settings, seed, place, progress))
            predict = model_predictions(model)
        rows += evaluate(predict, name, test_set, settings, seed, place)
    return Result(
        settings=settings,
        seed=seed,
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
        torch=torch.__version__,
        rows=tuple(rows),
        trained=tuple(trained),
    )


def make_learner(name: Learner, config: MannConfig, seed: int) -> EpisodicLearner:
    """A MANN, or an LSTM with as many parameters; `seed` is of the weights."""
    generator = torch.Generator().manual_seed(seed)
    return Mann(config, generator) if name == "mann" else LSTMLearner(equal_lstm(config), generator)


def fit(
    model: EpisodicLearner,
    name: str,
    characters: Characters,
    settings: SelfTest,
    seed: int,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train with Adam on episodes of `characters`: cross-entropy over all steps of the sequence."""
    generator = torch.Generator().manual_seed(seed + TRAIN_STREAM)

    def loss_of(step: int) -> Tensor:
        pictures, labels = draw_episodes(
            characters, settings.batch, model.way, settings.shots, settings.strokes, generator, device
        )
        logits = model(pictures, labels)
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    def tell(step: int, loss: float) -> None:
        if progress is not None:
            progress(Progress(learner=name, step=step, steps=settings.steps, loss=loss))

    done = descend(
        loss_of,
        [{"params": list(model.parameters()), "lr": settings.learning_rate}],
        name=name,
        steps=settings.steps,
        clip=settings.clip,
        modules=[model],
        decay_from=settings.decay_from,
        tell=tell,
        hint="choose a smaller learning rate, or clip the gradient lower",
    )
    return Trained(learner=name, parameters=parameter_count(model), loss=done.loss, seconds=done.seconds)


Predict = Callable[[Tensor, Tensor], Tensor]


def model_predictions(model: EpisodicLearner) -> Predict:
    """Inputs (B, T, D) and labels (B, T) -> the model's labels (B, T)."""

    @torch.no_grad()
    def predict(pictures: Tensor, labels: Tensor) -> Tensor:
        training = model.training
        model.eval()
        try:
            guesses: Tensor = model(pictures, labels).argmax(dim=2)
        finally:
            model.train(training)
        return guesses

    return predict


def nearest_pixels(pictures: Tensor, labels: Tensor) -> Tensor:
    """The label of the nearest picture that came before, by Euclidean distance; 0 where none did. (B, T)."""
    distance = torch.cdist(pictures, pictures)
    steps = pictures.shape[1]
    later = torch.ones(steps, steps, dtype=torch.bool, device=pictures.device).triu()
    guesses = labels.gather(1, distance.masked_fill(later, math.inf).argmin(dim=2))
    guesses[:, 0] = 0
    return guesses


def evaluate(
    predict: Predict,
    name: str,
    characters: Characters,
    settings: SelfTest,
    seed: int,
    device: torch.device,
) -> list[Row]:
    """Accuracy by instance number over the test episodes of `seed`, the same for every learner."""
    generator = torch.Generator().manual_seed(seed + TEST_STREAM)
    way, shots = settings.mann.way, settings.shots
    scores = []
    for first in range(0, settings.test_episodes, TEST_BATCH):
        batch = min(TEST_BATCH, settings.test_episodes - first)
        pictures, labels = draw_episodes(characters, batch, way, shots, settings.strokes, generator, device)
        scores.append(by_instance(predict(pictures, labels), labels, way).cpu())
    score_EI = torch.cat(scores)
    episodes = score_EI.shape[0]
    error_I = score_EI.std(dim=0, correction=1) / math.sqrt(episodes)
    return [
        Row(learner=name, instance=i + 1, accuracy=mean, half_width=1.96 * error, episodes=episodes)
        for i, (mean, error) in enumerate(zip(score_EI.mean(dim=0).tolist(), error_I.tolist(), strict=True))
    ]


def by_instance(guesses: Tensor, labels: Tensor, way: int) -> Tensor:
    """Share of correct guesses in each episode by instance number: (B, T), (B, T) -> (B, T / way).

    Each class must appear equally often.
    """
    one_hot_BTK = nn.functional.one_hot(labels, way)
    number_BT = (one_hot_BTK.cumsum(dim=1) * one_hot_BTK).sum(dim=2) - 1
    shots = labels.shape[1] // way
    correct = torch.zeros(labels.shape[0], shots, device=labels.device)
    return correct.scatter_add_(1, number_BT, (guesses == labels).float()) / way


def table(result: Result) -> str:
    """The accuracies as text: a line for each instance number, a column for each learner; then what was reached."""
    settings = result.settings
    names = list(dict.fromkeys(row.learner for row in result.rows))
    sizes = {item.learner: f"{item.parameters:,}" for item in result.trained}
    lines = [
        f"{settings.mann.way}-way, unseen characters, {settings.test_episodes} episodes; "
        f"per cent correct, 95 % intervals (chance {100 / settings.mann.way:.1f})",
        "instance  " + "".join(f"{name:>14}" for name in names),
    ]
    for instance in range(1, settings.shots + 1):
        cells = {row.learner: row for row in result.rows if row.instance == instance}
        shown = (f"{100 * cells[name].accuracy:.1f} ± {100 * cells[name].half_width:.1f}" for name in names)
        lines.append(f"{instance:>8}  " + "".join(f"{cell:>14}" for cell in shown))
    lines.append("parameters" + "".join(f"{sizes.get(name, '-'):>14}" for name in names))
    lines += [
        f"{item.learner}: {settings.steps:,} steps of {settings.batch} episodes in {item.seconds:.0f} s on "
        f"{result.device}, loss {item.loss:.3f} (nothing learned: {math.log(settings.mann.way):.3f})"
        for item in result.trained
    ]
    faults = result.faults()
    lines.append("goal reached" if not faults else "goal missed: " + "; ".join(faults))
    return "\n".join(lines)


def to_json(result: Result) -> str:
    """The whole result: settings, rows, what was trained, what was missed."""
    return json.dumps({**asdict(result), "faults": list(result.faults())}, indent=2)

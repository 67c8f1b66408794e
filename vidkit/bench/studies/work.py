"""What the studies' arms have in common: settings, hashes, and training runs that several arms share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vidkit.bench.ablate.attempts import pretrained
from vidkit.bench.ablate.journal import Tell
from vidkit.bench.rows.schema import Planned, StudyArm
from vidkit.bench.rows.specs import STUDIES
from vidkit.data.dataset import read_facts
from vidkit.data.load.split import open_split
from vidkit.errors import TrainingError
from vidkit.settings.ablation import Study
from vidkit.settings.fewshot import Discriminant, FewshotConfig, Learner
from vidkit.settings.plain import config_hash
from vidkit.settings.recipes import Recipe
from vidkit.settings.train import FinetuneConfig, PretrainConfig, ViewConfig
from vidkit.train.runs import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class FewshotSettings:
    """What `--set fewshot.` changes: fields of `FewshotConfig`, where they are explained."""

    way: int = 5
    shot: int = 1
    query: int = 10
    episodes: int = 600
    allow_shared_groups: bool = False
    instances: int | None = None
    steps: int = 600
    batch: int = 16
    val_episodes: int = 100
    hidden: int = 128
    slots: int = 64
    width: int = 40
    reads: int = 4
    tune_steps: int = 200
    """Of the arms whose encoder goes on learning, like the next two."""
    tune_batch: int = 1
    tune_rate: float = 1e-4
    tune_episodes: int = 50
    """Test episodes of the arms that train a network for each."""
    finetune_steps: int = 40
    finetune_val_episodes: int = 10

    def __post_init__(self) -> None:
        self.config("proto", 0)  # which checks the values

    def config(
        self, learner: Learner, seed: int, tune: int = 0, discriminant: Discriminant = "none"
    ) -> FewshotConfig:
        """The settings of one arm: these, with its learner and seed.

        Args:
            tune, discriminant: as in `FewshotConfig`.

        Raises:
            ConfigError: values that no learner can have.
        """
        return FewshotConfig(
            **asdict(self), learners=(learner,), seeds=(seed,), tune=tune, discriminant=discriminant
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Of a whole study: a recipe, and how few-shot episodes are. What `--set` changes."""

    about: str
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    test: ViewConfig
    fewshot: FewshotSettings = field(default_factory=FewshotSettings)


def settings_of(recipe: Recipe) -> Settings:
    """A recipe as the settings of a study, with few-shot episodes as they are by default."""
    return Settings(about=recipe.about, pretrain=recipe.pretrain, finetune=recipe.finetune, test=recipe.test)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmConfig:
    """Every setting of an arm. None: the arm has no such part."""

    study: Study
    arm: str
    seed: int
    split: str
    """That is tested on."""
    pretrain: PretrainConfig | None = None
    then: PretrainConfig | None = None
    """Training that follows, or that stands alone, on the small part."""
    finetune: FinetuneConfig | None = None
    test: ViewConfig | None = None
    fewshot: dict[str, Any] | None = None
    """A `FewshotConfig` as plain values."""
    features: str | None = None
    """What few-shot learners see: "pre-trained", "random" or "pixels"."""
    classes: str | None = None
    """sha256 of the class split."""
    episodes: str | None = None
    """sha256 of the list of test episodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """An arm with one seed: what is known before it runs, and its settings."""

    planned: Planned
    config: ArmConfig

    @property
    def folder(self) -> Path:
        """Of what the arm leaves behind, relative to the results."""
        return Path("arms") / self.planned.config_hash


def arm(config: ArmConfig, recipe: str) -> Arm:
    """The arm of these settings, with its hash and what the study's table says of it."""
    spec = STUDIES[config.study]
    of_study = StudyArm(
        study=config.study,
        name=config.arm,
        about=spec.arms[config.arm],
        quoted=spec.quoted.get(config.arm, {}),
    )
    planned = Planned(
        config_hash=config_hash(config), group=config.arm, seed=config.seed, recipe=recipe, arm=of_study
    )
    return Arm(planned=planned, config=config)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmPlan:
    """What a study's `prepare` gives; some add what their arms need."""

    arms: tuple[Arm, ...]
    notes: tuple[str, ...]
    """For the reader of the table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What a pre-training depends on."""

    config: PretrainConfig
    data: str
    init: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A pre-training that has come to its end."""

    folder: Path
    """Relative to the results."""
    checkpoint: Path
    steps: int
    loss: float | None
    seconds: float


@dataclass(kw_only=True, slots=True)
class Work:
    """A study at work."""

    data: Path
    out: Path
    split: str
    recipe: str
    settings: Settings
    seeds: tuple[int, ...]
    quiet: bool = False
    tell: Tell = lambda words: None
    """Called with a line of text now and then in an arm that trains."""
    failed: dict[str, str] = field(default_factory=dict)
    """See `attempts.pretrained`."""

    def pretrained(self, config: PretrainConfig, data: Path, init: Pretrained | None = None) -> Pretrained:
        """The run with these settings on `data`: as it was left if it had ended, else begun or gone on with.

        Raises:
            VidkitError: it failed, now or for another arm.
        """
        built = str(read_facts(data).get("plan_sha256") or read_facts(data)["label_map"]["sha256"])
        shared = _Shared(config=config, data=built, init=None if init is None else init.folder.name)
        folder = Path("pretrain") / config_hash(shared)
        begun = None if init is None else init.checkpoint
        summary = pretrained(config, data, self.out / folder, self.failed, init=begun, quiet=self.quiet)
        return Pretrained(
            folder=folder,
            checkpoint=RunFolder(self.out / folder).last,
            steps=int(summary["steps"]),
            loss=summary["loss"],
            seconds=float(summary["seconds"]),
        )


def seeded(config: PretrainConfig, seed: int, epochs: int | None = None) -> PretrainConfig:
    """The same pre-training with another seed, and other epochs if they are given."""
    optim = config.optim if epochs is None else replace(config.optim, epochs=epochs)
    return replace(config, seed=seed, optim=optim)


def steps_of_an_epoch(config: PretrainConfig, data: Path) -> int:
    """As the loop counts them: whole batches only, on one process.

    Raises:
        TrainingError: the clips do not fill a step.
    """
    clips = len(open_split(data, config.data.split, label_fraction=config.data.label_fraction, seed=config.seed))
    batch = config.optim.batch_size // (config.optim.accumulate * config.data.repeats)
    steps = clips // max(1, batch) // config.optim.accumulate
    if steps == 0:
        raise TrainingError(
            f"{read_facts(data)['name']} has {clips} clips to train on, fewer than one step takes "
            f"({config.optim.batch_size})",
            hint="lower pretrain.optim.batch_size by --set, or give a larger dataset",
        )
    return steps

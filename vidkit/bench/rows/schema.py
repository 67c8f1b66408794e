"""One schema of results: a row for each run of an ablation's grid or of a study, and the plan of what is to be run.

A run is a cell of a grid (mask, ratio, ...) or a named arm of a study, with one seed. Whatever it is, its row says
the same things in the same places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vidkit.errors import ConfigError
from vidkit.settings.ablation import Cell, Equal, Study

#: Of a row and of the plan. Raised when an older vidkit could misread them; `old` reads those of before.
SCHEMA = 3

Status = Literal["ok", "failed"]
Kind = Literal["full", "memory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperFigures:
    """One row of the paper's Table 1, quoted."""

    table: str
    row: int
    top1: float
    """Percent, like `top5`."""
    top5: float
    memory_gb: float | None

    @property
    def name(self) -> str:
        """Table and row: "1a.3", for example."""
        return f"{self.table}.{self.row}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCell:
    """What a run is, as a cell of a grid."""

    kind: Kind
    """"full": trained and tested. "memory": a few steps, or a prediction."""
    settings: Cell
    """With the recipe's values put in for what the grid left open."""
    visible: int
    """V."""
    tokens: int
    """N."""
    parameters: int
    forward_macs: int
    """Multiply-accumulates of one clip in pre-training."""
    training_macs: int
    paper: tuple[PaperFigures, ...] = ()
    """Rows of the paper's Table 1 that correspond."""
    targets: int | None = None
    """M; None in rows from before there were fewer than N - V."""
    equal: Equal = "tokens"
    length: float | None = None
    """Epochs of pre-training, where they are no whole number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """What was measured of an arm on its way."""

    share: float
    """Of pre-training."""
    step: int
    values: dict[str, float]
    """By the name of the measure: accuracies from 0 to 1, "common-error" in the loss's own unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Arms that are compared with each other, chosen before they had results."""

    name: str
    """As a table has it: "tube 0.95 against random 0.95", for example."""
    kind: Literal["pair", "trend"]
    groups: tuple[str, ...]
    """"pair": the first less the second. "trend": one strategy's arms by ascending ratio."""
    rows: int = 0
    """Results of these arms that were there when it was named: 0, or it was chosen with a look at them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyArm:
    """What a run is, as an arm of a study."""

    study: Study
    name: str
    about: str
    """What the arm is, in a line."""
    quoted: dict[str, float] = field(default_factory=dict)
    """Figures of arXiv 2308.01916 for the same setting, by metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What is known of a run before it has run: a cell or an arm, with its seed."""

    config_hash: str
    """Of every setting, the seed among them; names its folder."""
    group: str
    """Runs of one group differ in the seed only: a cell's hash with seed 0, or an arm's name."""
    seed: int
    recipe: str | None
    """None in rows of studies from before schema 2: there the plan alone says it."""
    cell: GridCell | None = None
    arm: StudyArm | None = None

    def __post_init__(self) -> None:
        if (self.cell is None) == (self.arm is None):
            raise ConfigError("a run is either a cell of a grid or an arm of a study")
        if self.cell is not None and self.cell.settings.seed != self.seed:
            raise ConfigError(f"seed {self.seed} of a cell whose settings have seed {self.cell.settings.seed}")

    @property
    def in_grid(self) -> GridCell:
        """The cell; only of runs that are known to be one."""
        assert self.cell is not None, f"{self.group} is an arm of a study"
        return self.cell

    @property
    def in_study(self) -> StudyArm:
        """The arm; only of runs that are known to be one."""
        assert self.arm is not None, f"{self.group} is a cell of a grid"
        return self.arm


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A run that has come to its end, or failed."""

    schema: int = SCHEMA
    status: Status
    reason: str | None = None
    """Of a failure."""
    plan: Planned

    metrics: dict[str, float] = field(default_factory=dict)
    """Of the test: top1, top5 and mean_class, or mAP and f1, shares from 0 to 1; of a study, what its `measures`
    name. Of a cell also its other `settings.ablation.Measures`, but for the reconstruction error."""
    half_widths: dict[str, float] = field(default_factory=dict)
    """Of 95 % intervals within this row, over its clips or episodes."""
    counts: dict[str, int] = field(default_factory=dict)
    """Clips tested, episodes, training steps, tokens."""
    found: dict[str, Any] = field(default_factory=dict)
    """What else there is to know, as plain values."""
    pretrain_loss: float | None = None
    """Mean of the last steps that were logged, like `finetune_loss`. Each arm's on its own masks: those of two
    strategies cannot be compared."""
    common_error: float | None = None
    """Reconstruction error on the held-out clips, under random masks that are the same for every arm."""
    curve: tuple[CurvePoint, ...] = ()
    """At shares of pre-training, its end among them."""
    looked: dict[str, float] = field(default_factory=dict)
    """What the arm's own masks show of the held-out clips at the end: see `bench.ablate.common.Looked`."""
    finetune_loss: float | None = None
    coverage: float | None = None
    """Tested / planned clips of the split."""
    split: str | None = None
    predictions_sha256: str | None = None

    measured_bytes: int | None = None
    """Peak of a pre-training step, at `batch` clips."""
    reserved_bytes: int | None = None
    predicted_bytes: int | None = None
    predicted_matrices_bytes: int | None = None
    """On CUDA, if attention kept its matrices of scores, as released code from before fused attention did."""
    batch: int | None = None
    precision: str | None = None
    device: str | None = None
    """That memory and speed are of: cuda or cpu."""
    step_clips_per_s: float | None = None
    """Of a pre-training step without loading."""
    clips_per_s: float | None = None
    """Of the pre-training, loading included."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of a cell by part: pretrain, finetune, test. Of an arm as a whole, without what it shares with others and
    found there."""

    runs: dict[str, str] = field(default_factory=dict)
    """Folders and files, relative to the results."""
    dataset: str | None = None
    label_map_sha256: str | None = None
    plan_sha256: str | None = None
    """Of the dataset's clips."""
    git: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    """Every setting, as plain values."""

    @property
    def clips(self) -> int | None:
        """Tested."""
        return self.counts.get("clips")

    @property
    def wall_s(self) -> float | None:
        """Seconds in all; None where no time was taken."""
        return sum(self.seconds.values()) if self.seconds else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The runs that belong together, and the dataset that they are run on."""

    schema: int = SCHEMA
    study: Study | None = None
    """None: a grid."""
    dataset: str | None
    """None where nothing is trained."""
    label_map_sha256: str | None
    plan_sha256: str | None
    planned: tuple[Planned, ...]
    split: str | None = None
    """That a study tests on."""
    settings_sha256: str | None = None
    """Of a study's recipe, settings and split: it goes on with these only."""
    notes: tuple[str, ...] = ()
    """What a reader of the table must know: what was compared with what, on which clips."""
    contrasts: tuple[Contrast, ...] = ()
    """Of a grid."""

"""Settings of ablations: what a cell of a table is, grids of cells, and the names of presets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults
from vidkit.settings.mask import PAPER_STRATEGIES, is_strategy, strategies_in_words
from vidkit.settings.model import AdaMAEConfig, TokenizerKind, one_of
from vidkit.settings.recipes import Recipe
from vidkit.settings.train import FinetuneConfig, Precision, PretrainConfig, ViewConfig

#: Keys of `bench.ablate.table1.LOSSES` and `bench.ablate.table1.SAMPLERS`.
LossName = Literal["mse-norm", "mse", "l1-norm", "l1"]
SamplerName = Literal["mlp", "mha-1", "mha-1-half", "mha-2-half"]
#: Questions that arXiv 2308.01916 leaves open, each with a study of its own: `bench.studies`.
Study = Literal["reconstruction", "mask-ratio", "meta"]
Preset = Literal[
    "masks",
    "table1a",
    "table1b",
    "table1c",
    "table1d",
    "table1e",
    "table1f",
    "reconstruction",
    "mask-ratio",
    "meta",
]

#: Of the preset "masks": the paper's Table 1b, for every strategy.
RATIOS = (0.80, 0.85, 0.90, 0.95, 0.98)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Where a cell departs from its recipe; None: as the recipe has it."""

    mask: str = "adaptive"
    ratio: float = 0.95
    decoder_depth: int | None = None
    loss: LossName | None = None
    sampler: SamplerName | None = None
    """None as well where masks are not adaptive: there is no sampler then."""
    epochs: int | None = None
    """Of pre-training."""
    tokenizer: TokenizerKind | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(is_strategy(self.mask), "mask", self.mask, strategies_in_words())
        faults.check(0 < self.ratio < 1, "ratio", self.ratio, "above 0 and below 1")
        for name in ("decoder_depth", "epochs"):
            value = getattr(self, name)
            faults.check(value is None or value >= 1, name, value, "at least 1")
        for name, choices in (("loss", LossName), ("sampler", SamplerName), ("tokenizer", TokenizerKind)):
            value = getattr(self, name)
            faults.check(value is None or value in get_args(choices), name, value, one_of(choices))
        faults.check(self.seed >= 0, "seed", self.seed, "at least 0")
        faults.raise_if_any("ablation cell")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Every combination of the values given. Empty: as the recipe has it."""

    masks: tuple[str, ...] = ()
    ratios: tuple[float, ...] = ()
    decoder_depths: tuple[int, ...] = ()
    losses: tuple[LossName, ...] = ()
    samplers: tuple[SamplerName, ...] = ()
    """For adaptive masks only."""
    epochs: tuple[int, ...] = ()
    tokenizers: tuple[TokenizerKind, ...] = ()
    seeds: tuple[int, ...] = (0,)

    def cells(self, recipe: Recipe) -> tuple[Cell, ...]:
        """In the order of the fields, seeds last; combinations that come to the same are there once.

        Raises:
            ConfigError: a value that no cell can have.
        """
        usual = recipe.pretrain.model.mask
        found: dict[Cell, None] = {}
        for mask, ratio, depth, loss, sampler, epochs, tokenizer, seed in itertools.product(
            self.masks or (usual.strategy,),
            self.ratios or (usual.ratio,),
            self.decoder_depths or (None,),
            self.losses or (None,),
            self.samplers or (None,),
            self.epochs or (None,),
            self.tokenizers or (None,),
            self.seeds or (0,),
        ):
            cell = Cell(
                mask=mask,
                ratio=ratio,
                decoder_depth=depth,
                loss=loss,
                sampler=sampler if mask == "adaptive" else None,
                epochs=epochs,
                tokenizer=tokenizer,
                seed=seed,
            )
            found[cell] = None
        return tuple(found)


def masks_grid(seeds: tuple[int, ...]) -> Grid:
    """The preset "masks": the four strategies at five ratios."""
    return Grid(masks=PAPER_STRATEGIES, ratios=RATIOS, seeds=seeds)


def check_preset(name: str) -> None:
    """Raises ConfigError for a name that is none."""
    if name not in get_args(Preset):
        raise ConfigError(
            f"there is no preset {name!r}", field="--preset", hint="choose " + ", ".join(get_args(Preset))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CellConfig:
    """A cell with every setting of its three parts."""

    pretrain: PretrainConfig
    finetune: FinetuneConfig
    test: ViewConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryConfig:
    """What the memory and speed of a cell depend on: cells that agree on it are measured once."""

    model: AdaMAEConfig
    batch: int
    precision: Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureConfig:
    """How a training step of a cell's model is measured, apart from its run."""

    batch: int = 16
    """Clips; the paper's memory is at 16."""
    steps: int = 5
    """Timed ones; 0: memory is predicted and nothing is timed."""
    warmup: int = 2

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.batch >= 1, "batch", self.batch, "at least 1")
        for name in ("steps", "warmup"):
            faults.check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        faults.raise_if_any("measurement settings")

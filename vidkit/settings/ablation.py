"""Settings of ablations: what a cell of a table is, grids of cells, and the names of presets."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal, get_args

from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults
from vidkit.settings.mask import PAPER_STRATEGIES, Targets, is_strategy, strategies_in_words
from vidkit.settings.model import AdaMAEConfig, DecoderKind, TokenizerKind, one_of
from vidkit.settings.recipes import Recipe
from vidkit.settings.train import FinetuneConfig, Precision, PretrainConfig, ViewConfig

#: Keys of `bench.ablate.table1.LOSSES` and `bench.ablate.table1.SAMPLERS`.
LossName = Literal["mse-norm", "mse", "l1-norm", "l1"]
SamplerName = Literal["mlp", "mha-1", "mha-1-half", "mha-2-half"]
#: Questions that arXiv 2308.01916 leaves open, each with a study of its own: `bench.studies`.
Study = Literal["reconstruction", "mask-ratio", "meta"]
Preset = Literal[
    "masks",
    "verdicts",
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

#: What arms have alike: visible tokens of a clip, or multiply-accumulates of the whole pre-training.
Equal = Literal["tokens", "compute"]

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
    targets: Targets | None = None
    target_ratio: float | None = None
    decoder: DecoderKind | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(is_strategy(self.mask), "mask", self.mask, strategies_in_words())
        faults.check(0 < self.ratio < 1, "ratio", self.ratio, "above 0 and below 1")
        for name in ("decoder_depth", "epochs"):
            value = getattr(self, name)
            faults.check(value is None or value >= 1, name, value, "at least 1")
        share = self.target_ratio
        faults.check(share is None or 0 < share <= 1, "target_ratio", share, "above 0, at most 1")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            faults.check(value is None or value in get_args(choices), name, value, one_of(choices))
        faults.check(self.seed >= 0, "seed", self.seed, "at least 0")
        faults.raise_if_any("ablation cell")


_CHOICES = {
    "loss": LossName,
    "sampler": SamplerName,
    "tokenizer": TokenizerKind,
    "targets": Targets,
    "decoder": DecoderKind,
}


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
    targets: tuple[Targets, ...] = ()
    target_ratios: tuple[float, ...] = ()
    """For targets that are not the complement."""
    decoders: tuple[DecoderKind, ...] = ()
    seeds: tuple[int, ...] = (0,)

    def cells(self, recipe: Recipe) -> tuple[Cell, ...]:
        """In the order of the fields, seeds last; combinations that come to the same are there once.

        Raises:
            ConfigError: a value that no cell can have.
        """
        usual = recipe.pretrain.model.mask
        if self.target_ratios and {*(self.targets or (usual.targets,))} == {"complement"}:
            raise ConfigError(
                "a share of the targets needs to know which", field="--target-ratio", hint="give --targets random"
            )
        found: dict[Cell, None] = {}
        first = itertools.product(
            self.masks or (usual.strategy,),
            self.ratios or (usual.ratio,),
            self.decoder_depths or (None,),
            self.losses or (None,),
            self.samplers or (None,),
            self.epochs or (None,),
            self.tokenizers or (None,),
        )
        last = itertools.product(
            self.targets or (None,), self.target_ratios or (None,), self.decoders or (None,), self.seeds or (0,)
        )
        for one, (targets, share, decoder, seed) in itertools.product(first, last):
            mask, ratio, depth, loss, sampler, epochs, tokenizer = one
            cell = Cell(
                mask=mask,
                ratio=ratio,
                decoder_depth=depth,
                loss=loss,
                sampler=sampler if mask == "adaptive" else None,
                epochs=epochs,
                tokenizer=tokenizer,
                targets=targets,
                target_ratio=None if (targets or usual.targets) == "complement" else share,
                decoder=decoder,
                seed=seed,
            )
            found[cell] = None
        return tuple(found)


def masks_grid(seeds: tuple[int, ...]) -> Grid:
    """The preset "masks": the four strategies at five ratios."""
    return Grid(masks=PAPER_STRATEGIES, ratios=RATIOS, seeds=seeds)


#: Of the preset "verdicts": masks at each ratio. The oracles say whether masks can be told apart at all.
VERDICTS: dict[float, tuple[str, ...]] = {
    0.95: ("random", "tube", "frame", "adaptive", "error", "motion", "multi-block", "oracle", "anti-oracle"),
    0.90: ("random", "tube", "frame", "adaptive", "oracle", "anti-oracle"),
}
#: Of the preset "verdicts", where no others are asked for: pairs of seeds are what a verdict is made from.
VERDICT_SEEDS = (0, 1, 2, 3, 4)
VERDICT_MEASURES = ("finetune-10", "ridge", "knn", "common-error")


def verdict_cells(seeds: tuple[int, ...]) -> tuple[Cell, ...]:
    """The preset "verdicts", seed by seed: an interrupted run has whole pairs."""
    return tuple(
        Cell(mask=mask, ratio=ratio, seed=seed)
        for seed in seeds
        for ratio, masks in VERDICTS.items()
        for mask in masks
    )


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


#: What arms are measured by. "finetune-10": fine-tuned with 10 % of the labels.
MEASURES = ("finetune", "finetune-P", "ridge", "knn", "attentive", "common-error")
_PART = re.compile(r"finetune-([1-9][0-9]?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What each arm of an ablation is measured by, and when. No pre-training depends on it."""

    names: tuple[str, ...] = ("finetune", "ridge", "knn", "common-error")
    """The first one decides. "finetune" is measured at the end of pre-training alone, the others at `shares`."""
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    """Of pre-training, ascending, its end among them."""
    common_ratio: float = 0.9
    """Of "common-error": share of the tokens that is hidden, whatever an arm's own ratio."""
    common_seed: int = 0
    """Of these masks; no arm's."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in self.names or ("none",):
            known = name in MEASURES or _PART.fullmatch(name) is not None
            expected = ", ".join(MEASURES) + ", where P is a number of percent from 1 to 99"
            faults.check(known and name != "finetune-P", "measure", name, f"one of {expected}")
        faults.check(len(set(self.names)) == len(self.names), "measure", ", ".join(self.names), "each once")
        given = self.shares
        good = bool(given) and given[0] > 0 and given[-1] == 1 and sorted(set(given)) == list(given)
        faults.check(good, "shares", given, "ascending numbers above 0, the last of them 1")
        faults.check(0 < self.common_ratio < 1, "common_ratio", self.common_ratio, "above 0 and below 1")
        faults.check(self.common_seed >= 0, "common_seed", self.common_seed, "at least 0")
        faults.raise_if_any("measures")

    @property
    def parts(self) -> dict[str, float]:
        """Share of the labels of each fine-tuning with a part of them, by its name."""
        found = ((name, _PART.fullmatch(name)) for name in self.names)
        return {name: int(match[1]) / 100 for name, match in found if match is not None}

    @property
    def probes(self) -> tuple[str, ...]:
        """Of the frozen encoder."""
        return tuple(name for name in self.names if name in ("ridge", "knn", "attentive"))


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

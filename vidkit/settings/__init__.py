"""Every frozen dataclass of settings, the recipes, and their way to plain values and back, by one import.

>>> from vidkit.settings import RECIPES, changed
>>> changed(RECIPES["tiny"]().pretrain, ["optim.epochs=3"]).optim.epochs
3
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidkit.lazy import names_from

if TYPE_CHECKING:
    from vidkit.settings.ablation import Cell as Cell
    from vidkit.settings.ablation import CellConfig as CellConfig
    from vidkit.settings.ablation import Grid as Grid
    from vidkit.settings.ablation import MeasureConfig as MeasureConfig
    from vidkit.settings.ablation import Measures as Measures
    from vidkit.settings.ablation import MemoryConfig as MemoryConfig
    from vidkit.settings.ablation import Study as Study
    from vidkit.settings.encode import DatasetSpec as DatasetSpec
    from vidkit.settings.encode import EncodeSettings as EncodeSettings
    from vidkit.settings.encode import Expectation as Expectation
    from vidkit.settings.encode import LabelSpec as LabelSpec
    from vidkit.settings.encode import SourceOptions as SourceOptions
    from vidkit.settings.encode import SourceSpec as SourceSpec
    from vidkit.settings.fewshot import FewshotConfig as FewshotConfig
    from vidkit.settings.mask import MaskConfig as MaskConfig
    from vidkit.settings.model import AdaMAEConfig as AdaMAEConfig
    from vidkit.settings.model import ClassifierConfig as ClassifierConfig
    from vidkit.settings.model import DecoderConfig as DecoderConfig
    from vidkit.settings.model import LossConfig as LossConfig
    from vidkit.settings.model import LSTMConfig as LSTMConfig
    from vidkit.settings.model import MannConfig as MannConfig
    from vidkit.settings.model import RecomputeConfig as RecomputeConfig
    from vidkit.settings.model import SamplerConfig as SamplerConfig
    from vidkit.settings.model import ViTConfig as ViTConfig
    from vidkit.settings.plain import changed as changed
    from vidkit.settings.plain import config_hash as config_hash
    from vidkit.settings.plain import from_plain as from_plain
    from vidkit.settings.plain import to_plain as to_plain
    from vidkit.settings.probe import ProbeConfig as ProbeConfig
    from vidkit.settings.recipes import RECIPES as RECIPES
    from vidkit.settings.recipes import Recipe as Recipe
    from vidkit.settings.train import DataConfig as DataConfig
    from vidkit.settings.train import FinetuneConfig as FinetuneConfig
    from vidkit.settings.train import LogConfig as LogConfig
    from vidkit.settings.train import OptimConfig as OptimConfig
    from vidkit.settings.train import PretrainConfig as PretrainConfig
    from vidkit.settings.train import ViewConfig as ViewConfig

# a frozen dataclass takes a millisecond to make, and whoever builds a dataset needs no model's settings
_HOMES = {
    **dict.fromkeys(
        ("Cell", "CellConfig", "Grid", "MeasureConfig", "Measures", "MemoryConfig", "Study"), "ablation"
    ),
    **dict.fromkeys(("DatasetSpec", "EncodeSettings", "Expectation", "LabelSpec"), "encode"),
    **dict.fromkeys(("SourceOptions", "SourceSpec"), "encode"),
    **dict.fromkeys(("AdaMAEConfig", "ClassifierConfig", "DecoderConfig", "LossConfig", "LSTMConfig"), "model"),
    **dict.fromkeys(("MannConfig", "RecomputeConfig", "SamplerConfig", "ViTConfig"), "model"),
    **dict.fromkeys(("changed", "config_hash", "from_plain", "to_plain"), "plain"),
    **dict.fromkeys(("RECIPES", "Recipe"), "recipes"),
    **dict.fromkeys(("DataConfig", "FinetuneConfig", "LogConfig", "OptimConfig", "PretrainConfig"), "train"),
    "ViewConfig": "train",
    "MaskConfig": "mask",
    "FewshotConfig": "fewshot",
    "ProbeConfig": "probe",
}

__getattr__ = names_from(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

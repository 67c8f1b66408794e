"""The 27 rows of AdaMAE's Table 1 as configurations, with the paper's figures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidkit.errors import ConfigError
from vidkit.settings.model import AdaMAEConfig, LossConfig, MaskConfig, Rounding, SamplerConfig, vit_base

FILE = "adamae-table1.csv"

LOSSES: dict[str, LossConfig] = {
    "mse-norm": LossConfig(kind="mse", normalize=True),
    "mse": LossConfig(kind="mse", normalize=False),
    "l1-norm": LossConfig(kind="l1", normalize=True),
    "l1": LossConfig(kind="l1", normalize=False),
}
#: By kind and blocks; "half" is half of the encoder's width.
SAMPLERS: dict[str, SamplerConfig] = {
    "mlp": SamplerConfig(kind="mlp"),
    "mha-1": SamplerConfig(),
    "mha-1-half": SamplerConfig(width_divisor=2),
    "mha-2-half": SamplerConfig(depth=2, width_divisor=2),
}
#: What a row can differ in, with the paper's own choice.
DEFAULTS: dict[str, str | float | int] = {
    "mask": "adaptive",
    "ratio": 0.95,
    "decoder_depth": 4,
    "loss": "mse-norm",
    "sampler": "mha-1",
    "epochs": 800,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One row of the paper's Table 1: pre-trained and fine-tuned on Something-Something v2, ViT-B."""

    table: str
    """1a to 1f."""
    row: int
    """From 1, within its table."""
    mask: str
    ratio: float
    decoder_depth: int
    loss: str
    """A key of `LOSSES`."""
    sampler: str | None
    """A key of `SAMPLERS`; None without adaptive masks."""
    epochs: int
    """Of pre-training."""
    top1: float
    """Quoted from the paper, percent, like `top5`."""
    top5: float
    memory_gb: float | None
    """Quoted: of pre-training at batch 16 on one GPU; the paper does not say how it was measured. None in tables
    without it."""

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the settings that are not the paper's own choice."""
        return tuple(name for name, usual in DEFAULTS.items() if getattr(self, name) not in (None, usual))

    def config(self, base: AdaMAEConfig | None = None, rounding: Rounding = "matched") -> AdaMAEConfig:
        """`base` (ViT-B by default) with this row's settings. The number of epochs is no part of a model."""
        base = vit_base() if base is None else base
        mask: Any = self.mask
        return replace(
            base,
            mask=MaskConfig(strategy=mask, ratio=self.ratio, rounding=rounding),
            decoder=replace(base.decoder, depth=self.decoder_depth),
            loss=replace(LOSSES[self.loss], sampling_weight=base.loss.sampling_weight),
            sampler=base.sampler if self.sampler is None else _sampler(self.sampler, base.sampler),
        )


def _sampler(name: str, base: SamplerConfig) -> SamplerConfig:
    chosen = SAMPLERS[name]
    return replace(base, kind=chosen.kind, depth=chosen.depth, width_divisor=chosen.width_divisor)


def manifests_folder() -> Path:
    """Where the tables are: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_manifests", package.parent / "manifests"):
        if (folder / FILE).is_file():
            return folder
    raise ConfigError(f"no {FILE} beside {package}", hint="reinstall vidkit; its wheel carries vidkit/_manifests")


def read_table1(path: Path | None = None) -> tuple[PaperRow, ...]:
    """The rows of the file, in its order. Lines that begin with # are comments.

    Raises:
        ConfigError: a missing column, or a value that is no number or not known, with its line.
    """
    path = manifests_folder() / FILE if path is None else path
    lines = [(n, line) for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)]
    lines = [(n, line) for n, line in lines if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigError("the table is empty", file=path)
    header = next(csv.reader([lines[0][1]]))
    if header != list(_COLUMNS):
        raise ConfigError(
            f"columns are {', '.join(header)}; expected {', '.join(_COLUMNS)}", file=path, row=lines[0][0]
        )
    return tuple(_row(next(csv.reader([line])), path, number) for number, line in lines[1:])


def _row(cells: Sequence[str], path: Path, number: int) -> PaperRow:
    if len(cells) != len(_COLUMNS):
        raise ConfigError(f"{len(cells)} values; expected {len(_COLUMNS)}", file=path, row=number)
    values: dict[str, Any] = {}
    for (name, convert), cell in zip(_COLUMNS.items(), cells, strict=True):
        try:
            values[name] = convert(cell)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"unusable value {cell!r}", file=path, row=number, field=name) from error
    if (values["mask"] == "adaptive") != (values["sampler"] is not None):
        raise ConfigError("adaptive masks, and no others, have a sampler", file=path, row=number, field="sampler")
    return PaperRow(**values)


def _key_of(known: Iterable[str]) -> Callable[[str], str]:
    names = {name: name for name in known}
    return lambda cell: names[cell]


def _optional(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda cell: convert(cell) if cell else None


_COLUMNS: dict[str, Callable[[str], Any]] = {
    "table": _key_of(("1a", "1b", "1c", "1d", "1e", "1f")),
    "row": int,
    "mask": _key_of(("tube", "random", "frame", "adaptive")),
    "ratio": float,
    "decoder_depth": int,
    "loss": _key_of(LOSSES),
    "sampler": _optional(_key_of(SAMPLERS)),
    "epochs": int,
    "top1": float,
    "top5": float,
    "memory_gb": _optional(float),
}

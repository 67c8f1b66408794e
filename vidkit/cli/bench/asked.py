"""What `vidkit ablate` was asked for: grids and studies take the same."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidkit.cli.output import command_line
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.settings import Grid, MeasureConfig
    from vidkit.settings.ablation import Equal, Measures


#: Settings that cells, arms or other options decide: changed by --set, they would have no effect.
DECIDED = {
    "pretrain.seed": "--seed",
    "finetune.seed": "--seed",
    "finetune.encoder.": "--set pretrain.model.encoder.…, which holds for both",
    "finetune.val_split": "--split, which is tested at the end",
    "finetune.val_epochs": "nothing: only the last weights are tested",
    "finetune.views.": "--set test.…",
    "about": "nothing",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The options of `vidkit ablate`, read and checked one by one."""

    data: Path | None
    out: Path
    grid: Grid
    presets: tuple[str, ...]
    recipe: str | None
    split: str
    measure: MeasureConfig
    executor: str
    ray_address: str | None
    measures: Measures
    again: bool
    """Measure cells again that lack one of the measures."""
    contrasts: tuple[str, ...]
    equal: Equal
    resume: bool
    dry_run: bool
    memory_only: bool
    changes: Sequence[str]
    as_json: bool


def check_changes(changes: Sequence[str], decided: Mapping[str, str]) -> None:
    """
    Args:
        decided: settings (those that end in a dot: with all below them) that something else decides, and what.

    Raises:
        ConfigError: one of them among the `changes`, where it would have no effect.
    """
    for text in changes:
        key = text.partition("=")[0].strip()
        for name, instead in decided.items():
            if key == name or (name.endswith(".") and key.startswith(name)):
                raise ConfigError(f"{key} has no effect here", field="--set", hint=f"use {instead}")


def say(words: str) -> None:
    """On stderr, as the commands tell how far they are."""
    print(words, file=sys.stderr)


def say_stopped(what: str) -> None:
    """How to go on after Ctrl-C; finished `what` are kept."""
    words = command_line()
    again = words if "--resume" in words else f"{words} --resume"
    print(f"\nStopped; finished {what} are kept. Go on with:\n  {again}", file=sys.stderr)

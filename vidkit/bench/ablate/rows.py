"""Rows of results: results.jsonl holds one line a cell, ablation.json the cells that were planned.

A table is made from these two files and nothing else. Importing this module brings no torch along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkit.errors import ConfigError, TrainingError
from vidkit.settings.ablation import Cell
from vidkit.settings.plain import from_plain, to_plain

#: Of a row and of the plan. Raised when an older vidkit could misread them.
SCHEMA = 1

RESULTS = "results.jsonl"
PLAN = "ablation.json"

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
        return f"{self.table}.{self.row}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCell:
    """What is known of a cell before it has run."""

    config_hash: str
    """Of every setting of the cell; names its folder."""
    group: str
    """The same hash with seed 0: cells of one group differ in the seed only."""
    kind: Kind
    """"full": trained and tested. "memory": a few steps, or a prediction."""
    cell: Cell
    """With the recipe's values put in for what the grid left open."""
    recipe: str
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A cell that has run, or failed."""

    schema: int = SCHEMA
    status: Status
    reason: str | None = None
    """Of a failure."""
    plan: PlannedCell

    metrics: dict[str, float] = field(default_factory=dict)
    """top1, top5 and mean_class, or mAP and f1; shares from 0 to 1."""
    pretrain_loss: float | None = None
    """Mean of the last steps that were logged, like `finetune_loss`."""
    finetune_loss: float | None = None
    clips: int | None = None
    """Tested."""
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
    pretrain_s: float | None = None
    finetune_s: float | None = None
    test_s: float | None = None

    runs: dict[str, str] = field(default_factory=dict)
    """Folders and files of the cell, relative to the results."""
    dataset: str | None = None
    label_map_sha256: str | None = None
    git: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    """Every setting, as plain values."""

    @property
    def wall_s(self) -> float | None:
        parts = [value for value in (self.pretrain_s, self.finetune_s, self.test_s) if value is not None]
        return sum(parts) if parts else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """ablation.json."""

    schema: int = SCHEMA
    dataset: str | None
    """None where nothing is trained."""
    label_map_sha256: str | None
    plan_sha256: str | None
    cells: tuple[PlannedCell, ...]


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of results.jsonl; of a cell that ran again, the last one. No file: no rows.

    Raises:
        ConfigError: a line that is no row, with its number.
    """
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path) from error
    found: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _row(line, path, number)
            found[row.plan.config_hash] = row
    return tuple(found.values())


def _row(line: str, path: Path, number: int) -> Row:
    hint = "take the line out; `vidkit ablate --resume` runs its cell again"
    try:
        plain = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"the line is no JSON: {error}", file=path, row=number, hint=hint) from None
    if not isinstance(plain, dict):
        raise ConfigError("the line is no JSON object", file=path, row=number, hint=hint)
    _check_schema(plain, path, number)
    try:
        return from_plain(Row, plain)
    except ConfigError as error:
        raise ConfigError(f"no result row: {error.message}", file=path, row=number, hint=hint) from None


def _check_schema(plain: dict[str, Any], path: Path, number: int | None = None) -> None:
    version = plain.get("schema")
    if not isinstance(version, int):
        raise ConfigError(
            "no result of vidkit: `schema` is missing",
            file=path,
            row=number,
            field="schema",
            hint="give a folder that `vidkit ablate` wrote",
        )
    if version > SCHEMA:
        raise ConfigError(
            f"schema {version} is newer than this vidkit reads ({SCHEMA})",
            file=path,
            row=number,
            field="schema",
            hint="upgrade vidkit: pip install -U vidkit",
        )


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """All rows, whole or not at all: a reader never sees half a line.

    Raises:
        TrainingError: no space, or a folder that cannot be written to.
    """
    replace_file(path, "".join(json.dumps(to_plain(row), ensure_ascii=False) + "\n" for row in rows))


def read_plan(path: Path) -> Plan | None:
    """None where there is no file.

    Raises:
        ConfigError: the file is damaged.
    """
    if not path.exists():
        return None
    hint = "take the file away; `vidkit ablate --resume` writes it again"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path, hint=hint) from None
    if not isinstance(plain, dict):
        raise ConfigError("no JSON object", file=path, hint=hint)
    _check_schema(plain, path)
    try:
        return from_plain(Plan, plain)
    except ConfigError as error:
        raise ConfigError(f"no plan of an ablation: {error.message}", file=path, hint=hint) from None


def write_plan(path: Path, plan: Plan) -> None:
    """Raises TrainingError where it cannot be written."""
    replace_file(path, json.dumps(to_plain(plan), indent=1, ensure_ascii=False) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write a file whole, or leave what was there."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise TrainingError(
            f"cannot write: {error.strerror}",
            file=path,
            hint="make room or choose another folder, and go on with --resume",
        ) from error

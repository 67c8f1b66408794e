"""Rows of the studies: results.jsonl holds one line an arm and seed, study.json what was planned and on which data.

A table is made from these two files and nothing else. Importing this module brings no torch along.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from vidkit.bench.ablate.rows import RESULTS, Status, replace_file
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Study
from vidkit.settings.plain import from_plain, to_plain

#: Of a row and of the plan. Raised when an older vidkit could misread them.
SCHEMA = 1

Kind = Literal["vidkit-study"]
KIND: Kind = "vidkit-study"
PLAN = "study.json"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedArm:
    """What is known of an arm before it has run."""

    config_hash: str
    """Of every setting, the seed among them; names its folder."""
    arm: str
    seed: int
    about: str
    """What the arm is, in a line."""
    quoted: dict[str, float] = field(default_factory=dict)
    """Figures of arXiv 2308.01916 for the same setting, by metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRow:
    """An arm that has run, or failed."""

    kind: Kind = KIND
    schema: int = SCHEMA
    study: Study
    plan: PlannedArm
    status: Status
    reason: str | None = None
    """Of a failure."""

    metrics: dict[str, float] = field(default_factory=dict)
    """By the names of the study's `measures`."""
    half_widths: dict[str, float] = field(default_factory=dict)
    """Of 95 % intervals within this row, over its clips or episodes."""
    counts: dict[str, int] = field(default_factory=dict)
    """Clips, episodes, training steps, tokens."""
    found: dict[str, Any] = field(default_factory=dict)
    """What else there is to know, as plain values."""
    runs: dict[str, str] = field(default_factory=dict)
    """Folders and files, relative to the results."""
    seconds: float | None = None
    """Of this arm, without what it shares with others and found there."""

    dataset: str | None = None
    label_map_sha256: str | None = None
    plan_sha256: str | None = None
    git: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    """Every setting, as plain values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """study.json."""

    kind: Kind = KIND
    schema: int = SCHEMA
    study: Study
    recipe: str
    split: str
    settings_sha256: str
    """Of recipe, settings and split: a study goes on with these only."""
    dataset: str
    label_map_sha256: str
    plan_sha256: str | None
    notes: tuple[str, ...]
    """What a reader of the table must know: what was compared with what, on which clips."""
    arms: tuple[PlannedArm, ...]


def read_rows(path: Path) -> tuple[StudyRow, ...]:
    """The rows of results.jsonl; of an arm that ran again, the last one. No file: no rows.

    Raises:
        ConfigError: a line that is no row of a study, with its number.
    """
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path) from error
    hint = "take the line out; `vidkit ablate --resume` runs its arm again"
    found: dict[str, StudyRow] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _structured(StudyRow, line, path, hint, row=number)
            found[row.plan.config_hash] = row
    return tuple(found.values())


def write_rows(path: Path, rows: Iterable[StudyRow]) -> None:
    """All rows, whole or not at all. Raises TrainingError where they cannot be written."""
    replace_file(path, "".join(json.dumps(to_plain(row), ensure_ascii=False) + "\n" for row in rows))


def read_plan(path: Path) -> StudyPlan:
    """
    Raises:
        ConfigError: the file is missing, damaged, or of no study.
    """
    hint = "take the file away; `vidkit ablate --resume` writes it again"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path, hint=hint) from None
    return _structured(StudyPlan, text, path, hint)


def write_plan(path: Path, plan: StudyPlan) -> None:
    """Raises TrainingError where it cannot be written."""
    replace_file(path, json.dumps(to_plain(plan), indent=1, ensure_ascii=False) + "\n")


def is_study(folder: Path) -> bool:
    """Whether `vidkit ablate` has written a study there, and not cells of a grid."""
    return (folder / PLAN).exists()


def holds_results(folder: Path) -> bool:
    return is_study(folder) or (folder / RESULTS).exists()


def _structured(kind: type[T], text: str, path: Path, hint: str, row: int | None = None) -> T:
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"no JSON: {error}", file=path, row=row, hint=hint) from None
    if not isinstance(plain, Mapping) or plain.get("kind") != KIND:
        raise ConfigError(f"expected {KIND!r}", file=path, row=row, field="kind", hint=hint)
    version = plain.get("schema")
    if not isinstance(version, int) or version > SCHEMA:
        raise ConfigError(
            f"schema {version!r} is not one that this vidkit reads (up to {SCHEMA})",
            file=path,
            row=row,
            field="schema",
            hint="upgrade vidkit: pip install -U vidkit",
        )
    try:
        return from_plain(kind, plain)
    except ConfigError as error:
        raise ConfigError(f"damaged: {error.message}", file=path, row=row, hint=hint) from None

"""The files of a folder of results: results.jsonl holds a row for each run, plan.json the runs that were planned.

A table is made from these two files and nothing else. Both are written whole or not at all, so a reader never sees
half a line, and what has run is there when a run goes on. Results of schema 1 open too: their plan is ablation.json
or study.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidkit.bench.rows import old
from vidkit.bench.rows.schema import SCHEMA, Plan, Row
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.files import save_whole
from vidkit.settings.plain import from_plain, to_plain

RESULTS = "results.jsonl"
PLAN = "plan.json"
#: Of schema 1.
OLD_PLANS = ("ablation.json", "study.json")

T = TypeVar("T")


def read_rows(folder: Place) -> tuple[Row, ...]:
    """The rows of results.jsonl; of a run that was made again, the last one. No file: no rows.

    Raises:
        ConfigError: a line that is no row, with its number.
    """
    path = folder / RESULTS
    if not path.exists():
        return ()
    hint = "take the line out; `vidkit ablate --resume` runs it again"
    found: dict[str, Row] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            row = _structured(Row, line, old.row, path, hint, number)
            found[row.plan.config_hash] = row
    return tuple(found.values())


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """All rows.

    Raises:
        TrainingError: no space, or a folder that cannot be written to.
    """
    write_lines(folder, map(line_of, rows))


def line_of(row: Row) -> str:
    """The row as a line of results.jsonl, its end included."""
    return json.dumps(to_plain(row), ensure_ascii=False) + "\n"


def write_lines(folder: Path, lines: Iterable[str]) -> None:
    """As `write_rows`, of what `line_of` made."""
    save_whole(folder / RESULTS, "".join(lines))


def read_plan(folder: Place) -> Plan | None:
    """None where there is no file.

    Raises:
        ConfigError: the file is damaged.
    """
    path = _plan_of(folder)
    if path is None:
        return None
    return _structured(Plan, _text(path), old.plan, path, "take the file away; `--resume` writes it again")


def write_plan(folder: Path, plan: Plan) -> None:
    """Raises TrainingError where it cannot be written."""
    save_whole(folder / PLAN, json.dumps(to_plain(plan), indent=1, ensure_ascii=False) + "\n")
    for name in OLD_PLANS:  # all that they said is in the new one
        (folder / name).unlink(missing_ok=True)


def holds_results(folder: Place) -> bool:
    """Whether runs were planned or made there."""
    return (folder / RESULTS).exists() or _plan_of(folder) is not None


def _plan_of(folder: Place) -> Place | None:
    return next((folder / name for name in (PLAN, *OLD_PLANS) if (folder / name).exists()), None)


def _text(path: Place) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path, hint="restore it from a copy") from error


def _structured(
    kind: type[T],
    text: str,
    upgrade: Callable[[Mapping[str, Any]], dict[str, Any]],
    path: Place,
    hint: str,
    row: int | None = None,
) -> T:
    """
    Raises:
        ConfigError: no JSON object, none of vidkit's, of a later schema, or damaged.
    """
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"no JSON: {error}", file=path, row=row, hint=hint) from None
    if not isinstance(plain, dict):
        raise ConfigError("no JSON object", file=path, row=row, hint=hint)
    version = plain.get("schema")
    if not isinstance(version, int):
        raise ConfigError(
            "no result of vidkit: `schema` is missing",
            file=path,
            row=row,
            field="schema",
            hint="give a folder that `vidkit ablate` wrote",
        )
    if version > SCHEMA:
        raise ConfigError(
            f"schema {version} is newer than this vidkit reads ({SCHEMA})",
            file=path,
            row=row,
            field="schema",
            hint="upgrade vidkit: pip install -U vidkit",
        )
    what = "result row" if kind is Row else "plan of results"
    try:
        return from_plain(kind, upgrade(plain) if version < SCHEMA else plain)
    except ConfigError as error:
        raise ConfigError(f"no {what}: {error.message}", file=path, row=row, hint=hint) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"no {what} of schema {version}: {error!r}", file=path, row=row, hint=hint) from None

"""A folder of results at work: its rows as they come, and what every row says of dataset, code and machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidkit.bench.measure import facts
from vidkit.bench.rows.files import holds_results, line_of, read_plan, read_rows, write_lines
from vidkit.bench.rows.schema import Planned, Row
from vidkit.data.build.state import lock
from vidkit.errors import ConfigError

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """The rows of a folder, by the hash of their settings."""

    out: Path
    rows: dict[str, Row]
    lines: dict[str, str]
    """Of the file: a long study would spend its time on writing the same rows anew."""
    tell: Tell

    def done(self, planned: Planned, told: str) -> bool:
        """Whether it need not run again; then `tell` is told so."""
        before = self.rows.get(planned.config_hash)
        if before is None or before.status == "failed":
            return False
        self.tell(f"{told}: done before")
        return True

    def add(self, row: Row) -> None:
        """Keep it in the file at once. Raises TrainingError where that cannot be done."""
        key = row.plan.config_hash
        self.rows[key], self.lines[key] = row, line_of(row)
        write_lines(self.out, self.lines.values())
        if row.status == "failed":
            self.tell(f"  failed: {row.reason}")

    def of(self, planned: Iterable[Planned]) -> tuple[Row, ...]:
        """The rows of these runs, in their order."""
        return tuple(self.rows[one.config_hash] for one in planned)


@contextmanager
def journal(out: Path, tell: Tell) -> Iterator[Journal]:
    """The folder's rows so far, while no other process works there.

    Raises:
        ConfigError: the folder cannot be made, or its rows are damaged.
        BuildError: another process works there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder: {error.strerror}", file=out, field="--out") from error
    with lock(out):
        rows = {row.plan.config_hash: row for row in read_rows(out)}
        yield Journal(out=out, rows=rows, lines={key: line_of(row) for key, row in rows.items()}, tell=tell)


def check_free(out: Path, *, resume: bool, study: bool = False) -> None:
    """
    Raises:
        ConfigError: `out` holds results, or was begun, and `resume` is off; or results of a grid where a study is
            to go on, or the other way round.
    """
    if not holds_results(out):
        return
    if not resume:
        raise ConfigError(f"{out} holds results already", hint="go on with them by --resume, or give another --out")
    plan = read_plan(out)
    known = [row.plan for row in read_rows(out)] if plan is None else plan.planned
    if any((one.arm is not None) != study for one in known):
        theirs, ours = ("a grid", "a study") if study else ("a study", "a grid")
        raise ConfigError(f"{out} holds results of {theirs}, not of {ours}", hint="give another --out")


def check_split(built: Mapping[str, Any], split: str, data: Path) -> None:
    """Before anything is trained.

    Args:
        built: dataset.json of `data`.

    Raises:
        ConfigError: no clip to test on; the message names the splits that have some.
    """
    if not built["splits"].get(split, {}).get("ok"):
        usable = [name for name, count in built["splits"].items() if count.get("ok")]
        raise ConfigError(
            f"{built['name']} has no clips in split {split!r} to test on",
            file=data,
            field="--split",
            hint="choose one of " + (", ".join(usable) or "none: it has no clips at all"),
        )


def data_facts(built: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Fields of a row and of a plan: of the dataset, by its dataset.json. None: nothing is trained."""
    if built is None:
        return dict.fromkeys(("dataset", "label_map_sha256", "plan_sha256"))
    plan = built.get("plan_sha256")
    return {
        "dataset": str(built["name"]),
        "label_map_sha256": str(built["label_map"]["sha256"]),
        "plan_sha256": None if plan is None else str(plan),
    }


def code_and_machine() -> dict[str, Any]:
    """Fields of a row: commit, versions, machine."""
    machine = facts.machine()
    return {
        "git": machine.pop("git"),
        "versions": {"python": machine["python"], "vidkit": machine["vidkit"], **facts.versions()},
        "machine": {**machine, "accelerator": facts.accelerator(), "threads": torch.get_num_threads()},
    }


def failures(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows of runs that failed, in the order given."""
    return tuple(row for row in rows if row.status == "failed")

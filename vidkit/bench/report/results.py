"""Rows of one or more folders as the lines of a table: a cell over its seeds.

Rows are all that a table is made of; predictions beside them add whether differences are more than chance. A cell
that was planned and has no row is missing, and has a line that says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidkit.bench.ablate.rows import PLAN, RESULTS, PaperFigures, Plan, PlannedCell, Row, read_plan, read_rows
from vidkit.bench.report.estimates import Estimate, estimate
from vidkit.bench.report.rivals import Rival, rivals
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a table: a cell over its seeds."""

    group: str
    cell: Cell
    """Of the first seed."""
    recipe: str
    kind: str
    paper: PaperFigures | None
    visible: int
    tokens: int
    parameters: int
    forward_macs: int
    planned: int
    """Seeds."""
    rows: tuple[Row, ...]
    """Of the seeds that came to their end."""
    status: str
    """ok, "2 of 3 seeds: ...", "missing" or "failed: ..."."""
    rival: Rival | None = None
    """The best other cell; None where there is no accuracy, or no other."""

    def metric(self, name: str) -> Estimate | None:
        """In percent."""
        return estimate([100 * row.metrics[name] for row in self.rows if name in row.metrics])

    def value(self, of: Callable[[Row], float | None]) -> Estimate | None:
        return estimate([value for value in map(of, self.rows) if value is not None])


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a table is made of."""

    planned: tuple[PlannedCell, ...]
    rows: tuple[Row, ...]
    dataset: str | None
    label_map_sha256: str | None = None
    plan_sha256: str | None = None
    """Of the dataset's clips."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """Where a row's results lie, by its config hash."""
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    """By group."""


@dataclass(frozen=True, slots=True)
class _Data:
    """The dataset of a row, and where that is said."""

    name: str | None
    label_map: str
    plan: str | None
    file: Path


def read_results(folders: Sequence[Path]) -> Results:
    """Results of one or more folders that `vidkit ablate` wrote.

    Raises:
        ConfigError: no results, a damaged file (with its line), results of different datasets.
    """
    planned: dict[str, PlannedCell] = {}
    rows: dict[str, Row] = {}
    origin: dict[str, Path] = {}
    data: list[_Data] = []
    for folder in folders:
        if not (folder / RESULTS).exists() and not (folder / PLAN).exists():
            raise ConfigError(
                f"no results in {folder}: neither {RESULTS} nor {PLAN} is there",
                hint="give the --out of a `vidkit ablate`",
            )
        plan = read_plan(folder / PLAN)
        found = read_rows(folder / RESULTS)
        planned |= {cell.config_hash: cell for cell in (plan.cells if plan is not None else ())}
        data += _datasets(plan, found, folder)
        for row in found:
            key = row.plan.config_hash
            planned.setdefault(key, row.plan)
            if key in rows and rows[key].status == "ok" and row.status == "failed":
                continue  # it came to its end elsewhere
            rows[key], origin[key] = row, folder
    first = one_dataset(data, "rows of different datasets do not belong in one table", "make a report of each")
    return Results(
        planned=tuple(planned.values()),
        rows=tuple(rows.values()),
        dataset=None if first is None else first.name,
        label_map_sha256=None if first is None else first.label_map,
        plan_sha256=next((one.plan for one in data if one.plan is not None), None),
        folders=origin,
        rivals=rivals(tuple(rows.values()), origin),
    )


def _datasets(plan: Plan | None, rows: Iterable[Row], folder: Path) -> list[_Data]:
    """One for each label map. A plan names the clips for all rows of its folder."""
    clips = None if plan is None else plan.plan_sha256
    maps = {row.label_map_sha256: row.dataset for row in rows if row.label_map_sha256 is not None}
    return [_Data(name, label_map, clips, folder / RESULTS) for label_map, name in maps.items()]


def one_dataset(data: Sequence[_Data], what: str, hint: str) -> _Data | None:
    """The first of them.

    Raises:
        ConfigError: different label maps, or different clips under one.
    """
    for other in data[1:]:
        one = next((one for one in data if one.label_map != other.label_map), None)
        if one is not None:
            first, second = (
                f"{side.name!r} (label map {side.label_map[:12]}) in {side.file}" for side in (one, other)
            )
            raise ConfigError(f"{what}: {first}, {second}", hint=hint)
    plans: dict[str, _Data] = {}
    for side in data:
        if side.plan is not None:
            plans.setdefault(side.plan, side)
    if len(plans) > 1:
        first, second = (
            f"{side.name!r} (clips {clips[:12]}) in {side.file}" for clips, side in [*plans.items()][:2]
        )
        raise ConfigError(f"{what}: their classes are the same, their clips are not: {first}, {second}", hint=hint)
    return data[0] if data else None


def check_same_dataset(one: Results, other: Results, names: tuple[str, str]) -> None:
    """Raises ConfigError for results of different datasets."""
    sides = [
        _Data(side.dataset, side.label_map_sha256, side.plan_sha256, Path(name))
        for side, name in zip((one, other), names, strict=True)
        if side.label_map_sha256 is not None
    ]
    one_dataset(sides, "results of different datasets cannot be compared", "run the same cells on one dataset")


def lines(results: Results) -> tuple[Line, ...]:
    """A line for each cell, seeds together. One that stands for several rows of the paper has a line for each;
    lines with a row of the paper come in the paper's order, the others as they were planned.
    """
    rows = {row.plan.config_hash: row for row in results.rows}
    groups: dict[str, list[PlannedCell]] = {}
    for cell in results.planned:
        groups.setdefault(cell.group, []).append(cell)
    found = [line for cells in groups.values() for line in _lines_of(cells, rows, results.rivals)]
    numbered = {name: i for i, name in enumerate(sorted({line.paper.table for line in found if line.paper}))}
    tables = all(len(cells[0].paper) > 0 for cells in groups.values())
    if tables:
        found.sort(key=lambda line: (numbered[line.paper.table], line.paper.row) if line.paper else (99, 0))
    return tuple(found)


def cells(of: Iterable[Line]) -> tuple[Line, ...]:
    """Each cell once: one that stands for several rows of the paper has several lines."""
    return tuple({line.group: line for line in of}.values())


def _lines_of(cells: Sequence[PlannedCell], rows: Mapping[str, Row], rivals: Mapping[str, Rival]) -> Iterable[Line]:
    known = [rows[cell.config_hash] for cell in cells if cell.config_hash in rows]
    done = tuple(row for row in known if row.status == "ok")
    first = cells[0]
    for paper in first.paper or (None,):
        yield Line(
            group=first.group,
            cell=first.cell,
            recipe=first.recipe,
            kind=first.kind,
            paper=paper,
            visible=first.visible,
            tokens=first.tokens,
            parameters=first.parameters,
            forward_macs=first.forward_macs,
            planned=len(cells),
            rows=done,
            status=_status(len(cells), known, len(done)),
            rival=rivals.get(first.group),
        )


def _status(planned: int, known: Sequence[Row], done: int) -> str:
    reasons = [f"failed: {_one_line(row.reason)}" for row in known if row.status == "failed"]
    missing = planned - len(known)
    if done == planned:
        notes = [_one_line(row.reason) for row in known if row.reason]
        return "; ".join(["ok", *notes[:1]])
    parts = reasons[:1] + ([f"{missing} missing" if planned > 1 else "missing"] if missing else [])
    return (f"{done} of {planned} seeds; " if planned > 1 else "") + "; ".join(parts)


def _one_line(text: str | None) -> str:
    return " ".join((text or "no reason given").split("\n  -> ")[0].split())


#: What a name needs where cells differ in it.
_WORDS: dict[str, Callable[[Line], str]] = {
    "decoder": lambda line: f"decoder {line.cell.decoder_depth}",
    "loss": lambda line: f"loss {line.cell.loss}" if line.cell.loss else "",
    "sampler": lambda line: f"sampler {line.cell.sampler}" if line.cell.sampler else "",
    "tokenizer": lambda line: line.cell.tokenizer or "",
    "epochs": lambda line: f"{line.cell.epochs} epochs",
    "recipe": lambda line: line.recipe,
    "kind": lambda line: line.kind,
}


def names(of: Iterable[Line]) -> dict[str, str]:
    """A short name for each cell, by group: mask and ratio, and whatever else tells it from the others."""
    each = cells(of)
    found = {line.group: [line.cell.mask, f"{line.cell.ratio:g}"] for line in each}
    for word in _WORDS.values():
        if len({word(line) for line in each} - {""}) > 1:
            for line in each:
                found[line.group] += [word(line)] if word(line) else []
    texts = {group: ", ".join([" ".join(words[:2]), *words[2:]]) for group, words in found.items()}
    twice = Counter(texts.values())
    return {group: f"{text} ({group[:6]})" if twice[text] > 1 else text for group, text in texts.items()}

"""Rows of one or more folders as the lines of a table: a cell of a grid, or an arm of a study, over its seeds.

Rows are all that a table is made of; predictions beside them add what the tested clips say of a contrast. What was
planned and has no row is missing, and has a line that says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidkit.bench.report.contrasts import named
from vidkit.bench.report.estimates import Estimate, estimate
from vidkit.bench.rows.files import PLAN, RESULTS, holds_results, read_plan, read_rows
from vidkit.bench.rows.schema import Contrast, PaperFigures, Plan, Planned, Row
from vidkit.bench.rows.specs import STUDIES, Measure, Spec
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Cell, Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a table: a cell or an arm over its seeds."""

    first: Planned
    """Of the first seed."""
    paper: PaperFigures | None = None
    planned: int
    """Seeds."""
    rows: tuple[Row, ...]
    """Of the seeds that came to their end."""
    status: str
    """ok, "2 of 3 seeds: ...", "missing" or "failed: ..."."""

    @property
    def group(self) -> str:
        """What its runs have in common; see `Planned.group`."""
        return self.first.group

    @property
    def recipe(self) -> str:
        """Its recipe's name; "unknown" in rows that do not say it."""
        return self.first.recipe or "unknown"

    @property
    def kind(self) -> str:
        """full or memory, of a cell; arm."""
        return "arm" if self.first.cell is None else self.first.cell.kind

    @property
    def cell(self) -> Cell:
        """Its settings; only of a grid."""
        return self.first.in_grid.settings

    @property
    def arm(self) -> str:
        """Its name; only of a study."""
        return self.first.in_study.name

    def metric(self, name: str) -> Estimate | None:
        """In percent."""
        return estimate([100 * row.metrics[name] for row in self.rows if name in row.metrics])

    def value(self, of: Callable[[Row], float | None]) -> Estimate | None:
        """`of` each row, in its own unit; None where no row has it."""
        return estimate([value for value in map(of, self.rows) if value is not None])

    def by_seed(self, measure: Measure) -> dict[int, float]:
        """As shown: percent, for example."""
        return {
            row.plan.seed: measure.factor * row.metrics[measure.name]
            for row in self.rows
            if measure.name in row.metrics
        }

    def over_seeds(self, measure: Measure) -> Estimate | None:
        """`by_seed` as mean and interval; None where no row has the measure."""
        return estimate([*self.by_seed(measure).values()])


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a table is made of."""

    planned: tuple[Planned, ...]
    rows: tuple[Row, ...]
    dataset: str | None
    label_map_sha256: str | None = None
    plan_sha256: str | None = None
    """Of the dataset's clips."""
    study: Study | None = None
    """None: a grid."""
    notes: tuple[str, ...] = ()
    """Of the plan."""
    folders: Mapping[str, Place] = field(default_factory=dict)
    """Where a row's results lie, by its config hash."""
    contrasts: tuple[Contrast, ...] = ()
    """Of a grid: those of its plan, or by rule where it has none."""

    @property
    def spec(self) -> Spec:
        """Only of a study."""
        assert self.study is not None, "these are results of a grid"
        return STUDIES[self.study]


@dataclass(frozen=True, slots=True)
class _Data:
    """The dataset of a row, and where that is said."""

    name: str | None
    label_map: str
    plan: str | None
    file: Place


def read_results(folders: Sequence[Place]) -> Results:
    """Results of one or more folders that `vidkit ablate` wrote: of a grid, or of one study.

    Raises:
        ConfigError: no results, a damaged file (with its line), results of different datasets, or of a study and
            something else.
    """
    planned: dict[str, Planned] = {}
    rows: dict[str, Row] = {}
    origin: dict[str, Place] = {}
    data: list[_Data] = []
    plans: list[Plan] = []
    for folder in folders:
        if not holds_results(folder):
            raise ConfigError(
                f"no results in {folder}: neither {RESULTS} nor {PLAN} is there",
                hint="give the --out of a `vidkit ablate`",
            )
        plan = read_plan(folder)
        found = read_rows(folder)
        plans += [] if plan is None else [plan]
        planned |= {one.config_hash: one for one in (plan.planned if plan is not None else ())}
        data += _datasets(plan, found, folder)
        for number, row in enumerate(found, start=1):
            _check_row(row, plan, folder / RESULTS, number)
            key = row.plan.config_hash
            planned.setdefault(key, row.plan)
            if key in rows and rows[key].status == "ok" and row.status == "failed":
                continue  # it came to its end elsewhere
            rows[key], origin[key] = row, folder
    study = _one_study(planned.values(), plans, folders)
    first = one_dataset(data, "rows of different datasets do not belong in one table", "make a report of each")
    return Results(
        planned=tuple(planned.values()),
        rows=tuple(rows.values()),
        dataset=None if first is None else first.name,
        label_map_sha256=None if first is None else first.label_map,
        plan_sha256=next((one.plan for one in data if one.plan is not None), None),
        study=study,
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        folders=origin,
        contrasts=() if study else _contrasts(plans, tuple(planned.values()), tuple(rows.values())),
    )


def _contrasts(plans: Sequence[Plan], planned: Sequence[Planned], rows: Sequence[Row]) -> tuple[Contrast, ...]:
    """Of all plans; by rule where none has any, or an arm lies in another folder than random masks. Those were not
    named before the run.
    """
    found = {(one.kind, one.groups): one for plan in plans for one in plan.contrasts}
    if not found or len(plans) > 1:
        done = [row.plan.group for row in rows if row.status == "ok"]
        for one in named.default(planned):
            late = replace(one, rows=sum(done.count(group) for group in one.groups))
            found.setdefault((one.kind, one.groups), late)
    return tuple(found.values())


def _check_row(row: Row, plan: Plan | None, path: Place, number: int) -> None:
    """Raises ConfigError for a row that does not belong to the plan beside it."""
    mine = None if row.plan.arm is None else row.plan.arm.study
    if plan is None or (mine == plan.study and (mine is None or row.label_map_sha256 == plan.label_map_sha256)):
        return
    whose, theirs = (f"study {name!r}" if name else "a grid" for name in (mine, plan.study))
    raise ConfigError(
        f"a row of {whose} on {row.dataset!r} is among those of {theirs} on {plan.dataset!r}",
        file=path,
        row=number,
        hint="take it out; rows of different data do not belong in one table",
    )


def _one_study(planned: Iterable[Planned], plans: Sequence[Plan], folders: Sequence[Place]) -> Study | None:
    """
    Raises:
        ConfigError: a study beside a grid, another study, or the same one with other settings.
    """
    found = {None if one.arm is None else one.arm.study for one in planned} | {plan.study for plan in plans}
    named = ", ".join(map(str, folders))
    if len(found) > 1:
        what = " and ".join(sorted("a grid" if name is None else f"the study {name}" for name in found))
        raise ConfigError(f"{what} have tables of their own, in {named}", hint="make a report of each")
    if len({plan.settings_sha256 for plan in plans}) > 1:
        raise ConfigError(f"one study with different settings in {named}", hint="make a report of each")
    return next(iter(found), None)


def _datasets(plan: Plan | None, rows: Iterable[Row], folder: Place) -> list[_Data]:
    """One for each label map. A plan names the clips for all rows of its folder."""
    clips = None if plan is None else plan.plan_sha256
    maps = {row.label_map_sha256: row.dataset for row in rows if row.label_map_sha256 is not None}
    if plan is not None and plan.study is not None and plan.label_map_sha256 is not None:
        maps.setdefault(plan.label_map_sha256, plan.dataset)  # all arms are on it, also where none has run
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
    """A line for each cell or arm, seeds together. A cell that stands for several rows of the paper has a line for
    each; lines with a row of the paper come in the paper's order, the others as they were planned.
    """
    rows = {row.plan.config_hash: row for row in results.rows}
    groups: dict[str, list[Planned]] = {}
    for one in results.planned:
        groups.setdefault(one.group, []).append(one)
    found = [line for some in groups.values() for line in _lines_of(some, rows)]
    numbered = {name: i for i, name in enumerate(sorted({line.paper.table for line in found if line.paper}))}
    if all(line.paper for line in found):
        found.sort(key=lambda line: (numbered[line.paper.table], line.paper.row) if line.paper else (99, 0))
    return tuple(found)


def cells(of: Iterable[Line]) -> tuple[Line, ...]:
    """Each cell once: one that stands for several rows of the paper has several lines."""
    return tuple({line.group: line for line in of}.values())


def _lines_of(some: Sequence[Planned], rows: Mapping[str, Row]) -> Iterable[Line]:
    known = [rows[one.config_hash] for one in some if one.config_hash in rows]
    done = tuple(row for row in known if row.status == "ok")
    first = some[0]
    for paper in (first.cell.paper if first.cell is not None else ()) or (None,):
        yield Line(
            first=first,
            paper=paper,
            planned=len(some),
            rows=done,
            status=_status(len(some), known, len(done)),
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
    "targets": lambda line: line.cell.targets or "complement",
    "target ratio": lambda line: f"{line.cell.target_ratio:.0%} of targets" if line.cell.target_ratio else "",
    "kind of decoder": lambda line: f"{line.cell.decoder or 'self'} decoder",
    "epochs": lambda line: f"{line.cell.epochs} epochs",
    "recipe": lambda line: line.recipe,
    "kind": lambda line: line.kind,
}


def names(of: Iterable[Line]) -> dict[str, str]:
    """A short name for each line, by group: an arm's own, or a cell's mask and ratio, and whatever else tells it
    from the others.
    """
    each = cells(of)
    if any(line.first.arm for line in each):
        return {line.group: line.arm for line in each}
    found = {line.group: [line.cell.mask, f"{line.cell.ratio:g}"] for line in each}
    for word in _WORDS.values():
        if len({word(line) for line in each} - {""}) > 1:
            for line in each:
                found[line.group] += [word(line)] if word(line) else []
    texts = {group: ", ".join([" ".join(words[:2]), *words[2:]]) for group, words in found.items()}
    twice = Counter(texts.values())
    return {group: f"{text} ({group[:6]})" if twice[text] > 1 else text for group, text in texts.items()}

"""Tables from rows of results: one line a cell, mean and 95 % interval over its seeds, the paper's figures beside.

Rows are all that a table is made of. A cell that was planned and has no row is missing, and is shown so.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkit.ablation_config import Cell
from vidkit.bench.rows import PLAN, RESULTS, PaperFigures, PlannedCell, Row, read_plan, read_rows
from vidkit.errors import ConfigError

#: Two-sided 95 % quantiles of Student's t with 1, 2, ... degrees of freedom.
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

NOTHING = "–"

FOOTNOTE = (
    "paper (quoted): AdaMAE, Table 1, as printed: ViT-B on Something-Something v2, memory of pre-training at 16 "
    "clips. Beside it, our rows on our data: the same setting, not the same experiment."
)
INTERVALS = "± is half of a 95 % interval (Student's t) over seeds; without it, there is one seed."


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    half: float | None
    """Half of the 95 % interval; None for a single value."""
    count: int


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


def estimate(values: Sequence[float]) -> Estimate | None:
    """
    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, half=2.4843381, count=3)
    """
    if not values:
        return None
    count, mean = len(values), statistics.fmean(values)
    if count == 1:
        return Estimate(mean, None, 1)
    t = STUDENT[count - 2] if count - 2 < len(STUDENT) else 1.96
    return Estimate(mean, round(t * statistics.stdev(values) / math.sqrt(count), 7), count)


def read_results(folders: Sequence[Path]) -> Results:
    """Results of one or more folders that `vidkit ablate` wrote.

    Raises:
        ConfigError: no results, a damaged file (with its line), results of different datasets.
    """
    planned: dict[str, PlannedCell] = {}
    rows: dict[str, Row] = {}
    origin: dict[str, Path] = {}
    for folder in folders:
        if not (folder / RESULTS).exists() and not (folder / PLAN).exists():
            raise ConfigError(
                f"no results in {folder}: neither {RESULTS} nor {PLAN} is there",
                hint="give the --out of a `vidkit ablate`",
            )
        plan = read_plan(folder / PLAN)
        found = read_rows(folder / RESULTS)
        planned |= {cell.config_hash: cell for cell in (plan.cells if plan is not None else ())}
        for row in found:
            key = row.plan.config_hash
            planned.setdefault(key, row.plan)
            if key in rows and rows[key].status == "ok" and row.status == "failed":
                continue  # it came to its end elsewhere
            rows[key], origin[key] = row, folder / RESULTS
    return Results(planned=tuple(planned.values()), rows=tuple(rows.values()), dataset=_one_dataset(rows, origin))


def _one_dataset(rows: dict[str, Row], origin: dict[str, Path]) -> str | None:
    """
    Raises:
        ConfigError: rows of different label maps.
    """
    first: tuple[str, Row] | None = None
    for key, row in rows.items():
        if row.label_map_sha256 is None:
            continue
        if first is None:
            first = key, row
        elif row.label_map_sha256 != first[1].label_map_sha256:
            raise ConfigError(
                f"rows of different datasets do not belong in one table: {_named(first[1])} in "
                f"{origin[first[0]]}, {_named(row)} in {origin[key]}",
                hint="make a report of each",
            )
    return None if first is None else first[1].dataset


def _named(row: Row) -> str:
    return f"{row.dataset!r} (label map {(row.label_map_sha256 or '')[:12]})"


def lines(results: Results) -> tuple[Line, ...]:
    """A line for each cell, seeds together. One that stands for several rows of the paper has a line for each;
    lines with a row of the paper come in the paper's order, the others as they were planned.
    """
    rows = {row.plan.config_hash: row for row in results.rows}
    groups: dict[str, list[PlannedCell]] = {}
    for cell in results.planned:
        groups.setdefault(cell.group, []).append(cell)
    found = [line for cells in groups.values() for line in _lines_of(cells, rows)]
    numbered = {name: i for i, name in enumerate(sorted({line.paper.table for line in found if line.paper}))}
    tables = all(len(cells[0].paper) > 0 for cells in groups.values())
    if tables:
        found.sort(key=lambda line: (numbered[line.paper.table], line.paper.row) if line.paper else (99, 0))
    return tuple(found)


def _lines_of(cells: Sequence[PlannedCell], rows: dict[str, Row]) -> Iterable[Line]:
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


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    text: Callable[[Line], str]
    right: bool = True
    brief: bool = True
    """In a terminal's table as well."""
    setting: bool = False
    """Of a cell: named once, beside the table, where it is the same in every line."""


def written(value: Estimate | None, digits: int = 2) -> str:
    """Mean, and half of the interval if there is one."""
    if value is None:
        return NOTHING
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:.{digits}f}{half}"


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _gigabytes(of: Callable[[Row], int | None], on: str | None = None) -> Callable[[Line], str]:
    def bytes_of(row: Row) -> float | None:
        found = of(row)
        return None if found is None or on not in (None, row.device) else found / 1e9

    return lambda line: written(line.value(bytes_of))


def _quoted(line: Line, name: str) -> float | None:
    """The paper's accuracy, beside an accuracy only."""
    if line.paper is None or line.kind == "memory":
        return None
    found: float = getattr(line.paper, name)
    return found


def _metric(name: str) -> Callable[[Line], str]:
    return lambda line: written(line.metric(name))


COLUMNS = (
    Column("table", lambda line: line.paper.name if line.paper else NOTHING, right=False),
    Column("mask", lambda line: line.cell.mask, right=False),
    Column("ratio", lambda line: f"{line.cell.ratio:g}"),
    Column("V of N", lambda line: f"{line.visible} of {line.tokens}"),
    Column("decoder", lambda line: str(line.cell.decoder_depth), setting=True),
    Column("loss", lambda line: line.cell.loss or NOTHING, right=False, setting=True),
    Column("sampler", lambda line: line.cell.sampler or NOTHING, right=False, setting=True),
    Column("tokenizer", lambda line: line.cell.tokenizer or NOTHING, right=False, setting=True),
    Column("epochs", lambda line: NOTHING if line.kind == "memory" else str(line.cell.epochs), setting=True),
    Column("seeds", lambda line: NOTHING if line.kind == "memory" else f"{len(line.rows)} of {line.planned}"),
    Column("top-1 %", _metric("top1")),
    Column("paper (quoted) top-1 %", lambda line: _number(_quoted(line, "top1"), 2)),
    Column("top-5 %", _metric("top5")),
    Column("paper (quoted) top-5 %", lambda line: _number(_quoted(line, "top5"), 2)),
    Column("mAP %", _metric("mAP")),
    Column("F1 %", _metric("f1")),
    Column("loss, pre-training", lambda line: written(line.value(lambda row: row.pretrain_loss), 4), brief=False),
    Column("measured GB", _gigabytes(lambda row: row.measured_bytes)),
    Column("predicted GB", _gigabytes(lambda row: row.predicted_bytes)),
    Column("predicted GB, attention not fused", _gigabytes(lambda row: row.predicted_matrices_bytes)),
    Column("paper (quoted) GB", lambda line: _number(line.paper.memory_gb if line.paper else None, 1)),
    Column("step clips/s", lambda line: written(line.value(lambda row: row.step_clips_per_s), 1)),
    Column("clips/s with loading", lambda line: written(line.value(lambda row: row.clips_per_s), 1), brief=False),
    Column("GMACs", lambda line: _number(line.forward_macs / 1e9, 2), brief=False),
    Column("parameters, M", lambda line: _number(line.parameters / 1e6, 2), brief=False),
    Column("minutes", lambda line: written(line.value(_minutes), 1), brief=False),
    Column("coverage", lambda line: _coverage(line)),
    Column("config", lambda line: line.group[:8], right=False, brief=False),
    Column("status", lambda line: line.status, right=False),
)


def _minutes(row: Row) -> float | None:
    return None if row.wall_s is None else row.wall_s / 60


def _coverage(line: Line) -> str:
    shares = [row.coverage for row in line.rows if row.coverage is not None]
    return f"{min(shares):.2%}" if shares else NOTHING


def table(of: Sequence[Line], *, brief: bool = False) -> tuple[tuple[Column, ...], tuple[tuple[str, ...], ...]]:
    """(columns, text of each line). Columns that say nothing on any line are left out, and settings that are the
    same on every line: `common` names them. With `brief`, also those that a terminal has no room for.
    """
    shared = _common(of)
    every = {column.name: [column.text(line) for line in of] for column in COLUMNS}
    kept = [
        column
        for column in COLUMNS
        if column.name not in shared and (column.brief or not brief) and set(every[column.name]) - {NOTHING}
    ]
    return tuple(kept), tuple(tuple(every[column.name][i] for column in kept) for i in range(len(of)))


def _common(of: Sequence[Line]) -> dict[str, str]:
    """Settings that every line has, by the name of their column."""
    found = {column.name: {column.text(line) for line in of} for column in COLUMNS if column.setting}
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}


def title(results: Results) -> str:
    """What the table is of."""
    recipes = ", ".join(dict.fromkeys(cell.recipe for cell in results.planned))
    data = "no data: memory and speed only" if results.dataset is None else f"dataset {results.dataset}"
    return f"Ablation, recipe {recipes}, {data}"


def notes(results: Results, of: Sequence[Line]) -> tuple[str, ...]:
    """What a reader needs beside the table."""
    found = []
    same = [f"{name} {value}" for name, value in _common(of).items() if value != NOTHING]
    if same:
        found.append(f"In every cell: {', '.join(same)}.")
    if any(line.planned > 1 for line in of):
        found.append(INTERVALS)
    if any(line.paper for line in of):
        found.append(FOOTNOTE)
    devices = sorted({f"{row.device}, {row.batch} clips, {row.precision}" for row in results.rows if row.device})
    if devices:
        found.append("Memory and step speed: pre-training on " + "; ".join(devices) + ".")
    machines = sorted({_machine(row) for row in results.rows})
    found += [f"Run on {name}." for name in machines]
    return tuple(found)


def _machine(row: Row) -> str:
    gpu = row.machine.get("accelerator")
    words = [str(row.machine.get("cpu")), f"{row.machine.get('cores')} cores"]
    words += [str(gpu["name"])] if gpu else []
    words += [f"torch {row.versions.get('torch')}", f"vidkit {row.versions.get('vidkit')}"]
    words += [f"commit {row.git}"] if row.git else []
    return ", ".join(words)


def markdown(results: Results) -> str:
    """A table in Markdown, with its title and notes."""
    of = lines(results)
    columns, cells = table(of)
    text = [f"## {title(results)}", ""]
    text.append("| " + " | ".join(column.name for column in columns) + " |")
    text.append("| " + " | ".join("---:" if column.right else "---" for column in columns) + " |")
    text += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([*text, "", *(f"- {note}" for note in notes(results, of))]) + "\n"


#: Figures of the CSV: mean, half of the interval, and number of values.
FIGURES: dict[str, Callable[[Line], Estimate | None]] = {
    "top1_percent": lambda line: line.metric("top1"),
    "top5_percent": lambda line: line.metric("top5"),
    "mean_class_percent": lambda line: line.metric("mean_class"),
    "map_percent": lambda line: line.metric("mAP"),
    "f1_percent": lambda line: line.metric("f1"),
    "pretrain_loss": lambda line: line.value(lambda row: row.pretrain_loss),
    "finetune_loss": lambda line: line.value(lambda row: row.finetune_loss),
    "measured_bytes": lambda line: line.value(lambda row: row.measured_bytes),
    "predicted_bytes": lambda line: line.value(lambda row: row.predicted_bytes),
    "predicted_matrices_bytes": lambda line: line.value(lambda row: row.predicted_matrices_bytes),
    "step_clips_per_s": lambda line: line.value(lambda row: row.step_clips_per_s),
    "clips_per_s": lambda line: line.value(lambda row: row.clips_per_s),
    "wall_s": lambda line: line.value(lambda row: row.wall_s),
    "coverage": lambda line: line.value(lambda row: row.coverage),
}


def csv_text(results: Results) -> str:
    """Every figure in full, empty where there is none."""
    names = ["paper_row", "mask", "ratio", "visible", "tokens", "decoder_depth", "loss", "sampler", "tokenizer"]
    names += ["epochs", "seeds_done", "seeds_planned", "recipe", "dataset", "forward_macs", "parameters"]
    names += ["paper_quoted_top1", "paper_quoted_top5", "paper_quoted_memory_gb"]
    for figure in FIGURES:
        names += [figure, f"{figure}_half_95"]
    names += ["group", "status"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for line in lines(results):
        cell, paper = line.cell, line.paper
        values: list[object] = [paper and paper.name, cell.mask, cell.ratio, line.visible, line.tokens]
        values += [cell.decoder_depth, cell.loss, cell.sampler, cell.tokenizer, cell.epochs, len(line.rows)]
        values += [line.planned, line.recipe, results.dataset, line.forward_macs, line.parameters]
        values += [paper and paper.top1, paper and paper.top5, paper and paper.memory_gb]
        for of in FIGURES.values():
            found = of(line)
            values += [found and found.mean, found and found.half]
        writer.writerow(["" if value is None else value for value in [*values, line.group, line.status]])
    return file.getvalue()


def plain(results: Results) -> list[dict[str, object]]:
    """The table's lines as plain values, for JSON."""
    columns = list(COLUMNS)
    return [{column.name: column.text(line) for column in columns} for line in lines(results)]

"""Tables of results as text: a line a cell, mean and 95 % interval over its seeds, how it stands against the best
other cell, and the paper's figures beside.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidkit.bench.ablate.rows import Row
from vidkit.bench.report.estimates import NOTHING, Estimate, estimate, written, written_p
from vidkit.bench.report.results import Line, Results, cells, lines, names, read_results

__all__ = [
    "COLUMNS",
    "FOOTNOTE",
    "INTERVALS",
    "NOTHING",
    "Column",
    "Estimate",
    "Line",
    "Results",
    "csv_text",
    "estimate",
    "lines",
    "markdown",
    "notes",
    "plain",
    "read_results",
    "table",
    "title",
    "written",
]

FOOTNOTE = (
    "paper (quoted): AdaMAE, Table 1, as printed: ViT-B on Something-Something v2, memory of pre-training at 16 "
    "clips. Beside it, our rows on our data: the same setting, not the same experiment."
)
INTERVALS = "± is half of a 95 % interval (Student's t) over seeds; without it, there is one seed."
RIVALS = (
    "To best other: this cell's mean top-1 less that of the best other cell, in points, ± half of a 95 % interval "
    "over the tested clips, and over seeds as well where both cells have two."
)
P_CLIPS = (
    "p, clips: exact paired permutation test over the tested clips, each clip's answers averaged over seeds (with "
    "one seed McNemar's exact test). It speaks of the models as trained: other clips, the same models."
)
P_SEEDS = (
    "p, clips and seeds: Welch's t, with the spread over seeds added to that over clips. It speaks of training "
    "again, too; with few seeds it finds large differences only."
)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    text: Callable[[Line], str]
    right: bool = True
    brief: bool = True
    """In a terminal's table as well."""
    setting: bool = False
    """Of a cell: named once, beside the table, where it is the same in every line."""


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _rival(line: Line) -> str:
    """Signed, in points."""
    if line.rival is None:
        return NOTHING
    found = line.rival.paired
    return f"{line.rival.difference:+.2f}" + ("" if found is None else f" ± {100 * found.half:.2f}")


def _p_clips(line: Line) -> float | None:
    return None if line.rival is None or line.rival.paired is None else line.rival.paired.p_clips


def _p_seeds(line: Line) -> float | None:
    return None if line.rival is None or line.rival.paired is None else line.rival.paired.p_seeds


def _gigabytes(of: Callable[[Row], int | None]) -> Callable[[Line], str]:
    def bytes_of(row: Row) -> float | None:
        found = of(row)
        return None if found is None else found / 1e9

    def text(line: Line) -> str:
        found = line.value(bytes_of)
        exact = found is not None and not found.half  # predictions do not depend on the seed
        return written(found if found is None or not exact else Estimate(found.mean, None, found.count))

    return text


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
    Column("to best other", _rival),
    Column("p, clips", lambda line: written_p(_p_clips(line))),
    Column("p, clips and seeds", lambda line: written_p(_p_seeds(line))),
    Column("top-5 %", _metric("top5")),
    Column("paper (quoted) top-5 %", lambda line: _number(_quoted(line, "top5"), 2)),
    Column("mAP %", _metric("mAP")),
    Column("F1 %", _metric("f1")),
    Column("loss, pre-training", lambda line: written(line.value(lambda row: row.pretrain_loss), 4), brief=False),
    Column("measured GB", _gigabytes(lambda row: row.measured_bytes)),
    Column("predicted GB", _gigabytes(lambda row: row.predicted_bytes)),
    Column("predicted less measured", lambda line: _off(line)),
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


def _off(line: Line) -> str:
    """How far the prediction is from what was measured."""
    both = [(row.predicted_bytes, row.measured_bytes) for row in line.rows]
    found = estimate([100 * (said / seen - 1) for said, seen in both if said is not None and seen])
    return NOTHING if found is None else f"{found.mean:+.1f} %"


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
    found += _rival_notes(of)
    if any(line.paper for line in of):
        found.append(FOOTNOTE)
    for what, rows in (
        ("Memory and step speed", [row for row in results.rows if _measured(row)]),
        ("Memory, predicted and not measured", [row for row in results.rows if row.device and not _measured(row)]),
    ):
        devices = sorted({f"{row.device}, {row.batch} clips, {row.precision}" for row in rows})
        found += [f"{what}: pre-training on {'; '.join(devices)}."] if devices else []
    machines = sorted({_machine(row) for row in results.rows if row.machine})
    found += [f"Run on {name}." for name in machines]
    return tuple(found)


def _measured(row: Row) -> bool:
    return row.device is not None and (row.measured_bytes is not None or row.step_clips_per_s is not None)


def _rival_notes(of: Sequence[Line]) -> list[str]:
    """How differences are tested, how often, and where they could not be."""
    known = [line for line in cells(of) if line.rival is not None]
    if not known:
        return []
    found = [RIVALS]
    found += [P_CLIPS] if any(_p_clips(line) is not None for line in known) else []
    found += [P_SEEDS] if any(_p_seeds(line) is not None for line in known) else []
    pairs = len(known) * (len(known) - 1) // 2
    if pairs > 1 and len(found) > 1:
        found.append(
            f"p values are not corrected for the choice of the best: of {len(known)} cells there are {pairs} "
            f"pairs, and a p below {0.05 / pairs:.2g} holds for all of them together (Bonferroni)."
        )
    called = names(of)
    why: dict[str, list[str]] = {}
    for line in known:
        if line.rival is not None and line.rival.why is not None:
            why.setdefault(line.rival.why, []).append(f"{called[line.group]} against {called[line.rival.group]}")
    for reason, which in why.items():
        where = "every cell" if len(which) == len(known) else "; ".join(which)
        found.append(f"No p, since {reason}: {where}.")
    return found


def _machine(row: Row) -> str:
    gpu = row.machine.get("accelerator")
    words = [str(row.machine.get("cpu")), f"{row.machine.get('cores')} cores"]
    words += [str(gpu["name"])] if gpu else []
    words += [f"torch {row.versions.get('torch')}", f"vidkit {row.versions.get('vidkit')}"]
    words += [f"commit {_short(row.git)}"] if row.git else []
    return ", ".join(words)


def _short(commit: str) -> str:
    """Of "HASH" or "HASH+changes"."""
    number, plus, rest = commit.partition("+")
    return number[:12] + plus + rest


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
    header = ["paper_row", "mask", "ratio", "visible", "tokens", "decoder_depth", "loss", "sampler", "tokenizer"]
    header += ["epochs", "seeds_done", "seeds_planned", "recipe", "dataset", "forward_macs", "parameters"]
    header += ["paper_quoted_top1", "paper_quoted_top5", "paper_quoted_memory_gb"]
    for figure in FIGURES:
        header += [figure, f"{figure}_half_95"]
    header += ["to_best_other_points", "to_best_other_points_half_95", "p_clips", "p_clips_and_seeds"]
    header += ["best_other_group", "no_p_because", "group", "status"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for line in lines(results):
        cell, paper = line.cell, line.paper
        values: list[object] = [paper and paper.name, cell.mask, cell.ratio, line.visible, line.tokens]
        values += [cell.decoder_depth, cell.loss, cell.sampler, cell.tokenizer, cell.epochs, len(line.rows)]
        values += [line.planned, line.recipe, results.dataset, line.forward_macs, line.parameters]
        values += [paper and paper.top1, paper and paper.top5, paper and paper.memory_gb]
        for of in FIGURES.values():
            found = of(line)
            values += [found and found.mean, found and found.half]
        rival = line.rival
        pair = rival and rival.paired
        values += [rival and rival.difference, pair and 100 * pair.half, _p_clips(line), _p_seeds(line)]
        values += [rival and rival.group, rival and rival.why]
        writer.writerow(["" if value is None else value for value in [*values, line.group, line.status]])
    return file.getvalue()


def plain(results: Results) -> list[dict[str, object]]:
    """The table's lines as plain values, for JSON."""
    columns = list(COLUMNS)
    return [{column.name: column.text(line) for column in columns} for line in lines(results)]

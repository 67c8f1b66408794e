"""What a table of a grid shows: settings of cells, accuracy, memory and speed, the paper's figures beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vidkit.bench.report.columns import AGAINST_BEST, Column, machines, minutes, p_clips, p_seeds, rival_notes
from vidkit.bench.report.estimates import NOTHING, Estimate, estimate, written
from vidkit.bench.report.results import Line, Results
from vidkit.bench.rows.schema import Row

FOOTNOTE = (
    "paper (quoted): AdaMAE, Table 1, as printed: ViT-B on Something-Something v2, memory of pre-training at 16 "
    "clips. Beside it, our rows on our data: the same setting, not the same experiment."
)
INTERVALS = "± is half of a 95 % interval (Student's t) over seeds; without it, there is one seed."


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


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
    Column("V of N", lambda line: f"{line.first.in_grid.visible} of {line.first.in_grid.tokens}"),
    Column("decoder", lambda line: str(line.cell.decoder_depth), setting=True),
    Column("loss", lambda line: line.cell.loss or NOTHING, right=False, setting=True),
    Column("sampler", lambda line: line.cell.sampler or NOTHING, right=False, setting=True),
    Column("tokenizer", lambda line: line.cell.tokenizer or NOTHING, right=False, setting=True),
    Column("epochs", lambda line: NOTHING if line.kind == "memory" else str(line.cell.epochs), setting=True),
    Column("seeds", lambda line: NOTHING if line.kind == "memory" else f"{len(line.rows)} of {line.planned}"),
    Column("top-1 %", _metric("top1")),
    Column("paper (quoted) top-1 %", lambda line: _number(_quoted(line, "top1"), 2)),
    *AGAINST_BEST,
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
    Column("GMACs", lambda line: _number(line.first.in_grid.forward_macs / 1e9, 2), brief=False),
    Column("parameters, M", lambda line: _number(line.first.in_grid.parameters / 1e6, 2), brief=False),
    Column("minutes", minutes, brief=False),
    Column("coverage", lambda line: _coverage(line)),
    Column("config", lambda line: line.group[:8], right=False, brief=False),
    Column("status", lambda line: line.status, right=False),
)


def _off(line: Line) -> str:
    """How far the prediction is from what was measured."""
    both = [(row.predicted_bytes, row.measured_bytes) for row in line.rows]
    found = estimate([100 * (said / seen - 1) for said, seen in both if said is not None and seen])
    return NOTHING if found is None else f"{found.mean:+.1f} %"


def _coverage(line: Line) -> str:
    shares = [row.coverage for row in line.rows if row.coverage is not None]
    return f"{min(shares):.2%}" if shares else NOTHING


def common(of: Sequence[Line]) -> dict[str, str]:
    """Settings that every line of a grid has, by the name of their column."""
    if any(line.first.arm for line in of):
        return {}
    found = {column.name: {column.text(line) for line in of} for column in COLUMNS if column.setting}
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}


def notes(results: Results, of: Sequence[Line]) -> list[str]:
    """What a reader needs beside the table."""
    found = []
    same = [f"{name} {value}" for name, value in common(of).items() if value != NOTHING]
    if same:
        found.append(f"In every cell: {', '.join(same)}.")
    if any(line.planned > 1 for line in of):
        found.append(INTERVALS)
    found += rival_notes(of)
    if any(line.paper for line in of):
        found.append(FOOTNOTE)
    for what, rows in (
        ("Memory and step speed", [row for row in results.rows if _measured(row)]),
        ("Memory, predicted and not measured", [row for row in results.rows if row.device and not _measured(row)]),
    ):
        devices = sorted({f"{row.device}, {row.batch} clips, {row.precision}" for row in rows})
        found += [f"{what}: pre-training on {'; '.join(devices)}."] if devices else []
    return found + machines(results.rows)


def _measured(row: Row) -> bool:
    return row.device is not None and (row.measured_bytes is not None or row.step_clips_per_s is not None)


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


def records(results: Results, of: Sequence[Line]) -> list[dict[str, object]]:
    """A line of the CSV for each line of the table."""
    found = []
    for line in of:
        of_grid, cell, paper, rival = line.first.in_grid, line.cell, line.paper, line.rival
        pair = rival and rival.paired
        record: dict[str, object] = {
            "paper_row": paper and paper.name,
            "mask": cell.mask,
            "ratio": cell.ratio,
            "visible": of_grid.visible,
            "tokens": of_grid.tokens,
            "decoder_depth": cell.decoder_depth,
            "loss": cell.loss,
            "sampler": cell.sampler,
            "tokenizer": cell.tokenizer,
            "epochs": cell.epochs,
            "seeds_done": len(line.rows),
            "seeds_planned": line.planned,
            "recipe": line.recipe,
            "dataset": results.dataset,
            "forward_macs": of_grid.forward_macs,
            "parameters": of_grid.parameters,
            "paper_quoted_top1": paper and paper.top1,
            "paper_quoted_top5": paper and paper.top5,
            "paper_quoted_memory_gb": paper and paper.memory_gb,
        }
        for name, figure in FIGURES.items():
            value = figure(line)
            record |= {name: value and value.mean, f"{name}_half_95": value and value.half}
        record |= {
            "to_best_other_points": rival and rival.difference,
            "to_best_other_points_half_95": pair and 100 * pair.half,
            "p_clips": p_clips(line),
            "p_clips_and_seeds": p_seeds(line),
            "best_other_group": rival and rival.group,
            "no_p_because": rival and rival.why,
            "group": line.group,
            "status": line.status,
        }
        found.append(record)
    return found

"""What a table of a grid shows: settings of cells, accuracy, memory and speed, the paper's figures beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vidkit.bench.report.columns import Column, machines, minutes
from vidkit.bench.report.contrasts.values import ERROR, title
from vidkit.bench.report.estimates import NOTHING, Estimate, estimate, written
from vidkit.bench.report.results import Line, Results
from vidkit.bench.rows.schema import Row

#: Beside fine-tuning with all labels; of those with a part of them, the usual parts have columns.
MEASURES = ("finetune-1", "finetune-5", "finetune-10", "finetune-25", "finetune-50", "ridge", "knn", "attentive")

FOOTNOTE = (
    "paper (quoted): AdaMAE, Table 1, as printed: ViT-B on Something-Something v2, memory of pre-training at 16 "
    "clips. Beside it, our rows on our data: the same setting, not the same experiment."
)
COMMON = (
    "error, common masks: of the held-out clips' hidden tokens, under the same random masks for every arm. loss, "
    "pre-training is each arm's on its own masks: between strategies it says nothing. Either counts errors as the "
    "arm's own loss does."
)
LOOKED = (
    "effective tokens: exp of the entropy of the arm's own draw; ideal: of a draw in proportion to its errors "
    "under the common masks, which the published sampling loss has for its optimum. on what moves: share of its "
    "visible tokens that lie there, and by chance: of all tokens."
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


def _looked(name: str, digits: int, factor: float = 1.0) -> Callable[[Line], str]:
    def of(row: Row) -> float | None:
        return factor * row.looked[name] if name in row.looked else None

    return lambda line: written(line.value(of), digits)


def _seen(row: Row) -> float | None:
    """Millions of visible tokens in the whole pre-training."""
    clips = row.counts.get("pretrain_clips")
    return None if clips is None or row.plan.cell is None else clips * row.plan.cell.visible / 1e6


def training_tmacs(row: Row) -> float | None:
    """10^12 multiply-accumulates of the whole pre-training."""
    macs = row.counts.get("pretrain_macs")
    return None if macs is None else macs / 1e12


def _count(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _targets(line: Line) -> str:
    if line.cell.targets is None:
        return "all hidden"
    return f"{line.cell.targets}, {line.cell.target_ratio:g}"


def _kind(line: Line) -> str:
    return "" if line.cell.decoder is None else f" {line.cell.decoder}"


def _epochs(line: Line) -> str:
    if line.kind == "memory":
        return NOTHING
    length = line.first.in_grid.length
    return str(line.cell.epochs) if length is None else f"{length:.2f}"


COLUMNS = (
    Column("table", lambda line: line.paper.name if line.paper else NOTHING, right=False),
    Column("mask", lambda line: line.cell.mask, right=False),
    Column("ratio", lambda line: f"{line.cell.ratio:g}"),
    Column("V of N", lambda line: f"{line.first.in_grid.visible} of {line.first.in_grid.tokens}"),
    Column("M", lambda line: _count(line.first.in_grid.targets), brief=False),
    Column("targets", lambda line: _targets(line), right=False, setting=True),
    Column("decoder", lambda line: f"{line.cell.decoder_depth}{_kind(line)}", setting=True),
    Column("loss", lambda line: line.cell.loss or NOTHING, right=False, setting=True),
    Column("sampler", lambda line: line.cell.sampler or NOTHING, right=False, setting=True),
    Column("tokenizer", lambda line: line.cell.tokenizer or NOTHING, right=False, setting=True),
    Column("epochs", lambda line: _epochs(line), setting=True),
    Column("seeds", lambda line: NOTHING if line.kind == "memory" else f"{len(line.rows)} of {line.planned}"),
    Column("top-1 %", _metric("top1")),
    Column("paper (quoted) top-1 %", lambda line: _number(_quoted(line, "top1"), 2)),
    Column("top-5 %", _metric("top5")),
    Column("paper (quoted) top-5 %", lambda line: _number(_quoted(line, "top5"), 2)),
    Column("mAP %", _metric("mAP")),
    Column("F1 %", _metric("f1")),
    *(Column(title(name), _metric(name)) for name in MEASURES),
    Column(title(ERROR), lambda line: written(line.value(lambda row: row.common_error), 4)),
    Column("loss, pre-training", lambda line: written(line.value(lambda row: row.pretrain_loss), 4), brief=False),
    Column("effective tokens", _looked("effective_tokens", 1), brief=False),
    Column("ideal", _looked("ideal_effective_tokens", 1), brief=False),
    Column("on what moves %", _looked("visible_moving", 1, 100), brief=False),
    Column("by chance %", _looked("tokens_moving", 1, 100), brief=False),
    Column("measured GB", _gigabytes(lambda row: row.measured_bytes)),
    Column("predicted GB", _gigabytes(lambda row: row.predicted_bytes)),
    Column("predicted less measured", lambda line: _off(line)),
    Column("predicted GB, attention not fused", _gigabytes(lambda row: row.predicted_matrices_bytes)),
    Column("paper (quoted) GB", lambda line: _number(line.paper.memory_gb if line.paper else None, 1)),
    Column("step clips/s", lambda line: written(line.value(lambda row: row.step_clips_per_s), 1)),
    Column("clips/s with loading", lambda line: written(line.value(lambda row: row.clips_per_s), 1), brief=False),
    Column("GMACs", lambda line: _number(line.first.in_grid.forward_macs / 1e9, 2), brief=False),
    Column("tokens seen, M", lambda line: written(line.value(_seen), 2), brief=False),
    Column("training TMACs", lambda line: written(line.value(training_tmacs), 2)),
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
    if any(row.common_error is not None for row in results.rows):
        found.append(COMMON)
    if any(row.looked for row in results.rows):
        found.append(LOOKED)
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
    **{
        f"{name.replace('-', '_')}_percent": (lambda line, name=name: line.metric(name))  # type: ignore[misc]
        for name in MEASURES
    },
    "common_error": lambda line: line.value(lambda row: row.common_error),
    "effective_tokens": lambda line: line.value(lambda row: row.looked.get("effective_tokens")),
    "ideal_effective_tokens": lambda line: line.value(lambda row: row.looked.get("ideal_effective_tokens")),
    "visible_moving": lambda line: line.value(lambda row: row.looked.get("visible_moving")),
    "tokens_moving": lambda line: line.value(lambda row: row.looked.get("tokens_moving")),
    "pretrain_clips": lambda line: line.value(lambda row: row.counts.get("pretrain_clips")),
    "pretrain_macs": lambda line: line.value(lambda row: row.counts.get("pretrain_macs")),
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
        of_grid, cell, paper = line.first.in_grid, line.cell, line.paper
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
            "targets": of_grid.targets,
            "targets_kind": cell.targets or "complement",
            "target_ratio": cell.target_ratio,
            "decoder": cell.decoder or "self",
            "equal": of_grid.equal,
            "epochs": cell.epochs if of_grid.length is None else of_grid.length,
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
            "group": line.group,
            "status": line.status,
        }
        found.append(record)
    return found

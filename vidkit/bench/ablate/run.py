"""Ablations: pre-training, fine-tuning, test and measurement of each cell, and a row of results for each.

out/plan.json              the cells that were planned, and the dataset they are run on
out/results.jsonl          a row for each cell that has run or failed; see `bench.rows`
out/pretrain/HASH/         a pre-training, shared by the cells that have the same one
out/cells/HASH/            finetune/, test.json, predictions.parquet; finetune-10-at-50/ and the like

Cells run one after another, or on the nodes of a cluster. A run that was stopped goes on by `resume`: cells with a
result are not run again, failed ones are, and inside a cell each run goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from vidkit.bench.ablate import measured as cell_measures
from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.held import check_oracles
from vidkit.bench.ablate.journal import Tell, check_free, check_split, code_and_machine, data_facts, journal
from vidkit.bench.ablate.runner import Ablation, Runner
from vidkit.bench.rows.files import PLAN, read_plan, write_plan
from vidkit.bench.rows.schema import Contrast, Plan, Planned, Row
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError


def run(
    ablation: Ablation,
    *,
    resume: bool = False,
    quiet: bool = False,
    executor: str = "local",
    ray_address: str | None = None,
    tell: Tell = lambda words: None,
) -> tuple[Row, ...]:
    """Run what has no result yet. Returns the rows of these jobs, in their order.

    Args:
        executor: "local" runs one cell after another; "ray" as many as a cluster has room for, each with a GPU
            where there are some. Its nodes see `out` and the dataset at the same place.
        ray_address: see `cluster.connected`.
        tell: called with a line of text when a cell begins and ends.

    Raises:
        ConfigError: `out` holds results and `resume` is off, or results of another dataset; damaged results.
        DatasetError: no usable dataset.
        TrainingError: a result cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM. Rows so far are kept, and the run at work has left a checkpoint.
    """
    out = ablation.out.resolve()
    about = _dataset_facts(ablation.data, ablation.split)
    check_free(out, resume=resume)
    if ablation.data is not None:
        check_oracles(ablation.data, [job.config.pretrain for job in ablation.jobs])
    with journal(out, tell) as kept:
        write_plan(out, _joined(read_plan(out), ablation, about, out, kept.rows.values()))
        named = (
            (job, f"cell {number} of {len(ablation.jobs)}: {label(job.planned)}")
            for number, job in enumerate(ablation.jobs, start=1)
        )
        lacking = {key for key, row in kept.rows.items() if cell_measures.lacks(row, ablation.measures)}
        again = lacking if ablation.again else set()
        todo = {
            job: told for job, told in named if job.planned.config_hash in again or not kept.done(job.planned, told)
        }
        told_of = {job.planned.config_hash: told for job, told in todo.items()}
        for row in _rows(replace(ablation, out=out), about, todo, quiet, executor, ray_address, tell):
            kept.add(row)  # first of all
            if executor == "ray":
                tell(f"{told_of[row.plan.config_hash]}: {row.status}")
    return kept.of(job.planned for job in ablation.jobs)


def _rows(
    ablation: Ablation,
    about: dict[str, str | None],
    todo: dict[Job, str],
    quiet: bool,
    executor: str,
    ray_address: str | None,
    tell: Tell,
) -> Iterator[Row]:
    if executor == "ray":
        from vidkit.bench.ablate.on_ray import on_nodes

        yield from on_nodes(ablation, about, tuple(todo), ray_address, tell)
        return
    with closing(Runner(ablation=ablation, about=about, quiet=quiet, common=code_and_machine())) as runner:
        for job, told in todo.items():
            tell(told)
            yield runner.row(job)


def label(planned: Planned) -> str:
    """A cell in a few words: what is nearly always varied, and V of N tokens."""
    of, cell = planned.in_grid, planned.in_grid.settings
    words = [cell.mask, f"{cell.ratio:g}", f"{of.visible} of {of.tokens} tokens visible"]
    words += [f"decoder {cell.decoder_depth}", *(str(name) for name in (cell.loss, cell.sampler) if name)]
    length = f"{cell.epochs}" if of.length is None else f"{of.length:.2f}"
    words += [] if of.kind == "memory" else [f"{length} epochs", f"seed {cell.seed}"]
    return ", ".join(words)


def _dataset_facts(data: Path | None, split: str) -> dict[str, str | None]:
    if data is None:
        return data_facts(None)
    built = open_dataset(data).facts
    check_split(built, split, data)
    return data_facts(built)


def _joined(
    before: Plan | None, ablation: Ablation, about: dict[str, str | None], out: Path, rows: Iterable[Row]
) -> Plan:
    """The plan of `out` with these jobs: a grid can grow, and so can its contrasts."""
    cells = {} if before is None else {one.config_hash: one for one in before.planned}
    for job in ablation.jobs:
        key = job.planned.config_hash
        known = cells[key].in_grid.paper if key in cells else ()
        cells[key] = job.with_paper(known).planned
    if before is not None and before.dataset is not None:
        theirs = {name: getattr(before, name) for name in about}
        if ablation.data is not None and theirs != about:
            raise ConfigError(
                f"the folder holds results of dataset {before.dataset!r} (label map "
                f"{(before.label_map_sha256 or '')[:12]}), not of {about['dataset']!r} "
                f"({(about['label_map_sha256'] or '')[:12]}) as it is now",
                file=out / PLAN,
                hint="give the same --data, or another --out",
            )
        about = theirs
    return Plan(
        dataset=about["dataset"],
        label_map_sha256=about["label_map_sha256"],
        plan_sha256=about["plan_sha256"],
        planned=tuple(cells.values()),
        contrasts=_contrasts(() if before is None else before.contrasts, ablation.contrasts, rows),
    )


def _contrasts(
    before: tuple[Contrast, ...], now: tuple[Contrast, ...], rows: Iterable[Row]
) -> tuple[Contrast, ...]:
    """Those of before, and new ones with the number of results that were there when they were named."""
    done = [row.plan.group for row in rows if row.status == "ok"]
    known = {(one.kind, one.groups) for one in before}
    new = (one for one in now if (one.kind, one.groups) not in known)
    return (*before, *(replace(one, rows=sum(done.count(group) for group in one.groups)) for one in new))

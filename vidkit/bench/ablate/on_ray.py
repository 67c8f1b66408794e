"""Cells of an ablation as tasks of a Ray cluster: each with a GPU of its own where there are some.

Rows come back to the driver, which alone writes them. A cell whose node is lost goes on elsewhere, from the last
checkpoint in the folder of the results, which every node sees.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass, replace

from vidkit.bench.ablate.cells import Job
from vidkit.bench.ablate.journal import Tell, code_and_machine
from vidkit.bench.ablate.runner import Ablation, Runner
from vidkit.bench.rows.files import PLAN
from vidkit.bench.rows.schema import Row
from vidkit.cluster import RayPool, connected
from vidkit.errors import ConfigError
from vidkit.settings.plain import config_hash

#: Seconds in which cells that are stopped may write a checkpoint.
_GRACE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cell:
    ablation: Ablation
    about: dict[str, str | None]
    job: Job
    failed: dict[str, str]
    """Pre-trainings that failed in another cell; see `pretrained`."""


def on_nodes(
    ablation: Ablation, about: dict[str, str | None], jobs: tuple[Job, ...], address: str | None, tell: Tell
) -> Iterator[Row]:
    """Rows in the order in which cells end. Cells that share a pre-training run one after another.

    Args:
        ablation: with an absolute `out`.
        about: fields of each row that are the dataset's.
        address: see `cluster.connected`.

    Raises:
        ConfigError: no cluster, or one whose nodes do not see the folders.
        VidkitError: a cell whose node is lost time and again.
        KeyboardInterrupt: Ctrl-C. The runs at work have left checkpoints.
    """
    if not jobs:
        return
    data = ablation.data.resolve() if ablation.data else None
    same = replace(ablation, jobs=(), data=data)
    queues: dict[str, list[Job]] = {}
    for job in jobs:
        shared = config_hash(job.memory if job.planned.in_grid.kind == "memory" else job.config.pretrain)
        queues.setdefault(shared, []).append(job)
    failed: dict[str, str] = {}
    running: dict[Future[tuple[Row, dict[str, str]]], list[Job]] = {}
    with connected(address), RayPool(_needs(), grace_s=_GRACE_S) as pool:

        def begin(queue: list[Job]) -> None:
            cell = _Cell(ablation=same, about=about, job=queue[0], failed=dict(failed))
            running[pool.submit(run_cell, cell)] = queue[1:]

        try:
            tell(f"{len(jobs)} cell{'s' * (len(jobs) != 1)} on {pool.look()}")
            for queue in queues.values():
                begin(queue)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    queue = running.pop(future)
                    row, more = future.result()
                    failed.update(more)
                    if queue:
                        begin(queue)
                    yield row
        finally:  # Ctrl-C or a fault: the cells at work write a checkpoint, the others do not begin
            pool.shutdown(cancel_futures=bool(running))


def _needs() -> dict[str, float]:
    import ray

    return {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {}  # type: ignore[no-untyped-call]


def run_cell(cell: _Cell) -> tuple[Row, dict[str, str]]:
    """On a node: the cell's row, and why pre-trainings failed.

    Raises:
        ConfigError: the node does not see the folders.
    """
    ablation = cell.ablation
    for path in (ablation.out / PLAN, ablation.data):
        if path is not None and not path.exists():
            raise ConfigError(
                f"{platform.node()} does not see {path}",
                hint="give --out and --data that lie on a file system which all nodes share, at the same place",
            )
    failed = dict(cell.failed)
    common = code_and_machine()
    with closing(Runner(ablation=ablation, about=cell.about, quiet=True, common=common, failed=failed)) as runner:
        return runner.row(cell.job), failed

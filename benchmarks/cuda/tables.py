"""Memory and speed of pre-training steps on a GPU: the paper's Table 1, the released models, what a card can do.

ViT-B, clips of 16x224x224. Each line of the plan is a measurement of its own, written to the result as soon as it
is done; the same command goes on where an earlier one stopped, so that it can be given in short pieces of time
(`--for-s`; it exits with 3 while rows are left). What does not fit into memory is a row that says so.

The released code is not part of this repository: `--released` names a checkout, or a bare clone, of
github.com/wgcban/adamae and `--videomae` one of github.com/MCG-NJU/VideoMAE. Without them those rows are left out.

    python -m benchmarks.cuda.tables --released DIR --videomae DIR --for-s 540
    python -m benchmarks.cuda.tables --quick          # does it work at all; on a CPU as well
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import common
from benchmarks.cuda.data import data_jobs
from benchmarks.cuda.measure import (
    Settings,
    bandwidth,
    largest,
    maker,
    measured,
    ours,
    parts,
    profile,
    rate,
    recomputing,
)
from benchmarks.cuda.report import name_of, report
from benchmarks.cuda.steps import our_step, released_step, tidy, tree, videomae_step
from vidkit.bench.ablate.table1 import PaperRow, read_table1
from vidkit.bench.measure import facts
from vidkit.errors import VidkitError
from vidkit.settings.model import Recompute


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    key: str
    run: Callable[[], dict[str, Any]]


# --- what is measured ----------------------------------------------------------------------------


def jobs(settings: Settings) -> Iterator[Job]:
    """In the order of what is asked first: the floor, the paper's own row and its rivals, the rest of the table."""
    rows: dict[str, PaperRow] = {}
    for row in read_table1():
        if not settings.quick or row.table == "1a":  # one of each mask
            rows.setdefault(name_of(row), row)
    usual = next(name for name, row in rows.items() if not row.changed)
    for precision in settings.precisions:
        yield Job(key=f"rate/{precision}", run=partial(rate, settings, precision))
    yield Job(key="rate/copy", run=partial(bandwidth, settings.device, 1 << (20 if settings.quick else 30)))
    yield Job(key="cost", run=partial(parts, settings.base))
    yield from _table(settings, {usual: rows[usual]})
    yield from _rivals(settings, {usual: rows[usual]})
    yield from _fast(settings)
    yield from _recomputed(settings)
    yield Job(key="profile", run=partial(profile, settings))
    yield from _table(settings, rows)
    yield from _rivals(settings, rows)
    yield from _largest(settings)
    for key, run in data_jobs(settings.device, settings.work, settings.data, settings.clips, quick=settings.quick):
        yield Job(key=key, run=run)


def _table(settings: Settings, rows: dict[str, PaperRow]) -> Iterator[Job]:
    for name, row in rows.items():
        for precision in settings.precisions:
            config = row.config(settings.base)
            yield Job(
                key=f"ours/{name}/{precision}",
                run=partial(ours, settings, config, settings.batch, precision),
            )


def _rivals(settings: Settings, rows: dict[str, PaperRow]) -> Iterator[Job]:
    """The released models, with the settings that they have: one kind of loss, one sampler, their own rounding."""
    for name, row in rows.items():
        config = row.config(settings.base, rounding="paper")
        adaptive = row.mask == "adaptive" and row.sampler == "mha-1" and row.loss in ("mse-norm", "mse")
        tube = row.mask == "tube" and row.loss in ("mse-norm", "mse")
        for precision in settings.precisions:
            if adaptive and settings.released is not None:
                for script in (False, True) if not row.changed else (False,):
                    made = maker(
                        released_step,
                        settings.released,
                        config,
                        settings.batch,
                        precision,
                        settings.device,
                        script=script,
                    )
                    key = "released script" if script else "released"
                    yield Job(key=f"{key}/{name}/{precision}", run=measured(settings, made))
            if tube and settings.videomae is not None:
                made = maker(videomae_step, settings.videomae, config, settings.batch, precision, settings.device)
                yield Job(key=f"videomae/{name}/{precision}", run=measured(settings, made))


def _fast(settings: Settings) -> Iterator[Job]:
    """The training loop's own step at larger batches, as it is, compiled, and as one CUDA graph."""
    cuda = settings.device == "cuda"
    ways: dict[str, dict[str, Any]] = {"eager": {}}
    # a compiler for CPUs may be missing; tracing alone shows that the model can be compiled
    ways["compiled"] = {"compiled": {} if cuda else {"backend": "aot_eager"}}
    if cuda:
        ways["cuda graph"] = {"graph": True}
        ways["compiled, cuda graph"] = {"compiled": {}, "graph": True}
        ways["compiled, max-autotune"] = {"compiled": {"mode": "max-autotune-no-cudagraphs"}}
    for batch in (2,) if settings.quick else (64, 16, 128, 256):
        for name, how in ways.items():
            made = maker(our_step, settings.base, batch, "bf16", settings.device, **how)
            yield Job(key=f"fast/{name}/{batch}", run=measured(settings, made, settings.base, batch))


def _recomputed(settings: Settings) -> Iterator[Job]:
    kinds: tuple[Recompute, ...] = ("cheap", "light", "full")
    for kind in kinds:
        config = recomputing(settings.base, kind)
        for batch in (settings.batch,) if settings.quick else (16, 64):
            yield Job(key=f"recompute/{kind}/{batch}", run=partial(ours, settings, config, batch, "bf16"))
        if settings.device == "cuda":
            made = maker(our_step, config, settings.batch, "bf16", settings.device, compiled={})
            yield Job(key=f"recompute/{kind}, compiled/{settings.batch}", run=measured(settings, made, config))


def _largest(settings: Settings) -> Iterator[Job]:
    kinds: tuple[Recompute, ...] = ("none", "light")
    for kind in kinds:
        config = recomputing(settings.base, kind)
        yield Job(key=f"largest/{kind}", run=partial(largest, settings, config))


# --- a run ---------------------------------------------------------------------------------------


class Result:
    """The result's file: rows by their key, written anew after each."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": {}}
        if before.get("about", about) != about:
            raise SystemExit(
                f"{path}: rows of other settings or another card\n  -> name another --out, or remove it"
            )
        self.about = about
        self.rows: dict[str, dict[str, Any]] = before["rows"]

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.rows[key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            "theme": "cuda-tables",
            "date": time.strftime("%Y-%m-%d"),
            "about": self.about,
            "machine": common.machine(),
            "rows": self.rows,
        }
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def hardware() -> str:
    """For a file's name."""
    card = facts.accelerator()
    return "-".join(re.findall(r"[a-z0-9]+", (facts.cpu_model() if card is None else card["name"]).lower()))


def run_jobs(wanted: Sequence[Job], result: Result, for_s: float) -> bool:
    """Whether all are done."""
    started = time.monotonic()
    missing = [job for job in {job.key: job for job in wanted}.values() if job.key not in result.rows]
    for number, job in enumerate(missing, start=1):
        if time.monotonic() - started > for_s:
            print(f"{len(missing) - number + 1} rows left; go on with the same command", file=sys.stderr)
            return False
        begun = time.monotonic()
        try:
            row = job.run()
        except (VidkitError, torch.OutOfMemoryError) as error:
            row = {"error": str(error).splitlines()[0]}
        row["took_s"] = round(time.monotonic() - begun, 2)
        tidy()
        result.add(job.key, row)
        shown = {k: row[k] for k in ("clips_per_s", "allocated_bytes", "measured_bytes", "error") if row.get(k)}
        print(f"[{number}/{len(missing)}] {job.key}: {shown or 'done'} ({row['took_s']:.0f} s)", file=sys.stderr)
    return True


def main(
    released: Annotated[
        Path | None, typer.Option(help="Checkout or bare clone of AdaMAE.", envvar="VIDKIT_RELEASED_ADAMAE")
    ] = None,
    videomae: Annotated[
        Path | None, typer.Option(help="Checkout or bare clone of VideoMAE.", envvar="VIDKIT_RELEASED_VIDEOMAE")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A built dataset of 224 pixels or more, for the loader's rows.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Generated clips for the other rows of the loader.", min=8)] = 4000,
    steps: Annotated[int, typer.Option(help="Measured in each row.", min=1)] = 10,
    for_s: Annotated[float, typer.Option(help="Begin no row after so many seconds.")] = float("inf"),
    only: Annotated[str | None, typer.Option(help="Rows whose key begins so, e.g. fast/")] = None,
    quick: Annotated[bool, typer.Option(help="A tiny model; every row, on any device.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
    out: Annotated[Path | None, typer.Option(help="The result file itself, to go on with an earlier one.")] = None,
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        raise SystemExit("torch sees no CUDA device\n  -> --quick runs every row with a tiny model on a CPU")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        trees: dict[str, tuple[Path, str | None]] = {}
        for name, path, marker in (
            ("released", released, "models/pretrain/vit.py"),
            ("videomae", videomae, "modeling_pretrain.py"),
        ):
            if path is not None:
                trees[name] = tree(path, marker, work / name)
            else:
                print(f"no --{name} folder: its rows are left out", file=sys.stderr)
        settings = Settings(
            device=device,
            quick=quick,
            steps=2 if quick else steps,
            warmup=1 if quick else 3,
            released=trees["released"][0] if "released" in trees else None,
            videomae=trees["videomae"][0] if "videomae" in trees else None,
            data=data,
            clips=24 if quick else clips,
            work=work,
        )
        about = {
            "device": facts.accelerator() or {"name": "cpu"},
            "quick": quick,
            "batch": settings.batch,
            "steps": settings.steps,
            "float32_products": torch.get_float32_matmul_precision(),
        }
        path = out or results / f"cuda-tables-{hardware()}-{time.strftime('%Y-%m-%d')}.json"
        result = Result(path, about)
        wanted = [job for job in jobs(settings) if only is None or job.key.startswith(only)]
        done = run_jobs(wanted, result, for_s)
        result.add(
            "versions", {**facts.versions(), **{f"{name} commit": commit for name, (_, commit) in trees.items()}}
        )
    print(report(result.rows, settings.precisions))
    print(f"wrote {os.path.basename(path)}", file=sys.stderr)
    raise typer.Exit(0 if done else 3)


if __name__ == "__main__":
    typer.run(main)

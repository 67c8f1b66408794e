"""Planning: how long, and in how much memory, are 500,000 annotated clips matched with their files?

Real folders and real CSVs in the form of Kinetics-400, with empty files: planning opens no video.
Reported: the whole `vidkit build-dataset k400 --dry-run`, and its phases in a process of their own.

    python -m benchmarks.bench_plan
    python -m benchmarks.bench_plan --quick
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import common

ROWS = (125_000, 250_000, 500_000)

#: rows of the published CSVs
SPLITS = {"train": 246_535, "val": 19_907, "test": 39_806}

#: annotated videos disappear from YouTube: one in so many has no file
GONE = 40


def rows_of(count: int, seed: int = 0) -> Iterator[tuple[str, str, int, int, str]]:
    """(label, YouTube id, start, end, split) of `count` invented rows; fewer rows are the first of more."""
    from vidkit.data.manifests import class_list

    names = class_list("kinetics400").names
    rng = np.random.default_rng(seed)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    splits = list(SPLITS)
    shares = np.array(list(SPLITS.values())) / sum(SPLITS.values())
    for block in range(0, count, 5000):
        ids = letters[rng.integers(0, 64, (5000, 11))]
        classes, starts = rng.integers(0, len(names), 5000), rng.integers(0, 290, 5000)
        split = rng.choice(len(splits), 5000, p=shares)
        for i in range(min(5000, count - block)):
            start = int(starts[i])
            yield names[classes[i]], "".join(ids[i]), start, start + 10, splits[split[i]]


def grow(folder: Path, rows: int, before: int) -> None:
    """Make `folder` hold `rows` annotated clips, where it holds `before` already."""
    lines: dict[str, list[tuple[object, ...]]] = {split: [] for split in SPLITS}
    made: set[str] = set()
    for i, (label, video, start, end, split) in enumerate(rows_of(rows)):
        lines[split].append((label, video, start, end, split, 0))
        if i < before or i % GONE == 0:
            continue
        if label not in made:
            made.add(label)
            (folder / label).mkdir(parents=True, exist_ok=True)
        os.close(os.open(folder / label / f"{video}_{start:06d}_{end:06d}.mp4", os.O_CREAT | os.O_WRONLY))
    for split, found in lines.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("label", "youtube_id", "time_start", "time_end", "split", "is_cc"))
            writer.writerows(found)


def phases(folder: Path) -> dict[str, float]:
    """Seconds of each step of a plan, in this process; the checksum belongs to a build, not to a dry run."""
    started = time.perf_counter()
    found: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal started
        now = time.perf_counter()
        found[name], started = now - started, now

    from vidkit.data.plan import composite, layout, planning
    from vidkit.data.sources import READERS, Roots
    from vidkit.data.sources.parts.files import scan
    from vidkit.data.tables import Matching
    from vidkit.settings.encode import SourceOptions

    lap("imports")
    scan(folder, Matching("kinetics"))
    lap("walking the folders (again in the next)")
    chosen = planning.choose_spec(planning.Request(spec="k400", folders={"kinetics": folder}))
    assert chosen is not None
    spec = chosen[0]
    options = SourceOptions()
    source = READERS["kinetics"](spec.sources[0], Roots(folder=folder), options)
    lap("reading and matching")
    plan = composite.merge(spec, {"kinetics": source}, options)
    lap("merging")
    table = layout.lay_out(plan.table, clips_per_shard=spec.clips_per_shard, seed=0)
    lap("laying out")
    layout.plan_sha256(table)
    lap("checksum of the plan")
    return found


def measure_rows(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    whole: list[dict[str, Any]] = []
    apart: list[dict[str, float]] = []
    command = [*common.program("vidkit"), "build-dataset", "k400", "--kinetics", os.fspath(folder), "--dry-run"]
    for turn in range(rounds):
        used = common.measure([*command, "--json"])
        answer = json.loads(used.output[used.output.index("{\n") :])
        assert answer["planned"] == rows, f"{answer['planned']} clips were planned, not {rows}"
        whole.append(used.row())
        steps = common.measure([sys.executable, "-m", "benchmarks.bench_plan", "--phases-of", os.fspath(folder)])
        apart.append(json.loads(steps.output.splitlines()[-1]))
        print(f"  {rows:,} rows, round {turn + 1} of {rounds}: {whole[-1]}", file=sys.stderr)
    return {
        "rows": rows,
        "medians": {
            "seconds": round(common.median([run["seconds"] for run in whole]), 3),
            "peak_mb": round(max(run["largest_mb"] or run["peak_mb"] or 0 for run in whole), 1),
            "phases_s": {name: round(common.median([run[name] for run in apart]), 3) for name in apart[0]},
        },
        "runs": whole,
        "phases": apart,
    }


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    quick: Annotated[bool, typer.Option(help="A few thousand rows, one round.")] = False,
    work: Annotated[
        Path | None, typer.Option(help="Where the empty files go; they are removed at the end.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
    phases_of: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if phases_of is not None:
        print(json.dumps(phases(phases_of)))
        return
    found = []
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        folder = Path(temporary) / "kinetics"
        before = 0
        for rows in (1000, 2000, 4000) if quick else ROWS:
            print(f"making {rows:,} rows and their files", file=sys.stderr)
            grow(folder, rows, before)
            before = rows
            found.append(measure_rows(folder, rows, 1 if quick else rounds))
    steps = list(found[0]["medians"]["phases_s"])
    lines = [
        (
            f"{entry['rows']:,}",
            entry["medians"]["seconds"],
            1e6 * entry["medians"]["seconds"] / entry["rows"],
            entry["medians"]["peak_mb"],
            *entry["medians"]["phases_s"].values(),
        )
        for entry in found
    ]
    print(common.table(("rows", "whole command, s", "us/row", "peak MB", *(f"{name}, s" for name in steps)), lines))
    common.write_result("plan", {"sizes": found}, results)


if __name__ == "__main__":
    typer.run(main)

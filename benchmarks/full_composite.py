"""A composite-518 of full size from generated sources: wall time, memory, bytes, and whether the counts come out.

12,098 clips of Kinetics size in 400 class folders with bare ids, and TinyVIRAT v1 with 12,829 clips in 118
label sets. Kinetics clips are a few hundred different 10 s videos of 340x256, linked many times. The
build runs with --strict, and `vidkit verify` follows. Making the sources is reported, not counted.

    make full-composite
    python -m benchmarks.full_composite --scale 0.02     # does it work; the counts then differ
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common

KINETICS, TINYVIRAT, LABEL_SETS, CLASSES = 12_098, 12_829, 118, 400


def make_sources(folder: Path, *, scale: float, distinct: int, workers: int, short: bool) -> float:
    """Write both sources, or find them written; returns the seconds it took."""
    from vidkit.data.synth.layouts import write_layout

    started = time.perf_counter()
    clips = max(CLASSES, round(KINETICS * scale))
    asked: dict[str, dict[str, Any]] = {
        "kinetics": {"kind": "kinetics-bare-ids", "clips": clips, "classes": CLASSES, "distinct": distinct},
        "tinyvirat": {"kind": "tinyvirat-v1", "clips": round(TINYVIRAT * scale), "label_sets": LABEL_SETS},
    }
    if short:
        asked["kinetics"] |= {"frames": 4, "size": (48, 36)}
    for name, request in asked.items():
        done = folder / f"{name}.json"  # says what lies there, and that it is complete
        if done.exists() and json.loads(done.read_text()) == json.loads(json.dumps(request)):
            continue
        shutil.rmtree(folder / name, ignore_errors=True)
        done.unlink(missing_ok=True)

        def told(ready: int, total: int, name: str = name) -> None:
            if ready % 100 == 0 or ready == total:
                print(f"  drawing {name}: {ready:,} of {total:,} videos", file=sys.stderr)

        write_layout(**request, out=folder / name, workers=workers, progress=told)
        done.write_text(json.dumps(request))
    return time.perf_counter() - started


def size_of(folder: Path) -> int:
    """Bytes of the files below; links to one file count once."""
    seen = {(s.st_dev, s.st_ino): s.st_size for s in (p.stat() for p in folder.rglob("*") if p.is_file())}
    return sum(seen.values())


def build(folder: Path, out: Path, workers: int, scale: float) -> common.Usage:
    command = [*common.program("vidkit"), "build-dataset", "composite-518", "--out", os.fspath(out)]
    for name in ("kinetics", "tinyvirat"):
        command += [f"--{name}", os.fspath(folder / name)]
    # in part, the counts must differ; and shards of a thousand clips would keep one worker busy alone
    how = ["--strict"] if scale == 1 else ["--clips-per-shard", "25"]
    return common.measure([*command, "--workers", str(workers), "--json", *how])


def main(
    scale: Annotated[
        float, typer.Option(help="Part of the full size; below 1 without --strict.", min=0.001, max=1)
    ] = 1,
    quick: Annotated[bool, typer.Option(help="A few clips, short ones: does it work at all.")] = False,
    distinct: Annotated[int, typer.Option(help="Different videos of Kinetics size; one a class at least.")] = 400,
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    work: Annotated[Path | None, typer.Option(help="Sources stay here and are used again; else temporary.")] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    scale = 0.01 if quick else scale
    with tempfile.TemporaryDirectory(dir=work.parent if work else None) as temporary:
        folder = work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        drawn_s = make_sources(folder, scale=scale, distinct=distinct, workers=workers, short=quick)
        built = build(folder, out, workers, scale)
        checked = common.measure([*common.program("vidkit"), "verify", os.fspath(out), "--json"])
        facts = json.loads((out / "dataset.json").read_text())
        result = summary(facts, built, checked, folder, out) | {
            "scale": scale,
            "workers": workers,
            "drawing_s": round(drawn_s, 1),
        }
        shutil.rmtree(out)
    print(report(result))
    common.write_result("full-composite" if scale == 1 else "part-composite", result, results)


def summary(
    facts: dict[str, Any], built: common.Usage, checked: common.Usage, folder: Path, out: Path
) -> dict[str, Any]:
    counts = facts["counts"]
    return {
        "counts": counts,
        "reconciliation": facts["reconciliation"],
        "build": built.row(),
        "clips_per_s": round(counts["ok"] / built.seconds, 2),
        "cpu_ms_per_clip": round(1000 * built.cpu_s / counts["ok"], 2),
        "verify": checked.row(),
        "shard_bytes": counts["bytes"],
        "source_bytes_on_disk": size_of(folder / "kinetics") + size_of(folder / "tinyvirat"),
        "out_bytes_on_disk": size_of(out),
    }


def report(result: dict[str, Any]) -> str:
    rows = [(row["what"], f"{row['expected']:,}", f"{row['found']:,}") for row in result["reconciliation"]]
    counted = common.table(("count of", "expected", "found"), rows)
    built, checked, counts = result["build"], result["verify"], result["counts"]
    measured = [
        ("clips stored", f"{counts['ok']:,} of {counts['planned']:,}"),
        ("wall time, s", built["seconds"]),
        ("clips/s", result["clips_per_s"]),
        ("CPU ms/clip", result["cpu_ms_per_clip"]),
        ("peak MB, all processes", built["peak_mb"] or built["largest_mb"]),
        ("shards, MB", result["shard_bytes"] / 1e6),
        ("kB/clip", result["shard_bytes"] / 1000 / counts["ok"]),
        ("verify, s", checked["seconds"]),
        ("verify, peak MB", checked["peak_mb"] or checked["largest_mb"]),
        ("drawing the sources, s (not counted)", result["drawing_s"]),
        ("sources on disk, MB", result["source_bytes_on_disk"] / 1e6),
    ]
    return f"{counted}\n\n{common.table(('what', 'measured'), measured)}"


if __name__ == "__main__":
    typer.run(main)

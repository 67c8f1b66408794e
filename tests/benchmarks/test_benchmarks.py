"""Each benchmark runs on something tiny, and writes what it says: one JSON and one table, naming no machine."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_step, common
from benchmarks.bench_build import mixed, summary
from benchmarks.bench_packed import FORMS
from benchmarks.bench_plan import grow, rows_of

ROOT = Path(__file__).parents[2]


def run(name: str, results: Path, *words: str) -> tuple[dict[str, Any], str]:
    """(the result file, what was printed) of a quick run."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--results", str(results), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = results.iterdir()
    text = path.read_text(encoding="utf-8")
    assert platform.node() not in text
    assert str(ROOT) not in text
    assert str(results) not in text
    assert "| --- |" in done.stdout
    found: dict[str, Any] = json.loads(text)
    assert path.name == f"{found['theme']}-{path.name.removeprefix(found['theme'] + '-')}"
    assert path.stem.endswith(found["date"])
    assert {"cpu", "cores", "memory_gb", "os", "python", "vidkit", "pyav", "encoder"} <= found["machine"].keys()
    return found, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("xargs") is None, reason="the opponent is started by xargs")
def test_bench_build(tmp_path: Path) -> None:
    found, printed = run("bench_build", tmp_path, "--jobs", "tinyvirat")
    job = found["jobs"]["tinyvirat"]
    assert job["clips"] == 4
    assert set(job["medians"]) == {"vidkit", *found["ffmpeg"]}
    assert all(runs[0]["cpu_s"] > 0 for runs in job["runs"].values())
    for name, ratio in job["speed_over"].items():
        assert ratio["median"] == pytest.approx(
            job["runs"][name][0]["seconds"] / job["runs"]["vidkit"][0]["seconds"], rel=0.01
        )
    assert "TinyVIRAT-like" in printed


@pytest.mark.slow
def test_bench_packed(tmp_path: Path) -> None:
    found, printed = run("bench_packed", tmp_path, "--jobs", "tinyvirat")
    job = found["jobs"]["tinyvirat"]
    assert set(job["clips_per_s"]) == {"files", *FORMS}
    assert set(job["rate_over_files"]) == set(job["cpu_over_files"]) == set(FORMS)
    for name, ratio in job["rate_over_files"].items():
        assert ratio["median"] == pytest.approx(
            job["runs"]["files"][0]["seconds"] / job["runs"][name][0]["seconds"], rel=0.01
        )
    assert "tar.gz" in printed


@pytest.mark.slow
def test_bench_executors(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    found, _ = run("bench_executors", tmp_path / "mix")
    assert set(found["mix"]["cpu_s"]) == {"local", "ray"}
    assert found["mix"]["seconds"]["local"]["local_over_it"]["median"] == 1
    assert {run["sha256"] for name in ("local", "ray") for run in found["sources"]["tinyvirat"]["runs"][name]} == {
        found["sources"]["tinyvirat"]["runs"]["local"][0]["sha256"]
    }
    found, _ = run("bench_executors", tmp_path / "driver", "--part", "driver")
    assert [entry["shards"] for entry in found["driver"]] == [10, 20]
    assert all(entry["driver_cpu_ms_per_shard"] > 0 for entry in found["driver"])
    found, _ = run("bench_executors", tmp_path / "cells", "--part", "cells")
    assert set(found["cells"]["ray_over_in_turn"]) == {"seconds", "cpu_s"}


@pytest.mark.slow
def test_bench_plan(tmp_path: Path) -> None:
    found, _ = run("bench_plan", tmp_path)
    assert [size["rows"] for size in found["sizes"]] == [1000, 2000, 4000]
    assert {"reading and matching", "merging", "laying out"} <= found["sizes"][0]["medians"]["phases_s"].keys()


@pytest.mark.slow
def test_bench_decode(tmp_path: Path) -> None:
    found, _ = run("bench_decode", tmp_path)
    ours = [item["ms"]["2"]["vidkit"]["median"] for item in found["items"]]
    assert len(ours) == 5  # the source, and two encodes at two sizes
    assert min(ours) > 0
    share = {(item["size"], item["encode"]): item["bytes"] for item in found["items"]}
    assert share["source", "as it is"] == 1
    assert share["256", "g30"] < share["256", "g1"]
    assert share["64", "g30"] < share["256", "g30"]


@pytest.mark.slow
def test_bench_exactness(tmp_path: Path) -> None:
    found, printed = run("bench_exactness", tmp_path)
    assert set(found["files"]) == {"with-audio", "variable-rate"}
    assert found["files"]["variable-rate"]["PyAV, naive"]["wrong"], (
        "frame numbers from the mean rate cannot be right"
    )
    for answers in found["files"].values():
        assert not answers["vidkit"]["wrong"]
        assert not answers["vidkit"]["refused"]
    assert "variable frame rate" in printed


@pytest.mark.slow
def test_full_composite(tmp_path: Path) -> None:
    found, printed = run("full_composite", tmp_path / "results", "--work", str(tmp_path / "work"), "--workers", "2")
    assert found["theme"] == "part-composite"
    assert found["counts"]["ok"] == found["counts"]["planned"] == 400 + 128
    classes = next(row for row in found["reconciliation"] if row["what"] == "classes")
    assert classes["found"] == classes["expected"] == 518
    assert found["verify"]["seconds"] > 0
    assert not (tmp_path / "work" / "out").exists()
    assert "| classes | 518 | 518 |" in printed


@pytest.mark.slow
def test_bench_matchers(tmp_path: Path) -> None:
    found, printed = run("bench_matchers", tmp_path)
    assert {(one["learner"], one["shot"]) for one in found["runs"]} >= {("otam", 1), ("otam", 5), ("trx", 5)}
    assert all(one["episodes"] == 40 for one in found["runs"])
    assert found["over_limit"] == []
    assert "| otam |" in printed


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> Any:
        def take(turn: int) -> dict[str, Any]:
            order.append(f"{name}{turn}")
            return {}

        return take

    runs = common.take_turns({name: contender(name) for name in "abc"}, 3)
    assert " ".join(order) == "a0 b0 c0 b1 c1 a1 c2 a2 b2"
    assert {name: len(found) for name, found in runs.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratios_are_taken_turn_by_turn() -> None:
    """A slow minute that hits one whole turn leaves the ratio as it is."""
    ours, theirs = [1.0, 10.0, 1.0, 1.0, 12.0], [2.0, 20.0, 2.0, 2.0, 24.0]
    assert common.ratios(theirs, ours)["median"] == 2


def test_measure_counts_children(tmp_path: Path) -> None:
    spin = "x = 0\nfor i in range(3_000_000): x += i"
    program = f"import subprocess, sys; b = bytearray(80_000_000); subprocess.run([sys.executable, '-c', {spin!r}])"
    alone = common.measure([sys.executable, "-c", spin])
    through = common.measure([sys.executable, "-c", program + "; print('said')"])
    assert through.cpu_s > 0.5 * alone.cpu_s > 0
    assert through.output == "said\n"
    assert through.peak_mb is None or through.peak_mb > 0
    with pytest.raises(SystemExit, match="gone wrong"):
        common.measure([sys.executable, "-c", "import sys; print('gone wrong'); sys.exit(3)"])


def test_start_up_is_taken_off_once() -> None:
    """1 s of start-up and 0.1 s a clip, against 0.2 s a clip: half as fast whole, twice as fast beyond it."""
    clips, few = 10, 2
    runs: dict[str, list[dict[str, Any]]] = {
        "vidkit": [{"seconds": 1 + 0.1 * clips, "cpu_s": 1.0, "peak_mb": 5.0, "clip_bytes": 10}],
        "vidkit, 2 clips": [{"seconds": 1 + 0.1 * few, "cpu_s": 1.0, "peak_mb": 5.0, "clip_bytes": 2}],
        "ffmpeg": [{"seconds": 0.2 * clips, "cpu_s": 1.0, "peak_mb": None, "clip_bytes": 10}],
    }
    found = summary(runs, clips, few)
    assert found["speed_over"]["ffmpeg"]["median"] == pytest.approx(1)
    assert found["speed_over_without_start_up"]["ffmpeg"]["median"] == pytest.approx(2)
    job = {"runs": runs, "clips": clips, "speed_over": found["speed_over"]}
    assert mixed(job, job)["speed_over"]["ffmpeg"]["median"] == pytest.approx(1)


def test_a_plan_that_grows_is_the_plan_of_its_size(tmp_path: Path) -> None:
    assert list(rows_of(6000))[:5500] == list(rows_of(5500))
    grown, whole = tmp_path / "grown", tmp_path / "whole"
    grow(grown, 100, 0)
    grow(grown, 250, 100)
    grow(whole, 250, 0)
    files = [sorted(p.relative_to(top) for p in top.rglob("*")) for top in (grown, whole)]
    assert files[0] == files[1]
    assert (grown / "train.csv").read_bytes() == (whole / "train.csv").read_bytes()


def test_bench_step_takes_the_steps_it_compares() -> None:
    """In this process: three of its own would take ten seconds to begin."""
    job = {"size": "tiny", "batch": 2, "warm": 1, "steps": 1, "strategy": "random", "ratio": 0.95}
    runs = {name: [bench_step.work({**job, **changes})] for name, changes in bench_step.DECODERS.items()}
    found = bench_step.compared(runs, "self, all targets")
    assert found["times_as_fast"]["self, all targets"]["runs"] == [1.0]
    assert len({tuple(run["losses"]) for (run,) in runs.values()}) == 3  # each decoder is another one
    assert bench_step.report(found).count("\n") == 4


@pytest.mark.slow
def test_bench_store(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    found, printed = run("bench_store", tmp_path)
    read = found["read"]
    assert {run["clips"] for runs in read["runs"].values() for run in runs} == {read["clips"]}
    ranges, stream = (read["medians"][name] for name in ("store, by ranges", "store, webdataset streams"))
    assert read["kb_of_a_clip"] <= ranges["kb_per_clip"] < stream["kb_per_clip"]
    in_order, random = (read["medians"][f"web as S3, by ranges{more}"] for more in (", in order", ""))
    assert in_order["requests"] < random["requests"]
    assert in_order["kb_per_clip"] < 1.5 * read["kb_of_a_clip"]
    assert set(found["build"]["medians"]) == {"disk", "store"}
    assert "webdataset" in printed

"""The contests of the regression benchmark: taken in turns, the same work on both sides, and a slow-down shows.

Clocks are pretended ones, which the work moves by itself: nothing here depends on the machine's load.
"""

from __future__ import annotations

import gc
import itertools
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidkit.bench.measure import plain
from vidkit.bench.regress import ratios as regress_ratios
from vidkit.bench.regress.compare import Findings, Measured, compare
from vidkit.bench.regress.data import built
from vidkit.bench.regress.ratios import Contest, hold
from vidkit.data import ClipDataset
from vidkit.data.dataset import open_dataset
from vidkit.data.media.frames import ClipReader
from vidkit.data.media.transcode_ffmpeg import find_ffmpeg
from vidkit.data.shards import sha256_file
from vidkit.settings.encode import EncodeSettings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, costs: list[float], units: int = 1) -> Any:
        """A contender that takes the next of `costs` each time."""
        left = iter(costs)

        def run() -> int:
            self.said.append(name)
            self.now += next(left)
            return units

        return run


def test_turns() -> None:
    """Each contender begins in turn, the first round does not count, one slow turn changes nothing."""
    clock = Clock()
    ours = clock.work("ours", [99, 1, 1, 1, 1, 50], units=2)
    theirs = {
        "x": clock.work("x", [1, 3, 30, 3, 3, 3]),
        "y": clock.work("y", [1, 2, 2, 2, 2, 2], units=4),
    }
    x, y = hold(Contest(name="a", ours=ours, theirs=theirs), clock=clock)
    assert "".join(name[0] for name in clock.said) == "oxy" + "oxy" + "xyo" + "yox" + "oxy" + "xyo"
    assert x.turns == (6.0, 60.0, 6.0, 6.0, 0.12)
    assert y.turns == (1.0, 1.0, 1.0, 1.0, 0.02)
    assert (x.name, x.value, x.rule, x.tolerance) == ("a/x", 6.0, "least", 0.3)
    assert (y.name, y.value) == ("a/y", 1.0)


def test_no_collection_hits_a_single_turn() -> None:
    """Garbage is collected between turns; what was there before is let alone, and all is as before at the end."""
    states: list[bool] = []
    left: list[weakref.ref[Any]] = []

    class Node:
        me: Any = None

    def work() -> int:
        states.append(gc.isenabled())
        assert all(node() is None for node in left[1:]), "the garbage of an earlier turn"
        node = Node()
        node.me = node
        left.append(weakref.ref(node))
        return 1

    ticks = itertools.count()
    hold(Contest(name="a", ours=work, theirs={"x": lambda: 1}), turns=3, clock=lambda: float(next(ticks)))
    assert states == [True, False, False, False]
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_the_clock_counts_children_and_work_not_waiting() -> None:
    import subprocess
    import sys
    import time

    before = regress_ratios.cpu_seconds()
    time.sleep(0.2)
    waited = regress_ratios.cpu_seconds() - before
    sum(i * i for i in range(200_000))
    worked = regress_ratios.cpu_seconds() - before - waited
    subprocess.run([sys.executable, "-c", "sum(i * i for i in range(2_000_000))"], check=True)
    child = regress_ratios.cpu_seconds() - before - waited - worked
    assert waited < 0.15
    assert 0 < worked < child


# --- the work ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Small clips instead of large ones, one turn, a clip read twice; drawn once for all tests."""
    for name, value in {"SIZE": (96, 72), "LENGTH": 120, "TURNS": 1, "TIMES": 2}.items():
        monkeypatch.setattr(regress_ratios, name, value)
    return folder


def test_a_slow_loader_is_found(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real contest; only its clock is pretended: reading a stored clip takes 1 ms, an original 20."""
    clock, cost = Clock(), [0.001]
    monkeypatch.setattr(regress_ratios, "cpu_seconds", clock)
    real_read, real_pyav = ClipDataset.read, plain.read_pyav

    def read(self: ClipDataset, *args: Any) -> Any:
        clock.now += cost[0]
        return real_read(self, *args)

    def original(path: Path, wanted: Any) -> Any:
        clock.now += 0.02
        return real_pyav(path, wanted)

    monkeypatch.setattr(ClipDataset, "read", read)
    monkeypatch.setattr(plain, "read_pyav", original)
    monkeypatch.setattr(regress_ratios, "find_spec", lambda name: None)

    before = regress_ratios.loaders(small)
    assert [(found.name, found.value) for found in before] == [("loader/plain PyAV", 20.0), ("loader/decord", None)]
    assert before[1].note == "decord is not installed"
    baseline = Findings(conditions={}, values=tuple(before)).stored()
    verdicts = {}
    for cost[0] in (0.0014, 0.0015):
        now = regress_ratios.loaders(small)
        rows = compare(baseline, Findings(conditions={}, values=tuple(now)))
        verdicts[cost[0]] = [row.verdict for row in rows]
    assert verdicts == {0.0014: ["same", "not measured"], 0.0015: ["slower", "not measured"]}


def test_decord_reads_the_same_frames(small: Path) -> None:
    pytest.importorskip("decord")
    prepared = regress_ratios._prepared(small)
    source = regress_ratios._sources(prepared)[0]
    wanted = [3, 50, 51, 119]
    ours = ClipReader(source.read_bytes()).frames(wanted)
    for read in (plain.read_pyav, plain.read_decord):
        apart = np.abs(read(source, wanted).astype(int) - ours.astype(int))
        assert apart.mean() < 2, "only the conversion to RGB differs"
    names = [found.name for found in regress_ratios.loaders(small)]
    assert names == ["loader/plain PyAV", "loader/decord"]


def test_shards_are_those_of_a_build(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contender makes what a build makes, byte for byte."""
    prepared = regress_ratios._prepared(small)
    expected = {
        shard["shard"]: shard["sha256"] for shard in open_dataset(built(prepared, small / "dataset")).shards
    }
    found: dict[str, str] = {}
    real = regress_ratios.shutil.rmtree

    def look_first(out: Path) -> None:
        for tar in out.rglob("*.tar"):
            found[tar.relative_to(out).as_posix()] = sha256_file(tar)[0]
        real(out)

    monkeypatch.setattr(regress_ratios.shutil, "rmtree", look_first)
    assert regress_ratios._shard_maker(prepared, small)() == regress_ratios.CLIPS
    assert found == expected
    assert not list(small.glob("shards-*"))


def shape(path: Path) -> tuple[int, int, int]:
    with ClipReader(path.read_bytes()) as reader:
        pictures = reader.frames(range(len(reader)))
    return pictures.shape[:3]


def test_plain_ways_make_the_same_clips(small: Path, tmp_path: Path) -> None:
    prepared = regress_ratios._prepared(small)
    source = regress_ratios._sources(prepared)[0]
    settings = prepared.spec.encode
    assert settings.max_frames == 100
    plain.transcode_pyav(source, tmp_path / "a.mp4", settings)
    assert shape(tmp_path / "a.mp4") == (100, 64, 64)
    every = EncodeSettings(max_frames=None, crf=1)
    plain.transcode_pyav(source, tmp_path / "b.mp4", every)
    assert shape(tmp_path / "b.mp4") == (120, 64, 64)
    program = find_ffmpeg()
    if program is None:
        pytest.skip("no ffmpeg")
    for name, how, count in (("c.mp4", settings, 100), ("d.mp4", every, 120)):
        plain.transcode_ffmpeg(program[0], source, tmp_path / name, how, frames=120, seconds=5.0)
        assert shape(tmp_path / name) == (count, 64, 64)
    apart = [ClipReader((tmp_path / name).read_bytes()).frames([60])[0].astype(int) for name in ("b.mp4", "d.mp4")]
    assert np.abs(apart[0] - apart[1]).mean() < 4, "the same picture"


def test_a_build_without_a_working_ffmpeg(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(regress_ratios, "cpu_seconds", lambda: float(next(ticks)))
    monkeypatch.setattr(regress_ratios, "_shard_maker", lambda prepared, folder: lambda: 8)
    monkeypatch.setattr(plain, "transcode_pyav", lambda source, target, settings: None)

    def found() -> dict[str, Measured]:
        return {row.name: row for row in regress_ratios.builds(small)}

    monkeypatch.setattr(regress_ratios, "find_ffmpeg", lambda: None)
    rows = found()
    assert rows["build/plain PyAV"].value == 2, "8 clips in a second, and 4"
    assert (rows["build/ffmpeg"].value, rows["build/ffmpeg"].note) == (None, "no ffmpeg")
    assert regress_ratios.conditions()["ffmpeg"] is None

    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(regress_ratios, "find_ffmpeg", lambda: (str(broken), "PATH"))
    row = found()["build/ffmpeg"]
    assert (row.value, row.note) == (None, "ffmpeg failed: Unknown encoder libx264")


def test_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole steps on both sides, one each turn after the first; the caller's random numbers are left alone."""
    monkeypatch.setattr(regress_ratios, "TURNS", 1)
    monkeypatch.setattr(regress_ratios, "BATCH", 1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    (found,) = regress_ratios.steps(tmp_path)
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)
    assert found.name == "step small-64/eager"
    assert isinstance(found.value, float)
    assert found.value > 0
    assert len(found.turns) == 1


def test_threads_are_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    def part(folder: Path) -> list[Measured]:
        seen.append(torch.get_num_threads())
        return []

    monkeypatch.setattr(regress_ratios, "PARTS", {"a": part, "b": part})
    torch.set_num_threads(2)
    told: list[str] = []
    regress_ratios.measure(tmp_path, told.append)
    assert (seen, torch.get_num_threads(), told) == ([1, 1], 2, ["a", "b"])

"""`vidkit bench regress` as it is typed: exit codes, tables, --update, --only, --json. No time is measured here."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.typed import said
from vidkit.bench.regress import exact as regress_exact
from vidkit.bench.regress import ratios as regress_ratios
from vidkit.bench.regress.compare import SECTIONS, Measured, read_baseline
from vidkit.bench.regress.ratios import Contest, hold, left_out
from vidkit.cli.bench import regress as command
from vidkit.models import masking

ENCODER = {"pyav": "18.1.0", "x264": "164"}


class Clock:
    """Goes on only when a contender says so: nothing here depends on the machine's load."""

    def __init__(self) -> None:
        self.now, self.ours_s, self.theirs_s = 0.0, 1.0, 3.0

    def __call__(self) -> float:
        return self.now

    def ours(self) -> int:
        self.now += self.ours_s
        return 1

    def theirs(self) -> int:
        self.now += self.theirs_s
        return 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Tokens as they are, a shard, a contest of a pretended clock, and a way that is not there."""
    clock = Clock()

    def contests(folder: Path) -> list[Measured]:
        assert folder.is_dir()
        return [
            *hold(Contest(name="work", ours=clock.ours, theirs={"plain": clock.theirs}), clock=clock),
            left_out("work/ffmpeg", "no ffmpeg"),
        ]

    def shard(folder: Path) -> list[Measured]:
        return [Measured(name="build/train/000000/sha256", value="ab" * 32, needs=("encoder",))]

    monkeypatch.setattr(regress_exact, "PARTS", {"tokens": regress_exact.tokens, "shards": shard})
    monkeypatch.setattr(regress_exact, "conditions", lambda: {"encoder": ENCODER})
    monkeypatch.setattr(regress_ratios, "PARTS", {"work": contests})
    monkeypatch.setattr(regress_ratios, "conditions", lambda: {"cpu": "A"})
    return clock


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        return said(monkeypatch, capsys, "bench", "regress", "--baseline", tmp_path / "regress.json", *words)

    return run


def line_of(text: str, name: str) -> list[str]:
    """Cells of the table's line of a value."""
    (line,) = (line for line in text.splitlines() if name in line)
    return [cell.strip() for cell in line.replace("┃", "│").split("│")][1:-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "regress.json"


def test_what_was_written_is_found_again(run: Run, path: Path) -> None:
    code, out, err = run("--update")
    assert (code, path.exists()) == (0, True)
    assert f"wrote {path}" in out
    assert "exact: 175 values: 175 new" in out
    assert "ratios: 2 values: 1 new, 1 not measured" in out
    assert "measuring: 3/3 parts" in err
    text = path.read_text()
    assert platform.node() not in text
    assert str(path.parent) not in text

    before = path.read_bytes()
    code, out, err = run()
    assert code == 0
    assert "exact: 175 values: 175 same" in out
    assert line_of(out, "work/plain") == ["work/plain", "3", "3", "+0.00%", "-30%", "same", ""]
    assert line_of(out, "work/ffmpeg") == ["work/ffmpeg", "", "", "", "-30%", "not measured", "no ffmpeg"]
    assert path.read_bytes() == before, "only --update writes"


def test_a_changed_token_count_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--update")
    real = masking.num_visible

    def one_more(grid: Any, ratio: float, rounding: Any = "matched", strategy: Any = "adaptive") -> int:
        more = (grid, ratio, rounding, strategy) == ((8, 14, 14), 0.95, "paper", "tube")
        return real(grid, ratio, rounding, strategy) + more

    monkeypatch.setattr(masking, "num_visible", one_more)
    code, out, err = run()
    assert code == 1
    name = "visible/8x14x14/paper/tube/0.95"
    assert line_of(out, "visible/") == [name, "80", "81", "+1.25%", "none", "changed", ""]
    assert "exact: 175 values: 174 same, 1 changed" in out
    assert "exit 1: 1 changed; if that is meant, take it over with --update" in err
    assert run("--only", "ratios")[0] == 0


@pytest.mark.parametrize(("ours_s", "code"), [(1.4, 0), (1.5, 1)])
def test_a_slow_down_fails(run: Run, clock: Clock, ours_s: float, code: int) -> None:
    run("--update")
    clock.ours_s = ours_s
    found, out, err = run()
    assert found == code
    name, baseline, now, change, tolerance, verdict, _ = line_of(out, "work/plain")
    assert (name, baseline, tolerance, verdict) == ("work/plain", "3", "-30%", "slower" if code else "same")
    assert float(now) == pytest.approx(3 / ours_s, abs=1e-3)
    assert change == f"{1 / ours_s - 1:+.2%}"
    assert ("1 slower" in err) == bool(code)


def test_a_slower_machine_is_no_slow_down(run: Run, clock: Clock) -> None:
    run("--update")
    clock.ours_s, clock.theirs_s = 10.0, 30.0
    assert run()[0] == 0


def test_another_encoder_is_not_comparable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--update")
    monkeypatch.setattr(regress_exact, "conditions", lambda: {"encoder": {**ENCODER, "x264": "165"}})
    code, out, _ = run()
    assert code == 0
    note = "encoder: x264 164 in the baseline, 165 now"
    cells = ["build/train/000000/sha256", "abababababab…", "abababababab…", "", "none", "not comparable", note]
    assert line_of(out, "build/train") == cells
    assert "exact: 175 values: 174 same, 1 not comparable" in out


def test_new_and_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--update")
    other = {"tokens": regress_exact.tokens, "more": lambda folder: [Measured(name="more", value=1234567)]}
    monkeypatch.setattr(regress_exact, "PARTS", other)
    code, out, err = run("--only", "exact")
    assert code == 1
    assert line_of(out, "more")[2:6] == ["1,234,567", "", "none", "new"]
    assert line_of(out, "build/train")[1:6] == ["abababababab…", "", "", "none", "gone"]
    assert "exit 1: 1 gone" in err
    code, out, _ = run("--update")
    assert code == 0
    assert "new" in line_of(out, "more")
    assert "gone" in line_of(out, "build/train")
    assert run()[0] == 0


def test_update_shows_the_difference(run: Run, clock: Clock, path: Path) -> None:
    run("--update")
    clock.theirs_s = 4.0
    code, out, _ = run("--update")
    assert code == 0
    assert line_of(out, "work/plain")[:6] == ["work/plain", "3", "4", "+33.33%", "-30%", "same"]
    assert "visible/" not in out
    assert read_baseline(path)["ratios"].values == {"work/plain": 4.0}


def test_update_of_one_part_leaves_the_other(run: Run, clock: Clock, path: Path) -> None:
    run("--update")
    before = read_baseline(path)
    clock.theirs_s = 4.0
    run("--update", "--only", "ratios")
    after = read_baseline(path)
    assert after["exact"] == before["exact"]
    assert after["ratios"].values == {"work/plain": 4.0}


def test_json(run: Run, clock: Clock) -> None:
    code, out, _ = run("--update", "--json")
    found = json.loads(out)
    assert (code, found["exit_code"], found["updated"]) == (0, 0, True)
    clock.ours_s = 2.0
    code, out, _ = run("--json")
    found = json.loads(out)
    assert (code, found["exit_code"], found["updated"]) == (1, 1, False)
    assert found["conditions"] == {"exact": {"encoder": ENCODER}, "ratios": {"cpu": "A"}}
    assert len(found["rows"]) == 177
    (row,) = (row for row in found["rows"] if row["failed"])
    assert row == {
        "section": "ratios",
        "name": "work/plain",
        "baseline": 3.0,
        "now": 1.5,
        "change": -0.5,
        "rule": "least",
        "tolerance": 0.3,
        "verdict": "slower",
        "note": "",
        "turns": [1.5] * 5,
        "failed": True,
    }


def test_without_a_baseline(run: Run, clock: Clock, path: Path) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "regress.json: there is no baseline" in err
    assert "make one with --update" in err
    run("--update", "--only", "exact")
    code, _, err = run()
    assert code == 2
    assert "field 'ratios': the baseline has no 'ratios'" in err
    assert clock.now == 0, "found out before anything was measured"
    assert run("--only", "exact")[0] == 0


def test_a_damaged_baseline(run: Run, clock: Clock, path: Path) -> None:
    run("--update")
    path.write_text(path.read_text()[:-20])
    clock.now = 0
    code, out, err = run()
    assert (code, out, clock.now) == (2, "", 0)
    assert "damaged JSON" in err
    assert "write it anew with --update" in err
    code, out, err = run("--update")
    assert code == 0
    assert "the old baseline is replaced without a comparison" in err
    assert run()[0] == 0


def test_an_unknown_part(run: Run) -> None:
    code, _, err = run("--only", "speed")
    assert code == 2
    assert "field '--only': there is no part 'speed'" in err
    assert "choose exact or ratios" in err


def test_nothing_is_left_behind(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen = []

    def part(folder: Path) -> list[Measured]:
        seen.append(folder)
        (folder / "clip").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(regress_ratios, "PARTS", {"work": part})
    code, _, err = run("--update")
    assert (code, "stopped" in err) == (130, True)
    assert seen[0].is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_the_repositorys() -> None:
    import inspect

    assert inspect.signature(command.run).parameters["baseline"].default == Path("benchmarks/results/regress.json")
    assert SECTIONS == ("exact", "ratios")

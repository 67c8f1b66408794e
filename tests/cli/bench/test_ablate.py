"""`vidkit ablate` and `vidkit report`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.typed import MICRO, TINY, command, settings, stopped
from tests.train import small
from vidkit.cli.app import main
from vidkit.cli.bench import asked
from vidkit.cli.datasets import build_dataset, drawn


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d", train=9, val=6)


def words(built: Path, out: Path, *more: object) -> list[object]:
    return ["ablate", "--data", built, "--out", out, "--recipe", "tiny", "--steps", 0, *MICRO, *more]


def test_from_a_grid_to_its_table(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    grid = ["--mask", "adaptive", "--mask", "tube", "--ratio", 0.9, "--seed", 0, "--seed", 1]
    assert command(monkeypatch, *words(built, out, *grid)) == 0
    said = capsys.readouterr()
    assert "Ablation, recipe tiny, dataset tiny" in said.out
    assert said.out.count("2 of 2") == 2
    assert "Contrasts" not in said.out, "there is no arm with random masks"
    assert "</svg>" in (out / "report.html").read_text()
    assert "paper (quoted): AdaMAE, Table 1" in said.out
    assert "cell 4 of 4: tube, 0.9, 4 of 32 tokens visible" in said.err
    assert command(monkeypatch, *words(built, out, *grid)) == 2
    assert "go on with them by --resume" in capsys.readouterr().err
    more = [*grid, "--seed", 2, "--resume", "--json"]
    assert command(monkeypatch, *words(built, out, *more)) == 0
    said = capsys.readouterr()
    assert said.err.count("done before") == 4
    found = json.loads(said.out)
    assert [line["seeds"] for line in found["lines"]] == ["3 of 3", "3 of 3"]
    assert [line["table"] for line in found["lines"]] == ["1a.2", "1b.3"]

    csv, markdown = tmp_path / "t.csv", tmp_path / "t.md"
    assert (
        command(monkeypatch, "report", out, "--csv", csv, "--markdown", markdown, "--html", tmp_path / "t.html")
        == 0
    )
    assert "2 of 2" not in capsys.readouterr().out
    assert len(csv.read_text().splitlines()) == 3
    assert (tmp_path / "t.html").read_text().count("<svg") == 8, "accuracy, memory, two losses, 3 measures, compute"
    assert "| paper (quoted) top-1 % |" in markdown.read_text()

    results = out / "results.jsonl"
    results.write_text(results.read_text().replace('"status": "ok"', '"status": "fine"', 1))
    assert command(monkeypatch, "report", out) == 2
    assert "results.jsonl, row 1: no result row" in capsys.readouterr().err


def test_contrasts_are_printed_and_named_before_the_run(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["--mask", "tube", "--mask", "random", "--ratio", 0.75, "--seed", 0, "--seed", 1]
    given = words(built, tmp_path / "out", *grid, "--measure", "common-error", "--at", 100)
    assert command(monkeypatch, *given, "--contrast", "tube:randon") == 2
    assert "contrast 'tube:randon' names no two arms" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert command(monkeypatch, *given, "--equal", "time") == 2
    assert "arms cannot have 'time' alike" in capsys.readouterr().err
    assert command(monkeypatch, *given, "--contrast", "tube:random", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (one,) = found["contrasts"]
    assert (one["contrast"], one["measure"]) == ("tube 0.75 against random 0.75", "common-error")
    assert (one["paired"]["seeds"], one["late"]) == (2, False)
    errors = {
        (row["plan"]["cell"]["settings"]["mask"], row["plan"]["seed"]): row["common_error"] for row in found["rows"]
    }
    differences = [100 * (errors["tube", seed] / errors["random", seed] - 1) for seed in (0, 1)]
    assert one["paired"]["difference"] == pytest.approx(sum(differences) / 2)
    assert command(monkeypatch, "report", tmp_path / "out") == 0
    assert "Contrasts" in capsys.readouterr().out


def test_a_failed_cell_exits_1(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(built, tmp_path, "--mask", "tube", "--ratio", 0.5, "--set", "pretrain.optim.batch_size=1000")
    assert command(monkeypatch, *given) == 1
    said = capsys.readouterr()
    assert "failed: an epoch has" in said.out or "fewer than one step takes" in said.out


def test_a_stopped_grid_says_how_to_go_on(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vidkit.train.pretrain.run", stopped)
    assert command(monkeypatch, *words(built, tmp_path / "out", "--ratio", 0.5)) == 130
    assert "finished cells are kept" in capsys.readouterr().err
    assert command(monkeypatch, "report", tmp_path / "out") == 0
    assert "missing" in capsys.readouterr().out


def test_without_data_motions_are_built_once(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def draw(out: Path, kind: str, *, clips: int, level: int, shares: tuple[float, ...]) -> Path:
        assert (kind, clips, level, shares) == ("motions", 2400, 2, (0.6, 0.04, 0.36))
        return out.with_name("drawn")

    def build(spec: str, *, out: Path, source: list[str], **options: Any) -> int:
        asked.append((spec, out, source))
        small.dataset(out, train=9, val=6)
        print("on the way")
        return 0

    monkeypatch.setattr(drawn, "draw_beside", draw)
    monkeypatch.setattr(build_dataset, "run", build)
    out = tmp_path / "out"
    given = ["ablate", "--mask", "random", "--ratio", 0.98, "--out", out, "--steps", 0, *MICRO, "--json"]
    assert command(monkeypatch, *given, "--split", "val") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["lines"][0]["V of N"] == "2 of 128"
    assert "on the way" in said.err
    assert "patches of 4 pixels instead of 8, in every cell: 32 tokens are too few for a ratio of 0.98" in said.err
    assert "recipe tiny-8" in said.err
    assert command(monkeypatch, *given, "--split", "val", "--resume") == 0
    assert asked == [("motions", out / "data", [f"motions={out / 'drawn'}"])]


def test_generated_clips_could_not_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "draw_beside", lambda out, kind, **how: out)
    monkeypatch.setattr(build_dataset, "run", lambda *args, **kwargs: 1)
    assert command(monkeypatch, "ablate", "--out", tmp_path / "out") == 1


def test_dry_run(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = words(built, out, "--mask", "tube", "--mask", "frame", "--ratio", 0.75, "--dry-run")
    assert command(monkeypatch, *given) == 0
    said = capsys.readouterr().out
    assert "2 cells, recipe tiny" in said
    assert "frame, 0.75, 8 of 32 tokens visible" in said
    assert "for 9 clips" in said
    assert not out.exists()
    assert command(monkeypatch, *given, "--json") == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["cell"]["visible"] for cell in cells] == [8, 8]
    assert all(cell["hours"] > 0 and cell["predicted_bytes"] > 0 for cell in cells)


def test_memory_only_needs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["ablate", "--preset", "table1e", "--memory-only", "--recipe", "tiny", "--out", tmp_path]
    micro = settings([f"pretrain.{text}" for text in TINY] + ["pretrain.model.encoder.patch=4"])
    assert command(monkeypatch, *given, *micro, "--json") == 0
    said = capsys.readouterr()
    assert "cell 1 of 1: " in said.err, "epochs make no difference to memory"
    lines = json.loads(said.out)["lines"]
    assert [line["table"] for line in lines] == ["1e.1", "1e.2", "1e.3", "1e.4"]
    assert all(float(line["predicted GB"]) > 0 for line in lines)
    assert all(line["paper (quoted) top-1 %"] == line["top-1 %"] == "–" for line in lines)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--mask", "tubes"], "mask is 'tubes'; expected one of tube, random, frame, adaptive"),
        (["--ratio", "1.5"], "ratio is 1.5; expected above 0 and below 1"),
        (["--ratio", "0.99"], "mask ratio 0.99 leaves no token visible"),
        (["--preset", "table2"], "there is no preset 'table2'"),
        (["--preset", "masks", "--ratio", "0.5"], "a preset has its own masks"),
        (["--recipe", "none"], "there is no recipe 'none'"),
        (["--split", "test"], "no clips in split 'test'"),
        (["--set", "pretrain.seed=3"], "pretrain.seed has no effect here"),
        (["--set", "finetune.views.views=[2, 2]"], "use --set test."),
        (["--set", "optim.epochs=3"], "there is no setting 'optim.epochs'"),
        (["--steps", "-1"], "--steps"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage(
    more: list[str],
    said: str,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, *words(built, tmp_path / "out", *more)) == 2
    assert said in capsys.readouterr().err


def test_no_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "report", tmp_path) == 2
    assert "no results in" in capsys.readouterr().err


def test_bench_loader_as_typed(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["bench", "loader", "--data", built, "--frames", 4, "--stride", 2, "--size", 32, "--batch-size", 4]
    given += ["--workers", 0, "--batches", 1, "--step-ms", 0, "--device", "cpu", "--json"]
    assert command(monkeypatch, *given) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 9


def test_results_are_read_without_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; import vidkit.bench.report.html, vidkit.cli.bench.tables; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_decided_settings_are_settings() -> None:
    from vidkit.settings.plain import to_plain
    from vidkit.settings.recipes import RECIPES

    plain = to_plain(RECIPES["tiny"]())
    for name in asked.DECIDED:
        place: Any = plain
        for part in name.rstrip(".").split("."):
            place = place[part]


@pytest.mark.slow
def test_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["vidkit", "ablate", "--mask", "adaptive", "--ratio", "0.95"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "paper (quoted) top-1 %" in capsys.readouterr().out
    assert (tmp_path / "vidkit-ablation" / "results.jsonl").exists()

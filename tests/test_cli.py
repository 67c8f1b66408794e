"""The command line as scripts see it: exit codes, JSON, imports, and a first run with nothing given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vidkit.cli import main
from vidkit.data.synthetic_layouts import write_layout

HEAVY = {"torch", "pandas", "torchvision", "timm", "webdataset", "matplotlib"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a command in an empty folder; gives (exit code, stdout, stderr)."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["vidkit", *map(str, words)])
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "kinetics"
    write_layout("kinetics", root, clips=24, classes=4, size=(32, 24), frames=4, missing=0.1, broken=0.1)
    return root


SMALL = ("--size", 16, "--frames", 2)


def loaded(program: str) -> set[str]:
    """Top-level modules that a program has imported when it ends."""
    code = f"{program}\nimport sys; print('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def command(*words: object) -> str:
    """A program that runs a command and goes on."""
    words = ("vidkit", *map(str, words))
    return f"import sys\nfrom vidkit.cli import main\nsys.argv = {[*words]!r}\ntry: main()\nexcept SystemExit: pass"


def test_help_and_import_are_light() -> None:
    assert not loaded("import vidkit, vidkit.data") & (HEAVY | {"pyarrow", "av"})
    assert not loaded(command("--help")) & (HEAVY | {"pyarrow", "av", "numpy"})


def test_building_does_not_import_torch(kinetics: Path, tmp_path: Path) -> None:
    source = ("--kinetics", kinetics, "--out", tmp_path / "out")
    assert not loaded(command("build-dataset", "k400", *source, *SMALL, "--max-failures", 50, "--json")) & (
        HEAVY - {"pandas"}  # pyarrow imports it by itself
    )
    assert (tmp_path / "out" / "dataset.json").exists()


def test_with_nothing_given_it_builds_a_marked_demo_and_says_how_to_go_on(run: Any) -> None:
    code, out, err = run("build-dataset", *SMALL, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["name"] == "demo"
    assert answer["synthetic"] is True
    assert "No datasets under data" in err
    assert "--kinetics DIR" in err
    assert "SYNTHETIC" in Path("vidkit-demo/README.md").read_text()
    again, out, _ = run("build-dataset", *SMALL, "--json")
    assert (again, json.loads(out)) == (0, answer), "a second run has nothing to do and says the same"
    code, out, _ = run("inspect", "vidkit-demo", "--sheet", "sheet.png", "--clips", 4)
    assert code == 0
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")
    assert run("verify", "vidkit-demo", "--sample", 5)[0] == 0


def test_sources_are_found_under_the_data_folder(run: Any, kinetics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDKIT_DATA", str(kinetics.parent))
    code, out, _ = run("build-dataset", "k400", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["planned"] == 24
    code, _, err = run("build-dataset")  # the default spec needs TinyVIRAT, too: no demo behind the user's back
    assert code == 2
    assert "tinyvirat" in err


def test_failures_missing_files_and_the_limit(run: Any, kinetics: Path, tmp_path: Path) -> None:
    words = ("build-dataset", "k400", "--kinetics", kinetics, *SMALL, "--out", tmp_path / "out", "--json")
    code, out, _err = run(*words)
    answer = json.loads(out)
    assert code == 1
    assert "--max-failures 5" in answer["reasons"][0]
    assert answer["counts"] | {"bytes": 0, "frames": 0} == {
        "planned": 24,
        "ok": 20,
        "failed": 2,
        "missing": 2,
        "with_warnings": 0,
        "frames": 0,
        "bytes": 0,
        "shards": 3,
    }
    assert set(answer["errors"]) <= {"empty", "truncated", "missing"}
    assert run(*words, "--max-failures", 10)[0] == 0
    code, out, _ = run("inspect", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out)["counts"]["failed"] == 2


def test_other_settings_on_the_same_folder_are_named(run: Any, kinetics: Path, tmp_path: Path) -> None:
    words = ("build-dataset", "k400", "--kinetics", kinetics, "--out", tmp_path / "out", "--max-failures", 50)
    assert run(*words, *SMALL)[0] == 0
    code, _, err = run(*words, "--size", 24, "--frames", 2, "--seed", 1)
    assert code == 1
    assert "settings.encode.size: 16 there, 24 here" in err
    assert "settings.seed: 0 there, 1 here" in err
    assert "->" in err


def test_present_only_and_limit_change_the_plan_and_not_the_labels(run: Any, kinetics: Path) -> None:
    words = ("build-dataset", "k400", "--kinetics", kinetics, "--dry-run", "--json")
    full = json.loads(run(*words)[1])
    present = json.loads(run(*words, "--present-only")[1])
    few = json.loads(run(*words, "--limit", 5)[1])
    assert (full["planned"], present["planned"], few["planned"]) == (24, 22, 5)
    assert full["label_map_sha256"] == present["label_map_sha256"] == few["label_map_sha256"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["build-dataset", "k401"], ["k401", "did you mean 'k400'"]),
        (["build-dataset", "k400", "--ssv2", "."], ["k400 has no source 'ssv2'", "build-dataset ssv2"]),
        (["build-dataset", "k400"], ["no source of k400 was found", "--kinetics DIR"]),
        (["build-dataset", "k400", "--kinetics", "nowhere"], ["nowhere is no folder"]),
        (["build-dataset", "demo", "--size", "15"], ["size is 15", "16 to 4096"]),
        (["build-dataset", "demo", "--transcoder", "magic"], ["magic", "pyav or ffmpeg"]),
        (["build-dataset", "demo", "--kinetics-fraction", "2"], ["--kinetics-fraction is 2.0"]),
        (["build-dataset", "--source", "x"], ["NAME=DIR"]),
        (["synth", "kinetics", "--out", "s", "--size", "big"], ["WIDTHxHEIGHT"]),
        (["synth", "hmdb", "--out", "s"], ["hmdb"]),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else None,
)
def test_bad_usage_exits_2_and_says_what_to_do(run: Any, words: list[str], expected: list[str]) -> None:
    code, out, err = run(*words)
    assert code == 2, err
    assert out == ""
    assert all(text in err for text in expected), err
    assert "Traceback" not in err


def test_verify_and_inspect_of_no_dataset(run: Any) -> None:
    for command in ("verify", "inspect"):
        code, _, err = run(command, "nowhere")
        assert code == 1
        assert "no dataset in nowhere" in err


def test_a_newer_format_is_a_clear_error(run: Any, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"format": 99, "status": "complete"}')
    code, _, err = run("inspect", tmp_path)
    assert code == 1
    assert "format 99 is newer" in err
    assert "upgrade" in err


def test_forbid_leaks_stops_before_building(run: Any, tmp_path: Path) -> None:
    root = tmp_path / "kinetics"
    root.mkdir()
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    (root / "train.csv").write_text(header + "yoga,aaaaaaaaaaa,0,10,train,0\n")
    (root / "val.csv").write_text(header + "yoga,aaaaaaaaaaa,20,30,val,0\n")
    code, _, err = run("build-dataset", "k400", "--kinetics", root, "--forbid-leaks")
    assert code == 1
    assert "aaaaaaaaaaa" in err
    assert not Path("vidkit-k400").exists()
    code, out, _ = run("build-dataset", "k400", "--kinetics", root, "--dry-run", "--json")
    assert [leak["value"] for leak in json.loads(out)["leaks"]] == ["aaaaaaaaaaa"]


def test_synth_says_what_to_run_next(run: Any) -> None:
    code, out, _ = run(
        "synth", "kinetics-flat", "--out", "k", "--clips", 6, "--classes", 2, "--frames", 2, "--size", "32x24"
    )
    assert code == 0
    assert "next: vidkit build-dataset k400 --kinetics k" in out
    code, out, _ = run("build-dataset", "k400", "--kinetics", "k", *SMALL, "--json")
    assert (code, json.loads(out)["counts"]["ok"]) == (0, 6)


def test_doctor_answers_in_json(run: Any) -> None:
    code, out, _ = run("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 0
    assert findings["decoder pyav"]["status"] == "ok"

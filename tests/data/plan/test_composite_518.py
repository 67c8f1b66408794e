"""The 518-class composite from generated sources, through the command line: found beside expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.builds import check_whole
from vidkit.cli.app import main
from vidkit.cli.datasets.plan_report import print_reconciliation
from vidkit.cli.output import console
from vidkit.data.synth.layouts import write_layout

SMALL: dict[str, Any] = {"size": (32, 24), "frames": 3}


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources") / "kinetics"
    write_layout("kinetics-bare-ids", root, clips=400, classes=400, distinct=400, **SMALL)
    return root


def tinyvirat(root: Path, label_sets: int) -> Path:
    write_layout("tinyvirat-v1", root, clips=2 * label_sets, label_sets=label_sets, **SMALL)
    return root


def vidkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """(exit code, stdout) of a command."""
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["vidkit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *words: vidkit(capsys, monkeypatch, *words)


def found(answer: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {row["what"]: (row["expected"], row["found"]) for row in answer["reconciliation"]}


def test_400_classes_and_118_label_sets_give_518(run: Any, kinetics: Path, tmp_path: Path) -> None:
    sources = ["--kinetics", kinetics, "--tinyvirat", tinyvirat(tmp_path / "tv", 118)]
    small = ["--size", 16, "--frames", 2, "--out", tmp_path / "out", "--json"]
    code, text = run("build-dataset", *sources, *small)
    answer = json.loads(text)
    assert code == 0 == answer["exit_code"]
    assert answer["classes"] == 518
    assert found(answer) == {
        "classes": (518, 518),
        "clips": (24_927, 636),
        "clips/tinyvirat": (12_829, 236),
        "clips/kinetics": (12_098, 400),
    }
    check_whole(tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert facts["label_map"]["classes"][:400] == sorted(facts["label_map"]["classes"][:400])
    assert not facts["folded"]
    # every Kinetics clip trains; TinyVIRAT keeps its own splits
    assert facts["splits"]["train"]["ok"] + facts["splits"]["test"]["ok"] == 636

    code, text = run("build-dataset", *sources, *small, "--strict")
    assert code == 1, "the clip counts differ from the published ones"
    assert len([reason for reason in json.loads(text)["reasons"] if reason.startswith("clips")]) == 3
    assert run("verify", tmp_path / "out")[0] == 0


def test_200_classes_say_why_there_are_fewer(run: Any, kinetics: Path, tmp_path: Path) -> None:
    code, text = run(
        "build-dataset",
        *("--kinetics", kinetics, "--tinyvirat", tinyvirat(tmp_path / "tv", 118)),
        *("--kinetics-classes", "minikinetics-200", "--dry-run", "--json"),
    )
    answer = json.loads(text)
    assert code == 0
    assert answer["classes"] == 318
    (note,) = (note for note in answer["absent"]["notes"] if "318" in note)
    assert all(word in note for word in ("200", "118", "minikinetics-200"))


def test_150_label_sets_are_folded_into_the_kept_ones(run: Any, kinetics: Path, tmp_path: Path) -> None:
    code, _ = run(
        "build-dataset",
        *("--kinetics", kinetics, "--tinyvirat", tinyvirat(tmp_path / "tv", 150)),
        *("--size", 16, "--frames", 2, "--out", tmp_path / "out", "--max-failures", 50, "--json"),
    )
    facts = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert code == 0
    assert len(facts["label_map"]["classes"]) == 518
    assert len(facts["folded"]) == 150 - 118
    kept = set(facts["label_map"]["classes"])
    for folded in facts["folded"]:
        assert folded["label_set"] not in kept
        if folded["into"] is not None:
            assert folded["into"] in kept
            assert set(folded["into"].split("+")) < set(folded["label_set"].split("+"))
    lost = sum(folded["clips"] for folded in facts["folded"] if folded["into"] is None)
    assert facts["errors"].get("label-set-not-kept", 0) == lost
    counts = facts["counts"]
    assert counts["planned"] == counts["ok"] + counts["failed"] == 700


def test_a_whole_kinetics_is_told_how_to_be_made_smaller(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"what": "clips/kinetics", "expected": 12_098, "planned": 241_960, "found": 0, "where": "arXiv"}
    print_reconciliation([row], console(), stored=False)
    assert "--kinetics-fraction 0.05 takes as much" in capsys.readouterr().out
    print_reconciliation([row | {"planned": 12_000}], console(), stored=False)
    assert "--kinetics-fraction" not in capsys.readouterr().out

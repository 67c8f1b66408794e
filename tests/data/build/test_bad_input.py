"""Every kind of bad input through whole builds: a code in the ledger, or one clear error. Nothing disappears."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import badmedia
from tests.data import builds
from tests.data.builds import FOLDERS, plan, run
from vidkit.data.build import clip_worker
from vidkit.data.manifests import load_spec
from vidkit.data.paths import text_to_path
from vidkit.data.plan.planning import Request, prepare
from vidkit.errors import AnnotationError
from vidkit.settings.encode import SourceOptions

ROOT = os.geteuid() == 0


def ledger_by_path(built: Any) -> dict[str, dict[str, Any]]:
    return {text_to_path(row["path"]): row for row in built.ledger.to_pylist() if row["path"] is not None}


def test_each_bad_file_has_its_code_and_each_odd_one_is_stored(tmp_path: Path) -> None:
    cases = dict(badmedia.CASES.items())
    folder = tmp_path / "clips" / "train" / "a"
    folder.mkdir(parents=True)
    for name, case in cases.items():
        case.write(folder / f"{name}{case.suffix}")
    prepared = plan(FOLDERS, tmp_path / "clips")
    built = run(prepared, tmp_path / "out", workers=2)
    rows = ledger_by_path(built)
    assert built.ledger.num_rows == len(cases) == len(rows) >= 25
    for name, case in cases.items():
        row = rows[f"train/a/{name}{case.suffix}"]
        if case.concealed:  # a tolerant decoder may store it; then it says that it concealed damage
            assert row["error"] == case.error or (row["status"] == "ok" and row["warnings"]), name
        elif case.error is None:
            assert (row["status"], row["frames"]) == ("ok", min(case.frames or 0, 4)), (name, row["message"])
        else:
            assert (row["status"], row["error"]) == ("failed", case.error), (name, row["message"])
            assert row["message"], name
            assert "0x" not in row["message"], "a memory address would change the ledger's bytes"
    counts = built.facts["counts"]
    assert counts["planned"] == counts["ok"] + counts["failed"] + counts["missing"] == len(cases)
    builds.check_whole(tmp_path / "out")


@pytest.mark.usefixtures("in_process")
def test_strict_decoding_makes_concealed_damage_a_failure(tmp_path: Path) -> None:
    concealed = {name: case for name, case in badmedia.CASES.items() if case.concealed}
    for name, case in concealed.items():
        path = tmp_path / "clips" / "train" / "a" / f"{name}{case.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        case.write(path)
    built = run(plan(FOLDERS, tmp_path / "clips", strict_decode=True), tmp_path / "out", strict_decode=True)
    assert concealed
    assert {row["error"] for row in built.ledger.to_pylist()} == {case.error for case in concealed.values()}


def test_odd_names_are_stored_under_their_own_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "clips" / "train" / "a"
    folder.mkdir(parents=True)
    written = badmedia.write_named(folder)
    built = run(plan(FOLDERS, tmp_path / "clips"), tmp_path / "out")
    rows = ledger_by_path(built)
    assert set(rows) == {f"train/a/{path.name}" for path in written.values()}
    assert {row["status"] for row in rows.values()} == {"ok"}, [row["message"] for row in rows.values()]


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "clips" / "train" / "a" / "x.mp4"
    builds.write_clip(path)
    path.chmod(0)
    built = run(plan(FOLDERS, tmp_path / "clips"), tmp_path / "out")
    assert built.ledger["error"].to_pylist() == ["unreadable"]


def test_links_that_lead_out_are_not_followed_unless_asked(tmp_path: Path) -> None:
    builds.write_clip(tmp_path / "secret.mp4")
    builds.write_clip(tmp_path / "clips" / "train" / "a" / "in.mp4", first=9)
    (tmp_path / "clips" / "train" / "a" / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    built = run(plan(FOLDERS, tmp_path / "clips"), tmp_path / "out")
    assert sorted((row["status"], row["error"]) for row in built.ledger.to_pylist()) == [
        ("failed", "unsafe-path"),
        ("ok", None),
    ]
    followed = plan(FOLDERS, tmp_path / "clips", options=SourceOptions(follow_symlinks=True))
    built = run(followed, tmp_path / "out2", follow_symlinks=True)
    assert built.ledger["status"].to_pylist() == ["ok", "ok"]


def kinetics(tmp_path: Path, csv: str, *files: str) -> Path:
    root = tmp_path / "kinetics"
    for i, name in enumerate(files):
        builds.write_clip(root / name, first=10 * i)
    root.mkdir(exist_ok=True)
    (root / "train.csv").write_text(csv)
    return root


HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def k400(root: Path) -> Any:
    return prepare(load_spec("k400"), {"kinetics": root}, Request(size=32, frames=4))


@pytest.mark.usefixtures("in_process")
def test_bad_annotation_rows_stand_in_the_ledger(tmp_path: Path) -> None:
    root = kinetics(
        tmp_path,
        HEADER
        + "abseiling,aaaaaaaaaaa,0,10,train,0\n"
        + "abseiling,aaaaaaaaaaa,0,10,train,0\n"  # twice
        + "flying to Mars,bbbbbbbbbbb,0,10,train,0\n"  # no such class
        + "abseiling,../../etc/p,0,10,train,0\n"  # no YouTube id, and no way out
        + "abseiling,ccccccccccc,zero,10,train,0\n"  # no number
        + "abseiling,ddddddddddd,0,10,train,0\n"  # no file
        + "archery,-eeeeeeeeee,0,10,train,0\n",  # begins with a dash
        "aaaaaaaaaaa_000000_000010.mp4",
        "bbbbbbbbbbb_000000_000010.mp4",
        "archery/-eeeeeeeeee_000000_000010.mp4",
    )
    built = run(k400(root), tmp_path / "out")
    rows = built.ledger.to_pylist()
    assert len(rows) == 7
    found = sorted((row["clip_id"], row["error"]) for row in rows if row["error"] is not None)
    assert [code for _, code in found].count("bad-annotation") == 2
    codes = {code for _, code in found}
    assert codes == {"duplicate-row", "unknown-label", "bad-annotation", "missing"}
    assert sum(row["status"] == "ok" for row in rows) == 2
    number = next(row for row in rows if row["error"] == "bad-annotation" and "zero" in (row["message"] or ""))
    assert all(word in number["message"] for word in ("train.csv", "row 6", "time_start"))


def write_tinyvirat(root: Path, text: str) -> Path:
    builds.write_clip(root / "videos" / "train" / "VIRAT_S_000001" / "1.mp4")
    (root / "tiny_train.json").write_text(text)
    return root


TUBE = {"id": 1, "path": "VIRAT_S_000001/1.mp4", "dim": [5, 32, 32], "label": ["activity_walking"]}


@pytest.mark.parametrize(
    ("write", "spec", "source", "words"),
    [
        (lambda p: kinetics(p, "a,b\n1,2\n"), "k400", "kinetics", ["train.csv"]),
        (lambda p: kinetics(p, ""), "k400", "kinetics", ["train.csv", "empty"]),
        (
            lambda p: kinetics(p, "label,youtube_id,begin\nyoga,aaaaaaaaaaa,0\n"),
            "k400",
            "kinetics",
            ["train.csv", "time_start"],
        ),
        (
            lambda p: write_tinyvirat(p / "t", '{"tubes": [\n{"id": 1,, }\n]}'),
            "tinyvirat",
            "tinyvirat",
            ["tiny_train.json", "2"],
        ),
        (
            lambda p: write_tinyvirat(p / "t", '{"clips": []}'),
            "tinyvirat",
            "tinyvirat",
            ["tiny_train.json", "tubes"],
        ),
    ],
    ids=["csv-of-another-kind", "csv-empty", "csv-lacks-columns", "json-malformed", "json-of-another-kind"],
)
def test_structurally_wrong_annotations_are_one_clear_error(
    tmp_path: Path, write: Any, spec: str, source: str, words: list[str]
) -> None:
    with pytest.raises(AnnotationError) as caught:
        prepare(load_spec(spec), {source: write(tmp_path)}, Request())
    assert caught.value.hint
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.usefixtures("in_process")
def test_paths_in_tinyvirat_annotations_cannot_leave_the_folder(tmp_path: Path) -> None:
    tubes = [
        TUBE,
        {**TUBE, "id": 2, "path": "../../../secret.mp4"},
        {**TUBE, "id": 3, "path": str(tmp_path / "secret.mp4")},
        {**TUBE, "id": 4, "label": ["activity_flying"]},
        {**TUBE, "id": 5, "path": "VIRAT_S_000001/5.mp4"},
    ]
    builds.write_clip(tmp_path / "secret.mp4")
    root = write_tinyvirat(tmp_path / "t", json.dumps({"tubes": tubes}))
    prepared = prepare(load_spec("tinyvirat"), {"tinyvirat": root}, Request(size=32, frames=4))
    built = run(prepared, tmp_path / "out")
    errors = sorted(row["error"] or "ok" for row in built.ledger.to_pylist())
    assert errors == ["missing", "ok", "unknown-label", "unsafe-path", "unsafe-path"]


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import time; time.sleep(60)", "timeout"),
        (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
            "timeout",
        ),
        ("import os; os.abort()", "crashed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
    ],
    ids=["hangs", "waits-for-a-child-that-hangs", "aborts", "segmentation-fault"],
)
def test_a_clip_that_hangs_or_crashes_the_decoder_costs_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, code: str
) -> None:
    for i in range(6):
        builds.write_clip(tmp_path / "clips" / "train" / "a" / f"{i}.mp4", first=10 * i)
    # the child runs the program instead of decoding the third clip
    child = clip_worker._CHILD.replace(
        "; main()",
        "\nimport vidkit.data.build.clip_worker as c\nmake = c.make_clip\n"
        f"def bad(job):\n    if job.path.endswith('3.mp4'):\n        {program}\n    return make(job)\n"
        "c.make_clip = bad\nmain()",
    )
    assert child != clip_worker._CHILD
    monkeypatch.setattr(clip_worker, "_CHILD", child)
    built = run(plan(FOLDERS, tmp_path / "clips"), tmp_path / "out", timeout_s=2.0)
    rows = ledger_by_path(built)
    assert {path: row["error"] for path, row in rows.items() if row["error"]} == {"train/a/3.mp4": code}
    builds.check_whole(tmp_path / "out")


def every_kind_in_kinetics(root: Path) -> dict[str, str]:
    """An annotated tree of class folders with one clip of each kind; native id -> kind."""
    kinds, lines = {}, [HEADER]
    for i, (name, case) in enumerate(badmedia.CASES.items()):
        youtube = f"-{i:03d}_abc-ef"  # begins with a dash, and holds what separates times
        path = root / ("arm wrestling", "yoga")[i % 2] / f"{youtube}_000001_000011{case.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        case.write(path)
        kinds[f"{youtube}_000001_000011"] = name
        lines.append(f"{('arm wrestling', 'yoga')[i % 2]},{youtube},1,11,train,0\n")
    (root / "train.csv").write_text("".join(lines))
    return kinds


def every_kind_in_tinyvirat(root: Path) -> dict[str, str]:
    kinds, tubes = {}, []
    for i, (name, case) in enumerate(badmedia.CASES.items()):
        path = f"VIRAT_S_{i % 3:06d}/{i}{case.suffix}"
        (root / "videos/train" / path).parent.mkdir(parents=True, exist_ok=True)
        case.write(root / "videos/train" / path)
        kinds[path.rpartition(".")[0]] = name
        tubes.append({**TUBE, "id": i, "path": path})
    (root / "tiny_train.json").write_text(json.dumps({"tubes": tubes}))
    return kinds


@pytest.mark.parametrize(
    ("spec", "source", "write"),
    [("k400", "kinetics", every_kind_in_kinetics), ("tinyvirat", "tinyvirat", every_kind_in_tinyvirat)],
)
def test_every_kind_in_one_real_tree_by_the_command(spec: str, source: str, write: Any, tmp_path: Path) -> None:
    kinds = write(tmp_path / "t")
    words = ["build-dataset", spec, f"--{source}", tmp_path / "t", "--out", tmp_path / "out", "--size", "32"]
    done = builds.vidkit(*words, "--workers", "2", "--json")
    assert done.returncode == 1, "far more than 5 % failed"
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    rows = {row["clip_id"].partition("/")[2]: row for row in builds.check_whole(tmp_path / "out")}
    assert len(kinds) == len(rows) == report["counts"]["planned"] >= 35
    for native, name in kinds.items():
        case, row = badmedia.CASES[name], rows[native]
        if case.error is None:
            assert row["status"] == "ok", (name, row["message"])
        elif not case.concealed:
            assert (row["status"], row["error"]) == ("failed", case.error), name
    errors = {row["error"] for row in rows.values()} - {None}
    assert errors <= set(report["errors"])
    assert {"empty", "truncated", "no-video-stream", "not-a-video", "decode-error", "unreadable"} <= errors
    again = builds.vidkit(*words, "--json", "--retry-failed")
    assert again.returncode == 1
    assert json.loads(again.stdout)["counts"] == report["counts"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a.mp4 0", "b.mp4 99"], ["train.csv", "row 2", "99"]),
        (["a.mp4 0", "../b.mp4 1"], ["train.csv", "row 2", "../b.mp4"]),
        (["a.mp4 0", "gone.mp4 1"], ["train.csv", "row 2", "gone.mp4"]),
        (["a.mp4 0", "a.mp4 0"], ["train.csv", "row 2"]),
    ],
    ids=["no such class", "leads out", "no file", "twice"],
)
@pytest.mark.usefixtures("in_process")
def test_a_bad_line_of_a_list_is_a_row_or_an_error_that_names_it(
    lines: list[str], said: list[str], tmp_path: Path
) -> None:
    for name in ("t/a.mp4", "t/b.mp4", "b.mp4"):
        builds.write_clip(tmp_path / name)
    (tmp_path / "t/train.csv").write_text("".join(f"{line}\n" for line in lines))
    try:
        run(plan(builds.LISTED, tmp_path / "t"), tmp_path / "out")
    except AnnotationError as error:
        words = str(error)
    else:
        rows = builds.check_whole(tmp_path / "out")
        assert len(rows) == 2
        assert sorted(row["status"] == "ok" for row in rows) == [False, True]
        words = next(f"{row['error']} {row['message']}" for row in rows if row["status"] != "ok")
    for word in said:
        assert word in words

"""Several files of one clip: the good one is used, and the ledger says which; several segments of one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.builds import TINY, by_id, check_whole, cut, plan, run, snapshot, write_clip
from tests.data.sources.trees import csv_lines, write
from vidkit.data.plan import layout
from vidkit.data.plan.composite import PLAN_SCHEMA
from vidkit.settings.encode import DatasetSpec, SourceSpec

A, B, C = "AbCdEfGhIjK", "-bCdEfGhIjK", "_______-___"
T = "000001_000003"

KINETICS = DatasetSpec(
    name="k",
    title="K",
    sources=(SourceSpec(name="kinetics", kind="kinetics", classes="names", class_names=("archery", "yoga")),),
    encode=TINY,
    clips_per_shard=4,
)


def annotate(folder: Path, *rows: str) -> None:
    write(folder, "kinetics.csv", csv_lines(*rows))


def bad(path: Path, first: int = 0) -> None:
    write_clip(path, first=first)
    cut(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "k"
    annotate(root, f"yoga,{A},1,3,train,0", f"yoga,{B},1,3,train,0", f"archery,{C},1,3,val,0")
    bad(root / "yoga" / f"{A}_{T}.mp4")
    write_clip(root / "yoga" / f"{A}_{T}.mkv.mp4", first=10)
    bad(root / "yoga" / f"{B}_{T}.mp4", first=20)
    (root / f"{B}.webm").write_bytes(b"")
    write_clip(root / f"{C}_{T}.mp4", first=30)
    return root


def test_the_good_copy_is_used_and_the_ledger_says_which(tree: Path, tmp_path: Path) -> None:
    (tree / "yoga" / f"{A}_{T}.mkv.mp4").rename(tree / "yoga" / f"{A}_{T}.mp4.mp4")  # sorted after the bad one
    prepared = plan(KINETICS, tree)
    assert prepared.table["error"].null_count == 3
    run(prepared, tmp_path / "out")
    check_whole(tmp_path / "out")
    rows = by_id(tmp_path / "out")
    used = rows[f"{A}_{T}"]
    assert (used["status"], used["path"]) == ("ok", f"yoga/{A}_{T}.mp4.mp4")
    assert len(used["warnings"]) == 1
    assert used["warnings"][0].startswith(f"another copy was used, as yoga/{A}_{T}.mp4 failed (")
    failed = rows[f"{B}_{T}"]
    assert (failed["status"], failed["path"]) == ("failed", f"yoga/{B}_{T}.mp4")
    assert failed["error"] != "empty"  # the first file's error, and the other's in words
    assert f"so did a copy: {B}.webm failed (empty: " in failed["message"]
    assert (rows[f"{C}_{T}"]["status"], rows[f"{C}_{T}"]["warnings"]) == ("ok", [])


def test_the_first_is_used_where_it_is_good(tree: Path, tmp_path: Path) -> None:
    run(plan(KINETICS, tree), tmp_path / "out")
    used = by_id(tmp_path / "out")[f"{A}_{T}"]
    assert (used["path"], used["warnings"]) == (f"yoga/{A}_{T}.mkv.mp4", [])


def test_retrying_failures_keeps_what_was_used(tree: Path, tmp_path: Path) -> None:
    (tree / "yoga" / f"{A}_{T}.mkv.mp4").rename(tree / "yoga" / f"{A}_{T}.mp4.mp4")
    out = tmp_path / "out"
    run(plan(KINETICS, tree), out)
    before = by_id(out)
    write_clip(tree / f"{B}.webm", first=40)  # the download that was empty came
    run(plan(KINETICS, tree), out, retry_failed=True)
    rows = by_id(out)
    assert rows[f"{A}_{T}"] == {**before[f"{A}_{T}"], "offset": rows[f"{A}_{T}"]["offset"]}
    assert (rows[f"{B}_{T}"]["status"], rows[f"{B}_{T}"]["path"]) == ("ok", f"{B}.webm")
    check_whole(out)
    run(plan(KINETICS, tree), tmp_path / "anew")
    assert snapshot(tmp_path / "anew") == snapshot(out)


def test_copies_do_not_change_the_plan(tree: Path) -> None:
    several = plan(KINETICS, tree).table
    assert several.schema.names[: len(PLAN_SCHEMA)] == PLAN_SCHEMA.names
    assert "tries" in several.schema.names
    (tree / "yoga" / f"{A}_{T}.mkv.mp4").unlink()
    (tree / f"{B}.webm").unlink()
    one = plan(KINETICS, tree).table
    assert "tries" not in one.schema.names
    assert layout.plan_sha256(one) == layout.plan_sha256(several)


def test_sources_with_and_without_copies_merge(tree: Path, tmp_path: Path) -> None:
    from tests.data.builds import FOLDERS
    from vidkit.data.plan import composite
    from vidkit.data.sources import READERS, Roots
    from vidkit.settings.encode import SourceOptions

    write_clip(tmp_path / "mine" / "run" / "1.mp4")
    both = DatasetSpec(name="b", title="B", sources=(*KINETICS.sources, *FOLDERS.sources), encode=TINY)
    folders = {"kinetics": tree, "mine": tmp_path / "mine"}
    results = {
        spec.name: READERS[spec.kind](spec, Roots(folder=folders[spec.name]), SourceOptions())
        for spec in both.sources
    }
    merged = composite.merge(both, results, SourceOptions()).table
    assert [item["source"] for item in merged.to_pylist() if item["tries"]] == ["kinetics", "kinetics"]
    assert merged.num_rows == 4


@pytest.mark.parametrize("seconds", [1.5, 6.0])
def test_a_trimmed_file_serves_no_two_segments(tmp_path: Path, seconds: float) -> None:
    root = tmp_path / "k"
    annotate(root, f"yoga,{A},1,2,train,0", f"yoga,{A},3,4,val,0")
    write_clip(root / f"{A}.mp4", frames=int(seconds * 25))
    run(plan(KINETICS, root), tmp_path / "out")
    rows: list[dict[str, Any]] = list(by_id(tmp_path / "out").values())
    if seconds > 4:  # the whole video: both are cut out of it
        assert [(row["status"], row["start_s"]) for row in rows] == [("ok", 1.0), ("ok", 3.0)]
        return
    assert [(row["status"], row["error"]) for row in rows] == [("failed", "too-short")] * 2
    assert "several segments of this id are annotated" in rows[0]["message"]


def test_the_folder_says_whose_the_trimmed_file_is(tmp_path: Path) -> None:
    root = tmp_path / "k"
    annotate(root, f"yoga,{A},1,2,train,0", f"archery,{A},3,4,val,0")
    write_clip(root / "archery" / f"{A}.mp4")
    run(plan(KINETICS, root), tmp_path / "out")
    rows = by_id(tmp_path / "out")
    assert (rows[f"{A}_000003_000004"]["status"], rows[f"{A}_000003_000004"]["start_s"]) == ("ok", None)
    assert rows[f"{A}_000001_000002"]["error"] == "too-short"

"""Builds from archives: the same bytes as from the same files unpacked, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.data.builds import (
    LISTED,
    TINY,
    check_whole,
    facts,
    ledger,
    listed_spec,
    listed_tree,
    plan,
    run,
    snapshot,
    vidkit,
)
from tests.data.packed.packing import content, split, tar, zipped
from vidkit.data.build.build import Interrupted
from vidkit.data.build.clip_worker import ClipJob, make_clip
from vidkit.data.packed import scratch
from vidkit.data.plan.planning import Prepared
from vidkit.data.progress import Progress

ONLY_OF_SOURCES = ("path", "message")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips: one missing and one cut off in each split; one file is in both splits."""
    root = listed_tree(tmp_path_factory.mktemp("plain") / "tree", 16, missing=1, broken=1)
    shutil.copy(root / "train" / "train5.mp4", root / "val" / "val3.mp4")
    return root


@pytest.fixture(scope="module")
def plain(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of the files as they are."""
    out = tmp_path_factory.mktemp("built") / "plain"
    run(plan(LISTED, tree), out)
    check_whole(out)
    return out


def packed(tree: Path, root: Path, kind: str) -> Path:
    root.mkdir()
    files = content(tree)
    for name in [name for name in files if name.endswith(".csv")]:
        (root / name).write_bytes(files.pop(name))
    if kind == "tars":
        for part in ("train", "val"):
            (root / f"{part}.tar").write_bytes(tar({n: d for n, d in files.items() if n.startswith(part)}))
    elif kind == "parts":
        split(tar(files, "w:gz", front="./"), 3, lambda i: f"all-{i:02d}", root)
    else:
        (root / "all.zip").write_bytes(zipped(files, 8))
    return root


def same_build(out: Path, plain: Path) -> None:
    check_whole(out)
    left, right = snapshot(out), snapshot(plain)
    assert {n: h for n, h in left.items() if n.endswith((".tar", "shards.json"))} == {
        n: h for n, h in right.items() if n.endswith((".tar", "shards.json"))
    }
    for ours, theirs in zip(ledger(out), ledger(plain), strict=True):
        assert {n: v for n, v in ours.items() if n not in ONLY_OF_SOURCES} == {
            n: v for n, v in theirs.items() if n not in ONLY_OF_SOURCES
        }
        assert theirs["path"] is None or ours["path"].endswith(f"::{theirs['path']}")
    assert facts(out)["leaks"] == facts(plain)["leaks"]
    assert [leak["kind"] for leak in facts(out)["leaks"]] == ["file"]


@pytest.mark.parametrize(("kind", "workers"), [("tars", 2), ("zip", 1)])
def test_the_bytes_are_those_of_the_unpacked_files(
    kind: str, workers: int, tree: Path, plain: Path, tmp_path: Path
) -> None:
    root = packed(tree, tmp_path / "packed", kind)
    before = snapshot(root)
    run(plan(LISTED, root), tmp_path / "out", workers=workers)
    same_build(tmp_path / "out", plain)
    assert snapshot(root) == before


class _StopsAfter(Progress):
    def __init__(self, clips: int, total: int) -> None:
        super().__init__("building", total, quiet=True)
        self.left = clips

    def advance(self, status: str = "ok", by: int = 1) -> None:
        super().advance(status, by)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def _stopped(prepared: Prepared, out: Path, clips: int) -> None:
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        run(prepared, out, progress=_StopsAfter(clips, prepared.table.num_rows))


def test_a_build_goes_on_from_whatever_form_the_sources_have(tree: Path, plain: Path, tmp_path: Path) -> None:
    """Begun unpacked, stopped; packed in parts, stopped, the cache thrown away; ended packed in another way."""
    out = tmp_path / "out"
    _stopped(plan(LISTED, tree), out, 3)
    parts = plan(LISTED, packed(tree, tmp_path / "parts", "parts"))
    _stopped(parts, out, 4)
    scratch.let_go()  # the index stays, what was inflated is gone
    _stopped(parts, out, 2)
    tars = plan(LISTED, packed(tree, tmp_path / "tars", "tars"))
    run(tars, out)
    rows = ledger(out)
    assert all("::" in row["path"] for row in rows if row["path"] is not None)  # as the last run planned it
    same_build(out, plain)


def test_the_command_with_parts_of_one_stream(tree: Path, plain: Path, tmp_path: Path) -> None:
    root = packed(tree, tmp_path / "parts", "parts")
    spec = listed_spec(tmp_path, name="listed")
    cache, room = tmp_path / "cache", tmp_path / "room"
    words = ["build-dataset", spec, "--source", f"lists={root}", "--out", tmp_path / "out", "--workers", "2"]
    words += ["--scratch", room, "--max-failures", "100"]
    dry = vidkit(*words, "--dry-run", "--json", VIDKIT_CACHE=str(cache))
    assert json.loads(dry.stdout)["sources"]["lists"]["archives"] == 1
    assert [path.suffix for path in room.iterdir()] == [".inflated"]
    index = next((cache / "archives").glob("*.sqlite")).stat().st_mtime_ns
    done = vidkit(*words, VIDKIT_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert "16/16 clips" in done.stderr
    same_build(tmp_path / "out", plain)
    assert list(room.iterdir()) == []  # once the dataset is complete nobody needs it
    assert next((cache / "archives").glob("*.sqlite")).stat().st_mtime_ns == index
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


def test_an_archive_that_changes_after_the_plan(tree: Path, plain: Path, tmp_path: Path) -> None:
    root = packed(tree, tmp_path / "packed", "tars")
    prepared = plan(LISTED, root)
    train = root / "train.tar"
    files = {name: data for name, data in content(tree).items() if name.startswith("train/")}
    train.write_bytes(tar({"train/new.mp4": b"in front", **files}))  # all members lie elsewhere now
    run(prepared, tmp_path / "out")
    same_build(tmp_path / "out", plain)
    train.unlink()
    run(prepared, tmp_path / "gone")
    lost = [row for row in check_whole(tmp_path / "gone") if row["split"] == "train"]
    assert {row["error"] for row in lost} == {"missing"}


def test_damage_and_copies_have_their_codes(tree: Path, tmp_path: Path) -> None:
    root = packed(tree, tmp_path / "packed", "zip")
    files = {name: data for name, data in content(tree).items() if name.endswith(".mp4")}
    whole = (root / "all.zip").read_bytes()
    hurt = bytearray(whole)
    for name in ("train/train3.mp4", "train/train4.mp4"):
        hurt[whole.index(name.encode()) + 200] ^= 0xFF
    (root / "all.zip").write_bytes(hurt)
    (root / "copies.tar").write_bytes(tar({"train/train4.mp4": files["train/train4.mp4"]}))
    last = tar({"train/train0.mp4": files["train/train2.mp4"]})
    (root / "cut.tar").write_bytes(last[: 512 + 100])
    run(plan(LISTED, root), tmp_path / "out")
    rows: dict[str, dict[str, Any]] = {row["clip_id"]: row for row in check_whole(tmp_path / "out")}
    assert rows["lists/train/train3"]["error"] == "unreadable"
    assert rows["lists/train/train0"]["error"] == "truncated"
    used = rows["lists/train/train4"]
    assert (used["status"], used["path"]) == ("ok", "copies.tar::train/train4.mp4")
    assert used["warnings"][0].startswith("another copy was used, as all.zip::train/train4.mp4 failed (unreadable")
    with (tmp_path / "out" / "clips.parquet").open("rb") as file:
        assert pq.read_table(file).num_rows == 16


def test_large_members_are_not_read_whole(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder reads from the archive itself, or from what was inflated to a file."""
    name = "train/train3.mp4"
    files = {"front.bin": bytes(1000), name: (tree / name).read_bytes()}
    (tmp_path / "k.tar").write_bytes(tar(files))
    (tmp_path / "k.zip").write_bytes(zipped(files))
    (tmp_path / "d.zip").write_bytes(zipped(files, 8))
    whole = make_clip(ClipJob(root=str(tree), path=name, settings=TINY))
    assert whole.clip is not None
    monkeypatch.setattr("vidkit.data.build.clip_worker._WHOLE_FILE_BYTES", 10)
    monkeypatch.setattr("vidkit.data.packed.opening._IN_MEMORY", 10)
    for archive in ("k.tar", "k.zip", "d.zip"):
        assert make_clip(ClipJob(root=str(tmp_path), path=f"{archive}::{name}", settings=TINY)) == whole

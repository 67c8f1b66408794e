"""A whole build: what it leaves, that it is the same for any number of workers, and what stops it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.badmedia import CASES, indexed_clip, read_index
from tests.data import builds
from tests.data.builds import FOLDERS, LISTED, InProcess, check_whole, listed_tree, plan, run, snapshot, write_clip
from tests.data.synth.generated import small
from tests.reference import ref_media
from vidkit.data import dataset
from vidkit.data.build import clip_worker
from vidkit.data.build.build import Built
from vidkit.data.manifests import load_spec
from vidkit.data.plan.planning import Request, prepare
from vidkit.data.progress import Progress
from vidkit.data.tables import LEDGER_SCHEMA
from vidkit.errors import BuildError, DatasetError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path]:
    """13 clips, one missing and one cut in each split."""
    root = tmp_path_factory.mktemp("build")
    source = listed_tree(root / "t", 13, missing=1, broken=1)
    return run(plan(LISTED, source), root / "out", workers=2), root / "out"


def test_a_build_leaves_a_whole_dataset(built: tuple[Built, Path]) -> None:
    made, out = built
    rows = check_whole(out)
    assert sorted(p.name for p in out.iterdir()) == [
        ".lock",
        "README.md",
        "clips.parquet",
        "dataset.json",
        "shards.json",
        "train",
        "val",
    ]
    assert made.facts == builds.facts(out)
    assert made.ledger.to_pylist() == rows
    assert [shard.shard for shard in made.shards] == [
        s["shard"] for s in json.loads((out / "shards.json").read_text())
    ]
    assert made.made == 13
    assert made.facts["counts"] | {"bytes": 0} == {
        "planned": 13,
        "ok": 9,
        "failed": 2,
        "missing": 2,
        "with_warnings": 0,
        "frames": 36,
        "bytes": 0,
        "shards": 4,
    }
    assert made.facts["counts"]["bytes"] == sum(p.stat().st_size for p in out.rglob("*.tar"))
    assert made.facts["errors"] == {"missing": 2, "truncated": 2}


def test_the_ledger_is_what_the_format_says(built: tuple[Built, Path]) -> None:
    _, out = built
    with (out / "clips.parquet").open("rb") as file:
        table = pq.read_table(file)
    assert table.schema.equals(LEDGER_SCHEMA)
    for row in table.to_pylist():
        stored = {name: row[name] is not None for name in ("offset", "nbytes", "frames", "fps", "width", "height")}
        assert set(stored.values()) == {row["status"] == "ok"}, row
        assert (row["source_sha256"] is None) == (row["status"] == "missing"), row
        assert row["shard"].startswith(row["split"] + "/"), "also a clip that failed has its slot"


def test_the_records_carry_each_others_hashes(built: tuple[Built, Path]) -> None:
    _, out = built
    for name, sha256 in builds.facts(out)["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256


def test_stored_clips_are_the_sources(built: tuple[Built, Path]) -> None:
    _, out = built
    for row in builds.ledger(out):
        if row["status"] != "ok":
            continue
        data = (out / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["nbytes"]]
        number = int(row["path"].removeprefix(f"{row['split']}/{row['split']}").removesuffix(".mp4"))
        first = number + 1000 * (row["split"] == "val")
        # 5 frames sampled to 4: on screen at 5/8, 15/8, 25/8, 35/8
        assert [read_index(frame) - first for frame in ref_media.all_frames(data)] == [0, 1, 3, 4]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_any_number_of_workers_gives_the_same_bytes(
    workers: int, built: tuple[Built, Path], tmp_path: Path
) -> None:
    source = listed_tree(tmp_path / "elsewhere", 13, missing=1, broken=1)
    run(plan(LISTED, source), tmp_path / "out", workers=workers)
    assert snapshot(tmp_path / "out") == snapshot(built[1])


def test_nothing_tells_where_or_when_it_was_built(built: tuple[Built, Path]) -> None:
    _, out = built
    for path in out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert os.fsencode(out.parent) not in data, path
            assert b"/tmp" not in data, path
            assert time.strftime("%Y-%m").encode() not in data, path


@pytest.mark.usefixtures("in_process")
def test_progress_is_told_of_every_clip(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 9, missing=1, broken=1)
    progress = Progress("building", 9, quiet=True)
    run(plan(LISTED, source), tmp_path / "out", progress=progress, workers=2)
    assert progress.counts == {"ok": 5, "failed": 2, "missing": 2}
    again = Progress("building", 9, quiet=True)
    run(plan(LISTED, source), tmp_path / "out", progress=again)
    assert (again.counts, again.worked) == (progress.counts, 0)


# --- labels and groups on their way into a sample -----------------------------------------------------------


def samples(out: Path) -> dict[str, dict[str, Any]]:
    """clip id -> key.json of every sample."""
    found = {}
    for path in sorted(out.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file is not None
                    meta = json.load(file)
                    assert list(meta) == sorted(meta)
                    found[meta["clip_id"]] = meta
    return found


@pytest.mark.usefixtures("in_process")
def test_label_sets_and_single_labels_side_by_side(tmp_path: Path) -> None:
    size = {"clips": 12, "frames": 3, "size": (32, 32)}
    small("kinetics-flat", tmp_path / "k", classes=3, **size)
    small("tinyvirat-v1", tmp_path / "t", classes=4, label_sets=5, **size)
    folders = {"kinetics": tmp_path / "k", "tinyvirat": tmp_path / "t"}
    prepared = prepare(load_spec("composite-518"), folders, Request(size=32, clips_per_shard=5))
    run(prepared, tmp_path / "out", workers=2)
    rows = {row["clip_id"]: row for row in check_whole(tmp_path / "out")}
    about = builds.facts(tmp_path / "out")["label_map"]
    found = samples(tmp_path / "out")
    assert set(found) == {clip for clip, row in rows.items() if row["status"] == "ok"}
    for meta in found.values():
        name = "+".join(sorted(meta["labels"]))
        assert meta["class_name"] == name == about["classes"][meta["class_id"]]
        assert sorted(about["base_labels"][i] for i in meta["multi_hot"]) == sorted(meta["labels"])
        assert meta["group"]
        assert (meta["frames"], meta["width"], meta["height"]) == (3, 32, 32)
    assert {meta["source"] for meta in found.values()} == {"kinetics", "tinyvirat"}
    assert any(len(meta["labels"]) > 1 for meta in found.values())


@pytest.mark.usefixtures("in_process")
def test_withheld_labels_leave_no_class(tmp_path: Path) -> None:
    small("tinyvirat-v2", tmp_path / "t", clips=20, classes=4, label_sets=5)
    prepared = prepare(load_spec("tinyvirat"), {"tinyvirat": tmp_path / "t"}, Request(size=32, frames=3))
    run(prepared, tmp_path / "out")
    test = [meta for meta in samples(tmp_path / "out").values() if meta["split"] == "test"]
    assert test
    for meta in test:
        assert (meta["labels"], meta["class_id"], meta["class_name"], meta["multi_hot"]) == ([], None, None, [])


def test_concealed_damage_is_counted(tmp_path: Path) -> None:
    """A flipped bit that the decoder conceals: stored with a warning, or a failure under --strict-decode."""
    path = tmp_path / "t/train/a/x.mp4"
    path.parent.mkdir(parents=True)
    indexed_clip(path, options={"x264-params": "slices=4:keyint=48:cpu-independent=1"})
    clean = path.read_bytes()
    at = clean.index(b"mdat")
    for place in range(at + 6000, at + 12000, 61):
        data = bytearray(clean)
        data[place] ^= 0x10
        path.write_bytes(data)
        job = clip_worker.ClipJob(root=os.fspath(tmp_path / "t"), path="train/a/x.mp4", settings=builds.TINY)
        outcome = clip_worker.make_clip(job)
        if outcome.error is None and outcome.clip.warnings:
            break
    else:
        pytest.skip("this decoder conceals nothing here")
    tolerant = run(plan(FOLDERS, tmp_path / "t"), tmp_path / "out")
    assert tolerant.facts["counts"]["with_warnings"] == 1
    assert "decoder reported" in builds.ledger(tmp_path / "out")[0]["warnings"][0]
    strict = run(plan(FOLDERS, tmp_path / "t", strict_decode=True), tmp_path / "strict", strict_decode=True)
    assert strict.facts["errors"] == {"decode-error": 1}


# --- sources that change --------------------------------------------------------------------------------------


def test_a_file_that_goes_between_plan_and_build_is_missing(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 8)
    prepared = plan(LISTED, source)
    (source / "train/train2.mp4").unlink()
    run(prepared, tmp_path / "out")
    row = builds.by_id(tmp_path / "out")["train/train2"]
    assert (row["status"], row["error"], row["path"]) == ("missing", "missing", "train/train2.mp4")
    check_whole(tmp_path / "out")


@pytest.mark.usefixtures("in_process")
def test_a_split_whose_clips_all_fail_has_no_shard(tmp_path: Path) -> None:
    write_clip(tmp_path / "t/train/a/1.mp4")
    CASES["text"].write(_made(tmp_path / "t/val/a") / "1.mp4")
    run(plan(FOLDERS, tmp_path / "t"), tmp_path / "out")
    check_whole(tmp_path / "out")
    assert builds.facts(tmp_path / "out")["splits"]["val"] == {"planned": 1, "ok": 0, "failed": 1, "missing": 0}
    assert run(plan(FOLDERS, tmp_path / "t"), tmp_path / "out", retry_failed=True).made == 1
    check_whole(tmp_path / "out")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


# --- what stops a build ------------------------------------------------------------------------------------------


def test_workers_that_cannot_start_stop_the_build_and_blame_no_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = plan(LISTED, listed_tree(tmp_path / "t", 9))
    with monkeypatch.context() as patched:
        patched.setattr(clip_worker, "_CHILD", "raise SystemExit('no such library')")
        with pytest.raises(BuildError, match="a worker process did not start: exit status 1"):
            run(prepared, tmp_path / "out", workers=3)
    assert builds.facts(tmp_path / "out")["status"] == "building"
    assert run(prepared, tmp_path / "out").facts["counts"]["ok"] == 9


def test_the_first_failure_of_a_shard_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Boom(Exception):  # noqa: N818
        pass

    class Broken(InProcess):
        def run(self, job: Any) -> Any:
            if job.path.endswith("train7.mp4"):
                raise Boom("a bug")
            return super().run(job)

    prepared = plan(LISTED, listed_tree(tmp_path / "t", 60), clips_per_shard=2)
    with monkeypatch.context() as patched:
        patched.setattr("vidkit.data.build.executors.ClipWorker", Broken)
        with pytest.raises(Boom, match="a bug"):
            run(prepared, tmp_path / "out", workers=2)
    assert run(prepared, tmp_path / "out").facts["counts"]["ok"] == 60


def test_an_unfinished_build_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = plan(LISTED, listed_tree(tmp_path / "t", 5))
    with monkeypatch.context() as patched:
        patched.setattr(clip_worker, "_CHILD", "raise SystemExit(1)")
        with pytest.raises(BuildError):
            run(prepared, tmp_path / "out")
    with pytest.raises(DatasetError, match="has not finished") as caught:
        dataset.open_dataset(tmp_path / "out")
    assert "run the same `vidkit build-dataset` command again" in str(caught.value)


# --- opening what was built ------------------------------------------------------------------------------------


def test_a_finished_dataset_opens(built: tuple[Built, Path]) -> None:
    opened = dataset.open_dataset(built[1])
    assert opened.facts == built[0].facts
    assert opened.ledger().equals(built[0].ledger)
    assert opened.ledger(["key", "status"]).column_names == ["key", "status"]
    assert repr(opened) == f"BuiltDataset('listed', 4 shards, at {built[1]})"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("dataset.json", None, "no dataset in"),
        ("dataset.json", "{", "damaged JSON"),
        ("dataset.json", "[]", "`format` is missing"),
        ("dataset.json", '{"format": "1"}', "`format` is missing"),
        ("dataset.json", '{"format": 1, "status": "odd"}', "'odd' is neither building nor complete"),
        ("dataset.json", '{"format": 2}', "format 2 is newer than this vidkit reads (1)"),
        ("shards.json", None, "the file is not there"),
        ("shards.json", "{}", "expected a list of shards"),
        ("shards.json", "\udcff", "damaged JSON"),
        ("clips.parquet", None, "the ledger is not there"),
        ("clips.parquet", "PAR1", "damaged ledger"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(
    name: str, text: str | None, said: str, built: tuple[Built, Path], tmp_path: Path
) -> None:
    for file in ("dataset.json", "shards.json", "clips.parquet"):
        (tmp_path / file).write_bytes((built[1] / file).read_bytes())
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DatasetError) as caught:
        dataset.open_dataset(tmp_path).ledger()
    assert said in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 1


def test_a_ledger_without_its_columns(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"key": ["1"]}), buffer)
    (tmp_path / "clips.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(DatasetError, match="the ledger lacks columns"):
        dataset.read_ledger(tmp_path / "clips.parquet")

"""Verification finds every kind of damage, all of it in one go, and never falls over it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.badmedia import indexed_clip
from tests.data import builds
from vidkit.data.look.inspect import summarise
from vidkit.data.shards import ShardWriter, end_of_tar, sha256_file, tar_member
from vidkit.data.tables import LEDGER_SCHEMA
from vidkit.data.verify.dataset import KINDS, Verification, verify
from vidkit.errors import DatasetError


def kinds(found: Verification) -> set[str]:
    return {problem.kind for problem in found.problems}


def lines(found: Verification) -> str:
    return "\n".join(f"{p.kind} | {p.where} | {p.message}" for p in found.problems)


# --- ways to damage a dataset ----------------------------------------------------------------------


def change_json(root: Path, name: str, change: Callable[[Any], object]) -> None:
    value = json.loads((root / name).read_text())
    change(value)
    (root / name).write_text(json.dumps(value))


def change_rows(root: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = pq.read_table(root / "clips.parquet").to_pylist()
    change(rows)
    schema = pa.schema([field.with_nullable(True) for field in LEDGER_SCHEMA])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "clips.parquet")


def row_of(rows: list[dict[str, Any]], k: int) -> dict[str, Any]:
    return next(row for row in rows if row["key"] == f"{k:08d}")


def patch(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int) -> None:
    patch(path, at, bytes([path.read_bytes()[at] ^ 0x40]))


def rewrite(root: Path, shard: str, change: Callable[[list[tuple[str, bytes]]], object], *, record: bool) -> None:
    """Write a tar anew from changed members; `record` its new digest, so that only deeper checks can notice."""
    with tarfile.open(root / shard) as tar:
        members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    change(members)
    data = b"".join(tar_member(*member) for member in members)
    (root / shard).write_bytes(data + end_of_tar(len(data)))
    if record:
        sha256, size = sha256_file(root / shard)
        entry = next(e for e in json.loads((root / "shards.json").read_text()) if e["shard"] == shard)
        change_json(
            root,
            "shards.json",
            lambda entries: [e.update(sha256=sha256, bytes=size) for e in entries if e["shard"] == shard],
        )
        change_json(
            root,
            "dataset.json",
            lambda facts: facts["counts"].update(bytes=facts["counts"]["bytes"] + size - entry["bytes"]),
        )


def offset(root: Path, k: int) -> int:
    return int(row_of(pq.read_table(root / "clips.parquet").to_pylist(), k)["offset"])


def flipped_payload(root: Path) -> None:
    flip(root / "train/000001.tar", offset(root, 4) + 700)


def flipped_header(root: Path) -> None:
    flip(root / "train/000000.tar", offset(root, 1) - 512 + 3)


def truncated_in_a_payload(root: Path) -> None:
    os.truncate(root / "train/000000.tar", offset(root, 2) + 100)


def truncated_between_members(root: Path) -> None:
    os.truncate(root / "train/000000.tar", offset(root, 2) - 512)


def truncated_to_nothing(root: Path) -> None:
    os.truncate(root / "train/000000.tar", 0)


def junk_at_the_end(root: Path) -> None:
    path = root / "train/000000.tar"
    patch(path, path.stat().st_size - 100, b"x" * 100)


def not_a_tar(root: Path) -> None:
    (root / "val/000000.tar").write_bytes(b"<!doctype html>" * 1000)


def duplicate_beside(root: Path) -> None:
    rewrite(root, "train/000000.tar", lambda m: m.insert(2, m[0]), record=True)


def duplicate_apart(root: Path) -> None:
    rewrite(root, "train/000000.tar", lambda m: m.extend(m[:2]), record=True)


def duplicate_across(root: Path) -> None:
    with tarfile.open(root / "train/000000.tar") as tar:
        first = [(info.name, tar.extractfile(info).read()) for info in list(tar)[:2]]  # type: ignore[union-attr]
    rewrite(root, "val/000000.tar", lambda m: m.extend(first), record=True)


def duplicate_key_in_ledger(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 8).update(key="00000003"))


def lost_sample(root: Path) -> None:
    rewrite(root, "train/000000.tar", lambda m: [m.pop(2), m.pop(2)], record=True)


def lost_row(root: Path) -> None:
    change_rows(root, lambda rows: rows.remove(row_of(rows, 1)))


def lost_json(root: Path) -> None:
    rewrite(root, "train/000000.tar", lambda m: m.pop(1), record=True)


def lost_mp4(root: Path) -> None:
    rewrite(root, "train/000000.tar", lambda m: m.pop(0), record=True)


def damaged_json(root: Path) -> None:
    rewrite(root, "test/000000.tar", lambda m: m.__setitem__(1, (m[1][0], m[1][1][:-20] + b" " * 20)), record=True)


def other_json(root: Path) -> None:
    def change(members: list[tuple[str, bytes]]) -> None:
        meta = json.loads(members[1][1])
        meta.update(class_id=0, frames=7)
        del meta["group"]
        members[1] = members[1][0], json.dumps(meta).encode()

    rewrite(root, "test/000000.tar", change, record=True)


def other_clip(root: Path) -> None:
    """Another video in a member's place, everything else in order."""
    path = root / "other.mp4"
    indexed_clip(path, frames=5, width=48, height=32)
    data = path.read_bytes()
    path.unlink()
    rewrite(root, "val/000000.tar", lambda m: m.__setitem__(0, (m[0][0], data)), record=True)
    change_rows(root, lambda rows: row_of(rows, 7).update(nbytes=len(data)))


def no_video_at_all(root: Path) -> None:
    rewrite(root, "val/000000.tar", lambda m: m.__setitem__(0, (m[0][0], bytes(len(m[0][1])))), record=True)


def missing_shard(root: Path) -> None:
    (root / "train/000001.tar").unlink()


def missing_and_unlisted(root: Path) -> None:
    (root / "val/000000.tar").unlink()
    change_json(root, "shards.json", lambda entries: entries.pop(2))


def extra_tar(root: Path) -> None:
    shutil.copy(root / "train/000000.tar", root / "train/000007.tar")


def unlisted_shard(root: Path) -> None:
    change_json(root, "shards.json", lambda entries: entries.pop(0))


def other_samples(root: Path) -> None:
    change_json(root, "shards.json", lambda entries: entries[0].update(samples=9))


def bad_entries(root: Path) -> None:
    def change(entries: list[Any]) -> None:
        entries += [dict(entries[0]), {"shard": "../../etc/passwd.tar"}, {**entries[0], "shard": "../x.tar"}, 7]

    change_json(root, "shards.json", change)


def class_outside(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 0).update(class_id=5))


def class_renamed(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 0).update(class_name="crawling baby"))


def multi_hot_outside(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 4).update(multi_hot=[3, 6]))


def label_outside(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 4).update(labels=["walking", "Swimming"]))


def multi_hot_of_others(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 4).update(multi_hot=[0, 3]))


def unlabelled(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 4).update(class_id=None, class_name=None))


def class_list_reordered(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts["label_map"]["classes"].reverse())


def class_twice(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts["label_map"]["classes"].append("Pulling"))


def no_label_map(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts.update(label_map="none"))


def row_moved(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 2).update(offset=512))


def row_of_another_length(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 2).update(nbytes=1))


def row_of_another_size(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 2).update(width=66))


def ok_with_error(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 2).update(error="empty"))


def failed_without_code(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 3).update(error="no idea"))


def ok_without_place(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 2).update(offset=None, nbytes=None))


def negative_place(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 2).update(offset=-5, nbytes=-1))


def no_shard(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 3).update(shard=None))


def strange_status(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 3).update(status="fine"))


def nulls(root: Path) -> None:
    change_rows(root, lambda rows: row_of(rows, 3).update(dict.fromkeys(LEDGER_SCHEMA.names)))


def miscounted(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts["counts"].update(ok=9))


def frames_miscounted(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts["counts"].update(frames=1))


def split_miscounted(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts["splits"]["val"].update(missing=0))


def source_not_counted(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts["sources"].pop("kinetics"))


def no_counts(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts.update(counts=[1], splits=None, errors="x"))


def ledger_lost(root: Path) -> None:
    (root / "clips.parquet").unlink()


def ledger_cut(root: Path) -> None:
    os.truncate(root / "clips.parquet", 900)


def ledger_of_other_types(root: Path) -> None:
    table = pq.read_table(root / "clips.parquet")
    at = table.column_names.index("frames")
    pq.write_table(table.set_column(at, "frames", pa.array(["x"] * table.num_rows)), root / "clips.parquet")


def ledger_without_a_column(root: Path) -> None:
    pq.write_table(pq.read_table(root / "clips.parquet").drop_columns(["offset"]), root / "clips.parquet")


def ledger_is_no_utf8(root: Path) -> None:
    table = pq.read_table(root / "clips.parquet")
    names = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary()).view(pa.string())
    at = table.column_names.index("group")
    pq.write_table(table.set_column(at, "group", names), root / "clips.parquet")


def shards_json_lost(root: Path) -> None:
    (root / "shards.json").unlink()


def shards_json_cut(root: Path) -> None:
    os.truncate(root / "shards.json", 40)


def shards_json_of_another_kind(root: Path) -> None:
    (root / "shards.json").write_text('{"shards": []}')


def facts_lost(root: Path) -> None:
    (root / "dataset.json").unlink()


def facts_cut(root: Path) -> None:
    os.truncate(root / "dataset.json", 300)


def unfinished(root: Path) -> None:
    change_json(root, "dataset.json", lambda facts: facts.update(status="building"))


#: damage -> (the kinds that are found, text that must be in the list)
DAMAGE: dict[Callable[[Path], None], tuple[set[str], str]] = {
    flipped_payload: ({"checksum"}, "train/000001.tar | sha256 is "),
    flipped_header: (
        {"checksum", "damaged-tar", "row-without-sample", "shards-json"},
        "row-without-sample | train/000000.tar: 00000001 to 00000002 | 2 samples behind byte",
    ),
    truncated_in_a_payload: (
        {"checksum", "shard-size", "damaged-tar", "webdataset", "row-without-sample", "shards-json"},
        "is cut off",
    ),
    truncated_between_members: (
        {"checksum", "shard-size", "damaged-tar", "row-without-sample", "shards-json"},
        "the tar does not end as it should",
    ),
    truncated_to_nothing: (
        {"checksum", "shard-size", "damaged-tar", "webdataset", "row-without-sample", "shards-json"},
        "0 bytes; ",
    ),
    junk_at_the_end: ({"checksum", "damaged-tar"}, "does not end as it should"),
    not_a_tar: (
        {"checksum", "shard-size", "damaged-tar", "webdataset", "row-without-sample", "shards-json"},
        "no readable member at byte 0",
    ),
    duplicate_beside: (
        {"duplicate-key", "webdataset", "place"},
        "duplicate-key | train/000000.tar: 00000000.mp4 | the tar holds 2 members of this name",
    ),
    duplicate_apart: ({"duplicate-key", "shards-json"}, "the tar holds 2 members of this name"),
    duplicate_across: (
        {"duplicate-key", "sample-without-row", "shards-json"},
        "duplicate-key | val/000000.tar: 00000000 | a sample of this key is also in train/000000.tar",
    ),
    duplicate_key_in_ledger: ({"duplicate-key"}, "key '00000003' stands in several rows"),
    lost_sample: (
        {"row-without-sample", "place", "shards-json"},
        "row-without-sample | train/000000.tar: 00000001 | kinetics/-bCdEfGhIjK_000001 is stored",
    ),
    lost_row: (
        {"sample-without-row", "shards-json", "counts"},
        "sample-without-row | train/000000.tar: 00000001 | the ledger has no stored clip",
    ),
    lost_json: ({"incomplete-sample", "place"}, "00000000 | no 00000000.json"),
    lost_mp4: ({"incomplete-sample", "place"}, "00000000 | no 00000000.mp4"),
    damaged_json: ({"sample-json"}, "test/000000.tar: 00000009 | damaged JSON"),
    other_json: ({"sample-json"}, "00000009 | class_id is 0; the ledger has 3"),
    other_clip: ({"frames", "size"}, "frames of 48x32; 64x64 is recorded"),
    no_video_at_all: ({"undecodable"}, "undecodable | val/000000.tar: 00000007 | after 0 frames"),
    missing_shard: ({"missing-shard"}, "train/000001.tar | the file is not there; 2 clips are stored in it"),
    missing_and_unlisted: (
        {"missing-shard", "counts"},
        "val/000000.tar | neither in shards.json nor on disk; the ledger has 1 clips in it",
    ),
    extra_tar: ({"extra-shard"}, "train/000007.tar | the tar is not in shards.json"),
    unlisted_shard: (
        {"extra-shard", "counts"},
        "train/000000.tar | the tar is not in shards.json; the ledger has 3",
    ),
    other_samples: ({"shards-json"}, "shards.json has 9 samples; the ledger has 3"),
    bad_entries: ({"shards-json"}, "entry 7 | '../x.tar' is no shard of split 'train'"),
    class_outside: ({"label", "sample-json"}, "class_id 5 is outside the label map (0 to 4)"),
    class_renamed: ({"label", "sample-json"}, "class_name is 'crawling baby'; class 0 is 'air drumming'"),
    multi_hot_outside: ({"label", "sample-json"}, "multi-hot id 6 is outside the label map (0 to 5)"),
    label_outside: ({"label", "sample-json"}, "label 'Swimming' is outside the label map"),
    multi_hot_of_others: ({"label", "sample-json"}, "multi_hot means ['air drumming', 'Riding']"),
    unlabelled: ({"label", "sample-json"}, "has labels (walking, Riding) and no class_id"),
    class_list_reordered: ({"label-map", "label"}, "label-map | dataset.json: label_map.sha256 | recorded "),
    class_twice: ({"label-map"}, "label_map.classes | 'Pulling' is there more than once"),
    no_label_map: ({"label-map"}, "expected a rule"),
    row_moved: ({"place"}, "train/000000.tar: 00000002 | the ledger has "),
    row_of_another_length: ({"place"}, "the ledger has 1 bytes at "),
    row_of_another_size: ({"size", "sample-json"}, "frames of 64x64; 66x64 is recorded"),
    ok_with_error: ({"ledger", "counts"}, "error is 'empty', though the status is ok"),
    failed_without_code: ({"ledger", "counts"}, "error is 'no idea'; expected a known code"),
    ok_without_place: ({"ledger"}, "a stored clip without offset, nbytes"),
    negative_place: ({"place"}, "00000002 | the ledger has -1 bytes at -5"),
    no_shard: ({"ledger"}, "shard is None; expected one of split 'train'"),
    strange_status: ({"ledger", "counts"}, "status is 'fine'; expected ok, failed or missing"),
    nulls: ({"ledger", "counts"}, "split is None; expected one of train, val, test"),
    miscounted: ({"counts"}, "counts | dataset.json: counts | planned is 11; ok + failed + missing is 12"),
    frames_miscounted: ({"counts"}, "dataset.json: counts.frames | recorded 1; the records give 85"),
    split_miscounted: ({"counts"}, "dataset.json: splits.val.missing | recorded 0; the records give 1"),
    source_not_counted: ({"counts"}, "sources.kinetics.planned | recorded None; the records give 5"),
    no_counts: ({"counts"}, "dataset.json: counts.planned | recorded None; the records give 11"),
    ledger_lost: ({"unreadable-file"}, "clips.parquet | the ledger is not there"),
    ledger_cut: ({"unreadable-file"}, "clips.parquet | damaged ledger"),
    ledger_of_other_types: ({"ledger", "unreadable-file"}, "column frames holds string; expected int32"),
    ledger_without_a_column: ({"unreadable-file"}, "the ledger lacks columns offset"),
    ledger_is_no_utf8: ({"unreadable-file"}, "damaged"),
    shards_json_lost: ({"unreadable-file"}, "shards.json | No such file"),
    shards_json_cut: ({"unreadable-file"}, "shards.json | damaged JSON"),
    shards_json_of_another_kind: ({"unreadable-file"}, "shards.json | holds a dict; expected a list"),
    facts_lost: ({"unreadable-file"}, "dataset.json | no dataset in"),
    facts_cut: ({"unreadable-file"}, "dataset.json | damaged JSON"),
    unfinished: ({"unfinished"}, "status is 'building'; run the same `vidkit build-dataset` command"),
}


# --- tests -----------------------------------------------------------------------------------------


def test_a_whole_dataset_has_nothing_wrong_and_everything_is_looked_at(whole: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = verify(whole, workers=2, progress=lambda done, total: steps.append((done, total)))
    assert found.ok, lines(found)
    assert found.checks == {
        "shards hashed": 4,
        "samples read": 8,
        "clips decoded": 8,
        "frames decoded": 85,
        "ledger rows": 11,
        "classes": 5,
    }
    assert steps == [(k, 8) for k in range(1, 9)]
    assert json.loads(json.dumps(found.to_dict()))["ok"] is True


def test_what_the_build_leaves_is_whole_and_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    tree = builds.listed_tree(tmp_path / "tree", 12, missing=1, broken=1)
    built = builds.run(builds.plan(builds.LISTED, tree), tmp_path / "out")
    found = verify(tmp_path / "out")
    assert found.ok, lines(found)
    counts = built.facts["counts"]
    assert (counts["planned"], counts["ok"], counts["failed"], counts["missing"]) == (12, 8, 2, 2)
    assert found.checks["clips decoded"] == 8
    summary = summarise(tmp_path / "out")
    assert summary.counts == {name: counts[name] for name in summary.counts}
    assert (summary.frames_total, summary.shard_bytes) == (counts["frames"], counts["bytes"])
    for name in ("README.md", "dataset.json", "shards.json"):
        assert os.fspath(tmp_path) not in (tmp_path / "out" / name).read_text()


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda function: function.__name__)
def test_damage_is_found_and_named(damage: Callable[[Path], None], root: Path) -> None:
    damage(root)
    found = verify(root)
    expected, text = DAMAGE[damage]
    assert text in lines(found)
    assert kinds(found) == expected, lines(found)
    assert not found.ok


def test_every_kind_of_problem_is_tried() -> None:
    assert set().union(*(expected for expected, _ in DAMAGE.values())) == set(KINDS)


def test_all_of_it_in_one_go(root: Path) -> None:
    for damage in (flipped_payload, truncated_in_a_payload, label_outside, miscounted, extra_tar):
        damage(root)
    (root / "val/000000.tar").unlink()
    found = kinds(verify(root))
    assert found >= {"checksum", "damaged-tar", "label", "counts", "extra-shard", "missing-shard", "sample-json"}


def test_a_sample_of_clips_is_seeded_and_skips_decoding_only(root: Path) -> None:
    no_video_at_all(root)  # sample number 5 of 8
    found = [verify(root, sample=3, seed=seed) for seed in range(8)]
    assert all(f.checks["clips decoded"] == 3 and f.checks["samples read"] == 8 for f in found)
    assert {f.ok for f in found} == {True, False}
    assert verify(root, sample=3, seed=1) == verify(root, sample=3, seed=1, workers=4)
    assert verify(root, sample=0).checks.get("clips decoded", 0) == 0
    assert not verify(root, sample=99).ok


def test_workers_do_not_change_the_result(root: Path) -> None:
    for damage in (flipped_payload, other_clip, lost_row):
        damage(root)
    assert verify(root, workers=1) == verify(root, workers=4)


def test_labels_of_two_lists_that_have_a_name_in_common(root: Path) -> None:
    """The second list's label goes by its source's name, in the map; in the row it is as annotated."""
    change_json(
        root, "dataset.json", lambda facts: facts["label_map"]["base_labels"].__setitem__(4, "tinyvirat:walking")
    )
    assert verify(root).ok
    change_json(
        root, "dataset.json", lambda facts: facts["label_map"]["base_labels"].__setitem__(4, "kinetics:walking")
    )
    assert "label 'walking' is outside the label map" in lines(verify(root))


def test_digests_of_the_records_are_checked_where_there_are_some(root: Path) -> None:
    """Most of what the ledger says of a clip's origin is written nowhere else."""
    names = ("clips.parquet", "shards.json")
    digests = {name: sha256_file(root / name)[0] for name in names}
    change_json(root, "dataset.json", lambda facts: facts.update(files=digests))
    assert verify(root).checks["records hashed"] == 2
    change_rows(root, lambda rows: row_of(rows, 0).update(path="other.mp4"))
    assert [p.where for p in verify(root).problems] == ["clips.parquet"]
    for strange in ({"../../etc/passwd": "0"}, {"clips.parquet": None}, [1], "x"):
        change_json(root, "dataset.json", lambda facts, strange=strange: facts.update(files=strange))
        assert kinds(verify(root)) <= {"checksum"}


def test_problems_of_one_kind_are_listed_up_to_a_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidkit.data.verify.report._LISTED", 2)
    change_rows(root, lambda rows: [row.update(shard="nowhere") for row in rows])
    found = verify(root)
    assert sum(p.kind == "ledger" for p in found.problems) == 2
    assert found.unlisted["ledger"] == 9


def test_no_dataset_and_a_newer_one_are_errors(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset in .*\n  -> build one with"):
        verify(tmp_path / "nothing")
    change_json(root, "dataset.json", lambda facts: facts.update(format=2))
    with pytest.raises(DatasetError, match=r"format 2 is newer.*\n  -> upgrade vidkit"):
        verify(root)


def test_an_unreadable_shard_is_a_problem_like_others(root: Path) -> None:
    (root / "val/000000.tar").unlink()
    (root / "val/000000.tar").mkdir()
    found = verify(root)
    assert "missing-shard | val/000000.tar" in lines(found)


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_stops_it(seed: int, root: Path) -> None:
    """Bytes changed or cut anywhere, in any file. Not all of the JSON and the ledger is recorded twice, so
    that only of tars it can be asked that the damage is found."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    data = bytearray(path.read_bytes())
    if seed % 4 == 0:
        data = data[: rng.integers(len(data))]
    else:
        for at in rng.integers(0, len(data), 1 + seed % 3):
            data[at] ^= rng.integers(1, 256)
    path.write_bytes(data)
    newer = path.name == "dataset.json" and b'"format": 1,' not in data
    with contextlib.suppress(*([DatasetError] if newer else [])):
        found = verify(root)
        assert path.suffix != ".tar" or not found.ok


def test_shards_as_the_build_writes_them_end_as_they_should(tmp_path: Path) -> None:
    """For every length modulo a tar record."""
    from vidkit.data.verify.report import Report
    from vidkit.data.verify.shard import read_members

    for length in (0, 1, 511, 512, 513, 7000, 8191, 8192, 8193, 9216):
        with ShardWriter(tmp_path / f"{length}.tar", tmp_path / "journal", "train") as writer:
            writer.add({"key": "00000000"}, bytes(length), {})
            writer.rows[0]["nbytes"] = 1
            writer.finish()
        report = Report()
        with (tmp_path / f"{length}.tar").open("rb") as file:
            members, damaged_at = read_members(file, "x", report)
        assert (damaged_at, report.problems) == (None, [])
        assert members["00000000.mp4"] == (512, length)


def test_tars_that_other_programs_wrote(tmp_path: Path) -> None:
    from vidkit.data.verify.report import Report
    from vidkit.data.verify.shard import read_members

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info, io.BytesIO())
    report = Report()
    with (tmp_path / "x.tar").open("rb") as file:
        read_members(file, "x", report)
    assert "member 'folder' at byte 0 is no regular file" in report.problems[0].message

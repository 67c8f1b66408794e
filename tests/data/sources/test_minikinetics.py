"""Mini-Kinetics: ids without labels, joined with what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.data.sources.trees import csv_lines, read, row, rows, touch, write
from vidkit.data.manifests import class_list
from vidkit.data.sources import minikinetics
from vidkit.errors import AnnotationError

A, B, C, D, E = "AbCdEfGhIjK", "-bCdEfGhIjK", "_______-___", "abc_def-012", "ZZZZZZZZZZZ"


def lists(root: Path, train: tuple[str, ...] = (A, B), val: tuple[str, ...] = (C,)) -> None:
    write(root, "train_ytid_list.txt", train)
    write(root, "val_ytid_list.txt", val)


def csvs(root: Path) -> None:
    write(
        root,
        "train.csv",
        csv_lines(f"archery,{A},1,11,train,0", f"yoga,{B},2,12,train,0", f"zumba,{E},1,2,train,0"),
    )
    write(root, "val.csv", csv_lines(f"abseiling,{C},3,13,val,0", f"celebrating,{D},3,13,val,0"))


def test_joined_with_the_csv(tmp_path: Path) -> None:
    lists(tmp_path, train=(A, B, D), val=(C,))
    csvs(tmp_path)
    touch(tmp_path, f"{A}_000001_000011.mp4", f"yoga/{B}.mp4", f"{D}.mp4", f"{E}.mp4")
    result = read("minikinetics", tmp_path)
    assert result.classes == class_list("minikinetics200").names
    assert set(result.annotations) == {"train_ytid_list.txt", "val_ytid_list.txt", "train.csv", "val.csv"}
    assert row(result, f"{A}_000001_000011")["labels"] == ["archery"]
    bare = row(result, f"{B}_000002_000012")
    assert (bare["path"], bare["start_s"], bare["end_s"]) == (f"yoga/{B}.mp4", 2.0, 12.0)
    missing = row(result, f"{C}_000003_000013")
    assert (missing["split"], missing["labels"], missing["error"]) == ("val", ["abseiling"], "missing")
    # a Kinetics class, but none of the 200; listed in another split than the CSV's
    other = row(result, f"{D}_000003_000013")
    assert (other["split"], other["error"]) == ("train", "unknown-label")
    assert other["message"] == "'celebrating' is none of the 200 classes"
    assert result.matching.counts["split differs from the Kinetics CSV (the list holds)"] == 1
    assert len(rows(result)) == 4  # the CSV's other rows are no part of it
    assert result.matching.counts["present but unannotated"] == 1


def test_videos_and_csv_in_the_kinetics_folder(tmp_path: Path) -> None:
    mini, kinetics = tmp_path / "mini", tmp_path / "k400"
    lists(mini)
    csvs(kinetics / "annotations")
    touch(kinetics, f"train/{A}_000001_000011.mp4", f"train/{B}_000002_000012.mp4")
    touch(mini, f"{C}.mp4")
    result = read("minikinetics", mini, kinetics=kinetics)
    assert result.root == kinetics.resolve()
    assert row(result, f"{A}_000001_000011")["path"] == f"train/{A}_000001_000011.mp4"
    assert row(result, f"{C}_000003_000013")["error"] == "missing"
    assert any(
        "taken from the kinetics folder, which holds 2 of the 3 listed ids (the other holds 1)" in note
        for note in result.matching.notes
    )


def test_labels_from_class_folders_where_there_is_no_csv(tmp_path: Path) -> None:
    lists(tmp_path, train=(A, B, D))
    touch(tmp_path, f"archery/{A}_000001_000011.mp4", f"snow kiting/{B}.mp4", f"loose/{D}.mp4")
    result = read("minikinetics", tmp_path)
    assert row(result, A)["labels"] == ["archery"]
    assert row(result, B)["labels"] == ["snowkiting"]
    assert row(result, A)["start_s"] is None
    for native, text in ((D, "no Kinetics CSV was found"), (C, "no class folder holds this id")):
        assert row(result, native)["error"] == "no-label"
        assert text in row(result, native)["message"]
    assert result.matching.counts["labels taken from class folders"] == 2


def test_id_that_the_csv_does_not_have(tmp_path: Path) -> None:
    lists(tmp_path, train=(A, B, "QQQQQQQQQQQ"))
    csvs(tmp_path)
    bad = row(read("minikinetics", tmp_path), "QQQQQQQQQQQ")
    assert bad["error"] == "no-label"
    assert "the Kinetics CSV does not have this id" in bad["message"]


def test_id_in_both_lists_is_planned_twice(tmp_path: Path) -> None:
    lists(tmp_path, train=(A, C), val=(C,))
    csvs(tmp_path)
    result = read("minikinetics", tmp_path)
    one, two = row(result, f"{C}_000003_000013"), row(result, f"{C}_000003_000013#2")
    assert (one["split"], two["split"]) == ("train", "val")
    assert one["group"] == two["group"] == C


def test_bad_and_repeated_lines(tmp_path: Path) -> None:
    lists(tmp_path, train=(A, "", A, "../../etc/pw", "short"))
    csvs(tmp_path)
    result = read("minikinetics", tmp_path)
    assert row(result, f"{A}_000001_000011#2")["error"] == "duplicate-row"
    assert row(result, f"{A}_000001_000011#2")["message"].startswith("train_ytid_list.txt, row 3")
    assert row(result, "train_ytid_list.txt:5")["error"] == "bad-annotation"
    assert row(result, "train_ytid_list.txt:4")["message"] == (
        "train_ytid_list.txt, row 4: '../../etc/pw' is no YouTube id"
    )


def test_published_lists_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(tmp_path)
    csvs(tmp_path)
    notes = read("minikinetics", tmp_path).matching.notes
    assert "train_ytid_list.txt differs from the published list" in notes
    digest = hashlib.sha256((tmp_path / "val_ytid_list.txt").read_bytes()).hexdigest()
    monkeypatch.setitem(minikinetics.PUBLISHED, "val", digest)
    notes = read("minikinetics", tmp_path).matching.notes
    assert "val_ytid_list.txt is the published list" in notes


def test_lists_are_needed(tmp_path: Path) -> None:
    csvs(tmp_path)
    with pytest.raises(AnnotationError, match="no list of Mini-Kinetics ids found") as caught:
        read("minikinetics", tmp_path)
    assert "train_ytid_list.txt" in str(caught.value)


def test_one_list_alone(tmp_path: Path) -> None:
    write(tmp_path, "val_ytid_list.txt", (C,))
    csvs(tmp_path)
    result = read("minikinetics", tmp_path)
    assert result.table.num_rows == 1
    assert "no list of train ids found: that split is empty" in result.matching.notes


def test_two_different_lists_of_one_split(tmp_path: Path) -> None:
    lists(tmp_path / "a")
    lists(tmp_path / "b", train=(D,))
    with pytest.raises(AnnotationError, match="a second list of train ids, which differs from"):
        read("minikinetics", tmp_path)
    lists(tmp_path / "b")
    assert read("minikinetics", tmp_path).table.num_rows == 3


def test_empty_list(tmp_path: Path) -> None:
    lists(tmp_path, train=())
    with pytest.raises(AnnotationError, match="is empty"):
        read("minikinetics", tmp_path)

"""TinyVIRAT v1 and v2: found by form, multi-label, paths that are not to be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.trees import SPECS, read, row, rows, touch, write
from vidkit.data.manifests import class_list
from vidkit.errors import AnnotationError

WALK = ["activity_walking", "activity_carrying"]


def v1(number: int, video: str = "VIRAT_S_000001", label: Any = None, **more: Any) -> dict[str, Any]:
    label = WALK if label is None else label
    return {"id": number, "path": f"{video}/{number}.mp4", "dim": [60, 40, 40], "label": label, **more}


def v2(number: int, video: str = "VIRAT_S_000001", label: Any = None) -> dict[str, Any]:
    label = WALK if label is None else label
    path = f"{video}/{number:06d}.mp4"
    return {
        "id": f"{number:06d}",
        "video_id": video,
        "clip_id": 3,
        "path": path,
        "dim": [82, 72, 72],
        "label": label,
    }


def write_v1(root: Path, train: list[Any] | None = None, test: list[Any] | None = None) -> None:
    write(
        root,
        "tiny_train.json",
        {"tubes": train if train is not None else [v1(7), v1(9, "VIRAT_S_000002", ["Riding"])]},
    )
    write(root, "tiny_test.json", {"tubes": test if test is not None else [v1(7, label=["Talking"])]})


def write_v2(root: Path) -> None:
    write(root, "tiny_train_v2.json", [v2(7), v2(12, "VIRAT_S_000002", ["Riding"])])
    write(root, "tiny_val_v2.json", [v2(8, "VIRAT_S_000003", ["Pull", "Push", "Pull"])])
    write(root, "tiny_test_v2_public.json", [{"id": "00000", "path": "00000.mp4", "dim": [70, 60, 60]}])
    write(root, "class_map.json", class_list("tinyvirat26").ids)


def test_v1(tmp_path: Path) -> None:
    write_v1(tmp_path)
    touch(tmp_path, "videos/train/VIRAT_S_000001/7.mp4", "videos/test/VIRAT_S_000001/7.mp4")
    result = read("tinyvirat", tmp_path)
    assert result.version == "v1"
    assert result.classes == class_list("tinyvirat26").names
    train, test = row(result, "VIRAT_S_000001/7"), row(result, "VIRAT_S_000001/7#2")
    # the same path in both splits is two files, each in its own split's folder
    assert (train["split"], train["path"]) == ("train", "videos/train/VIRAT_S_000001/7.mp4")
    assert (test["split"], test["path"]) == ("test", "videos/test/VIRAT_S_000001/7.mp4")
    assert train["labels"] == ["activity_carrying", "activity_walking"]  # sorted: their order means nothing
    assert train["group"] == test["group"] == "VIRAT_S_000001"
    missing = row(result, "VIRAT_S_000002/9")
    assert (missing["error"], missing["labels"]) == ("missing", ["Riding"])
    assert "no file 'VIRAT_S_000002/9.mp4' under a folder of the train split" in missing["message"]


def test_a_file_of_the_other_split_is_no_match(tmp_path: Path) -> None:
    write_v1(tmp_path)
    touch(tmp_path, "videos/test/VIRAT_S_000001/7.mp4")
    result = read("tinyvirat", tmp_path)
    assert row(result, "VIRAT_S_000001/7")["error"] == "missing"
    assert row(result, "VIRAT_S_000001/7#2")["error"] is None


def test_v2(tmp_path: Path) -> None:
    write_v2(tmp_path / "annotations")
    touch(
        tmp_path,
        "videos/train/VIRAT_S_000001/000007.mp4",
        "videos/val/VIRAT_S_000003/000008.mp4",
        "videos/test/00000.mp4",
    )
    touch(tmp_path, "videos/train/VIRAT_S_000009/000001.mp4")
    result = read("tinyvirat", tmp_path)
    assert result.version == "v2"
    assert row(result, "VIRAT_S_000003/000008")["labels"] == ["Pull", "Push"]
    withheld = row(result, "00000")
    assert (withheld["labels"], withheld["error"], withheld["group"]) == ([], None, None)
    assert withheld["path"] == "videos/test/00000.mp4"
    assert result.matching.counts["present but unannotated"] == 1
    assert set(result.annotations) == {
        f"annotations/{name}.json" for name in ("tiny_train_v2", "tiny_val_v2", "tiny_test_v2_public", "class_map")
    }


def test_both_releases(tmp_path: Path) -> None:
    write_v1(tmp_path / "one")
    write_v2(tmp_path / "two")
    touch(tmp_path, "one/videos/train/VIRAT_S_000001/7.mp4", "two/videos/train/VIRAT_S_000001/000007.mp4")
    result = read("tinyvirat", tmp_path)
    assert result.version == "v1"
    assert set(result.annotations) == {"one/tiny_train.json", "one/tiny_test.json", "two/class_map.json"}
    assert any("both releases were found; v1 is used" in note for note in result.matching.notes)
    result = read("tinyvirat", tmp_path, spec=replace(SPECS["tinyvirat"], version="v2"))
    assert result.version == "v2"
    assert row(result, "VIRAT_S_000001/000007")["path"] == "two/videos/train/VIRAT_S_000001/000007.mp4"
    with pytest.raises(AnnotationError, match="no annotation file of TinyVIRAT v3; found v1, v2"):
        read("tinyvirat", tmp_path, spec=replace(SPECS["tinyvirat"], version="v3"))


def test_nearness_goes_by_whole_folders(tmp_path: Path) -> None:
    write_v1(tmp_path / "new/ann")
    touch(tmp_path, "neat/VIRAT_S_000001/7.mp4", "new/videos/VIRAT_S_000001/7.mp4")
    result = read("tinyvirat", tmp_path)
    assert row(result, "VIRAT_S_000001/7")["path"] == "new/videos/VIRAT_S_000001/7.mp4"


def test_the_copy_beside_the_annotations_is_preferred(tmp_path: Path) -> None:
    write_v1(tmp_path / "b")
    touch(tmp_path, "a/train/VIRAT_S_000001/7.mp4", "b/train/VIRAT_S_000001/7.mp4")
    result = read("tinyvirat", tmp_path)
    assert row(result, "VIRAT_S_000001/7")["path"] == "b/train/VIRAT_S_000001/7.mp4"
    assert result.matching.counts["matched twice (the first is used)"] == 1


BAD: list[tuple[Any, str, str]] = [
    (["x"], "bad-annotation", "record 2: expected an object, found a list"),
    ({"id": 8, "label": ["Riding"]}, "bad-annotation", "record 2, field 'path': missing"),
    ({"path": 7, "label": ["Riding"]}, "bad-annotation", "field 'path': 7 is no path"),
    ({"path": "a\0.mp4", "label": ["Riding"]}, "bad-annotation", "is no path"),
    ({"path": "V/8.mp4"}, "bad-annotation", "field 'label': missing"),
    (v1(8, label="Riding"), "bad-annotation", "field 'label': 'Riding' is no list of names"),
    (v1(8, label=[1]), "bad-annotation", "field 'label': [1] is no list of names"),
    (v1(8, label=[]), "bad-annotation", "field 'label': the list is empty"),
    (v1(8, label=["Riding", "Flying"]), "unknown-label", "field 'label': 'Flying' is none of the 26 labels"),
    (v1(8, label=["\ud800"]), "unknown-label", "none of the 26 labels"),
    ({"path": "../8.mp4", "label": ["Riding"]}, "unsafe-path", "field 'path': '../8.mp4' leads out"),
    ({"path": "V/../../8.mp4", "label": ["Riding"]}, "unsafe-path", "leads out of the source folder"),
    ({"path": "/etc/passwd", "label": ["Flying"]}, "unsafe-path", "'/etc/passwd' leads out"),
    (v1(7), "duplicate-row", "record 2: the same clip as tiny_train.json, record 1"),
]


@pytest.mark.parametrize(("bad", "code", "part"), BAD)
def test_bad_records(tmp_path: Path, bad: object, code: str, part: str) -> None:
    write_v1(tmp_path, train=[v1(7), bad, v1(10)])
    touch(tmp_path, "8.mp4", "videos/train/VIRAT_S_000001/8.mp4")
    result = read("tinyvirat", tmp_path)
    failed = [item for item in result.table.to_pylist() if item["error"] not in (None, "missing")]
    assert [item["error"] for item in failed] == [code]
    assert part in failed[0]["message"]
    assert failed[0]["message"].startswith("tiny_train.json, record 2")
    if code == "unsafe-path":
        assert failed[0]["path"] is None
    assert result.matching.counts["annotated"] == len(rows(result)) == 4


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    write_v1(tmp_path / "t")
    touch(tmp_path, "7.mp4")
    folder = tmp_path / "t/videos/train/VIRAT_S_000001"
    folder.mkdir(parents=True)
    (folder / "7.mp4").symlink_to(tmp_path / "7.mp4")
    bad = row(read("tinyvirat", tmp_path / "t"), "VIRAT_S_000001/7")
    assert (bad["error"], bad["path"]) == ("unsafe-path", None)
    assert row(read("tinyvirat", tmp_path / "t", follow_symlinks=True), "VIRAT_S_000001/7")["error"] is None


def test_extra_keys_and_loose_spelling(tmp_path: Path) -> None:
    write_v1(tmp_path, train=[v1(7, label=["Activity Walking", "activity_walking"], clip_id=3, note="x")])
    assert row(read("tinyvirat", tmp_path), "VIRAT_S_000001/7")["labels"] == ["activity_walking"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            '{"clips": []}',
            r'expected {"tubes": \[...\]} \(v1\) or a list \(v2\), found an object with the keys \'clips\'',
        ),
        ('{"tubes": {}}', "found an object with the keys 'tubes'"),
        ('{"tubes": []}', "the list of records is empty"),
        ("7", "found a number"),
        ('{"tubes": [{"id": 1},\n{"id": 2]}', "malformed JSON at line 2, column 9, in record 2"),
        ("", "the annotation file is empty"),
        ('{"tubes": [{"id": ' + "1" * 5000 + "}]}", "(JSON that cannot be read|no list of names)"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, part: str) -> None:
    write_v1(tmp_path)
    write(tmp_path, "tiny_train.json", text)
    with pytest.raises(AnnotationError, match=part) as caught:
        read("tinyvirat", tmp_path)
    assert "tiny_train.json" in str(caught.value)


def test_class_map_in_another_order(tmp_path: Path) -> None:
    write_v2(tmp_path)
    names = sorted(class_list("tinyvirat26").names)
    write(tmp_path, "class_map.json", {name: i for i, name in enumerate(names)})
    with pytest.raises(AnnotationError, match=r"label 0 should be 'Opening', but the file has 'Closing' as 0"):
        read("tinyvirat", tmp_path)


def test_no_annotations(tmp_path: Path) -> None:
    touch(tmp_path, "videos/train/V/7.mp4")
    with pytest.raises(AnnotationError, match="no TinyVIRAT annotation file found") as caught:
        read("tinyvirat", tmp_path)
    assert "tiny_train_v2.json" in str(caught.value)


def test_present_only(tmp_path: Path) -> None:
    write_v1(tmp_path)
    touch(tmp_path, "videos/train/VIRAT_S_000001/7.mp4")
    result = read("tinyvirat", tmp_path, present_only=True)
    assert list(rows(result)) == ["VIRAT_S_000001/7"]
    assert result.matching.counts["not planned: no file (present only)"] == 2

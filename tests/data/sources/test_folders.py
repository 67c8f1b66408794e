"""Class folders of any dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.sources.trees import raw_name, read, row, rows, touch, write
from vidkit.data.paths import text_to_path
from vidkit.data.sources.parts.classes import class_key
from vidkit.errors import AnnotationError
from vidkit.settings.encode import SourceSpec


def test_classes_from_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/jump/1.mp4",
        "train/run/1.mp4",
        "val/run/1.mp4",
        "test/fall/x.y.mkv",
        "swim/2.mp4",
        "loose.mp4",
    )
    result = read("folders", tmp_path)
    assert result.classes == ("fall", "jump", "run", "swim")
    assert {name: (item["split"], item["labels"]) for name, item in rows(result).items()} == {
        "train/jump/1": ("train", ["jump"]),
        "train/run/1": ("train", ["run"]),
        "val/run/1": ("val", ["run"]),
        "test/fall/x.y": ("test", ["fall"]),
        "swim/2": ("train", ["swim"]),
        "loose": ("train", []),
    }
    assert row(result, "loose")["error"] == "no-label"
    assert result.matching.counts["under no split folder (counted as training)"] == 2
    assert result.annotations == {}


def test_class_list(tmp_path: Path) -> None:
    touch(tmp_path, "Jump_High/1.mp4", "swim/2.mp4")
    spec = SourceSpec(name="mine", kind="folders", class_names=("run", "jump high"))
    result = read("folders", tmp_path, spec=spec)
    assert result.classes == ("run", "jump high")
    assert row(result, "Jump_High/1")["labels"] == ["jump high"]
    assert row(result, "swim/2")["error"] == "unknown-label"
    assert row(result, "swim/2")["message"] == "swim/2.mp4: 'swim' is no class of this source"


def test_odd_names(tmp_path: Path) -> None:
    touch(tmp_path, 'it\'s a "class"; rm -rf/-x y.mp4', "名前/ビデオ.mp4")
    raw_name(tmp_path / "c", b"\xff\xfe.mp4")
    result = read("folders", tmp_path)
    assert result.classes == ("c", 'it\'s a "class"; rm -rf', "名前")
    assert sorted(text_to_path(item["path"]) for item in result.table.to_pylist()) == sorted(
        ['it\'s a "class"; rm -rf/-x y.mp4', "名前/ビデオ.mp4", "c/\udcff\udcfe.mp4"]
    )


def test_two_endings_of_one_name_are_two_clips(tmp_path: Path) -> None:
    touch(tmp_path, "run/1.avi", "run/1.mp4")
    result = read("folders", tmp_path)
    assert (row(result, "run/1")["path"], row(result, "run/1")["error"]) == ("run/1.avi", None)
    assert (row(result, "run/1#2")["path"], row(result, "run/1#2")["error"]) == ("run/1.mp4", None)
    assert "tries" not in result.table.column_names


def test_nothing_there(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "train/b.mp4")
    with pytest.raises(AnnotationError, match="2 videos, none of them in a class folder"):
        read("folders", tmp_path)


def test_link_out(tmp_path: Path) -> None:
    touch(tmp_path, "x.mp4", "root/run/1.mp4")
    (tmp_path / "root/run/2.mp4").symlink_to(tmp_path / "x.mp4")
    result = read("folders", tmp_path / "root")
    assert row(result, "run/2")["error"] == "unsafe-path"
    assert row(result, "run/2")["path"] is None


# --- splits: the whole name, at one level -----------------------------------------------------------------


def labels(folder: Path) -> dict[str, tuple[str, list[str]]]:
    return {name: (item["split"], item["labels"]) for name, item in rows(read("folders", folder)).items()}


def test_words_of_splits_in_class_names(tmp_path: Path) -> None:
    names = ("training dog", "riding train", "test tube shaking", "validation", "test")
    touch(tmp_path, *(f"{split}/{name}/1.mp4" for split in ("train", "val") for name in names))
    result = read("folders", tmp_path)
    assert result.classes == tuple(sorted(names))
    assert result.table["error"].null_count == result.table.num_rows == 10
    assert labels(tmp_path)["val/test/1"] == ("val", ["test"])


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "bus/1.mp4", "train/2.mp4", "car/3.mp4")
    assert labels(tmp_path) == {
        "bus/1": ("train", ["bus"]),
        "train/2": ("train", ["train"]),
        "car/3": ("train", ["car"]),
    }


@pytest.mark.parametrize("top", ["", "data/", "k400/videos/"])
@pytest.mark.parametrize("names", [("train", "val"), ("Training", "VALIDATION"), ("train_256", "val_256")])
def test_splits_lie_at_one_level(tmp_path: Path, top: str, names: tuple[str, str]) -> None:
    touch(tmp_path, f"{top}{names[0]}/run/1.mp4", f"{top}{names[1]}/run/2.mp4", f"{top}{names[1]}/val/3.mp4")
    assert sorted(labels(tmp_path).values()) == [("train", ["run"]), ("val", ["run"]), ("val", ["val"])]


@pytest.mark.parametrize("top", ["", "data/"])
def test_splits_below_the_classes(tmp_path: Path, top: str) -> None:
    names = ("training dog", "riding train", "test")
    touch(tmp_path, *(f"{top}{name}/{split}/1.mp4" for name in names for split in ("train", "val", "Testing")))
    result = read("folders", tmp_path)
    assert result.classes == tuple(sorted(names))
    assert result.matching.doubts == []
    found = labels(tmp_path)
    assert len(found) == 9
    assert found[f"{top}training dog/val/1"] == ("val", ["training dog"])
    assert found[f"{top}test/Testing/1"] == ("test", ["test"])
    assert found[f"{top}riding train/train/1"] == ("train", ["riding train"])


def test_one_class_around_splits_is_in_doubt(tmp_path: Path) -> None:
    touch(tmp_path, "training dog/train/1.mp4", "training dog/val/1.mp4", "training dog/test/1.mp4", "loose.mp4")
    result = read("folders", tmp_path)
    assert result.matching.doubts == ["the only class is training dog, a folder around split folders"]
    assert {item["split"] for item in rows(result).values() if item["labels"] == ["training dog"]} == {
        "train",
        "val",
        "test",
    }
    assert row(result, "loose")["error"] == "no-label"


def test_splits_below_some_of_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "dog/train/1.mp4", "dog/val/2.mp4", "cat/3.mp4")
    with pytest.raises(AnnotationError, match="dog holds split folders, other class folders do not"):
        read("folders", tmp_path)


def test_a_class_called_train_below_others(tmp_path: Path) -> None:
    touch(tmp_path, "vehicles/train/1.mp4", "animals/dog/2.mp4", "animals/cat/3.mp4")
    assert read("folders", tmp_path).classes == ("cat", "dog", "train")


# --- spellings --------------------------------------------------------------------------------------------


def test_spellings_of_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/push up/1.mp4", "train/push up/2.mp4", "val/push_up/1.mp4", "test/Push-Up/1.mp4")
    touch(tmp_path, "train/cafe\u0301/1.mp4", "val/caf\xe9/1.mp4", "train/c++/1.mp4", "val/c/1.mp4")
    touch(tmp_path, "train/take 1_1/1.mp4", "val/take 11/1.mp4")
    result = read("folders", tmp_path)
    assert result.classes == ("c", "c++", "caf\xe9", "push up", "take 11", "take 1_1")
    assert {item["labels"][0] for name, item in rows(result).items() if "ush" in name} == {"push up"}
    assert result.matching.doubts == [
        "spellings of one class: 'caf\xe9' (1), 'cafe\u0301' with accents apart (1) are one class, 'caf\xe9'",
        "spellings of one class: 'push up' (2), 'Push-Up' (1), 'push_up' (1) are one class, 'push up'",
    ]
    assert set(result.matching.doubts) <= set(result.matching.notes)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Push Up", "push_up", True),
        ("pushup", "push up", True),
        ("a,b", "(a) b", True),
        ("cafe\u0301", "caf\xe9", True),
        ("ﬁre", "fire", True),  # a ligature
        ("कि", "का", False),  # marks that are vowels
        ("c++", "c", False),
        ("1.5x", "15x", False),
        ("1.5x", "1_5x", True),
        ("-", "_", False),
        ("STRASSE", "straße", True),
    ],
)
def test_what_makes_two_classes(one: str, other: str, same: bool) -> None:
    assert (class_key(one) == class_key(other)) == same


# --- what may have been left out by accident --------------------------------------------------------------


def test_classes_of_one_split_and_hidden_folders_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/1.mp4", "val/run/1.mp4", "test/fall/1.mp4", "train/.jump/1.mp4", ".git/x")
    notes = read("folders", tmp_path).matching.notes
    assert "hidden folders are left out: .git, train/.jump" in notes
    assert "1 of 2 classes have clips in one split only: fall (test)" in notes
    touch(tmp_path / "one", "run/1.mp4", "jump/1.mp4")
    assert not read("folders", tmp_path / "one").matching.notes


def test_a_table_beside_class_folders_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "run/1.mp4")
    write(tmp_path, "train.csv", "a;b\n")
    write(tmp_path, "README.txt", "hello\n")
    assert read("folders", tmp_path).matching.notes == ["not understood, so not read: train.csv"]

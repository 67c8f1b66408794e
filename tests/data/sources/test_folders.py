"""Class folders of any dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.sources.trees import raw_name, read, row, rows, touch
from vidkit.data.paths import text_to_path
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

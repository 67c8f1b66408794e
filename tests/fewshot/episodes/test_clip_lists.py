"""Lists of clips: what a line may look like, and what is not in the dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.fewshot.episodes.made import alone, write
from vidkit.errors import AnnotationError
from vidkit.fewshot.episodes.clip_lists import listed_clips
from vidkit.fewshot.episodes.draw import LabelledClips, open_labelled

IDS = ["k/-3WBdF5jkp4_000023_000033", "k/abcdefghijk_000001_000011", "s/195025", "s/77", "u/v_Archery_g01_c02"]


@pytest.fixture
def clips(tmp_path: Path) -> LabelledClips:
    made = open_labelled(write(tmp_path / "data", alone("a", len(IDS))))
    return replace(made, clip_id=pa.array(IDS))


def listed(clips: LabelledClips, folder: Path, *texts: str) -> Any:
    files = [folder / f"{i}.txt" for i in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return listed_clips(clips, files)


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("air drumming/-3WBdF5jkp4_000023_000033.mp4 3", 0),
        ("-3WBdF5jkp4_000023_000033", 0),
        ("/data/train/abcdefghijk", 1),
        ("air drumming/abcdefghijk_000005_000015", 1),  # other times of the same video
        ("test18/195025", 2),
        ("195025.webm,12", 2),
        ("77", 3),
        ("Archery/v_Archery_g01_c02.avi 1", 4),
    ],
)
def test_forms_of_lines(clips: LabelledClips, tmp_path: Path, line: str, row: int) -> None:
    found = listed(clips, tmp_path, f"\n{line}\n")
    assert np.flatnonzero(found.clips.class_id >= 0).tolist() == [row]
    assert (found.named, found.absent) == (1, ())


def test_several_lists_and_what_is_absent(clips: LabelledClips, tmp_path: Path) -> None:
    found = listed(clips, tmp_path, "77\n78\n", "195025\n77\n79\n")
    assert np.flatnonzero(found.clips.class_id >= 0).tolist() == [2, 3]
    assert (found.named, found.absent) == (4, ("78", "79"))
    assert len(found.clips) == len(clips)


def test_bad_lists(clips: LabelledClips, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"none of the 2 clips listed is in 'few'; the first is '1'"):
        listed(clips, tmp_path, "1\n2\n")
    with pytest.raises(AnnotationError, match="the list of clips is empty"):
        listed(clips, tmp_path, " \n")
    with pytest.raises(AnnotationError, match="cannot be read: No such file"):
        listed_clips(clips, [tmp_path / "none.txt"])
    two = replace(clips, clip_id=pa.array(["k/abcdefghijk_000001_000011", "k/abcdefghijk_000020_000030", *IDS[2:]]))
    with pytest.raises(AnnotationError, match=r"row 2.*'abcdefghijk' could be k/abcdefghijk_000001_000011, k/abc"):
        listed(two, tmp_path, "77\nabcdefghijk\n")

"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vidkit.errors import TrainingError
from vidkit.files import save_whole, whole_file, write_whole


def test_bytes_and_text_arrive_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, "é\r\n")
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    write_whole(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert os.listdir(tmp_path) == ["x"]


def test_a_body_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, "old")

    def stopped() -> None:
        with whole_file(path) as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"], "nothing half is left over"


def test_the_first_error_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.part").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "x", "new")
    assert os.listdir(tmp_path) == ["x.part"]


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "make room and go on with --resume"),
        (errno.EROFS, "give --out a place that can be written"),
    ],
)
def test_an_error_says_how_to_go_on(
    number: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(TrainingError, match=f"x: cannot write: {os.strerror(number)}") as caught:
        save_whole(tmp_path / "x", "new")
    assert caught.value.hint == hint

"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidkit.errors import ConfigError, VidkitError
from vidkit.train.files import check_place, written_whole


def write(out: Path, error: Exception | None = None) -> None:
    with written_whole(out) as file:
        file.write(b"data")
        if error is not None:
            raise error


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    blocked = tmp_path / "file" / "a.png"
    with pytest.raises(VidkitError, match=r"cannot write: (Not a directory|File exists)"):
        write(blocked)
    full = OSError(28, "No space left on device")
    with pytest.raises(VidkitError, match="cannot write: No space left on device"):
        write(tmp_path / "a.png", full)
    with pytest.raises(RuntimeError):
        write(tmp_path / "file", RuntimeError())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "x"
    write(tmp_path / "new" / "a.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    assert (tmp_path / "new" / "a.png").read_bytes() == b"data"


def test_the_place_is_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; scores go to one file"):
        check_place(tmp_path, "scores")
    (tmp_path / "file").write_text("x")
    with pytest.raises(VidkitError, match="cannot write"):
        check_place(tmp_path / "file" / "deep" / "a", "scores")
    check_place(tmp_path / "new" / "a", "scores")
    assert (tmp_path / "new").is_dir()

"""Names of files that are no text, or that no file can have; what may be opened is in test_clip_worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidkit.data.paths import open_source, path_to_text, text_to_path
from vidkit.errors import ClipError


@pytest.mark.parametrize("name", ["a b.mp4", "\u8996.mp4", os.fsdecode(b"\xff\xfe.mp4"), "raw-bytes:x", "a%20b"])
def test_every_name_comes_back(name: str) -> None:
    text = path_to_text(name)
    assert text.encode().decode() == text
    assert text_to_path(text) == name


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("n" * 300 + ".mp4", "a\0b.mp4"):
        with pytest.raises(ClipError) as caught:
            open_source(os.fspath(tmp_path), name)
        assert caught.value.code in ("unreadable", "missing")

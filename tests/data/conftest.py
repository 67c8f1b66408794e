"""The dataset that was written by hand, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data import tiny_dataset


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be read only; `root` is a copy to change."""
    return tiny_dataset.build(tmp_path_factory.mktemp("tiny") / "whole")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))

"""The dataset that was written by hand, made once; and builds without processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.data import tiny_dataset
from tests.data.builds import InProcess


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be read only; `root` is a copy to change."""
    return tiny_dataset.build(tmp_path_factory.mktemp("tiny") / "whole")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds decode in this process, for tests of what comes out; `ClipWorker` has tests of its own."""
    monkeypatch.setattr("vidkit.data.build.executors.ClipWorker", InProcess)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power is cut here

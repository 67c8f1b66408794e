"""One dataset for all tests of the viewer, to be read only; and a cache that is nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.view import made


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.build(tmp_path_factory.mktemp("view"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thumbs of a test are not those of the user."""
    monkeypatch.setenv("VIDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "thumbs"))

"""What every test shares: no surprises from the environment, and the real clips where they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# a job in the background may ignore Ctrl-C, and its children with it; tests send one
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MEDIA_VARIABLE = "VIDKIT_TEST_MEDIA"


@pytest.fixture(autouse=True)
def _no_data_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own data folder must not become the input of a test."""
    monkeypatch.delenv("VIDKIT_DATA", raising=False)


@pytest.fixture(scope="session")
def real_media() -> Path:
    """Folder of real clips: $VIDKIT_TEST_MEDIA, or `shared/media` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "media"
    folder = Path(os.environ.get(MEDIA_VARIABLE) or beside)
    if not folder.is_dir():
        pytest.skip(f"no folder of real clips: {folder}; give one in ${MEDIA_VARIABLE}")
    return folder

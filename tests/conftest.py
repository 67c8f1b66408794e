"""What every test shares: no surprises from the environment, and the real clips where they are."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# a job in the background may ignore Ctrl-C, and its children with it; tests send one
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before torch is imported, and for the processes that tests start, too. The tensors are small: a second thread
# saves nothing, waiting for it costs much where all cores run tests, and its sums come out in another order, which
# a test that asks for equal bits would notice.
os.environ["OMP_NUM_THREADS"] = "1"

MEDIA_VARIABLE = "VIDKIT_TEST_MEDIA"


#: Files of few tests that take long. They begin first, so that they are not what all wait for at the end.
LONG = tuple(
    f"tests/{name}.py"
    for name in (
        "test_cluster",
        "data/build/test_resume",
        "data/storage/test_building",
        "view/web/test_browser",
        "train/test_pretrain",
        "train/test_processes",
        "fewshot/test_evaluate",
        "data/build/test_bad_input",
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` keeps this order; by itself xdist begins with the files that have most tests."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(autouse=True)
def _no_data_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own data folder must not become the input of a test."""
    monkeypatch.delenv("VIDKIT_DATA", raising=False)
    monkeypatch.delenv("VIDKIT_SCRATCH", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Indexes of archives go where a test's other files go."""
    before = os.environ.get("VIDKIT_CACHE")
    os.environ["VIDKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["VIDKIT_CACHE"]
    else:
        os.environ["VIDKIT_CACHE"] = before


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A test may ask torch for more threads; the next one has one again. Who needs no torch does not import it."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_media() -> Path:
    """Folder of real clips: $VIDKIT_TEST_MEDIA, or `shared/media` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "media"
    folder = Path(os.environ.get(MEDIA_VARIABLE) or beside)
    if not folder.is_dir():
        pytest.skip(f"no folder of real clips: {folder}; give one in ${MEDIA_VARIABLE}")
    return folder


@pytest.fixture(scope="session")
def odd_cases() -> Path:
    """Folder of small odd files with a known right reading: $VIDKIT_TEST_CASES, or `shared/cases`."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cases"
    folder = Path(os.environ.get("VIDKIT_TEST_CASES") or beside)
    if not folder.is_dir():
        pytest.skip(f"no folder of odd files: {folder}; give one in $VIDKIT_TEST_CASES")
    return folder

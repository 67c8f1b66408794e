"""Tests for a machine with an NVIDIA GPU: `python -m pytest -m cuda`. Elsewhere each skips and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.train import small


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 training clips of three classes."""
    return small.dataset(tmp_path_factory.mktemp("cuda") / "data")

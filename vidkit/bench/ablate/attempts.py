"""Runs that may be there already, and runs that do not fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vidkit.errors import TrainingError
from vidkit.train.runs import RunFolder, read_json


def finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that has come to its end. Its folder is named by its settings, so it is the same run."""
    path = folder / "summary.json"
    if not path.exists():
        return None
    found: dict[str, Any] = read_json(path)
    return found if found.get("status") == "complete" and RunFolder(folder).last.exists() else None


@contextmanager
def memory_errors() -> Iterator[None]:
    """Lack of memory, on the GPU or the CPU, as a TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "allocate memory" not in str(error):  # torch's allocator on a CPU has no kind of its own
            raise
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        words = str(error).strip().splitlines()
        raise TrainingError(
            "out of memory" + "".join(f": {line}" for line in words[:1]),
            hint="a smaller batch_size, or more parts by optim.accumulate, needs less",
        ) from error

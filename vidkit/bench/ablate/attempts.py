"""Runs that may be there already, that several rows share, or that do not fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vidkit.errors import TrainingError, VidkitError
from vidkit.settings.train import FinetuneConfig, PretrainConfig
from vidkit.train import finetune, pretrain
from vidkit.train.runs import RunFolder, read_json


def pretrained(
    config: PretrainConfig,
    data: Path,
    folder: Path,
    failed: dict[str, str],
    *,
    init: Path | None = None,
    quiet: bool = False,
    keep: tuple[float, ...] = (),
) -> dict[str, Any]:
    """The summary of the pre-training in `folder`, as it was left if it had ended, else begun or gone on with.

    Args:
        folder: named by all that the run depends on.
        keep: shares of it at which weights are kept.
        failed: why a pre-training failed, by its folder's name: rows that share it fail alike, without another try.

    Raises:
        VidkitError: it failed, now or before.
    """
    if folder.name in failed:
        raise TrainingError(failed[folder.name])
    done = finished(folder)
    if done is not None:
        return done
    try:
        with memory_errors():
            resume = (folder / "config.json").exists()
            return pretrain.run(config, data, folder, init=init, resume=resume, quiet=quiet, keep=keep)
    except VidkitError as error:
        failed[folder.name] = f"the pre-training that it shares with another row failed: {error.message}"
        raise


def finetuned(
    config: FinetuneConfig, data: Path, folder: Path, *, init: Path, quiet: bool = False
) -> dict[str, Any]:
    """The summary of the fine-tuning in `folder`, as `pretrained` gives it. Raises VidkitError: it failed."""
    return finished(folder) or finetune.run(
        config, data, folder, init=init, resume=(folder / "config.json").exists(), quiet=quiet
    )


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

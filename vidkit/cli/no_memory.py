"""A model or a batch that does not fit into memory is told in one line, with what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vidkit.errors import TrainingError, clean_message


@contextmanager
def memory_told(hint: str) -> Iterator[None]:
    """
    Raises:
        TrainingError: in place of the errors with which torch and Python say that there is no memory left.
    """
    try:
        yield
    except MemoryError as error:
        raise TrainingError(f"out of memory: {str(error) or 'nothing is left'}", hint=hint) from error
    except RuntimeError as error:
        from torch import OutOfMemoryError

        text = clean_message(str(error), 200)
        if text.startswith("DataLoader worker"):  # killed while the model was at work
            raise TrainingError(
                f"a process that reads clips was stopped: {text}",
                hint="often memory has run out, or shared memory (/dev/shm; docker run --shm-size=8g): "
                "use fewer workers or smaller batches",
            ) from error
        # on a CPU torch has no class for it
        if not isinstance(error, OutOfMemoryError) and "DefaultCPUAllocator" not in text:
            raise
        raise TrainingError(f"out of memory: {text}", hint=hint) from error

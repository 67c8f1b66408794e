"""The order of clips in an epoch, and which of them each process gets.

An epoch is one seeded permutation of the clips. Step s takes positions `s * W * B` to `(s + 1) * W * B`
of it, W processes with B clips each, rank after rank: the batches of all ranks, one after the other, are
the batch that a single process with batch size W * B would see. Nothing depends on shards or workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults

Tail = Literal["cut", "pad", "keep"]


class Request(NamedTuple):
    """A clip to read, and what its random numbers depend on."""

    clip: int
    """Its number in the dataset."""
    epoch: int = 0
    turn: int = 0
    """0, or how often the clip was used before in this epoch (padding)."""


def epoch_order(clips: int, seed: int, epoch: int, *, shuffle: bool = True) -> npt.NDArray[np.int64]:
    """(clips,) every clip once."""
    if not shuffle:
        return np.arange(clips)
    return np.random.default_rng(np.random.SeedSequence((seed, epoch))).permutation(clips)


def epoch_samples(clips: int, global_batch: int, tail: Tail) -> int:
    """Positions in an epoch, over all processes.

    "cut": whole steps only; the rest of the permutation is left out (another rest in every epoch).
    "pad": the last step is filled from the permutation's start; such a clip is augmented anew.
    "keep": every clip exactly once; the last step is smaller, and may be empty for some processes.

    Raises:
        ConfigError: cutting leaves no step.
    """
    if tail == "keep":
        return clips
    if tail == "pad":
        return -(-clips // global_batch) * global_batch
    if clips < global_batch:
        raise ConfigError(
            f"{clips} clips are fewer than one step takes ({global_batch})",
            hint="use a smaller batch (--batch-size) or fewer processes; a loader of your own can take tail='pad'",
        )
    return clips // global_batch * global_batch


def check_split(batch_size: int, rank: int, world: int, tail: Tail) -> None:
    """
    Raises:
        ConfigError: numbers that cannot be.
    """
    faults = Faults()
    faults.check(batch_size >= 1, "batch_size", batch_size, "at least 1")
    faults.check(world >= 1, "world", world, "at least 1")
    faults.check(0 <= rank < max(1, world), "rank", rank, f"0 to {world - 1}")
    faults.check(tail in get_args(Tail), "tail", tail, "'cut', 'pad' or 'keep'")
    faults.raise_if_any("loader settings")


def rank_batches(
    order: npt.NDArray[np.int64], epoch: int, *, batch_size: int, rank: int, world: int, tail: Tail, start: int = 0
) -> Iterator[list[Request]]:
    """Batches of one process from position `start` on. The epoch's length is the same on every rank, in steps
    with "cut" and "pad"; with "keep" ranks may differ by one batch, so do nothing collective per batch.
    """
    clips = len(order)
    global_batch = batch_size * world
    end = epoch_samples(clips, global_batch, tail)
    for step in range(start, end, global_batch):
        first = step + rank * batch_size
        positions = range(first, min(first + batch_size, end))
        if tail != "keep" and step + global_batch > end:
            return  # resumed with another batch size: no process may begin a step that others cannot
        if positions:
            yield [Request(int(order[p % clips]), epoch, p // clips) for p in positions]

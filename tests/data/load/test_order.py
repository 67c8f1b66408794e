"""The order of an epoch and its parts: against plain loops, for many numbers of clips, ranks and batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.reference import ref_loader as ref
from vidkit.data.load.order import Request, check_split, epoch_order, epoch_samples, rank_batches
from vidkit.errors import ConfigError


def parts(
    clips: int, batch: int, world: int, tail: str, start: int = 0, epoch: int = 3
) -> list[list[list[Request]]]:
    """[rank][step] of an epoch."""
    order = epoch_order(clips, 7, epoch)
    how = {"batch_size": batch, "world": world, "tail": tail, "start": start}
    return [list(rank_batches(order, epoch, rank=rank, **how)) for rank in range(world)]  # type: ignore[arg-type]


CASES = [
    (clips, batch, world, tail)
    for clips, batch, world, tail in itertools.product(
        (1, 5, 16, 23, 60), (1, 3, 4), (1, 2, 3), ("cut", "pad", "keep")
    )
    if tail != "cut" or clips >= batch * world
]


@pytest.mark.parametrize(("clips", "batch", "world", "tail"), CASES)
def test_ranks_are_the_parts_of_the_global_batches(clips: int, batch: int, world: int, tail: str) -> None:
    order = epoch_order(clips, 7, 3).tolist()
    expected = ref.global_batches(order, batch * world, tail)
    found = parts(clips, batch, world, tail)
    for rank in range(world):
        assert [[r.clip for r in b] for b in found[rank]] == ref.rank_share(expected, rank, batch)
        assert all(r.epoch == 3 for b in found[rank] for r in b)
    everything = [r for rank in found for b in rank for r in b]
    assert len(set(everything)) == len(everything), "a clip that comes again is told apart by its turn"
    assert len(everything) == epoch_samples(clips, batch * world, tail)  # type: ignore[arg-type]
    if tail == "keep":
        assert sorted(r.clip for r in everything) == list(range(clips)), "every clip exactly once"
    else:
        assert len({len(rank) for rank in found}) == 1, "no rank waits for another"
        assert {len(b) for rank in found for b in rank} == {batch}
    if tail == "pad":
        assert {r.clip for r in everything} == set(range(clips))


@pytest.mark.parametrize("tail", ["cut", "pad", "keep"])
def test_what_is_left_of_an_epoch(tail: str) -> None:
    whole = parts(23, 2, 2, tail)
    for steps in range(len(whole[0]) + 1):
        left = parts(23, 2, 2, tail, start=4 * steps)
        assert left == [rank[steps:] for rank in whole]


def test_going_on_with_another_batch_size() -> None:
    """The permutation's rest is split anew; nothing comes twice, and all ranks stop together."""
    for world, batch in ((1, 4), (3, 2), (2, 5)):
        left = parts(23, batch, world, "cut", start=8)
        seen = [r.clip for rank in left for b in rank for r in b]
        assert len(set(seen)) == len(seen)
        assert not set(seen) & set(epoch_order(23, 7, 3)[:8].tolist())
        assert len({len(rank) for rank in left}) == 1
        assert {len(b) for rank in left for b in rank} <= {batch}


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    base = epoch_order(50, 1, 2).tolist()
    assert sorted(base) == list(range(50))
    assert epoch_order(50, 1, 2).tolist() == base
    assert epoch_order(50, 1, 3).tolist() != base
    assert epoch_order(50, 2, 2).tolist() != base
    assert epoch_order(50, 1, 2, shuffle=False).tolist() == list(range(50))
    first = np.array([epoch_order(10, 0, epoch)[0] for epoch in range(2000)])
    assert np.bincount(first, minlength=10).min() > 140, "each clip comes first about 200 times"


def test_faults() -> None:
    with pytest.raises(ConfigError, match=r"3 clips are fewer than one step takes \(8\)\n  -> .*tail='pad'"):
        epoch_samples(3, 8, "cut")
    with pytest.raises(ConfigError) as caught:
        check_split(0, 2, 2, "drop")  # type: ignore[arg-type]
    for words in ("batch_size is 0", "rank is 2; expected 0 to 1", "tail is 'drop'"):
        assert words in str(caught.value)

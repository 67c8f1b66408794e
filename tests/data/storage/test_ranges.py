"""Ranges of shards in a store: neighbours by one request, by signed addresses, and by any way that answers."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data import builds
from tests.data.storage.conftest import Store
from tests.data.storage.proxy import Asked
from tests.data.tinyset import build, many
from vidkit.data import ClipDataset, ClipLoader
from vidkit.data.load.shard_bytes import Piece, runs
from vidkit.data.storage import signed, stores


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ranges") / "data", many(24))


@pytest.fixture
def at(store: Store, local: Path) -> str:
    return store.upload(local, "ranges")


def open_clips(where: Any, **how: Any) -> ClipDataset:
    return ClipDataset(where, "train", frames=4, stride=2, **how)


def every(clips: ClipDataset) -> list[bytes]:
    clips.ahead(range(len(clips)))
    return [clips.bytes(i) for i in range(len(clips))]


# --- neighbours ------------------------------------------------------------------------------------


def test_runs_are_what_a_slow_search_finds() -> None:
    rng = np.random.default_rng(0)
    places = []
    for shard in range(3):
        ends = np.cumsum(rng.integers(1, 60_000, 80))
        places += [Piece(shard, int(a), int(b - a) // 2 + 1) for a, b in itertools.pairwise(ends)]
    for share in (0.1, 0.6, 1.0):
        asked = [places[i] for i in rng.permutation(len(places))[: int(share * len(places))]]
        left, expected = sorted(asked), []
        while left:
            run = [left.pop(0)]
            while left and left[0].shard == run[0].shard:
                gap = left[0].offset - (run[-1].offset + run[-1].nbytes)
                small = gap <= 4096 or gap <= min(16384, left[0].nbytes // 8)
                if not small or left[0].offset + left[0].nbytes - run[0].offset > 4 << 20:
                    break
                run.append(left.pop(0))
            expected.append(run)
        found = runs(asked)
        assert sorted(found) == expected
        firsts = [min(asked.index(piece) for piece in run) for run in found]
        assert firsts == sorted(firsts)


def test_a_run_is_bounded_and_pieces_that_overlap_stay_apart() -> None:
    long = [Piece(0, i << 20, 1 << 20) for i in range(10)]
    assert [len(run) for run in runs(long)] == [4, 4, 2]
    assert len(runs([Piece(0, 0, 100), Piece(0, 50, 100)])) == 2
    assert runs([]) == []


def test_in_order_a_batch_is_a_request_and_every_clip_its_own_bytes(store: Store, at: str, local: Path) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at, mode="segments", training=False)
    loader = ClipLoader(clips, batch_size=4)
    proxy.reset()
    got = [batch.video for batch in loader]
    shards = len(set(clips.clips.shard.tolist()))
    assert proxy.count("GET") <= shards + len(got)
    wanted = int(clips.clips.nbytes.sum())
    assert wanted <= proxy.sent <= wanted + len(clips) * 4096
    theirs = ClipLoader(open_clips(local, mode="segments", training=False), batch_size=4)
    assert all(a.equal(b.video) for a, b in zip(got, theirs, strict=True))


def test_clips_that_are_kept_on_a_disk_leave_holes_in_a_run(store: Store, at: str, tmp_path: Path) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at, disk_cache=tmp_path)
    proxy.reset()
    some = {i: clips.bytes(i) for i in (2, 3, 9)}
    assert proxy.count("GET") == 3
    found = every(clips)
    assert {i: found[i] for i in some} == some
    assert found == every(open_clips(at))
    proxy.reset()
    assert every(clips) == found
    assert proxy.count("GET") == 0


# --- signed addresses ------------------------------------------------------------------------------


def by_address(asked: Asked) -> bool:
    return "X-Amz-Signature=" in asked.path and "authorization" not in asked.headers


def test_clips_are_read_by_signed_addresses_and_records_are_not(store: Store, at: str, local: Path) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at)
    assert not any(by_address(asked) for asked in proxy.seen)
    proxy.reset()
    assert every(clips) == every(open_clips(local))
    assert proxy.seen
    assert all(map(by_address, proxy.seen))


class Probe:
    """A clip, and the file systems that this process has made for it."""

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> tuple[bytes, list[str]]:
        return self.clips.bytes(i), sorted(name for pid, name in stores._MADE if pid == os.getpid())


def test_a_forked_worker_makes_no_client_of_its_own(at: str, local: Path) -> None:
    """Which would take a tenth of a second of the processor."""
    loader = torch.utils.data.DataLoader(
        Probe(open_clips(at)), num_workers=1, batch_size=None, multiprocessing_context="fork"
    )
    assert list(loader) == [[open_clips(local).bytes(0), ["https, signed"]]]


@pytest.mark.parametrize("status", [403, 400, 301])
def test_a_store_that_refuses_signed_addresses_is_asked_as_ever(
    status: int, store: Store, at: str, local: Path
) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at)
    proxy.reset()
    proxy.answer = lambda asked: (status, b"") if by_address(asked) else None
    got = [clips.bytes(i) for i in range(len(clips))]
    assert got == every(open_clips(local))
    assert sum(map(by_address, proxy.seen)) == 3  # and no more


def test_a_busy_answer_ends_no_address(store: Store, at: str, local: Path) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at)
    proxy.reset()
    proxy.answer = lambda asked: (503, b"") if by_address(asked) and len(proxy.seen) < 16 else None
    got = [clips.bytes(i) for i in range(len(clips))]
    assert got == every(open_clips(local))
    assert by_address(proxy.seen[-1])


def test_an_address_is_signed_anew_before_it_ends(store: Store, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = open_clips(at)
    ranges = clips.shards._signed  # type: ignore[attr-defined]
    before = dict(ranges._signed)
    clips.bytes(0)
    assert ranges._signed == before
    now = signed.time.time
    monkeypatch.setattr(signed.time, "time", lambda: now() + signed._USED_S + 1)
    clips.bytes(0)
    first = clips.clips.shards[int(clips.clips.shard[0])]
    assert [name for name in before if ranges._signed[name] != before[name]] == [first]


def test_behind_a_proxy_of_the_environment_none_is_tried(
    store: Store, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # of no use to http:// addresses
    proxy = store.through_proxy()
    clips = open_clips(at)
    clips.bytes(0)
    assert not any(by_address(asked) for asked in proxy.seen)


# --- the end ---------------------------------------------------------------------------------------


def test_a_process_ends_without_a_word(at: str) -> None:
    code = (
        "from vidkit.data.load.shard_bytes import Piece, StoreShards\n"
        "from vidkit.data.storage.places import place\n"
        f"shards = StoreShards(place({at!r}), ('train/000000.tar',), None)\n"
        "shards.ahead([Piece(0, 512, 512)]); shards.read(Piece(0, 512, 512))\n"
        "import functools; functools.kept = shards"  # goes with one of the last modules
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=builds.environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

"""Builds of damaged media: whatever was changed in a file, the build ends, and every frame is accounted for.

    make fuzz                                                    # minutes; every failure names its seed
    VIDKIT_FUZZ_S=3600 python -m pytest -m slow tests/fuzz       # longer

A failure prints the seed of the file; `mutant(seed, files)` makes it again, as long as the encoders are the same.
What was found in this way is a test of its own in `tests/data/media`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests import badmedia, oddmedia
from tests.badmedia import indexed_clip
from tests.data import builds
from tests.reference import ref_counts
from vidkit.errors import CLIP_ERRORS

SECONDS = float(os.environ.get("VIDKIT_FUZZ_S", "480"))
BATCH = 24
LIMIT_S = 20.0

#: Replayed by every run of the test suite; add the seeds that once found something.
KEPT = (3, 11, 28, 57)

SMALL: dict[str, Any] = {"frames": 20, "width": 48, "height": 32}
BASES: dict[str, dict[str, Any]] = {
    "mp4": {"options": oddmedia.H264_B},
    "fragmented.mp4": {"options": oddmedia.H264_B, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mov": {"container": "mov", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "audio.mp4": {"audio": True},
    "mkv": {"container": "matroska", "options": oddmedia.H264_B},
    "webm": {"container": "webm", "codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "avi": {"container": "avi", "codec": "mpeg4", "options": {"bf": "2"}},
    "h264.avi": {"container": "avi", "options": oddmedia.H264_B},
    "ts": {"container": "mpegts", "options": oddmedia.H264_B},
    "vob": {"container": "vob", "codec": "mpeg2video", "options": {"bf": "2"}},
    "flv": {"container": "flv", "options": oddmedia.H264_B},
    "h264": {"container": "h264", "options": oddmedia.H264_B},
}
SUFFIXES = {"h264": "x.mp4", "h264.avi": "x.avi", "fragmented.mp4": "f.mp4", "audio.mp4": "a.mp4", "vob": "mpg"}

INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
)
INTERESTING += (b"\0\0\1", b"\0\0\0\1", b"moov", b"mdat", b"\x1f\x43\xb6\x75", b"00dc", b"\x47")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    found = {}
    for name, how in BASES.items():
        if how.get("codec") is None or badmedia.has_encoder(how["codec"]):
            indexed_clip(folder / name, **SMALL, **how)
            found[name] = (folder / name).read_bytes()
    return found


def mutant(seed: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """(ending, bytes) of a file in which a few things were changed: headers, tables or packets."""
    rng = random.Random(seed)
    name = rng.choice(sorted(files))
    data = bytearray(files[name])
    tables = data.find(b"moov") if b"moov" in data else 0
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if len(data) < 64:
            break
        low, high = rng.choice(
            (
                (0, min(len(data), 1200)),
                (min(tables, len(data) - 1), len(data)),
                (0, len(data)),
                (len(data) // 2, len(data)),
            )
        )
        at, length = rng.randrange(low, high), rng.choice((1, 2, 4, 8, 188, rng.randrange(1, 600)))
        match rng.randrange(8):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                piece = rng.choice(INTERESTING)
                data[at : at + len(piece)] = piece
            case 2:
                data[at : at + length] = rng.randbytes(length)
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                there = rng.randrange(len(data))
                data[there : there + length], data[at : at + length] = (
                    data[at : at + length],
                    data[there : there + length],
                )
            case 6:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case _:
                number = int.from_bytes(data[at : at + 4], "big") + rng.choice((-1, 1, -16, 16, 256, 65536))
                data[at : at + 4] = (number % (1 << 32)).to_bytes(4, "big")
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return SUFFIXES.get(name, name), bytes(data)


class Counter:
    """Plain decodes in a process of their own, which a file may crash or hang."""

    def __init__(self) -> None:
        self.process: Any = None

    def count(self, data: bytes, limit_s: float = LIMIT_S) -> int | None:
        """Frames, or None where the file cannot be opened or plain decoding fails or does not end."""
        if self.process is None:
            context = multiprocessing.get_context("fork")
            self.link, theirs = context.Pipe()
            self.process = context.Process(target=_count_on_demand, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.link.send_bytes(data)
            if self.link.poll(limit_s):
                found: int | None = self.link.recv()
                return found
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.link.close()
            self.process = None


def _count_on_demand(link: Connection) -> None:
    while True:
        try:
            data = link.recv_bytes()
        except EOFError:
            return
        try:
            link.send(ref_counts.count_best(data))
        except Exception:
            link.send(None)


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    yield made
    made.close()


def check(
    seeds: range | tuple[int, ...], files: dict[str, bytes], folder: Path, counter: Counter
) -> dict[str, int]:
    """Build a tree of mutants and hold what must hold of each; returns how often each outcome came."""
    names = {}
    for i, seed in enumerate(seeds):
        ending, data = mutant(seed, files)
        path = folder / "clips" / "a" / f"{i:05d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        names[f"a/{path.name}"] = (seed, data)
    prepared = builds.plan(builds.FOLDERS, folder / "clips", frames=0)
    start = time.monotonic()
    builds.run(prepared, folder / "out", workers=2, timeout_s=LIMIT_S)
    assert time.monotonic() - start < LIMIT_S * (len(names) + 2), "a clip was not stopped at its limit"
    rows = builds.check_whole(folder / "out")
    assert len(rows) == len(names), "planned = ok + failed + missing, and all of them are planned"
    outcomes: dict[str, int] = {}
    for row in rows:
        seed, data = names[row["path"]]
        outcomes[row["error"] or "ok"] = outcomes.get(row["error"] or "ok", 0) + 1
        assert row["error"] is None or row["error"] in CLIP_ERRORS, seed
        # a process that dies costs its clip; an exception of ours is a fault
        assert row["error"] != "crashed" or "process" in row["message"] or "memory" in row["message"], (seed, row)
        if row["status"] != "ok":
            continue
        assert row["frames"] == row["source_frames"], (seed, row)
        if not row["warnings"]:
            plain = counter.count(data)
            assert plain is None or plain == row["frames"], (seed, plain, row)
    return outcomes


@pytest.mark.parametrize("part", range(1))
def test_seeds_that_were_kept(part: int, files: dict[str, bytes], tmp_path: Path, counter: Counter) -> None:
    assert sum(check(KEPT, files, tmp_path, counter).values()) == len(KEPT)


def test_mutants_differ_and_are_made_again(files: dict[str, bytes]) -> None:
    made = [mutant(seed, files) for seed in range(40)]
    assert made == [mutant(seed, files) for seed in range(40)]
    assert len({data for _, data in made}) > 35
    assert sum(data not in files.values() for _, data in made) > 35


@pytest.mark.slow
def test_builds_of_damaged_media(files: dict[str, bytes], tmp_path: Path, counter: Counter) -> None:
    start, first = time.monotonic(), int(os.environ.get("VIDKIT_FUZZ_SEED", str(time.time_ns() % (1 << 40))))
    outcomes: dict[str, int] = {}
    batch = 0
    while time.monotonic() - start < SECONDS:
        seeds = range(first + batch * BATCH, first + (batch + 1) * BATCH)
        for name, count in check(seeds, files, tmp_path / str(batch), counter).items():
            outcomes[name] = outcomes.get(name, 0) + count
        batch += 1
    print(f"{batch * BATCH} files from seed {first}: {outcomes}")
    assert outcomes.get("ok", 0) > 0
    assert len(outcomes) > 2, "some files failed, and in several ways"

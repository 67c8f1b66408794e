"""Shards are plain tars, the same bytes however often their making was interrupted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from vidkit.data import shards
from vidkit.data.shards import ShardFacts, ShardWriter

#: (row, clip): three stored clips, one that failed, names and messages that are no plain text.
ROWS: list[tuple[dict[str, Any], bytes | None]] = [
    ({"key": "00000007", "status": "ok", "error": None, "nbytes": None}, b"first clip" * 40),
    (
        {"key": "00000008", "status": "failed", "error": "truncated", "message": 'é "\\n" 視頻', "nbytes": None},
        None,
    ),
    ({"key": "00000009", "status": "ok", "error": None, "nbytes": None}, bytes(range(256)) * 6),
    ({"key": "00000010", "status": "ok", "error": None, "nbytes": None}, b"x" * 512),
]


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of shards are made here, and no power is cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def meta(row: dict[str, Any]) -> dict[str, Any]:
    return {"clip_id": f"mine/{row['key']}", "labels": ["gehen", "歩く"], "class_id": 3}


def write(folder: Path, rows: list[tuple[dict[str, Any], bytes | None]] = ROWS) -> ShardFacts | None:
    with ShardWriter(folder / "train" / "000000.tar", folder / "state" / "train-000000.jsonl", "train") as writer:
        for row, clip in rows[len(writer.rows) :]:
            writer.add(row, clip, meta(row) if clip is not None else None)
        return writer.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_shard_is_what_tar_itself_would_write(tmp_path: Path) -> None:
    write(tmp_path)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, clip in ROWS:
            if clip is not None:
                text = json.dumps(meta(row), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
                for ending, data in (("mp4", clip), ("json", text)):
                    info = tarfile.TarInfo(f"{row['key']}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    assert (tmp_path / "train/000000.tar").read_bytes() == buffer.getvalue()


def test_members_and_places(tmp_path: Path) -> None:
    facts = write(tmp_path)
    data = (tmp_path / "train/000000.tar").read_bytes()
    assert facts == ShardFacts("train/000000.tar", "train", 3, len(data), hashlib.sha256(data).hexdigest())
    assert len(data) % tarfile.RECORDSIZE == 0
    rows, noted = shards.read_journal(tmp_path / "state/train-000000.jsonl")
    assert noted == facts
    assert [row["key"] for row in rows] == [row["key"] for row, _ in ROWS]
    for row, (planned, clip) in zip(rows, ROWS, strict=True):
        assert row["status"] == planned["status"]
        assert row.get("message") == planned.get("message")
        if clip is None:
            assert row["nbytes"] is None
        else:
            assert shards.read_sample(tmp_path / "train/000000.tar", row["offset"], row["nbytes"]) == clip
    with tarfile.open(tmp_path / "train/000000.tar") as tar:
        names = tar.getnames()
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname) == ("", "")
    assert names == [f"{key}.{e}" for key in ("00000007", "00000009", "00000010") for e in ("mp4", "json")]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1024, 9215, 9216, 9217, 10239, 10240, 102400])
def test_the_end_is_two_blocks_padded_to_a_record(size: int) -> None:
    end = shards.end_of_tar(size)
    assert end.count(0) == len(end) >= 1024
    assert (size + len(end)) % 10240 == 0
    assert len(end) < 1024 + 10240


def test_a_shard_without_a_sample_leaves_no_tar(tmp_path: Path) -> None:
    assert write(tmp_path, [ROWS[1]]) is None
    assert sorted(contents(tmp_path)) == ["state/train-000000.jsonl"]
    rows, facts = shards.read_journal(tmp_path / "state/train-000000.jsonl")
    assert (len(rows), facts) == (1, None)
    assert shards.finished(tmp_path / "train/000000.tar", tmp_path / "state/train-000000.jsonl")


# --- resuming --------------------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Path, Path]:
    """(folder, tar.part, journal.part) of a shard with all its rows, not finished."""
    folder = tmp_path / "begun"
    with ShardWriter(folder / "train" / "000000.tar", folder / "state" / "train-000000.jsonl", "train") as writer:
        for row, clip in ROWS:
            writer.add(row, clip, meta(row) if clip is not None else None)
    return folder, folder / "train/000000.tar.part", folder / "state/train-000000.jsonl.part"


def _resumed(begun: tuple[Path, Path, Path], tmp_path: Path, tar: bytes, journal: bytes) -> int:
    """Finish a copy with these contents; returns how many rows were still good. The result must be as ever."""
    folder = tmp_path / "copy"
    if folder.exists():
        shutil.rmtree(folder)
    for source, data in zip(begun[1:], (tar, journal), strict=True):
        path = folder / source.relative_to(begun[0])
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    with ShardWriter(folder / "train" / "000000.tar", folder / "state" / "train-000000.jsonl", "train") as writer:
        good = len(writer.rows)
        for row, clip in ROWS[good:]:
            writer.add(row, clip, meta(row) if clip is not None else None)
        writer.finish()
    write(tmp_path / "whole") if not (tmp_path / "whole").exists() else None
    assert contents(folder) == contents(tmp_path / "whole")
    return good


def test_a_journal_cut_at_any_byte_of_its_last_lines(begun: tuple[Path, Path, Path], tmp_path: Path) -> None:
    tar, journal = (path.read_bytes() for path in begun[1:])
    ends = [i + 1 for i, byte in enumerate(journal) if byte == ord("\n")]
    for at in [*range(0, ends[1], 13), *range(ends[1], len(journal) + 1)]:
        assert _resumed(begun, tmp_path, tar, journal[:at]) == sum(end <= at for end in ends), at


def test_a_tar_cut_anywhere(begun: tuple[Path, Path, Path], tmp_path: Path) -> None:
    tar, journal = (path.read_bytes() for path in begun[1:])
    seen = {_resumed(begun, tmp_path, tar[:at], journal) for at in range(0, len(tar) + 1, 97)}
    assert seen == {0, 2, 3}, "the failed clip's row is good as soon as the sample before it is"
    assert _resumed(begun, tmp_path, tar, journal) == 4
    assert _resumed(begun, tmp_path, tar + b"half a sample", journal) == 4


def test_a_flipped_byte_in_the_tar_is_noticed(begun: tuple[Path, Path, Path], tmp_path: Path) -> None:
    tar, journal = (path.read_bytes() for path in begun[1:])
    rng = random.Random(0)
    for at in sorted(rng.sample(range(len(tar)), 25)):
        damaged = bytearray(tar)
        damaged[at] ^= 1 << rng.randrange(8)
        assert _resumed(begun, tmp_path, bytes(damaged), journal) < 4, at


@pytest.mark.parametrize(
    "end", [b"", b'{"done":null}\n', b'{"done":{"shard"', b"\0" * 100, b"[1]\n", b"{}\n", b"\n"]
)
def test_whatever_follows_the_last_row_is_dropped(
    end: bytes, begun: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    tar, journal = (path.read_bytes() for path in begun[1:])
    assert _resumed(begun, tmp_path, tar + shards.end_of_tar(len(tar)), journal + end) == 4


def test_one_file_without_the_other_is_a_new_start(begun: tuple[Path, Path, Path]) -> None:
    _, tar, journal = begun
    for lost in (tar, journal):
        kept = lost.read_bytes()
        lost.unlink()
        assert shards._recover(tar, journal) == ([], 0, 0)
        lost.write_bytes(kept)


# --- finished or not ---------------------------------------------------------------------------------------


def test_finished_needs_the_journal_and_a_tar_of_its_size(tmp_path: Path) -> None:
    tar, journal = tmp_path / "train/000000.tar", tmp_path / "state/train-000000.jsonl"
    assert not shards.finished(tar, journal)
    write(tmp_path)
    assert shards.finished(tar, journal)
    data = tar.read_bytes()
    tar.write_bytes(data[:-1])
    assert not shards.finished(tar, journal)
    tar.unlink()
    assert not shards.finished(tar, journal)
    tar.write_bytes(data)
    text = journal.read_bytes()
    for damaged in (b"", b"\0" * 200, text[:-20], text[: text.rindex(b'{"done"')]):
        journal.write_bytes(damaged)
        assert not shards.finished(tar, journal), damaged


def test_renames_that_were_not_reached_are_made_up_for(tmp_path: Path) -> None:
    tar, journal = tmp_path / "train/000000.tar", tmp_path / "state/train-000000.jsonl"
    facts = write(tmp_path)
    part = journal.with_name(journal.name + ".part")
    journal.rename(part)
    shards.settle(tar, journal)
    assert shards.read_journal(journal)[1] == facts

    journal.rename(part)
    shutil.copy(tar, tar.with_name(tar.name + ".part"))  # the tar's own rename was not reached either
    shards.settle(tar, journal)
    assert not journal.exists()
    tar.with_name(tar.name + ".part").unlink()

    part.write_bytes(part.read_bytes()[:-9])  # not whole: the making goes on
    shards.settle(tar, journal)
    assert not journal.exists()


def test_an_older_tar_goes_where_no_sample_is_left(tmp_path: Path) -> None:
    write(tmp_path)
    tar, journal = tmp_path / "train/000000.tar", tmp_path / "state/train-000000.jsonl"
    journal.unlink()
    part = journal.with_name(journal.name + ".part")
    part.write_bytes(b'{"row":{"key":"00000007"}}\n{"done":null}\n')
    shards.settle(tar, journal)
    assert journal.exists()
    assert not tar.exists()


# --- small files ---------------------------------------------------------------------------------------------


def test_files_are_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    shards.write_json(path, {"b": 1, "a": "é"})
    assert path.read_bytes() == '{\n  "b": 1,\n  "a": "é"\n}\n'.encode()

    def fail(handle: int) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no"):
        shards.write_json(path, {})
    assert json.loads(path.read_text()) == {"b": 1, "a": "é"}


def test_sha256_of_a_file(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_001)
    (tmp_path / "x").write_bytes(data)
    assert shards.sha256_file(tmp_path / "x") == (hashlib.sha256(data).hexdigest(), len(data))

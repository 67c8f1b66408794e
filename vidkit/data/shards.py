"""Shards: plain tars of key.mp4 + key.json whose bytes depend on nothing but their samples.

A shard in the making is two files: `NAME.tar.part` and a journal with one line for each planned
clip, written after the clip's sample. A build that was killed goes on from the last journal line
whose sample is whole. A finished shard has its final name and is never opened for writing again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vidkit.data.storage.places import Place, StorePath
from vidkit.files import sync_folder, write_whole

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """One line of shards.json."""

    shard: str
    split: str
    samples: int
    bytes: int
    sha256: str


def tar_member(name: str, payload: bytes) -> bytes:
    """Header, payload and padding of one tar member: no time, no owner, no permissions of this machine."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(payload), 0o644, 0
    header = info.tobuf(tarfile.USTAR_FORMAT)
    return header + payload + bytes(-len(payload) % _BLOCK)


def sample_bytes(key: str, clip: bytes, meta: dict[str, Any]) -> tuple[bytes, int]:
    """The tar members of one sample, and the offset of the clip's payload within them."""
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return tar_member(f"{key}.mp4", clip) + tar_member(f"{key}.json", text), _BLOCK


def end_of_tar(size: int) -> bytes:
    """Two empty blocks, padded to a whole record as tar does."""
    return bytes(-(size + 2 * _BLOCK) % tarfile.RECORDSIZE + 2 * _BLOCK)


class ShardWriter:
    """Writes one shard, resuming where an earlier attempt was killed.

    Args:
        tar: final path of the shard.
        journal: final path of its journal (JSON lines, one for each planned clip, then the shard's facts).
        split: name for shards.json.
    """

    def __init__(self, tar: Path, journal: Path, split: str) -> None:
        self.tar, self.journal, self.split = tar, journal, split
        self.name = f"{split}/{tar.name}"
        self._tar_part = tar.with_name(tar.name + ".part")
        self._journal_part = journal.with_name(journal.name + ".part")
        tar.parent.mkdir(parents=True, exist_ok=True)
        journal.parent.mkdir(parents=True, exist_ok=True)
        self.rows, self._size, journal_size = _recover(self._tar_part, self._journal_part)
        self._tar_file = _open_at(self._tar_part, self._size)
        self._journal_file = _open_at(self._journal_part, journal_size)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._tar_file.close()  # writes what is buffered, so it can fail
        finally:
            self._journal_file.close()

    def add(self, row: dict[str, Any], clip: bytes | None, meta: dict[str, Any] | None) -> None:
        """Append a planned clip's row, and its sample where it has one.

        `offset` and `nbytes` are set in the row; the tar's bytes reach the kernel before the row does.
        """
        if clip is not None and meta is not None:
            data, payload = sample_bytes(row["key"], clip, meta)
            self._tar_file.write(data)
            self._tar_file.flush()
            row = {**row, "offset": self._size + payload, "nbytes": len(clip)}
            self._size += len(data)
            line = {"row": row, "end": self._size, "crc32": zlib.crc32(data)}
        else:
            line = {"row": row}
        self._journal_file.write(_json_line(line))
        self._journal_file.flush()
        self.rows.append(row)

    def finish(self) -> ShardFacts | None:
        """Close, sync and rename. Returns None for a shard without a sample, of which no tar is kept."""
        samples = sum(row["nbytes"] is not None for row in self.rows)
        self._tar_file.write(end_of_tar(self._size))
        sync_and_close(self._tar_file)
        facts = None
        if samples:
            sha256, size = sha256_file(self._tar_part)
            facts = ShardFacts(self.name, self.split, samples, size, sha256)
        self._journal_file.write(_json_line({"done": asdict(facts) if facts else None}))
        sync_and_close(self._journal_file)
        # the journal gets its final name last: with it, the shard counts as finished
        if facts:
            self._tar_part.replace(self.tar)
        else:
            self._tar_part.unlink()
            self.tar.unlink(missing_ok=True)
        sync_folder(self.tar.parent)
        self._journal_part.replace(self.journal)
        sync_folder(self.journal.parent)
        return facts


def _json_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open for writing, cut to `size`."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _recover(tar: Path, journal: Path) -> tuple[list[dict[str, Any]], int, int]:
    """Rows whose samples are whole, the tar's good size, the journal's good size."""
    rows: list[dict[str, Any]] = []
    size = good = 0
    if not tar.exists() or not journal.exists():
        return rows, 0, 0
    with tar.open("rb") as tar_file, journal.open("rb") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:
                break  # cut in the middle of a line
            if not text.endswith(b"\n") or "row" not in line:
                break
            if "end" in line:
                data = tar_file.read(line["end"] - size)
                if len(data) != line["end"] - size or zlib.crc32(data) != line["crc32"]:
                    break
                size = line["end"]
            rows.append(line["row"])
            good += len(text)
    return rows, size, good


def read_journal(journal: Path) -> tuple[list[dict[str, Any]], ShardFacts | None]:
    """Rows and facts of a finished shard."""
    with journal.open("rb") as lines:
        parsed = [json.loads(line) for line in lines]
    done = parsed.pop()["done"]
    return [line["row"] for line in parsed], ShardFacts(**done) if done else None


def settle(tar: Path, journal: Path) -> None:
    """Complete the renames of a shard whose maker was killed between them."""
    part = journal.with_name(journal.name + ".part")
    if not part.exists() or tar.with_name(tar.name + ".part").exists():
        return
    done, facts = _last_line(part)
    if done and facts is None:
        tar.unlink(missing_ok=True)
    if done and _is_there(tar, facts):
        part.replace(journal)


def _is_there(tar: Path, facts: dict[str, Any] | None) -> bool:
    return facts is None or (tar.exists() and tar.stat().st_size == facts["bytes"])


def _last_line(journal: Path) -> tuple[bool, dict[str, Any] | None]:
    """(whether the journal ends with its shard's facts, those facts)."""
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - 4096))
        lines = file.read().splitlines()
    try:
        line = json.loads(lines[-1]) if lines else {}
    except ValueError:  # cut in the middle, or longer than what was read: a row, then
        return False, None
    return "done" in line, line.get("done")


def finished(tar: Path, journal: Path) -> bool:
    """Whether a shard was finished: its journal has the final name and its tar the size noted there."""
    if not journal.exists():
        return False
    done, facts = _last_line(journal)
    return done and _is_there(tar, facts)


def is_empty(journal: Path) -> bool:
    """Whether a finished shard has no sample, and so no tar."""
    return _last_line(journal) == (True, None)


def read_sample(tar: Place, offset: int, nbytes: int) -> bytes:
    """A clip's bytes by its place in the ledger."""
    if isinstance(tar, StorePath):
        return tar.read_range(offset, nbytes)
    with tar.open("rb") as file:
        file.seek(offset)
        return file.read(nbytes)


def padded(nbytes: int) -> int:
    """Bytes that a payload takes in a tar."""
    return nbytes + -nbytes % _BLOCK


def json_member(read: Callable[[int, int], bytes], offset: int) -> dict[str, Any]:
    """The JSON object that is a tar's member at `offset`.

    Args:
        read: (how many bytes, from where) -> bytes.

    Raises:
        ValueError: there is something else.
    """
    try:
        info = tarfile.TarInfo.frombuf(read(_BLOCK, offset), "utf-8", "strict")
    except tarfile.HeaderError as error:
        raise ValueError(f"no member of a tar: {error}") from None
    if not info.name.endswith(".json"):
        raise ValueError(f"{info.name!r} instead of a JSON file")
    found = json.loads(read(info.size, offset + _BLOCK))
    if not isinstance(found, dict):
        raise ValueError(f"{info.name!r} holds no JSON object")
    return found


def sha256_file(path: Place) -> tuple[str, int]:
    """(hex digest, size) of a file."""
    digest, size = hashlib.sha256(), 0
    with contextlib.closing(path.blocks() if isinstance(path, StorePath) else _blocks(path)) as blocks:
        for block in blocks:
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _blocks(path: Path) -> Generator[bytes, None, None]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def sync_and_close(file: BinaryIO) -> None:
    """Close a file once its bytes are on the disk.

    Raises:
        OSError: they are not, for example as the disk is full.
    """
    file.flush()
    os.fsync(file.fileno())
    file.close()


def json_bytes(value: Any) -> bytes:
    """Indented JSON, with a stable order of keys."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """`json_bytes`, written whole."""
    write_whole(path, json_bytes(value))

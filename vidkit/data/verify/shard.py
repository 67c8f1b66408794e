"""Whether one shard holds what the records say: its bytes, its tar, its samples as webdataset reads them."""

from __future__ import annotations

import json
import os
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av

from vidkit.data.media import frames as media
from vidkit.data.shards import sha256_file
from vidkit.data.tables import SAMPLE
from vidkit.data.verify.report import Report
from vidkit.errors import ClipError, clean_message

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that can be decoded, and what should come out."""

    where: str
    clip: bytes
    expected: Mapping[str, Any]
    """`frames`, `duration_s`, `fps`, `width`, `height`; absent or None: not known."""


def check_bytes(path: Path, recorded: Mapping[str, Any], report: Report) -> None:
    """Length and digest against shards.json."""
    sha256, size = sha256_file(path)
    report.checks["shards hashed"] += 1
    if size != recorded["bytes"]:
        report.add("shard-size", recorded["shard"], f"{size} bytes; {recorded['bytes']} are recorded")
    if sha256 != recorded["sha256"]:
        report.add("checksum", recorded["shard"], f"sha256 is {sha256}; recorded is {recorded['sha256']}")


def read_members(file: BinaryIO, shard: str, report: Report) -> tuple[dict[str, tuple[int, int]], int | None]:
    """Member name -> (payload offset, size), and where the tar is damaged, if it is.

    Stricter than `tarfile`, which takes a damaged header for the end of the archive.
    """
    members: dict[str, tuple[int, int]] = {}
    names: Counter[str] = Counter()
    size = os.fstat(file.fileno()).st_size
    at = 0
    while True:
        file.seek(at)
        block = file.read(_BLOCK)
        if not any(block):
            rest = file.read(1 << 20)  # what pads a tar to a whole record is far smaller
            end = at + len(block) + len(rest)
            if len(block) < _BLOCK or len(rest) < _BLOCK or any(rest) or end != size:
                report.add("damaged-tar", shard, f"the tar does not end as it should after byte {at}")
                return members, at
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            report.add("damaged-tar", shard, f"no readable member at byte {at}: {error}")
            return members, at
        if not info.isreg() or at + _BLOCK + info.size > size:
            what = "is no regular file" if not info.isreg() else f"is cut off ({info.size} bytes are promised)"
            report.add("damaged-tar", shard, f"member {info.name!r} at byte {at} {what}")
            return members, at
        names[info.name] += 1
        members.setdefault(info.name, (at + _BLOCK, info.size))
        at += _BLOCK + -(-info.size // _BLOCK) * _BLOCK
    for name, count in names.items():
        if count > 1:
            report.add("duplicate-key", f"{shard}: {name}", f"the tar holds {count} members of this name")
    return members, None


def read_samples(path: Path, shard: str, report: Report) -> Iterator[dict[str, Any]]:
    """The samples of a shard as plain `webdataset` gives them; what it stumbles over is reported."""
    import webdataset

    def stumbled(error: Exception) -> bool:
        words = clean_message(str(error.args[0] if error.args else error).split(" @ ")[0])
        report.add("webdataset", shard, f"{type(error).__name__}: {words}")
        return True

    samples: Any = iter(
        webdataset.WebDataset(
            [os.fspath(path)],
            shardshuffle=False,
            handler=stumbled,
            empty_check=False,
            nodesplitter=None,  # all of it, also where a launcher has set a rank
        )
    )
    while True:
        with warnings.catch_warnings():  # webdataset leaves closing the file to the garbage collector
            warnings.simplefilter("ignore", ResourceWarning)
            sample = next(samples, None)
            if sample is None:
                del samples
                return
        yield sample


class ShardCheck:
    """Checks the samples of one shard against its ledger rows.

    Args:
        rows: key -> ledger row of each clip that the ledger says is stored here; None without a ledger.
        elsewhere: key -> the shard in which a sample of that key was seen before; added to.
    """

    def __init__(
        self, path: Path, shard: str, rows: Mapping[str, Mapping[str, Any]] | None, elsewhere: dict[str, str]
    ) -> None:
        self.path, self.shard, self.rows, self.elsewhere = path, shard, rows, elsewhere
        self.samples = 0

    def samples_of(self, report: Report) -> Iterator[Sample | None]:
        """One item for each sample: what to decode, or None where its clip is not there."""
        seen: set[str] = set()
        with self.path.open("rb") as file:
            members, damaged_at = read_members(file, self.shard, report)
            for sample in read_samples(self.path, self.shard, report):
                key = sample["__key__"]
                self.samples += 1
                report.checks["samples read"] += 1
                if key in self.elsewhere and key not in seen:
                    message = f"a sample of this key is also in {self.elsewhere[key]}"
                    report.add("duplicate-key", f"{self.shard}: {key}", message)
                self.elsewhere.setdefault(key, self.shard)
                seen.add(key)
                yield self._check(sample, members, file, report)
        self._absent(seen, damaged_at, report)

    def _check(
        self, sample: Mapping[str, Any], members: Mapping[str, tuple[int, int]], file: BinaryIO, report: Report
    ) -> Sample | None:
        key = sample["__key__"]
        where = f"{self.shard}: {key}"
        row = self.rows.get(key) if self.rows is not None else None
        if self.rows is not None and row is None:
            report.add("sample-without-row", where, "the ledger has no stored clip of this key in this shard")
        clip = sample.get("mp4")
        lacking = [name for name in ("mp4", "json") if name not in sample]
        if lacking:
            report.add("incomplete-sample", where, f"no {' and no '.join(f'{key}.{name}' for name in lacking)}")
        meta = self._meta(sample["json"], row, where, report) if "json" in sample else {}
        if clip is None:
            return None
        if row is not None:
            self._place(row, clip, members.get(f"{key}.mp4"), file, where, report)
        return Sample(where, clip, row if row is not None else meta)

    def _meta(self, text: bytes, row: Mapping[str, Any] | None, where: str, report: Report) -> dict[str, Any]:
        try:
            meta = json.loads(text)
        except ValueError as error:
            report.add("sample-json", where, f"damaged JSON: {error}")
            return {}
        if not isinstance(meta, dict):
            report.add("sample-json", where, f"holds a {type(meta).__name__}; expected an object")
            return {}
        absent = [name for name in SAMPLE if name not in meta]
        if absent:
            report.add("sample-json", where, f"lacks {', '.join(absent)}")
        if row is not None:
            for name in SAMPLE:
                if name in meta and meta[name] != row[name]:
                    message = f"{name} is {meta[name]!r}; the ledger has {row[name]!r}"
                    report.add("sample-json", where, message)
        return meta

    def _place(
        self,
        row: Mapping[str, Any],
        clip: bytes,
        member: tuple[int, int] | None,
        file: BinaryIO,
        where: str,
        report: Report,
    ) -> None:
        offset, nbytes = row["offset"], row["nbytes"]
        if offset is None or nbytes is None:
            return  # reported with the row
        if member is not None and member != (offset, nbytes):
            message = f"the ledger has {nbytes} bytes at {offset}; the tar has {member[1]} at {member[0]}"
            report.add("place", where, message)
            return
        if offset >= 0:
            file.seek(offset)
        if offset < 0 or file.read(max(0, nbytes)) != clip:
            report.add("place", where, f"the {nbytes} bytes at {offset} are not those that webdataset reads")

    def _absent(self, seen: set[str], damaged_at: int | None, report: Report) -> None:
        """Rows whose samples did not come; those behind a damage are reported as one."""
        behind = []
        for key, row in (self.rows or {}).items():
            if key in seen:
                continue
            if damaged_at is not None and (row["offset"] or 0) >= damaged_at:
                behind.append(key)
            else:
                message = f"{row['clip_id']} is stored, says the ledger; the shard has no such sample"
                report.add("row-without-sample", f"{self.shard}: {key}", message)
        if behind:
            message = f"{len(behind)} samples behind byte {damaged_at} cannot be reached"
            report.add("row-without-sample", f"{self.shard}: {behind[0]} to {behind[-1]}", message)


def decode(sample: Sample) -> tuple[int, list[tuple[str, str]]]:
    """Decode a clip completely: (frames that came out, problems as (kind, message)). For a thread pool.

    By plain PyAV, one picture after another, so that it does not rest on the index that vidkit's reader makes.
    """
    frames = 0
    sizes: Counter[tuple[int, int]] = Counter()
    try:
        with media.open_video(sample.clip, strict=True) as opened:
            video = opened.video
            for frame in opened.container.decode(video):
                frames += 1
                sizes[frame.width, frame.height] += 1
            duration_s = float((video.duration or 0) * media.as_fraction(video.time_base))
    except (ClipError, av.error.FFmpegError, ValueError, ArithmeticError) as error:
        words = error.message if isinstance(error, ClipError) else clean_message(str(error))
        return frames, [("undecodable", f"after {frames} frames: {words}")]
    return frames, list(_differences(sample.expected, frames, duration_s, sizes))


def _differences(
    expected: Mapping[str, Any], frames: int, duration_s: float, sizes: Counter[tuple[int, int]]
) -> Iterator[tuple[str, str]]:
    wanted, recorded_s, fps = expected.get("frames"), expected.get("duration_s"), expected.get("fps")
    if wanted is not None and frames != wanted:
        yield "frames", f"{frames} frames come out; {wanted} are recorded"
    # encoders guess how long a last frame of its own length is shown
    elif recorded_s is not None and fps and abs(recorded_s - duration_s) > 1.5 / fps:
        yield "frames", f"lasts {duration_s:.3f} s; {recorded_s:.3f} s is recorded"
    size = (expected.get("width"), expected.get("height"))
    others = [f"{w}x{h}" for w, h in sizes if (w, h) != size]
    if None not in size and others:
        yield "size", f"frames of {', '.join(others)}; {size[0]}x{size[1]} is recorded"

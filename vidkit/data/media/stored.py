"""Exact frames of clips as vidkit stores them (MP4, one H.264 track), read without a demuxer.

The sample tables of an MP4 say where each picture lies and when it is shown. Reading them with numpy takes
40 µs; opening a demuxer and asking it for every packet takes 1 to 2.5 ms, about as long as decoding 16
pictures of 64 pixels. Decoders are kept between clips that share their parameter sets. A file that is
anything but the plain case goes to `media.ClipReader`, which knows them all: the frames are the same.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidkit.data.media import frames as media
from vidkit.errors import ClipError, clean_message

_Ints = npt.NDArray[np.int64]

_UPRIGHT = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)

#: decoders kept by each thread; clips of one build differ in rate and size, so have few parameter sets
_KEPT = 16


@dataclass(frozen=True, slots=True)
class SampleTable:
    """The pictures of a clip in decoding order. Groups are closed: none refers to another.

    `offset` and `size` are bytes in the file, `pts` the time shown in the track's ticks, `keys` the
    numbers of the pictures that begin a group, `order[i]` the number of the picture shown i-th.
    """

    extradata: bytes
    offset: _Ints
    size: _Ints
    pts: _Ints
    keys: _Ints
    order: _Ints

    def __len__(self) -> int:
        return len(self.pts)

    def __repr__(self) -> str:
        return f"SampleTable({len(self)} pictures, {len(self.keys)} groups)"


def sample_table(data: bytes) -> SampleTable | None:
    """The table of a plain MP4, or None where anything is unusual: more than one track, another codec,
    a turned picture, an edit that hides pictures, an open group, tables that do not agree.
    """
    try:
        return _read_table(data)
    except (struct.error, ValueError, LookupError, OverflowError):
        return None  # damaged: the demuxer will say how


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of the payload of each box."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise ValueError(f"box {name!r} leaves its parent")
        yield name, start + head, start + size
        start += size


def _inside(data: bytes, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Payloads by name.

    Raises:
        ValueError: a name comes twice.
    """
    found: dict[bytes, tuple[int, int]] = {}
    for name, first, last in _boxes(data, start, end):
        if name in found and name not in (b"free", b"skip"):
            raise ValueError(f"two boxes {name!r}")
        found[name] = first, last
    return found


def _read_table(data: bytes) -> SampleTable | None:
    top = {name: (first, last) for name, first, last in _boxes(data, 0, len(data)) if name in (b"moov", b"moof")}
    if b"moov" not in top or b"moof" in top:
        return None
    movie = _inside(data, *top[b"moov"])  # a second track is a second "trak": None
    if b"trak" not in movie or b"mvex" in movie:
        return None
    track = _inside(data, *movie[b"trak"])
    media_box = _inside(data, *track.get(b"mdia", (0, 0)))
    tables = _inside(data, *_inside(data, *media_box.get(b"minf", (0, 0))).get(b"stbl", (0, 0)))
    if not {b"stsd", b"stts", b"stsc", b"stsz", b"stco"} <= tables.keys():
        return None
    head = track[b"tkhd"][0]
    if data[head + (52 if data[head] else 40) :][:36] != _UPRIGHT:
        return None
    extradata = _avc_extradata(data, *tables[b"stsd"])
    if extradata is None:
        return None
    size, offset = _places(data, tables)
    pts = _times(data, tables, len(size))
    keys = _words(data, tables[b"stss"][0])[:, 0] - 1 if b"stss" in tables else np.arange(len(size))
    if not len(size) or len(keys) == 0 or keys[0] != 0 or keys[-1] >= len(size) or (np.diff(keys) <= 0).any():
        return None
    if (size <= 0).any() or (offset < 0).any() or int((offset + size).max()) > len(data):
        return None
    if not _closed(pts, keys) or not _all_shown(data, movie, track, media_box, pts):
        return None
    return SampleTable(extradata, offset, size, pts, keys, np.argsort(pts, kind="stable"))


def _words(data: bytes, start: int, columns: int = 1, kind: str = ">u4") -> _Ints:
    """(n, columns) of a table: version and flags, the count n, then its rows."""
    (count,) = struct.unpack_from(">I", data, start + 4)
    return np.frombuffer(data, kind, count * columns, start + 8).reshape(count, columns).astype(np.int64)


def _avc_extradata(data: bytes, start: int, end: int) -> bytes | None:
    if struct.unpack_from(">I", data, start + 4) != (1,) or data[start + 12 : start + 16] != b"avc1":
        return None
    first, last = _inside(data, start + 8 + 86, end).get(b"avcC", (0, 0))
    return data[first:last] or None


def _places(data: bytes, tables: dict[bytes, tuple[int, int]]) -> tuple[_Ints, _Ints]:
    """Size and offset of each picture. Pictures lie in chunks, one after the other."""
    start = tables[b"stsz"][0]
    same, count = struct.unpack_from(">II", data, start + 4)
    if same * count > len(data):
        raise ValueError("more pictures than the file has room for")
    size = np.full(count, same) if same else np.frombuffer(data, ">u4", count, start + 12).astype(np.int64)
    chunk = _words(data, tables[b"stco"][0])[:, 0]
    runs = _words(data, tables[b"stsc"][0], 3)
    per_chunk = np.repeat(runs[:, 1], np.diff(np.append(runs[:, 0], len(chunk) + 1)))
    if len(per_chunk) != len(chunk) or per_chunk.sum() != count:
        raise ValueError("chunks and pictures do not agree")
    before = np.cumsum(size) - size
    first = np.repeat(np.cumsum(per_chunk) - per_chunk, per_chunk)
    return size, np.repeat(chunk, per_chunk) + before - before[first]


def _times(data: bytes, tables: dict[bytes, tuple[int, int]], count: int) -> _Ints:
    step = _repeated(_words(data, tables[b"stts"][0], 2), count)
    pts = np.cumsum(step) - step
    if b"ctts" in tables:
        pts = pts + _repeated(_words(data, tables[b"ctts"][0], 2, ">i4"), count)
    return pts


def _repeated(runs: _Ints, count: int) -> _Ints:
    """(count,) values from rows of (how often, value)."""
    if (runs[:, 0] < 0).any() or runs[:, 0].sum() != count:  # before a damaged number fills the memory
        raise ValueError("times and pictures do not agree")
    return np.repeat(runs[:, 1], runs[:, 0])


def _closed(pts: _Ints, keys: _Ints) -> bool:
    """Times differ, and whatever is decoded before a group's first picture is shown before it."""
    if len(np.unique(pts)) != len(pts):
        return False
    earliest_from = np.minimum.accumulate(pts[::-1])[::-1]
    latest_before = np.maximum.accumulate(pts)[keys[1:] - 1]
    return bool((earliest_from[keys] == pts[keys]).all() and (latest_before < pts[keys[1:]]).all())


def _all_shown(
    data: bytes,
    movie: dict[bytes, tuple[int, int]],
    track: dict[bytes, tuple[int, int]],
    media_box: dict[bytes, tuple[int, int]],
    pts: _Ints,
) -> bool:
    """No edit list, or one edit in which every picture appears."""
    if b"edts" not in track:
        return True
    start = _inside(data, *track[b"edts"])[b"elst"][0]
    version, count = data[start], struct.unpack_from(">I", data, start + 4)[0]
    if count != 1:
        return False
    lasts, first, rate = struct.unpack_from(">QqI" if version else ">IiI", data, start + 8)
    movie_ticks, ticks = (_ticks(data, box[0]) for box in (movie[b"mvhd"], media_box[b"mdhd"]))
    return bool(0 <= first <= pts.min() and (pts.max() - first) * movie_ticks < lasts * ticks and rate == 1 << 16)


def _ticks(data: bytes, start: int) -> int:
    """Ticks per second in a movie's or a track's header."""
    return int(struct.unpack_from(">I", data, start + (20 if data[start] else 12))[0])


class _Kept(threading.local):
    """Decoders by parameter sets, and the scaler that turns their pictures into RGB."""

    def __init__(self) -> None:
        self.decoders: dict[bytes, Any] = {}
        self.reformatter: Any = av.video.reformatter.VideoReformatter()

    def take(self, extradata: bytes) -> Any:
        """A decoder that belongs to the caller until `give`: one that failed is not given back."""
        decoder = self.decoders.pop(extradata, None)
        if decoder is None:
            decoder = av.CodecContext.create("h264", "r")
            decoder.extradata = extradata
            decoder.thread_count = 1  # loader workers are the parallelism
            decoder.options = media.STRICT
        return decoder

    def give(self, extradata: bytes, decoder: Any) -> None:
        while len(self.decoders) >= _KEPT:
            del self.decoders[next(iter(self.decoders))]
        self.decoders[extradata] = decoder


_KEPT_HERE = _Kept()


def read_frames(
    data: bytes, wanted: Sequence[int] | npt.NDArray[np.int64], *, frames: int | None = None
) -> npt.NDArray[np.uint8]:
    """(T, H, W, 3) uint8 RGB, one frame for each index, in the order and as often as asked.

    Args:
        data: a whole file.
        wanted: indices of frames in the order shown.
        frames: how many frames the clip must have, if that is known.

    Raises:
        ClipError: damage of any kind, or another number of frames.
        IndexError: an index outside the clip.
    """
    table = sample_table(data)
    if table is None:
        with media.ClipReader(data, strict=True) as reader:
            _check_count(len(reader), frames)
            return reader.frames([int(i) for i in wanted])
    _check_count(len(table), frames)
    where: dict[int, list[int]] = {}
    for t, i in enumerate(wanted):
        where.setdefault(int(i), []).append(t)
    out: npt.NDArray[np.uint8] | None = None
    for i, picture in _decode(data, table, sorted(where)):
        rgb = _KEPT_HERE.reformatter.reformat(picture, format="rgb24", threads=1)
        plane, height, width = rgb.planes[0], rgb.height, rgb.width
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        shown = media.upright(rows.reshape(height, width, 3), picture.rotation)
        if out is None:
            out = np.empty((len(wanted), *shown.shape), np.uint8)
        if shown.shape != out.shape[1:]:
            raise ClipError("decode-error", f"the picture size changes at frame {i}")
        for t in where[i]:
            out[t] = shown
    return out if out is not None else np.empty((0, 0, 0, 3), np.uint8)


def _check_count(found: int, expected: int | None) -> None:
    if expected is not None and found != expected:
        raise ClipError("truncated", f"the clip has {found} frames; the ledger says {expected}")


def _decode(data: bytes, table: SampleTable, order: list[int]) -> Iterator[tuple[int, Any]]:
    """Yield (i, av.VideoFrame) for ascending, distinct indices."""
    if order and not 0 <= order[0] <= order[-1] < len(table):
        raise IndexError(f"frames {order[0]} to {order[-1]} of a clip of {len(table)} frames")
    decoder = _KEPT_HERE.take(table.extradata)
    for run in _runs(table, order):
        numbers = {int(table.order[i]): i for i in run}
        shown = {int(table.pts[number]): i for number, i in numbers.items()}
        first, last = int(table.keys[np.searchsorted(table.keys, min(numbers), "right") - 1]), max(numbers)
        decoder.flush_buffers()
        skipping = False
        try:
            for number in range(first, last + 2):
                if number > last:
                    pictures = decoder.decode(None)  # what it holds back; no later picture is needed
                else:
                    if (number not in numbers) != skipping:  # the decoder knows which ones nothing refers to
                        skipping = not skipping
                        decoder.skip_frame = "NONREF" if skipping else "DEFAULT"
                    start = int(table.offset[number])
                    packet = av.Packet(data[start : start + int(table.size[number])])
                    packet.pts = int(table.pts[number])
                    pictures = decoder.decode(packet)
                for picture in pictures:
                    if picture.pts in shown:
                        yield shown.pop(picture.pts), picture
        except av.error.FFmpegError as error:
            raise ClipError("decode-error", clean_message(error.strerror or str(error))) from None
        decoder.skip_frame = "DEFAULT"
        if shown:
            lost = min(shown.values())
            raise ClipError(
                "decode-error", f"{len(shown)} of {len(order)} frames did not come out, the first is {lost}"
            )
    _KEPT_HERE.give(table.extradata, decoder)


def _runs(table: SampleTable, order: list[int]) -> Iterator[list[int]]:
    """Runs of indices that are decoded in one go: neighbouring groups are read through."""
    run: list[int] = []
    last = 0
    for i, group in zip(order, np.searchsorted(table.keys, order, "right").tolist(), strict=True):
        if run and group > last + 1:
            yield run
            run = []
        run.append(i)
        last = group
    if run:
        yield run

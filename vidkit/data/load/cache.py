"""Every clip decoded once, then read from memory: RGB bytes of all frames, clip after clip.

Clips may differ in length: each takes the room of its own frames (ragged, with offsets), nothing is padded.
In host memory they may also differ in size; on a device all pictures have one size, so that a batch is one
lookup. What is drawn for a clip does not depend on where its pictures come from.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vidkit.data.load.augment import Box, augment_row, crop_resize_batch
from vidkit.data.load.batch import ClipBatch, send
from vidkit.data.load.order import Request
from vidkit.data.load.readers import pool_worker
from vidkit.data.load.sampling import Draw
from vidkit.errors import ClipError, ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vidkit.data.load.clip_dataset import ClipDataset

Progress = Callable[[int, int], None]

#: the rest of a machine's memory is for models, workers and the page cache
_USABLE = 0.9

#: bytes decoded on their way to a device
_PIECE = 1 << 30


#: clips that a store is asked for before they are needed
_AHEAD = 16


def clip_bytes(dataset: ClipDataset) -> npt.NDArray[np.int64]:
    """(n,) bytes that each clip's frames take as RGB."""
    clips = dataset.clips
    return clips.frames * clips.height * clips.width * 3


def available_memory(proc: Path = Path("/proc"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process may still take: of the machine's memory, and of its control group's (a container's
    limit). What the kernel keeps of files counts as free. None where unknown.
    """
    found = []
    if (proc / "meminfo").exists():
        found.append(_numbers(proc / "meminfo")["MemAvailable:"] * 1024)
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        used = int((group / "memory.current").read_text())
        stat = _numbers(group / "memory.stat")
        found.append(int(limit) - used + stat["inactive_file"] + stat["active_file"])
    old = group / "memory"  # version 1
    if (old / "memory.limit_in_bytes").exists():
        used = int((old / "memory.usage_in_bytes").read_text())
        stat = _numbers(old / "memory.stat")
        files = stat["total_inactive_file"] + stat["total_active_file"]
        found.append(int((old / "memory.limit_in_bytes").read_text()) - used + files)
    return max(0, min(found)) if found else None


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines}


def check_fits(needed: int, limit: int | None, free: int | None, where: str) -> None:
    """
    Raises:
        ConfigError: a cache of `needed` bytes is larger than `limit`, or else than what is free.
    """
    room = limit if limit is not None else None if free is None else int(_USABLE * free)
    if room is not None and needed > room:
        kind = "the limit is" if limit is not None else f"{where} has room for"
        raise ConfigError(
            f"the decoded clips take {_gb(needed)}; {kind} {_gb(room)}",
            field="cache",
            hint="use --cache none, a part of the clips (--label-fraction), or more memory",
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e7 else f"{size:,} bytes"


def local_processes() -> int:
    """Processes of this run on this machine, as torchrun tells: each fills a cache of its own."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class HostCache:
    """Decoded clips in memory that forked loader workers share.

    Args:
        dataset: whose clips are decoded, as many as it has.
        workers: processes that decode; 0: this one.
        limit: bytes that it may take; by default 0.9 of what is free, divided by the machine's processes.

    Raises:
        ConfigError: it does not fit.
    """

    def __init__(
        self, dataset: ClipDataset, *, workers: int = 0, limit: int | None = None, progress: Progress | None = None
    ) -> None:
        needed = int(clip_bytes(dataset).sum())
        free = available_memory()
        check_fits(needed, limit, None if free is None else free // local_processes(), "memory")
        self._decoded = _Decoded(dataset, np.arange(len(dataset)), workers, progress)

    @property
    def bad(self) -> dict[int, ClipError]:
        """Clips that could not be decoded."""
        return self._decoded.bad

    def pictures(self, i: int, wanted: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(T, H, W, 3) uint8: frames of clip i.

        Raises:
            ClipError: the clip could not be decoded.
        """
        if i in self.bad:
            raise ClipError(self.bad[i].code, self.bad[i].message)
        found: npt.NDArray[np.uint8] = self._decoded.clip(i)[np.asarray(wanted)]
        return found

    def close(self) -> None:
        """Give the memory back now: circles of references may hold this object for long."""
        self._decoded.memory = _NOTHING

    def __getstate__(self) -> None:
        raise ConfigError(
            "a cache in host memory cannot be sent to a spawned process",
            field="cache",
            hint="use workers=0, or start workers by fork",
        )


class _Decoded:
    """Frames of some clips in one piece of shared memory."""

    def __init__(
        self, dataset: ClipDataset, rows: npt.NDArray[np.int64], workers: int, progress: Progress | None
    ) -> None:
        clips = dataset.clips
        sizes = clip_bytes(dataset)[rows]
        self.rows = rows
        self.first = {int(i): int(start) for i, start in zip(rows, np.cumsum(sizes) - sizes, strict=True)}
        self.shape = {int(i): (int(clips.frames[i]), int(clips.height[i]), int(clips.width[i]), 3) for i in rows}
        # anonymous: no file system bounds it, and it is gone with the last process, however that ends
        self.memory = np.frombuffer(mmap.mmap(-1, int(sizes.sum())), np.uint8)
        self.bad: dict[int, ClipError] = {}
        for done, (i, error) in enumerate(self._fill(dataset, workers), start=1):
            if error is not None:
                self.bad[i] = error
            if progress is not None:
                progress(done, len(rows))

    def clip(self, i: int) -> npt.NDArray[np.uint8]:
        """(T, H, W, 3), a view."""
        start, shape = self.first[i], self.shape[i]
        found: npt.NDArray[np.uint8] = self.memory[start : start + int(np.prod(shape))].reshape(shape)
        return found

    def _fill(self, dataset: ClipDataset, workers: int) -> Iterator[tuple[int, ClipError | None]]:
        def one(at: int) -> tuple[int, ClipError | None]:
            i = rows[at]
            chunk_end = at - at % chunk + chunk  # the next one is another process's
            if at % chunk % (_AHEAD // 2) == 0:  # several at a time: neighbours come by one request
                dataset.ahead(rows[at : min(at + _AHEAD, chunk_end)])
            try:
                self.clip(i)[:] = dataset.pictures(i, range(self.shape[i][0]))
            except ClipError as error:
                return i, error
            return i, None

        rows = [int(i) for i in self.rows]
        chunk = max(1, min(64, len(rows) // (4 * max(1, workers))))
        if not workers or sys.platform == "win32" or "fork" not in multiprocessing.get_all_start_methods():
            yield from map(one, range(len(rows)))
            return
        # the children inherit the job and the memory; only numbers go through the pipe
        _JOBS.append(one)
        try:
            with ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("fork"),
                initializer=pool_worker,
                initargs=(os.getpid(),),
            ) as pool:
                yield from pool.map(_run_job, range(len(rows)), chunksize=chunk)
        finally:
            _JOBS.pop()


_NOTHING: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)

_JOBS: list[Callable[[int], tuple[int, ClipError | None]]] = []


def _run_job(at: int) -> tuple[int, ClipError | None]:
    return _JOBS[-1](at)


class DeviceCache:
    """Decoded clips on a device, and batches made of them there, without workers.

    Raises:
        ConfigError: it does not fit, or clips differ in size.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        device: torch.device | str,
        *,
        workers: int = 0,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        import torch

        self.dataset, self.device = dataset, torch.device(device)
        clips = dataset.clips
        sizes = sorted(set(zip(clips.height.tolist(), clips.width.tolist(), strict=True)))
        if len(sizes) > 1:
            raise ConfigError(
                f"clips have {len(sizes)} picture sizes, from {sizes[0]} to {sizes[-1]} (height, width)",
                field="cache",
                hint="a cache on the device needs one size: use --cache host, or a dataset with square clips",
            )
        needed = clip_bytes(dataset)
        check_fits(int(needed.sum()), limit, _free_on(self.device), str(self.device))
        # in host memory: places are computed there, and go to the device in one piece
        self.first = torch.from_numpy(np.cumsum(clips.frames) - clips.frames)
        shape = (int(clips.frames.sum()), *sizes[0], 3)
        self.frames: Tensor = torch.empty(shape, dtype=torch.uint8, device=self.device)
        self.bad: dict[int, ClipError] = {}
        at = 0
        for rows in _pieces(needed):
            told = None if progress is None else _shifted(progress, int(rows[0]), len(clips))
            piece = _Decoded(dataset, rows, workers, told)
            self.bad.update(piece.bad)
            pictures = torch.from_numpy(piece.memory).view(-1, *shape[1:])
            self.frames[at : at + len(pictures)].copy_(pictures)
            at += len(pictures)

    def close(self) -> None:
        """Give the device's memory back now."""
        self.frames = self.frames.new_empty((0, *self.frames.shape[1:]))

    def batch(self, requests: Sequence[Request]) -> ClipBatch:
        """The batch that `collate` would make of the same requests, on the device. Pictures that are scaled
        can differ by 1 from those that workers scale; see `augment.crop_resize_batch`.
        """
        import torch

        data = self.dataset
        good = [request for request in requests if request.clip not in self.bad]
        bad = [data.bad_clip(r.clip, self.bad[r.clip]) for r in requests if r.clip in self.bad]
        drawn = [data.draw(request) for request in good]
        index = torch.tensor([request.clip for request in good], dtype=torch.int64)
        rows_of = torch.tensor([len(d.boxes) for d in drawn], dtype=torch.int64)
        frames = torch.from_numpy(np.stack([d.indices[view] for d in drawn for view in d.which])) if good else index
        index = index.repeat_interleave(rows_of)
        labels = [data.labels(request.clip) for request in good]
        hot = [each for _, each in labels if each is not None]
        class_id = torch.tensor([label for label, _ in labels], dtype=torch.int64).repeat_interleave(rows_of)
        video = self._video(index, frames, [box for d in drawn for box in d.boxes])
        s = data.sampling
        if s.training and (s.augment.rand_ops or s.augment.erase):
            rngs = [rng for d in drawn for rng in d.rngs]
            each_row = [augment_row(x.transpose(0, 1), s.augment, rng) for x, rng in zip(video, rngs, strict=True)]
            video = torch.stack(each_row).transpose(1, 2)
        to = self.device
        return ClipBatch(
            video=video,
            class_id=send(class_id, to),
            multi_hot=send(torch.stack(hot).repeat_interleave(rows_of, dim=0), to) if hot else None,
            index=send(index, to),
            view=send(torch.tensor([row for d in drawn for row in range(len(d.boxes))]), to),
            frames=send(frames, to),
            key=tuple(str(data.clips.key[i]) for i in index.tolist()),
            bad=tuple(bad),
            moving=self._moving(good, drawn),
        )

    def _moving(self, requests: list[Request], drawn: list[Draw]) -> Tensor | None:
        import torch

        if not self.dataset.moving or not requests:
            return None
        shares = [self.dataset.moving_shares(r.clip, d) for r, d in zip(requests, drawn, strict=True)]
        return send(torch.from_numpy(np.concatenate(shares)), self.device)

    def _video(self, index: Tensor, frames: Tensor, boxes: list[Box]) -> Tensor:
        """(B, C, T, S, S): one lookup, then one crop of all rows."""
        import torch

        size = self.dataset.sampling.size
        if not boxes:
            return torch.empty((0, 3, 0, size, size), dtype=torch.uint8, device=self.device)
        where = send((self.first[index][:, None] + frames).flatten(), self.device)
        pictures = self.frames.index_select(0, where).view(*frames.shape, *self.frames.shape[1:])
        return crop_resize_batch(pictures, boxes, size)


def _pieces(sizes: npt.NDArray[np.int64]) -> Iterable[npt.NDArray[np.int64]]:
    """Consecutive clips, as many as fit into `_PIECE` bytes, at least one."""
    number = np.cumsum(sizes) // _PIECE
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(number)) + 1)


def _shifted(progress: Progress, by: int, of: int) -> Progress:
    return lambda done, _: progress(by + done, of)


def _free_on(device: torch.device) -> int | None:
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory() if device.type == "cpu" else None

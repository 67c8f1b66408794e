"""How fast a built dataset is read, and how much of a training step waits for it.

Each way of reading (decoder, workers, cache) is measured alone, twice: as fast as batches come, and with a step
between them in which this process sleeps, as it does while a GPU works. Batches go to the device, and clips are
augmented as for pre-training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from vidkit.bench.measure import facts
from vidkit.data import ClipDataset, ClipLoader
from vidkit.data.load.loader import Cache, DataWait
from vidkit.data.media.decoders import DECODERS
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults

if TYPE_CHECKING:
    import torch

    from vidkit.data import ClipBatch

#: called with what is being measured, clips decoded, and clips in all, while a cache is filled
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderBench:
    """What is read, and in which ways."""

    data: Place
    split: str = "train"
    frames: int = 16
    stride: int = 4
    size: int | None = None
    """Pixels; None: the stored clips' short side."""
    batch_size: int = 8
    decoders: tuple[str, ...] = ("pyav",)
    workers: tuple[int, ...] = (0, 2)
    caches: tuple[Cache, ...] = ("none",)
    batches: int = 50
    """Measured for each way, after a warm-up."""
    step_ms: float = 100.0
    """Length of the step between batches; 0: no such measurement."""
    device: str | None = None
    """Where batches go; None: the GPU, if any."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("decoders", "workers", "caches"):
            faults.check(bool(getattr(self, name)), name, getattr(self, name), "at least one")
        for decoder in self.decoders:
            faults.check(decoder in DECODERS, "decoder", decoder, f"one of {', '.join(DECODERS)}")
        for cache in self.caches:
            faults.check(cache in get_args(Cache), "cache", cache, f"one of {', '.join(get_args(Cache))}")
        faults.check(all(count >= 0 for count in self.workers), "workers", self.workers, "at least 0")
        for name in ("frames", "stride", "batch_size", "batches"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.size is None or self.size >= 1, "size", self.size, "at least 1")
        faults.check(self.step_ms >= 0, "step_ms", self.step_ms, "at least 0")
        faults.raise_if_any("settings of the loader's benchmark")


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way of reading."""

    decoder: str
    workers: int
    cache: Cache

    def __str__(self) -> str:
        return f"{self.decoder}, {self.workers} workers, cache {self.cache}"


def ways(settings: LoaderBench) -> list[Way]:
    """Every way once. A cache is filled by the first decoder only: it reads what was decoded. On a device batches
    are made there, without workers: the largest number of them fills it.
    """
    found: list[Way] = []
    for cache in dict.fromkeys(settings.caches):
        for decoder in dict.fromkeys(settings.decoders if cache == "none" else settings.decoders[:1]):
            counts = settings.workers if cache != "device" else (max(settings.workers),)
            found += [Way(decoder=decoder, workers=count, cache=cache) for count in dict.fromkeys(counts)]
    return found


def run(settings: LoaderBench, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every way, one after the other.

    Returns:
        `dataset`, `settings`, `machine`, `versions`, `device`, and `rows`: a dict for each way, with `clips_per_s`,
        `batch_ms` (mean time to the next batch), `wait_share` and `step_ms` (of a loop with steps; None without),
        `start_s` (to the first batch: workers start, a cache is filled), `cache_bytes`, `batches`, `bad` (clips
        that could not be decoded).

    Raises:
        ConfigError: a cache that does not fit, a decoder or device that is not there.
        DatasetError: no such dataset or split, or too many clips that cannot be decoded.
    """
    import torch

    if "decord" in settings.decoders:
        _check_decord()
    device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA device", field="--device", hint="use --device cpu")
    opened = _open(settings, settings.decoders[0])
    rows = [_measure(settings, way, device, progress) for way in ways(settings)]
    return {
        "dataset": opened.clips.dataset.facts["name"],
        "split": settings.split,
        "clips": len(opened),
        "settings": {
            "frames": settings.frames,
            "stride": settings.stride,
            "size": opened.sampling.size,
            "batch_size": settings.batch_size,
        },
        "device": facts.accelerator() if device.type == "cuda" else {"name": device.type},
        "machine": facts.machine(),
        "versions": facts.versions(),
        "rows": rows,
    }


def _check_decord() -> None:
    from importlib.util import find_spec

    if find_spec("decord") is None:  # here, not in a worker process, whose errors arrive as tracebacks
        raise ConfigError("decord is not installed", field="--decoder", hint="pip install 'vidkit[decord]'")


def _open(settings: LoaderBench, decoder: str) -> ClipDataset:
    return ClipDataset(
        settings.data,
        settings.split,
        frames=settings.frames,
        stride=settings.stride,
        size=settings.size,
        decoder=decoder,
    )


def _measure(settings: LoaderBench, way: Way, device: torch.device, progress: Progress | None) -> dict[str, Any]:
    from vidkit.data.load.cache import clip_bytes

    dataset = _open(settings, way.decoder)
    started = time.perf_counter()
    loader = ClipLoader(
        dataset,
        batch_size=settings.batch_size,
        workers=way.workers,
        tail="pad",  # so that small datasets fill a batch, too
        cache=way.cache,
        device=device,
        progress=None if progress is None else lambda done, of: progress(str(way), done, of),
    )
    try:
        batches = _endless(loader)
        _arrive(next(batches), device)
        start_s = time.perf_counter() - started
        # what was prepared while nobody asked would come for nothing
        warm_up = 2 + 2 * way.workers
        rate = _loop(batches, device, warm_up=warm_up, count=settings.batches, step_s=0.0)
        waits = None
        if settings.step_ms:
            step_s = settings.step_ms / 1000
            waits = _loop(batches, device, warm_up=warm_up, count=settings.batches, step_s=step_s)
        bad = len(loader.bad)
    finally:
        loader.close()
    return {
        **asdict(way),
        "clips_per_s": round(rate.clips / rate.seconds, 2),
        "batch_ms": round(1000 * rate.seconds / settings.batches, 3),
        "wait_share": None if waits is None else round(waits.share, 4),
        "step_ms": settings.step_ms or None,
        "start_s": round(start_s, 3),
        "cache_bytes": 0 if way.cache == "none" else int(clip_bytes(dataset).sum()),
        "batches": settings.batches,
        "bad": bad,
    }


@dataclass(frozen=True, slots=True)
class _Timed:
    clips: int
    seconds: float
    share: float
    """Of the seconds that were spent waiting for a batch."""


def _loop(batches: Iterator[ClipBatch], device: torch.device, *, warm_up: int, count: int, step_s: float) -> _Timed:
    """`count` waits and as many steps, after `warm_up` of both."""
    wait = DataWait(islice(batches, warm_up + count))
    clips = 0
    for number, batch in enumerate(wait, start=1):
        _arrive(batch, device)
        time.sleep(step_s)
        clips += len(batch)
        if number == warm_up:
            wait.reset()
            clips = 0
    return _Timed(clips, wait.total_s, wait.share)


def _endless(loader: ClipLoader) -> Iterator[ClipBatch]:
    """Epoch after epoch, as in training: where epochs are short, their beginnings count."""
    while True:
        yield from loader


def _arrive(batch: ClipBatch, device: torch.device) -> None:
    import torch

    batch.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)

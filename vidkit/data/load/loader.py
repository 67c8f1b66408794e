"""Batches for a run: seeded epochs split over processes, exact resume, bounded failures, caches.

The same seed gives the same clips with the same augmentation, for any number of loader workers. All ranks
take the same number of training steps, whatever the shards; a test sees every clip exactly once.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, get_args

from vidkit.data.load.batch import BadClip, ClipBatch, ClipSample, collate
from vidkit.data.load.clip_dataset import ClipDataset, undecodable
from vidkit.data.load.order import Request, Tail, check_split, epoch_order, epoch_samples, rank_batches
from vidkit.data.load.readers import loader_worker
from vidkit.data.storage.places import PARALLEL
from vidkit.errors import ConfigError, TrainingError, VidkitError, clean_message
from vidkit.settings.encode import Faults

if TYPE_CHECKING:
    import torch

    from vidkit.data.load.cache import DeviceCache, HostCache

#: Clips that a worker asks a store for before it decodes them, in whole batches: at 3 ms of decoding each they hide
#: 0.1 s of waiting. Twice as many as are under way at a time, so that this never ends with a batch.
_SOON = 2 * PARALLEL

Cache = Literal["none", "host", "device"]
T = TypeVar("T")

log = logging.getLogger("vidkit.data")


class ClipLoader:
    """Iterating gives the batches of one epoch (`ClipBatch`), then the next epoch's, and so on.

    In training an iteration goes on where the last one stopped, so `state_dict()`, taken after a step,
    describes what is left: a loader that loads it gives exactly the batches that were still to come. A test
    begins anew with every iteration.

    Args:
        dataset: what to read; its `seed` is the loader's.
        batch_size: clips for each process and step. A batch has `dataset.sampling.rows` rows for each of them.
        workers: processes that read; 0: this one reads.
        rank: this process.
        world: how many share an epoch.
        tail: "cut" (training) leaves out the clips that do not fill a step, "pad" fills it with clips from the
            epoch's start, "keep" (tests) gives every clip once; see `order.epoch_samples`.
        max_bad: clips that may be left out of training because they cannot be decoded, as a number or as a
            share below 1 of the dataset; one more raises. Counted in each process, and over all of them where
            `share_bad` is called. A test allows none.
        prefetch: batches that each worker prepares ahead.
        pin_memory: by default where there is a CUDA device.
        cache: "host" decodes every clip once into memory that all workers share; "device" onto `device`,
            where batches are then cropped too, without workers.
        device: of the cache; batches are made there.
        memory_limit: bytes that the cache may take; by default what is free.
        progress: called with (clips decoded, clips in all) while a cache is filled.

    Raises:
        ConfigError: settings that cannot be, an epoch without a step, a cache that does not fit.
        DatasetError: while iterating: a clip that cannot be decoded, or too many of them.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        tail: Tail | None = None,
        max_bad: float = 0.01,
        prefetch: int = 2,
        pin_memory: bool | None = None,
        cache: Cache = "none",
        device: torch.device | str | None = None,
        memory_limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.tail: Tail = tail or ("cut" if dataset.sampling.training else "keep")
        self.epoch = 0
        self.bad: dict[int, BadClip] = {}
        """Clips that could not be decoded, by index, since the run began."""
        self._position = 0
        self._orders: Any = _Orders(max(1, workers), batch_size)
        check_split(batch_size, rank, world, self.tail)
        faults = Faults()
        faults.check(workers >= 0, "workers", workers, "at least 0")
        faults.check(prefetch >= 1, "prefetch", prefetch, "at least 1")
        faults.check(max_bad >= 0, "max_bad", max_bad, "a number of clips, or a share of them below 1")
        faults.check(cache in get_args(Cache), "cache", cache, f"one of {', '.join(get_args(Cache))}")
        faults.check(cache != "device" or device is not None, "device", device, "a device for the cache")
        faults.raise_if_any("loader settings")
        self.max_bad = int(max_bad * len(dataset) if max_bad < 1 else max_bad) if dataset.sampling.training else 0
        self.samples = epoch_samples(len(dataset), batch_size * world, self.tail)
        self._device_cache: DeviceCache | None = None
        self._batches: Any = None
        if cache == "device":
            from vidkit.data.load.cache import DeviceCache

            assert device is not None
            self._device_cache = DeviceCache(
                dataset, device, workers=workers, limit=memory_limit, progress=progress
            )
        else:
            reading = _Reading(dataset, None)
            if cache == "host":
                from vidkit.data.load.cache import HostCache

                reading.cache = HostCache(dataset, workers=workers, limit=memory_limit, progress=progress)
            self._batches = self._torch_loader(reading, workers, prefetch, pin_memory)

    def _torch_loader(self, dataset: Any, workers: int, prefetch: int, pin_memory: bool | None) -> Any:
        import torch
        from torch.utils.data import DataLoader

        if self.dataset.sampling.augment.rand_ops:
            from vidkit.data.load.randaugment import torchvision_v2

            torchvision_v2()  # once, here, instead of in every worker
        return DataLoader(
            dataset,
            batch_sampler=self._orders,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=loader_worker,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=prefetch if workers else None,
            # its own: torch draws a seed for workers at each start, and a resumed run must not draw one more
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        """Batches of this process in a whole epoch."""
        return self._steps(0)

    @property
    def steps_left(self) -> int:
        """Batches of this process until the epoch's end."""
        return self._steps(self._position)

    def next_epoch(self) -> None:
        """Leave out what is left of this one."""
        self.epoch, self._position = self.epoch + 1, 0

    def _steps(self, start: int) -> int:
        step = self.batch_size * self.world
        left = max(0, self.samples - start)
        if self.tail != "keep":
            return left // step
        return left // step + (left % step > self.rank * self.batch_size)

    def __iter__(self) -> Iterator[ClipBatch]:
        if not self.dataset.sampling.training:
            self._position = 0
        elif self.steps_left == 0:  # left at its last step, or resumed with a larger batch than is left
            self.next_epoch()
        self._orders.coming = self._requests()
        cache = self._device_cache
        for batch in self._read() if cache is None else map(cache.batch, self._orders.coming):
            self._account(batch)
            self._position += self.batch_size * self.world
            yield batch
        self.next_epoch()

    def _read(self) -> Iterator[ClipBatch]:
        try:
            for batch in self._batches:
                if isinstance(batch, VidkitError):
                    raise batch
                yield batch
        except (RuntimeError, ConnectionError, EOFError) as error:
            text = str(error) or type(error).__name__
            # torch names the process that died, unless it notices by a pipe that ends in the middle of a batch
            told = text.startswith("DataLoader worker") or "No space left on device" in text
            if not told and (isinstance(error, RuntimeError) or text.startswith("Caught ")):
                raise
            raise TrainingError(
                f"a process that reads clips was stopped: {clean_message(text, 120)}",
                hint="often memory has run out, or shared memory (/dev/shm; docker run --shm-size=8g): "
                "use fewer workers or smaller batches",
            ) from error

    def _requests(self) -> Iterator[list[Request]]:
        order = epoch_order(
            len(self.dataset), self.dataset.seed, self.epoch, shuffle=self.dataset.sampling.training
        )
        return rank_batches(
            order,
            self.epoch,
            batch_size=self.batch_size,
            rank=self.rank,
            world=self.world,
            tail=self.tail,
            start=self._position,
        )

    def _account(self, batch: ClipBatch) -> None:
        for clip in batch.bad:
            if clip.index not in self.bad:
                self.bad[clip.index] = clip
                if len(self.bad) <= self.max_bad:
                    log.warning("left out (%d of at most %d): %s", len(self.bad), self.max_bad, clip)
        self._check_bad()
        if not len(batch):  # a process without a batch would leave the others waiting for its gradients
            raise undecodable(batch.bad)

    def _check_bad(self) -> None:
        if len(self.bad) > self.max_bad:
            raise undecodable(list(self.bad.values()), self.max_bad, training=self.dataset.sampling.training)

    def share_bad(self) -> None:
        """Tell the other processes which clips were left out here, and hear theirs: all call it, as after an epoch.
        The limit then holds for all of them together.

        Raises:
            DatasetError: they are too many.
        """
        if self.world == 1:
            return
        import torch.distributed as dist

        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, self.bad)
        self.bad = dict(sorted((i, clip) for part in parts for i, clip in part.items()))
        self._check_bad()

    def close(self) -> None:
        """Stop the worker processes and give a cache's memory back, now instead of with the last reference: an
        epoch that was left in the middle refers to both.
        """
        host = None if self._batches is None else self._batches.dataset.cache
        for cache in (host, self._device_cache):
            if cache is not None:
                cache.close()
        self._batches = self._device_cache = None

    def state_dict(self) -> dict[str, Any]:
        """What is left of the run, as plain values: to be saved after a step, with the model."""
        over = self.steps_left == 0
        return {
            "seed": self.dataset.seed,
            "clips": len(self.dataset),
            "epoch": self.epoch + over,
            "position": 0 if over else self._position,
            "bad": sorted(self.bad),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: same batches, same augmentation. The number of workers may be
        another; so may batch size and processes, which then split what is left of the epoch their way.

        Raises:
            ConfigError: the state is of another dataset or seed.
        """
        for name, ours in (("clips", len(self.dataset)), ("seed", self.dataset.seed)):
            if state[name] != ours:
                raise ConfigError(
                    f"the saved loader state has {name} {state[name]}; this run has {ours}",
                    field=name,
                    hint="resume with the dataset, the label fraction and the seed of the first run",
                )
        self.epoch, self._position = int(state["epoch"]), int(state["position"])
        self.bad = {
            int(i): BadClip(int(i), self.dataset.clips.where(int(i)), "decode-error", "before the resume")
            for i in state["bad"]
        }


class _Ask(NamedTuple):
    """A batch, and what the same worker will be asked for after it, as far as it does not know yet."""

    now: list[Request]
    soon: list[Request]


class _Reading:
    """The dataset as the loader asks it: a request in, and a clip that cannot be decoded comes as a value."""

    def __init__(self, dataset: ClipDataset, cache: HostCache | None) -> None:
        self.dataset, self.cache = dataset, cache

    def __getitems__(self, ask: _Ask) -> list[ClipSample | BadClip | VidkitError]:
        if self.cache is None:
            self.dataset.ahead(request.clip for request in (*ask.now, *ask.soon))
        return [self[request] for request in ask.now]

    def __getitem__(self, request: Request) -> ClipSample | BadClip | VidkitError:
        try:
            return self.dataset.read(request, self.cache)
        except VidkitError as error:
            return error  # for the main process to raise: torch would make a traceback of it on the way


def _collate(samples: list[ClipSample | BadClip | VidkitError]) -> ClipBatch | VidkitError:
    """`collate`, or the first error."""
    errors = (sample for sample in samples if isinstance(sample, VidkitError))
    good = [sample for sample in samples if not isinstance(sample, VidkitError)]
    return next(errors, None) or collate(good)


class _Orders:
    """The loader's order as torch's `batch_sampler`; `coming` is set before each iteration.

    It does not know its loader: in a cycle of references, the garbage collector would take apart the queues
    of worker processes before it stops them, and wait 5 s for each.
    """

    def __init__(self, workers: int, batch_size: int) -> None:
        self.coming: Iterator[list[Request]] = iter(())
        self.workers = workers
        """torch hands out batches to them in turn."""
        self.depth = -(-_SOON // batch_size)

    def __iter__(self) -> Iterator[_Ask]:
        far = self.workers * self.depth
        batches = deque(itertools.islice(self.coming, far + 1))
        for number in itertools.count():
            if not batches:
                return
            first = self.workers if number < self.workers else far  # a worker knows the others already
            soon = [request for at in range(first, len(batches), self.workers) for request in batches[at]]
            yield _Ask(batches.popleft(), soon)
            batches.extend(itertools.islice(self.coming, 1))


class DataWait(Generic[T]):
    """Times how long a loop waits for its batches.

    >>> wait = DataWait([1, 2, 3])
    >>> sum(wait), wait.batches, wait.share <= 1
    (6, 3, True)
    """

    def __init__(self, batches: Iterable[T]) -> None:
        self._source = batches
        self.reset()

    def reset(self) -> None:
        """Begin to count anew, as after a warm-up."""
        self.waited_s = 0.0
        self.batches = 0
        self._since = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Time that was spent on something else, such as a test."""
        self._since += seconds

    @property
    def total_s(self) -> float:
        """Seconds since the start, or the last `reset`."""
        return time.perf_counter() - self._since

    @property
    def share(self) -> float:
        """Part of the time, 0 to 1, in which the loop waited for a batch."""
        return min(1.0, self.waited_s / max(self.total_s, 1e-9))

    def __iter__(self) -> Iterator[T]:
        source = iter(self._source)
        self.reset()
        while True:
            asked = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            self.waited_s += time.perf_counter() - asked
            self.batches += 1
            yield batch

"""What pre-training and fine-tuning begin with alike: devices and processes, the loader, what a dataset is."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vidkit import processor
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import DataConfig, FinetuneConfig, OptimConfig, Precision, PretrainConfig
from vidkit.train.runs import RunFolder

log = logging.getLogger("vidkit.train")


def open_clips(
    data: Place,
    config: DataConfig,
    vit: ViTConfig,
    seed: int,
    label_fraction: float | None,
    *,
    moving: bool = False,
) -> ClipDataset:
    """The clips of a split as a network is trained on them.

    Args:
        moving: rows say where something moves, in the cells of the network's grid.

    Raises:
        ConfigError: settings that do not fit the dataset.
        DatasetError: no usable dataset.
    """
    return ClipDataset(
        data,
        config.split,
        frames=vit.frames,
        stride=config.stride,
        mode=config.mode,
        training=True,
        size=vit.size,
        augment=config.augment,
        repeats=config.repeats,
        seed=seed,
        label_fraction=label_fraction,
        classes=config.classes,
        decoder=config.decoder,
        moving=vit.grid[1] if moving else 0,
        disk_cache=config.disk_cache,
        disk_cache_bytes=config.disk_cache_bytes,
    )


class Begun(NamedTuple):
    """A run whose folder is there."""

    folder: RunFolder
    facts: dict[str, Any]
    """What its checkpoints say of data and beginnings."""
    resumed: bool
    """Whether it goes on from a checkpoint."""


def begin(
    kind: str,
    config: PretrainConfig | FinetuneConfig,
    dataset: ClipDataset,
    out: Path,
    accelerate: Any,
    *,
    init: Path | None,
    resume: bool,
) -> Begun:
    """Make or check the run's folder, on the first process.

    Raises:
        ConfigError: it holds a run and `resume` is off, or one with other settings.
    """
    folder = RunFolder(out)
    facts = {**dataset_facts(dataset), "init": None if init is None else str(init)}
    if accelerate.is_main_process:
        folder.begin(kind, config, facts, resume=resume)
    accelerate.wait_for_everyone()
    facts |= {"stride": config.data.stride, "mode": config.data.mode}
    if config.data.classes:
        facts["trained_classes"] = list(config.data.classes)
    return Begun(folder, facts, resume and folder.last.exists())


def dataset_facts(dataset: ClipDataset) -> dict[str, Any]:
    """What a checkpoint says of the data it was trained on."""
    built = dataset.clips.dataset.facts
    return {
        "dataset": built["name"],
        "dataset_plan_sha256": built.get("plan_sha256"),
        "label_map_sha256": dataset.label_sha256,
        "rule": dataset.clips.rule,
        "classes": list(dataset.classes),
        "clips": len(dataset),
    }


@contextmanager
def make_loader(
    dataset: ClipDataset, data: DataConfig, optim: OptimConfig, accelerate: Any, *, quiet: bool = False
) -> Iterator[ClipLoader]:
    """The training loader of this process, closed at the end."""
    main = accelerate.is_main_process
    with Progress("decoding", len(dataset), quiet=quiet or not main or data.cache == "none") as progress:
        loader = ClipLoader(
            dataset,
            batch_size=clips_per_process(optim, data.repeats, accelerate.num_processes),
            workers=data.workers,
            rank=accelerate.process_index,
            world=accelerate.num_processes,
            max_bad=data.max_bad,
            cache=data.cache,
            device=accelerate.device,
            progress=lambda done, total: progress.advance(by=done - progress.done),
        )
    try:
        yield loader
    finally:
        loader.close()


def accelerator(optim: OptimConfig, tracker: str | None = None, folder: str | None = None) -> Any:
    """Device, precision and processes, by accelerate.

    Raises:
        ConfigError: fp16 without a GPU, a tracker that is not installed.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if optim.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("fp16 needs a CUDA device", field="optim.precision", hint="use bf16 or fp32")
    # without it, torchrun's processes on a machine without a GPU would not know of each other
    cpu = not torch.accelerator.is_available()
    if cpu:
        keep_freed_memory()
    precision = usable_precision(optim.precision, "cpu" if cpu else "gpu")
    if precision != optim.precision:
        log.warning("this processor has no units for %s: training in fp32 instead", optim.precision)
    AcceleratorState._reset_state()  # a process may have several runs, each with its precision
    try:
        mixed = "no" if precision == "fp32" else precision
        made = Accelerator(cpu=cpu, mixed_precision=mixed, log_with=tracker, project_dir=folder)
    except ValueError as error:
        raise ConfigError(f"accelerate refuses these settings: {error}", field="log.tracker") from error
    if tracker is not None and not made.log_with:
        raise ConfigError(f"tracker {tracker!r} is not installed", field="log.tracker", hint="pip install it")
    return made


def usable_precision(precision: Precision, device: str) -> Precision:
    """`precision`, or fp32 where a CPU would have to imitate bf16: measured, at a fiftieth of fp32's speed."""
    return "fp32" if device == "cpu" and precision == "bf16" and not has_bf16_units() else precision


@cache
def has_bf16_units(cpuinfo: Path = processor.CPUINFO) -> bool:
    """Whether the processor multiplies bf16 numbers itself, as far as Linux tells."""
    found = processor.fields(cpuinfo)
    flags = (found.get("flags") or found.get("Features") or "").split()
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next step, instead of giving it back to the system, which would
    then hand it out anew page by page: a third of the time of a small model's step on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # <malloc.h>
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 25)  # the largest that glibc takes


def clips_per_process(optim: OptimConfig, repeats: int, world: int) -> int:
    """Clips of one batch of one process.

    Raises:
        ConfigError: a step's clips do not divide evenly.
    """
    parts = optim.accumulate * world * repeats
    if optim.batch_size % parts:
        raise ConfigError(
            f"a step's {optim.batch_size} clips do not divide by {world} processes x {optim.accumulate} parts x "
            f"{repeats} crops of a clip",
            field="optim.batch_size",
            hint=f"use a multiple of {parts}",
        )
    return optim.batch_size // parts


def memory_gb() -> float:
    """Highest so far, in 10^9 bytes: allocated on the GPU, or resident of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024) / 1e9

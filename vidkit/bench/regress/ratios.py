"""The section "ratios" of the regression benchmark: speed, as a multiple of a plain way's in the same run.

Contenders take turns, and each begins in turn, so that a slow minute of the machine meets all of them; a ratio is
the median of the turns' ratios. What counts is processor time, of this process and the programs that it ran: time
of day also holds what other programs on the machine took, which on a machine of a CI service is much and changes
from second to second. All work here is that of one thread, so waiting plays no part in it.

A ratio still depends on the processor: its caches, the width of its vectors. So the tolerance is wide, and wider on
another processor than the baseline's: this finds what got slower by half, not by a tenth. For less, see the
benchmarks in the repository.
"""

from __future__ import annotations

import gc
import itertools
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidkit.bench.measure import facts, plain
from vidkit.bench.measure.eager import EagerStep
from vidkit.bench.measure.step import TrainStep
from vidkit.bench.regress.compare import Findings, Measured, measure_parts, processor
from vidkit.bench.regress.data import SOURCE, built, planned
from vidkit.data.build.clip_worker import ClipJob, ClipOutcome, ClipWorker, make_clip
from vidkit.data.build.make_shard import ShardSettings, ShardWork, make_shard
from vidkit.data.load.augment import Box, crop_resize
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.load.order import Request
from vidkit.data.media.transcode_ffmpeg import find_ffmpeg
from vidkit.data.plan.layout import slots
from vidkit.data.plan.planning import Prepared
from vidkit.errors import ConfigError
from vidkit.settings.model import small_64

TURNS = 5

#: Share of the baseline's ratio that may be lost. Measured on two cores under a load of 6 to 10: medians differ by
#: 12 % at most from run to run; a step with AVX2 instead of AVX-512 loses 22 % of its lead.
TOLERANCE, ELSEWHERE = 0.3, 0.5

#: Originals like those of Kinetics, but shorter: 340 x 256, 5 s.
CLIPS, CLASSES = 4, 2
SIZE, LENGTH, FPS = (340, 256), 120, 24.0

#: Frames of a clip that is read, and stored frames between them.
FRAMES, STRIDE = 16, 4
BATCH = 4
#: A stored clip is read in a fraction of the time of its original: so often for each time of that.
TIMES = 40

Clock = Callable[[], float]


def cpu_seconds() -> float:
    """Processor time of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """Ways to the same thing. Each does its work once and says how many units (clips, steps) that were."""

    name: str
    """What is done."""
    ours: Callable[[], int]
    theirs: Mapping[str, Callable[[], int]]
    """Plain ways by name. A value is named `contest/way`: values of one name are of one kind."""
    told: tuple[str, ...] = ("cpu",)


def hold(contest: Contest, turns: int | None = None, clock: Clock | None = None) -> list[Measured]:
    """How many times as fast as each plain way ours is: medians over turns, after one that does not count."""
    turns, clock = turns or TURNS, clock or cpu_seconds
    sides = {"": contest.ours, **contest.theirs}
    names = list(sides)
    for side in sides.values():
        side()
    ratios: dict[str, list[float]] = {name: [] for name in contest.theirs}
    with _collected():
        for turn in range(turns):
            first = turn % len(names)
            costs = {}
            for name in names[first:] + names[:first]:
                gc.collect()
                started = clock()
                units = sides[name]()
                costs[name] = (clock() - started) / units
            for name, each in ratios.items():
                each.append(costs[name] / costs[""])
    return [
        Measured(
            name=f"{contest.name}/{name}",
            value=round(statistics.median(each), 4),
            rule="least",
            tolerance=TOLERANCE,
            elsewhere=ELSEWHERE,
            told=contest.told,
            turns=tuple(round(ratio, 4) for ratio in each),
        )
        for name, each in ratios.items()
    ]


@contextmanager
def _collected() -> Iterator[None]:
    """No garbage collection meanwhile but on request, and then of new objects only: to go through all that torch
    has made takes as long as a turn, and would hit one of many.
    """
    on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if on:
            gc.enable()


def left_out(name: str, why: str) -> Measured:
    """A ratio that cannot be measured here, and why: its plain way is not installed, for example."""
    return Measured(name=name, value=None, rule="least", tolerance=TOLERANCE, note=why)


def measure(folder: Path, done: Callable[[str], None] = lambda part: None) -> Findings:
    """Measure every part, with one thread.

    Args:
        folder: an empty one, for clips and shards.
        done: called with a part's name at its end.
    """
    return measure_parts(PARTS, folder, done, conditions)


def conditions() -> dict[str, Any]:
    """What the ratios depend on: processor, and versions of all contenders; None for those that are not there."""
    from importlib.metadata import PackageNotFoundError, version

    installed = facts.versions()
    try:
        decord = version("decord")
    except PackageNotFoundError:
        decord = None
    program = find_ffmpeg()
    return {
        "cpu": processor(),
        "torch": installed["torch"],
        "av": installed["av"],
        "decord": decord,
        "ffmpeg": plain.ffmpeg_version(program[0]) if program else None,
    }


# --- build ---------------------------------------------------------------------------------------


class _Here(ClipWorker):
    """Makes clips in this process: the start of another one would be most of so small a build's time."""

    def run(self, job: ClipJob) -> ClipOutcome:
        return make_clip(job)


def builds(folder: Path) -> list[Measured]:
    """Finished shards, with checksums, frame counts and journals, against bare files from the plain ways."""
    prepared = _prepared(folder)
    settings, out = prepared.spec.encode, folder / "plain"
    targets = {source: out / f"{number}.mp4" for number, source in enumerate(_sources(prepared))}
    out.mkdir(exist_ok=True)
    program = find_ffmpeg()

    def by_pyav() -> int:
        for source, target in targets.items():
            plain.transcode_pyav(source, target, settings)
        return len(targets)

    def by_ffmpeg() -> int:
        assert program is not None
        for source, target in targets.items():
            plain.transcode_ffmpeg(program[0], source, target, settings, frames=LENGTH, seconds=LENGTH / FPS)
        return len(targets)

    missing = []
    theirs: dict[str, Callable[[], int]] = {"plain PyAV": by_pyav}
    if program is None:
        missing.append(left_out("build/ffmpeg", "no ffmpeg"))
    else:
        try:
            by_ffmpeg()
            theirs["ffmpeg"] = by_ffmpeg
        except ConfigError as error:  # one without libx264, for example
            missing.append(left_out("build/ffmpeg", error.message))
    ours = _shard_maker(prepared, folder)
    return [*hold(Contest(name="build", ours=ours, theirs=theirs, told=("cpu", "av", "ffmpeg"))), *missing]


def _shard_maker(prepared: Prepared, folder: Path) -> Callable[[], int]:
    table, worker, numbers = prepared.table, _Here(timeout_s=0), itertools.count()

    def make() -> int:
        out, made = folder / f"shards-{next(numbers)}", 0
        for slot in slots(table):
            tar = out / slot.name
            tar.parent.mkdir(parents=True, exist_ok=True)
            work = ShardWork(
                rows=table.slice(slot.start, slot.rows).to_pylist(),
                split=slot.split,
                tar=tar,
                journal=tar.with_suffix(".journal"),
                settings=ShardSettings(roots=prepared.roots, encode=prepared.spec.encode),
            )
            facts_of_shard = make_shard(work, worker=worker)
            made += 0 if facts_of_shard is None else facts_of_shard.samples
        shutil.rmtree(out)
        if made != table.num_rows:
            raise ConfigError(f"{made} of {table.num_rows} generated clips could be stored", hint="vidkit doctor")
        return made

    return make


# --- loader --------------------------------------------------------------------------------------


def loaders(folder: Path) -> list[Measured]:
    """Batches from stored clips against the same frames of the original files."""
    prepared = _prepared(folder)
    root = built(prepared, folder / "dataset")
    theirs = {"plain PyAV": _raw(root, prepared, plain.read_pyav)}
    missing = []
    if find_spec("decord") is None:
        missing.append(left_out("loader/decord", "decord is not installed"))
    else:
        theirs["decord"] = _raw(root, prepared, plain.read_decord)
    ours = _stored(root, TIMES)
    return [*hold(Contest(name="loader", ours=ours, theirs=theirs, told=("cpu", "av", "decord"))), *missing]


def _stored(root: Path, times: int) -> Callable[[], int]:
    """An epoch of all clips, each `times` times."""
    import numpy as np

    dataset = ClipDataset(root, "train", frames=FRAMES, stride=STRIDE)
    dataset.clips = dataset.clips.take(np.tile(np.arange(len(dataset)), times))
    loader = ClipLoader(dataset, batch_size=BATCH, workers=0, tail="cut")
    return lambda: sum(len(batch) for batch in loader)


def _raw(root: Path, prepared: Prepared, read: plain.Reader) -> Callable[[], int]:
    """Each clip's frames, those on screen at the same times, cut to the middle and scaled as vidkit does."""
    import torch

    dataset = ClipDataset(root, "train", frames=FRAMES, stride=STRIDE)
    files = {row["clip_id"]: row["path"] for row in prepared.table.select(["clip_id", "path"]).to_pylist()}
    sources = [Path(prepared.roots[SOURCE]) / files[clip_id] for clip_id in dataset.clips.clip_id.to_pylist()]
    width, height = SIZE
    box = Box(top=0, left=(width - height) // 2, height=height, width=height)
    epochs = itertools.count()

    def theirs() -> int:
        epoch = next(epochs)
        for clip, source in enumerate(sources):
            stored = dataset.draw(Request(clip, epoch)).indices[0]
            count = int(dataset.clips.frames[clip])
            wanted = ((2 * stored + 1) * LENGTH) // (2 * count)
            pictures = read(source, wanted.tolist())
            crop_resize(torch.from_numpy(pictures), box, dataset.sampling.size)
        return len(sources)

    return theirs


def _prepared(folder: Path) -> Prepared:
    layout: dict[str, Any] = {"size": SIZE, "frames": LENGTH, "fps": FPS}
    return planned(folder / "originals", clips=CLIPS, classes=CLASSES, **layout)


def _sources(prepared: Prepared) -> list[Path]:
    return [Path(prepared.roots[SOURCE]) / path for path in prepared.table["path"].to_pylist()]


# --- step ----------------------------------------------------------------------------------------


def steps(folder: Path) -> list[Measured]:
    """A whole pre-training step of `small-64`, in float32."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours, theirs = TrainStep(small_64(), batch=BATCH, device="cpu"), EagerStep(small_64(), batch=BATCH)
        contest = Contest(
            name="step small-64", ours=_once(ours), theirs={"eager": _once(theirs)}, told=("cpu", "torch")
        )
        return hold(contest)


def _once(step: TrainStep | EagerStep) -> Callable[[], int]:
    def run() -> int:
        step.run()
        return 1

    return run


PARTS: dict[str, Callable[[Path], list[Measured]]] = {"build": builds, "loader": loaders, "step": steps}

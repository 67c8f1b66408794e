"""Reading batches: `ClipLoader` on a built dataset against decord on the original files.

Every contender gives the same clips: the same frames in time, the same random crop and flip, two worker processes,
one thread each. Pairs that give the same thing are compared: uint8 batches, which a device normalises, and float32
batches as the released code makes them (see `parts.originals`). What building the dataset costs is another
benchmark. Sources are drawn clips like Kinetics' (340x256, 10 s, 30 frames a second), and filmed ones.

    python -m benchmarks.bench_loader            # about ten minutes on two quiet cores
    python -m benchmarks.bench_loader --quick    # does it work at all
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import common
from benchmarks.parts import originals
from benchmarks.parts.sources import media_folder

WORKERS = 2
BATCH = 8
FRAMES, STRIDE = 16, 4

REAL = ("k400_arm_wrestling.mp4", "test.mp4", "flipping_a_pancake.mkv")

OURS, OURS_FLOATS = "vidkit", "vidkit, normalised here"
BYTES, RELEASED = "decord on originals", "decord on originals, as released"
#: What is compared with what. The last pair leaves normalising to the device on one side only, as training does.
PAIRS = {"uint8 out": (OURS, BYTES), "float32 out": (OURS_FLOATS, RELEASED), "as used": (OURS, RELEASED)}

#: Largest mean difference between our pixels and the originals', in levels: the stored copy is compressed and was
#: scaled before. Frames or crops that are not the same differ by more.
CLOSE = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is stored, and the size that comes out."""

    title: str
    spec: str
    """Whose encode settings: a name in manifests/."""
    size: int
    target: float | None = None
    """Clips per second over those from the original files, at least, for both kinds of output."""
    every_frame: bool = False
    """Store them all, whatever the spec says."""
    real: bool = False
    """Filmed clips; left out where there are none."""


_224 = Job(title="224 of 256 px", spec="k400", size=224, target=4)
_64 = Job(title="64 px, 100 frames stored", spec="composite-518", size=64, target=15)
JOBS: dict[str, Job] = {
    "224": _224,
    "64": _64,
    "64-all": replace(_64, title="64 px, all frames stored", every_frame=True),
    "224-real": replace(_224, title="224 of 256 px, filmed", real=True),
    "64-real": replace(_64, title="64 px, 100 frames stored, filmed", real=True),
}


# --- sources and datasets ------------------------------------------------------------------------


def make_source(folder: Path, clips: int, *, real: bool) -> None:
    """A class folder of originals, unless it is there already."""
    from vidkit.data.synth.layouts import write_layout

    if folder.exists():
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "clips").mkdir(parents=True)
    if real:
        media = media_folder()
        assert media is not None
        for i in range(clips):
            name = REAL[i % len(REAL)]
            shutil.copyfile(media / name, part / "clips" / f"{i:04d}{Path(name).suffix}")
    else:
        made = part.with_name(part.name + "-layout")
        shutil.rmtree(made, ignore_errors=True)
        write_layout("kinetics-class-folders", made, clips=clips, classes=2, distinct=12, workers=WORKERS)
        for i, path in enumerate(sorted(made.rglob("*.mp4"))):
            path.rename(part / "clips" / f"{i:04d}.mp4")
        shutil.rmtree(made)
    part.rename(folder)


def make_dataset(job: Job, source: Path, folder: Path) -> None:
    from vidkit.data.manifests import load_spec

    if folder.exists():
        return
    encode = load_spec(job.spec).encode
    if job.every_frame:
        encode = replace(encode, max_frames=None)
    spec = folder.with_suffix(".toml")
    spec.write_text(
        f'name = "bench"\ntitle = "bench"\n[encode]\n{_toml(encode)}[[sources]]\nname = "clips"\nkind = "folders"\n'
    )
    command = [*common.program("vidkit"), "build-dataset", spec, "--source", f"clips={source}", "--out", folder]
    common.measure([*command, "--workers", str(WORKERS), "--max-failures", "0"])


def _toml(settings: Any) -> str:
    """A line for each setting; a spec says "none" where Python says None."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    known = {name: "none" if name == "max_frames" and value is None else value for name, value in values.items()}
    return "".join(f"{name} = {value!r}\n" for name, value in known.items() if value is not None)


def open_clips(folder: Path, job: Job, times: int, **more: Any) -> Any:
    """The training split, every clip `times` times, so that an epoch is long enough to measure."""
    from vidkit.data import ClipDataset

    dataset = ClipDataset(folder, "train", frames=FRAMES, stride=STRIDE, size=job.size, **more)
    dataset.clips = dataset.clips.take(np.tile(np.arange(len(dataset)), times))
    return dataset


def check_same(dataset: Any, source: Path, clips: int) -> float:
    """Mean difference in levels between our pixels and the raw-file way's.

    Raises:
        SystemExit: other frames or crops, so that there is nothing to compare.
    """
    from vidkit.data.load.order import Request

    raw = originals.Originals(dataset, source, originals.as_bytes)
    apart = 0.0
    for i in range(min(clips, len(dataset))):
        ours, (theirs, _) = dataset.read(Request(i)).video[0], raw[Request(i)]
        apart = max(apart, float((ours.int() - theirs.int()).abs().float().mean()))
    if apart > CLOSE:
        raise SystemExit(f"the originals show something else: mean difference {apart:.1f} levels")
    return round(apart, 2)


# --- measuring -----------------------------------------------------------------------------------


def contender(loader: Any, use: Callable[[Any], int], epochs: int = 1) -> Callable[[int], dict[str, Any]]:
    """So many epochs for each turn. `use` takes a batch and tells its clips."""

    def run(turn: int) -> dict[str, Any]:
        started, cpu, busy = time.perf_counter(), cpu_s(), busy_s()
        clips = sum(use(batch) for _ in range(epochs) for batch in loader)
        seconds, cpu, busy = time.perf_counter() - started, cpu_s() - cpu, busy_s() - busy
        return {
            "clips": clips,
            "seconds": round(seconds, 4),
            "clips_per_s": round(clips / seconds, 2),
            "cpu_ms_per_clip": round(1000 * cpu / clips, 3),
            "cores_of_others": round(max(0.0, busy - cpu) / seconds, 2),
        }

    run(-1)  # starts the workers and fills the page cache
    return run


def cpu_s() -> float:
    """Processor time of this process and its workers so far; workers that wait take none."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    ticks = os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            for child in (task / "children").read_text().split():
                numbers = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
                total += (int(numbers[11]) + int(numbers[12])) / ticks
    return total


def busy_s() -> float:
    """Processor time of the whole machine so far: user, nice, system, interrupts and what other guests took."""
    numbers = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(numbers[:3] + numbers[5:8]) / os.sysconf("SC_CLK_TCK")


def count(batch: Any) -> int:
    return len(batch)


def normalised(batch: Any) -> int:
    from vidkit.data.load.augment import normalise

    return len(normalise(batch.video))


def of_pair(batch: Any) -> int:
    return len(batch[0])


def contenders(job: Job, folder: Path, source: Path, *, quick: bool) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Name -> one turn. Epochs take seconds, and give each worker as many batches as the other."""
    from vidkit.data import ClipLoader

    # passes over the clips in an epoch of ours, ours normalised, ours by decord, and of the raw files
    ours, floats, ours_decord, raw = (2, 2, 2, 2) if quick else (16, 8, 6, 4) if job.size > 64 else (64, 48, 16, 4)

    def stored(times: int, decoder: str = "pyav", **more: Any) -> Any:
        return ClipLoader(open_clips(folder, job, times, decoder=decoder), batch_size=BATCH, tail="cut", **more)

    def raw_files(render: Any) -> Any:
        raw_clips = originals.Originals(open_clips(folder, job, raw), source, render)
        return originals.loader(raw_clips, batch=BATCH, workers=WORKERS)

    found = {
        OURS: contender(stored(ours, workers=WORKERS), count),
        OURS_FLOATS: contender(stored(floats, workers=WORKERS), normalised),
        BYTES: contender(raw_files(originals.as_bytes), of_pair),
        RELEASED: contender(raw_files(originals.as_released), of_pair),
        "vidkit, decord as decoder": contender(stored(ours_decord, "decord", workers=WORKERS), count),
    }
    if job.size == 64 and not job.every_frame:
        times, epochs = (2, 1) if quick else (16, 6)
        host = stored(times, workers=WORKERS, cache="host")
        device = stored(times, cache="device", device="cpu")
        found["vidkit, host cache"] = contender(host, count, epochs)
        found["vidkit, cache on the CPU as device"] = contender(device, count, epochs)
    return found


def measure_job(job: Job, work: Path, name: str, rounds: int, clips: int, quick: bool) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)  # this process has one core, as each worker has
    source, folder = work / f"{'real' if job.real else 'synth'}-{clips}", work / f"{name}-{clips}"
    make_source(source, clips, real=job.real)
    make_dataset(job, source, folder)
    common.warm(source)
    apart = check_same(open_clips(folder, job, 1), source, 4)
    runs = common.take_turns(contenders(job, folder, source, quick=quick), rounds, said=job.title)
    return {
        "title": job.title,
        "target": job.target,
        "distinct_clips": clips,
        "levels_apart": apart,
        "original_bytes": sum(path.stat().st_size for path in source.rglob("*.*")),
        "stored_bytes": sum(path.stat().st_size for path in folder.rglob("*.tar")),
        "runs": runs,
        **summary(runs),
    }


def summary(runs: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and ratios turn by turn. On a machine with other work it is processor time that compares."""
    speed = {name: [run["clips_per_s"] for run in found] for name, found in runs.items()}
    cpu = {name: [run["cpu_ms_per_clip"] for run in found] for name, found in runs.items()}
    others = [run["cores_of_others"] for found in runs.values() for run in found]
    return {
        "clips_per_s": {name: round(common.median(values), 2) for name, values in speed.items()},
        "cpu_ms_per_clip": {name: round(common.median(values), 3) for name, values in cpu.items()},
        "cores_of_others": round(common.median(others), 2),
        "faster": {pair: common.ratios(speed[a], speed[b]) for pair, (a, b) in PAIRS.items()},
        "less_cpu": {pair: common.ratios(cpu[b], cpu[a]) for pair, (a, b) in PAIRS.items()},
    }


def report(results: Mapping[str, dict[str, Any]]) -> str:
    speeds = [
        (result["title"], name, rate, result["cpu_ms_per_clip"][name])
        for result in results.values()
        for name, rate in result["clips_per_s"].items()
    ]
    pairs = [
        (result["title"], pair, ratio["median"], result["less_cpu"][pair]["median"], result["target"] or "")
        for result in results.values()
        for pair, ratio in result["faster"].items()
    ]
    pair_header = ("job", "compared", "times the clips/s", "times the CPU time saved", "target")
    return (
        common.table(("job", "read by", "clips/s", "CPU ms/clip"), speeds)
        + "\n\nvidkit against decord on the original files:\n\n"
        + common.table(pair_header, pairs)
    )


def main(
    jobs: Annotated[str, typer.Option(help=f"Some of {','.join(JOBS)}.")] = ",".join(JOBS),
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option(help="A few clips, one round.")] = False,
    work: Annotated[
        Path | None, typer.Option(help="Keep clips and datasets here; else in a temporary folder.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(work or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = partial(
            measure_job, work=folder, rounds=1 if quick else rounds, clips=4 if quick else 24, quick=quick
        )
        for name in jobs.split(","):
            if name not in JOBS:
                raise SystemExit(f"no job {name!r}; expected some of {', '.join(JOBS)}")
            if JOBS[name].real and media_folder() is None:
                print(f"{name}: no filmed clips here; left out", file=sys.stderr)
                continue
            found[name] = run(JOBS[name], name=name)
    print(report(found))
    how = {"workers": WORKERS, "batch": BATCH, "frames": FRAMES, "stride": STRIDE}
    common.write_result("loader", {**how, "versions": _versions(), "jobs": found}, results)


def _versions() -> dict[str, Any]:
    import decord
    import PIL
    import torch

    return {"decord": decord.__version__, "torch": torch.__version__, "pillow": PIL.__version__}


if __name__ == "__main__":
    typer.run(main)

"""Reading batches: `ClipLoader` on a built dataset against decord on the original files.

The other way is that of released training code: each clip opens its original file with decord, takes the same
frames, and crops and scales them with the same function as vidkit; two worker processes read for either.
The frames and crops are those that vidkit draws. What building the dataset costs is another benchmark.

    python -m benchmarks.bench_loader            # under ten minutes, most of it making the datasets
    python -m benchmarks.bench_loader --quick    # does it work at all
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import common
from benchmarks.sources import media_folder

WORKERS = 2
BATCH = 8
FRAMES, STRIDE = 16, 4

REAL = ("k400_arm_wrestling.mp4", "test.mp4", "flipping_a_pancake.mkv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is stored, and the size that comes out."""

    title: str
    encode: str
    """[encode] of the spec; as in manifests/."""
    size: int
    real: bool = False
    """Filmed clips; left out where there are none."""


_64 = 'size = 64\nfit = "crop"\nmax_frames = 100\ngop = 30\n'
_64_ALL = 'size = 64\nfit = "crop"\nmax_frames = "none"\ngop = 30\n'
_256 = 'size = 256\nfit = "short-side"\nmax_frames = "none"\ngop = 12\ntune = "fastdecode"\n'
JOBS: dict[str, Job] = {
    "64": Job(title="64 px, 100 frames stored", encode=_64, size=64),
    "64-real": Job(title="64 px, 100 frames stored, filmed", encode=_64, size=64, real=True),
    "64-all": Job(title="64 px, all frames stored", encode=_64_ALL, size=64),
    "64-all-real": Job(title="64 px, all frames stored, filmed", encode=_64_ALL, size=64, real=True),
    "224": Job(title="224 of 256 px", encode=_256, size=224),
    "224-real": Job(title="224 of 256 px, filmed", encode=_256, size=224, real=True),
}


def make_source(folder: Path, clips: int, *, real: bool) -> None:
    """Class folders of originals, unless they are there already."""
    from vidkit.data.synthetic_layouts import write_layout

    if folder.exists():
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    if real:
        media = media_folder()
        assert media is not None
        for i in range(clips):
            name = REAL[i % len(REAL)]
            path = part / f"class {i % len(REAL)}" / f"{i:04d}{Path(name).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(media / name, path)
    else:  # Kinetics-like: 340x256, 10 s at 30 frames a second
        made = part.with_name(part.name + "-layout")
        shutil.rmtree(made, ignore_errors=True)
        write_layout("kinetics-class-folders", made, clips=clips, classes=2, distinct=12, workers=WORKERS)
        for i, path in enumerate(sorted(made.rglob("*.mp4"))):
            (part / "clips").mkdir(parents=True, exist_ok=True)
            path.rename(part / "clips" / f"{i:04d}.mp4")
        shutil.rmtree(made)
    part.rename(folder)


def make_dataset(job: Job, source: Path, folder: Path) -> None:
    if folder.exists():
        return
    spec = folder.with_suffix(".toml")
    spec.write_text(
        f'name = "bench"\ntitle = "bench"\n[encode]\n{job.encode}[[sources]]\nname = "clips"\nkind = "folders"\n'
    )
    command = [*common.program("vidkit"), "build-dataset", spec, "--source", f"clips={source}", "--out", folder]
    common.measure([*command, "--workers", str(WORKERS), "--max-failures", "0"])


class Originals:
    """The raw-file way, as a dataset for torch: same requests, same frames, same crops."""

    def __init__(self, dataset: Any, source: Path) -> None:
        self.dataset = dataset
        ledger = dataset.clips.dataset.ledger(["clip_id", "path", "source_frames", "source_width", "source_height"])
        facts = {row["clip_id"]: row for row in ledger.to_pylist()}
        self.files = [facts[clip_id] for clip_id in dataset.clips.clip_id.to_pylist()]
        self.source = source

    def __getitem__(self, request: Any) -> Any:
        import decord
        import torch

        from vidkit.data.augment import augment_row, crop_resize
        from vidkit.data.batch import ClipSample

        clips, i = self.dataset.clips, request.clip
        drawn = self.dataset.draw(request)
        file = self.files[i]
        # frame k of n stored ones is the source frame on screen at (k + 1/2) / n of the clip
        count = file["source_frames"]
        frames = ((2 * drawn.indices[0] + 1) * count) // (2 * int(clips.frames[i]))
        reader = decord.VideoReader(str(self.source / file["path"]), num_threads=1, ctx=decord.cpu(0))
        pictures = torch.from_numpy(reader.get_batch(frames.tolist()).asnumpy())
        height, width = pictures.shape[1:3]
        stored_h, stored_w = int(clips.height[i]), int(clips.width[i])
        scale = min(height / stored_h, width / stored_w)  # the stored picture is a centre crop, or all of it
        top, left = (height - stored_h * scale) / 2, (width - stored_w * scale) / 2
        box = drawn.boxes[0]
        box = box._replace(
            top=round(top + box.top * scale),
            left=round(left + box.left * scale),
            height=round(box.height * scale),
            width=round(box.width * scale),
        )
        video = crop_resize(pictures, box, self.dataset.sampling.size)
        video = augment_row(video, self.dataset.sampling.augment, drawn.rngs[0]).permute(1, 0, 2, 3)[None]
        return ClipSample(
            video=video,
            class_id=int(clips.class_id[i]),
            multi_hot=None,
            index=i,
            key=str(clips.key[i]),
            frames=torch.from_numpy(drawn.indices),
        )


def open_clips(folder: Path, job: Job, times: int, **more: Any) -> Any:
    """The training split, every clip `times` times, so that an epoch is long enough to measure."""
    from vidkit.data import ClipDataset

    dataset = ClipDataset(folder, "train", frames=FRAMES, stride=STRIDE, size=job.size, **more)
    dataset.clips = dataset.clips.take(np.tile(np.arange(len(dataset)), times))
    return dataset


def contender(loader: Any) -> Callable[[int], dict[str, Any]]:
    """One epoch for each turn."""

    def run(turn: int) -> dict[str, Any]:
        started, cpu = time.perf_counter(), cpu_s()
        clips = sum(len(batch) for batch in loader)
        seconds, cpu = time.perf_counter() - started, cpu_s() - cpu
        return {
            "clips": clips,
            "seconds": round(seconds, 4),
            "clips_per_s": round(clips / seconds, 2),
            "cpu_ms_per_clip": round(1000 * cpu / clips, 3),
        }

    run(-1)  # starts the workers and fills the page cache
    return run


def cpu_s() -> float:
    """Processor time of this process and its workers so far; workers that wait take none."""
    total = time.process_time()
    ticks = os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def measure_job(job: Job, work: Path, name: str, rounds: int, clips: int, quick: bool) -> dict[str, Any]:
    import torch

    from vidkit.data import ClipLoader

    torch.set_num_threads(1)  # this process has one core, as each worker has
    source, folder = work / f"{'real' if job.real else 'synth'}-{clips}", work / f"{name}-{clips}"
    make_source(source, clips, real=job.real)
    make_dataset(job, source, folder)
    common.warm(source)
    times = 1 if quick else 5 if job.size > 64 else 30

    def loader(times: int, how: dict[str, Any], **more: Any) -> Any:
        return ClipLoader(open_clips(folder, job, times, **how), batch_size=BATCH, tail="cut", **more)

    loaders = {
        "vidkit": loader(times, {}, workers=WORKERS),
        "vidkit, decord as decoder": loader(max(1, times // 5), {"decoder": "decord"}, workers=WORKERS),
    }
    originals = loader(1, {}, workers=WORKERS)
    # the same loader, asked for other samples: only the reading differs
    originals._batches = originals._torch_loader(Originals(originals.dataset, source), WORKERS, 2, False)
    loaders["decord on original files"] = originals
    if job.size == 64:
        # the clips themselves, once: a copy of each in memory is what the cache is for
        loaders["vidkit, host cache"] = loader(times, {}, workers=WORKERS, cache="host")
        loaders["vidkit, cache on the CPU as device"] = loader(times, {}, cache="device", device="cpu")
    runs = common.take_turns({n: contender(each) for n, each in loaders.items()}, rounds, said=job.title)
    speed = {n: [run["clips_per_s"] for run in found] for n, found in runs.items()}
    cpu = {n: [run["cpu_ms_per_clip"] for run in found] for n, found in runs.items()}
    return {
        "title": job.title,
        "distinct_clips": clips,
        "original_bytes": sum(path.stat().st_size for path in source.rglob("*.*")),
        "stored_bytes": sum(path.stat().st_size for path in folder.rglob("*.tar")),
        "runs": runs,
        "clips_per_s": {n: round(common.median(values), 2) for n, values in speed.items()},
        "cpu_ms_per_clip": {n: round(common.median(values), 3) for n, values in cpu.items()},
        "vidkit_over": {n: common.ratios(speed["vidkit"], values) for n, values in speed.items() if n != "vidkit"},
        # on a machine with other work the processor time is what compares; both are bound by it
        "cpu_over_vidkit": {n: common.ratios(values, cpu["vidkit"]) for n, values in cpu.items() if n != "vidkit"},
    }


def report(results: dict[str, dict[str, Any]]) -> str:
    rows = []
    for result in results.values():
        for name, rate in result["clips_per_s"].items():
            over, cpu_over = (result[k].get(name, {}).get("median", "") for k in ("vidkit_over", "cpu_over_vidkit"))
            rows.append((result["title"], name, rate, result["cpu_ms_per_clip"][name], over, cpu_over))
    header = ("job", "read by", "clips/s", "CPU ms/clip", "vidkit is faster by", "CPU time over vidkit's")
    return common.table(header, rows)


def main(
    jobs: Annotated[str, typer.Option(help=f"Some of {','.join(JOBS)}.")] = ",".join(JOBS),
    rounds: Annotated[int, typer.Option(min=1)] = 7,
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
        for name in jobs.split(","):
            job = JOBS[name]
            if job.real and media_folder() is None:
                print(f"{name}: no filmed clips here; left out", file=sys.stderr)
                continue
            found[name] = measure_job(job, folder, name, 1 if quick else rounds, 12 if quick else 24, quick)
    print(report(found))
    common.write_result("loader", {"workers": WORKERS, "batch": BATCH, "jobs": found}, results)


if __name__ == "__main__":
    typer.run(main)

"""Building a dataset: `vidkit build-dataset` against one ffmpeg command per clip under `xargs -P`.

The whole vidkit command counts, from its start to a finished dataset: reading the source folder,
checksums, frame counts, tars, ledger. The ffmpeg commands only write one file per clip; how many frames
a source has, which they need for a uniform choice, is given to them, and no shell starts them. Frame
counts and sizes of both results must be equal.

The jobs are small, and vidkit's start-up (about a second) is a larger part of them than of a dataset. So
it is measured in each round too, by a build of two clips, and ratios are given with and without it.

    python -m benchmarks.bench_build              # about five minutes
    python -m benchmarks.bench_build --times 5    # five times the clips
    python -m benchmarks.bench_build --quick      # does it work at all
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from benchmarks.parts.sources import make_sources, media_folder

WORKERS = 2

#: By contender: (frames, width, height) of each clip that it wrote, sorted.
Shapes = dict[str, list[tuple[int, int, int]]]

#: clips of the two sources in composite-518
MIX = {"kinetics": 12_098, "tinyvirat": 12_829}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One kind of source clips and what is made of them, in our words and in ffmpeg's."""

    title: str
    source: str
    """Source in the spec, and flag of the command."""
    encode: str
    """[encode] of the spec; as in manifests/."""
    scale: str
    """ffmpeg filters that give the same picture."""
    ffmpeg: tuple[str, ...]
    """ffmpeg's encoder options."""
    max_frames: int | None
    clips: int
    real: bool = False
    """Copies of filmed clips; left out where there are none."""


_SMALL: dict[str, Any] = {
    "encode": 'size = 64\nfit = "crop"\nmax_frames = 100\ngop = 30\ntune = "fastdecode"\n',
    "scale": "crop='min(iw,ih)':'min(iw,ih)',scale=64:64",
    "ffmpeg": ("-crf", "23", "-preset", "medium", "-g", "30", "-tune", "fastdecode"),
    "max_frames": 100,
}
_LARGE: dict[str, Any] = {
    "encode": 'size = 256\nfit = "short-side"\nmax_frames = "none"\ngop = 12\ntune = "fastdecode"\n',
    "scale": "scale='if(lt(iw,ih),256,-2)':'if(lt(iw,ih),-2,256)'",
    "ffmpeg": ("-crf", "23", "-preset", "medium", "-g", "12", "-tune", "fastdecode"),
    "max_frames": None,
}
JOBS: dict[str, Job] = {
    "kinetics": Job(title="64x64, Kinetics-like (340x256, 10 s)", source="kinetics", clips=300, **_SMALL),
    "kinetics-real": Job(
        title="64x64, two filmed clips (340x256, 10 s)", source="kinetics", clips=200, real=True, **_SMALL
    ),
    "tinyvirat": Job(
        title="64x64, TinyVIRAT-like (10 to 128 px, 2 to 150 frames)", source="tinyvirat", clips=1500, **_SMALL
    ),
    "k400": Job(title="256 px, Kinetics-like (340x256, 10 s)", source="kinetics", clips=96, **_LARGE),
    "k400-real": Job(
        title="256 px, two filmed clips (340x256, 10 s)", source="kinetics", clips=64, real=True, **_LARGE
    ),
}


def vidkit_command(job: Job, source: Path, spec: Path, clips: int) -> list[str]:
    """The command without --out. One split and many shards a worker, so that the end of the job, where one
    worker may wait for the other, weighs no more than in a large build."""
    classes = "kinetics400" if job.source == "kinetics" else 'tinyvirat26"\nmulti_label = true\nversion = "v1'
    spec.write_text(
        f'name = "bench"\ntitle = "bench"\n[labels]\nrule = "label-set"\n[encode]\n{job.encode}'
        f'[[sources]]\nname = "{job.source}"\nkind = "{job.source}"\nclasses = "{classes}"\n'
        'splits = { train = "train", test = "train" }\n'
    )
    shard = str(max(1, clips // (16 * WORKERS)))
    command = [*common.program("vidkit"), "build-dataset", os.fspath(spec), f"--{job.source}", os.fspath(source)]
    return [*command, "--workers", str(WORKERS), "--clips-per-shard", shard, "--max-failures", "0"]


def ffmpeg_arguments(job: Job, clips: list[Path], out: Path) -> tuple[list[bytes], int]:
    """Arguments of every clip's command, one after the other, and how many belong to each."""
    from vidkit.data.media.frames import ClipReader

    words: list[bytes] = []
    count = 0
    for i, clip in enumerate(clips):
        filters = job.scale
        with ClipReader(clip.read_bytes()) as reader:
            frames, seconds = len(reader), reader.index.duration_s
        if job.max_frames is not None and frames > job.max_frames:
            # first the choice of frames: the others are then neither cropped nor scaled
            filters = f"fps={job.max_frames / seconds:.6f},{filters}"
        video = ["-map", "0:v:0", "-an", "-vf", filters, "-c:v", "libx264", "-threads", "1", *job.ffmpeg]
        clip_words = ["-threads", "1", "-i", os.fspath(clip), *video, "-pix_fmt", "yuv420p", f"{out}/{i:06d}.mp4"]
        count = len(clip_words)
        words += [os.fsencode(word) for word in clip_words]
    return words, count


def run_vidkit(command: list[str], out: Path, shapes: Shapes, clips: int) -> dict[str, Any]:
    used = common.measure([*command, "--out", out])
    from vidkit.data.dataset import open_dataset

    ledger = open_dataset(out).ledger()
    columns = (ledger[name].to_pylist() for name in ("frames", "width", "height"))
    shapes["vidkit"] = sorted(zip(*columns, strict=True))
    size = sum(ledger["nbytes"].to_pylist())
    shutil.rmtree(out)
    assert ledger.num_rows == clips, f"{ledger.num_rows} clips were built, not {clips}"
    return {**used.row(), "clip_bytes": size}


def run_ffmpeg(name: str, binary: str, job: Job, clips: list[Path], out: Path, shapes: Shapes) -> dict[str, Any]:
    import av

    out.mkdir()
    words, each = ffmpeg_arguments(job, clips, out)
    start = ["xargs", "-0", f"-P{WORKERS}", f"-n{each}"]
    quiet = [binary, "-nostdin", "-v", "error", "-y", "-filter_threads", "1"]
    used = common.measure([*start, *quiet], stdin=b"\0".join(words) + b"\0")
    if name not in shapes:
        shapes[name] = []
        for path in out.iterdir():
            with av.open(os.fspath(path)) as container:
                video = container.streams.video[0]
                shapes[name].append((video.frames, video.width, video.height))
        shapes[name].sort()
    size = sum(path.stat().st_size for path in out.iterdir())
    shutil.rmtree(out)
    return {**used.row(), "clip_bytes": size}


def binaries() -> dict[str, str]:
    """Name -> ffmpeg program, of those that are there."""
    found = {"system ffmpeg": shutil.which("ffmpeg") or ""}
    try:
        import imageio_ffmpeg

        found["static ffmpeg"] = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        print("imageio-ffmpeg is not installed: no static ffmpeg", file=sys.stderr)
    return {name: path for name, path in found.items() if path}


def measure_job(
    job: Job, work: Path, rounds: int, clips: int, distinct: int, programs: dict[str, str]
) -> dict[str, Any]:
    """Rounds of all contenders on one job."""
    source = work / f"{'real' if job.real else job.source}-{clips}"
    make_sources(job.source, source, clips=clips, distinct=distinct, real=job.real, workers=WORKERS)
    source_bytes = common.warm(source)
    files = sorted(source.rglob("*.mp4"))
    command = vidkit_command(job, source, work / "bench.toml", clips)
    shapes: Shapes = {}
    out = work / "out"
    few = min(WORKERS, clips)
    contenders: dict[str, Callable[[int], dict[str, Any]]] = {
        "vidkit": lambda turn: run_vidkit(command, out, shapes, clips),
        "vidkit, 2 clips": lambda turn: run_vidkit(
            [*command, "--limit", str(few), "--clips-per-shard", "1"], out, {}, few
        ),
    }
    for name, binary in programs.items():
        contenders[name] = lambda turn, n=name, b=binary: run_ffmpeg(n, b, job, files, out, shapes)  # type: ignore[misc]
    runs = common.take_turns(contenders, rounds, said=job.title)
    for name, found in shapes.items():
        if found != shapes["vidkit"]:
            raise SystemExit(f"{job.title}: {name} wrote other frame counts or sizes than vidkit")
    return {
        "title": job.title,
        "clips": clips,
        "frames": sum(frames for frames, _, _ in shapes["vidkit"]),
        "source_bytes": source_bytes,
        "runs": runs,
        **summary(runs, clips, few),
    }


def summary(runs: dict[str, list[dict[str, Any]]], clips: int, few: int) -> dict[str, Any]:
    """Medians, and ratios of clips/s turn by turn: whole commands, and without what every build costs once."""
    seconds = {name: [run["seconds"] for run in found] for name, found in runs.items()}
    start_up = seconds.pop("vidkit, 2 clips")
    beyond = [
        (s - first) * clips / max(1, clips - few) for s, first in zip(seconds["vidkit"], start_up, strict=True)
    ]
    others = [name for name in seconds if name != "vidkit"]
    return {
        "medians": {
            name: {
                "clips_per_s": round(clips / common.median(found), 3),
                "cpu_ms_per_clip": round(1000 * common.median([run["cpu_s"] for run in runs[name]]) / clips, 2),
                "peak_mb": max((run["peak_mb"] or 0) for run in runs[name]) or None,
                "kb_per_clip": round(runs[name][0]["clip_bytes"] / clips / 1000, 2),
            }
            for name, found in seconds.items()
        },
        "start_up_s": round(common.median(start_up), 3),
        "speed_over": {name: common.ratios(seconds[name], seconds["vidkit"]) for name in others},
        "speed_over_without_start_up": {name: common.ratios(seconds[name], beyond) for name in others},
    }


def mixed(kinetics: dict[str, Any], tinyvirat: dict[str, Any]) -> dict[str, Any]:
    """Ratios on the composite: each source's time per clip, weighted by its clips there."""

    def times(name: str) -> list[float]:
        pairs = zip(kinetics["runs"][name], tinyvirat["runs"][name], strict=True)
        first, second = MIX["kinetics"] / kinetics["clips"], MIX["tinyvirat"] / tinyvirat["clips"]
        return [k["seconds"] * first + t["seconds"] * second for k, t in pairs]

    ours = times("vidkit")
    every = sum(MIX.values())
    others = list(kinetics["speed_over"])
    return {
        "clips_per_s": {name: round(every / common.median(times(name)), 2) for name in ["vidkit", *others]},
        "speed_over": {name: common.ratios(times(name), ours) for name in others},
    }


def report(results: dict[str, dict[str, Any]], mixes: dict[str, dict[str, Any]]) -> str:
    rows = []
    for result in results.values():
        for name, found in result["medians"].items():
            over = result["speed_over"].get(name, {}).get("median", "")
            bare = result["speed_over_without_start_up"].get(name, {}).get("median", "")
            numbers = [found[key] for key in ("clips_per_s", "cpu_ms_per_clip", "peak_mb", "kb_per_clip")]
            rows.append((result["title"], name, *numbers, over, bare))
    for title, mix in mixes.items():
        for name, rate in mix["clips_per_s"].items():
            rows.append((title, name, rate, "", "", "", mix["speed_over"].get(name, {}).get("median", ""), ""))
    header = ("job", "by", "clips/s", "CPU ms/clip", "peak MB", "kB/clip", "vidkit is faster by", "start-up apart")
    return common.table(header, rows)


def main(
    jobs: Annotated[str, typer.Option(help=f"Some of {','.join(JOBS)}.")] = ",".join(JOBS),
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    times: Annotated[int, typer.Option(help="So many times the clips.", min=1)] = 1,
    quick: Annotated[bool, typer.Option(help="A few clips, one round.")] = False,
    work: Annotated[
        Path | None, typer.Option(help="Keep source clips here; a temporary folder by default.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    programs = binaries()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(work or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in jobs.split(","):
            job = JOBS[name]
            if job.real and media_folder() is None:
                print(f"{name}: no filmed clips here; left out", file=sys.stderr)
                continue
            clips, distinct = (4, 2) if quick else (times * job.clips, 8)
            found[name] = measure_job(job, folder, 1 if quick else rounds, clips, distinct, programs)
    mixes = {}
    for kind in ("kinetics", "kinetics-real"):
        if kind in found and "tinyvirat" in found:
            mixes[f"composite-518 mix, {kind} + tinyvirat"] = mixed(found[kind], found["tinyvirat"])
    facts = {name: common.ffmpeg_facts(binary) for name, binary in programs.items()}
    result = {"workers": WORKERS, "ffmpeg": facts, "jobs": found, "mixes": mixes}
    print(report(found, mixes))
    common.write_result("build", result, results)


if __name__ == "__main__":
    typer.run(main)

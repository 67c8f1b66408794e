"""Building from archives against building from the same files unpacked: clips/s, and bytes that must be equal.

Each contender is the whole command, from its start to a finished dataset, and begins without an index of its
archives: what it takes to find the members, and to inflate what is compressed as a whole, counts. One contender
keeps the index of its tars, as the second of two builds does. Unpacking beforehand, which is what an archive saves,
is measured as well. Shards of all contenders must be equal byte for byte, or it stops.

    python -m benchmarks.bench_packed              # about ten minutes
    python -m benchmarks.bench_packed --quick      # does it work at all
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from benchmarks.bench_build import JOBS, WORKERS, Job, vidkit_command
from benchmarks.parts.sources import make_sources

#: Clips of an archive.
A_PART = 50

#: Clips that are built.
CLIPS = {"tinyvirat": 1000, "kinetics": 150}

#: Contender -> (how its archives are made, whether their index is kept from an earlier build).
FORMS: dict[str, tuple[str, bool]] = {
    "tar": ("w", False),
    "tar, index kept": ("w", True),
    "tar.gz": ("w:gz", False),
    "zip, deflated": ("zip", False),
}


def pack(source: Path, folder: Path, form: str) -> None:
    """The source's videos in archives of `A_PART` clips each, with the names that they have; texts beside them."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    videos = [path for path in files if path.suffix in (".mp4", ".webm", ".avi")]
    folder.mkdir()
    for path in set(files) - set(videos):
        (folder / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(source))
    for number, first in enumerate(range(0, len(videos), A_PART)):
        held = videos[first : first + A_PART]
        place = folder / f"part_{number}.archive"
        if form == "zip":
            with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in held:
                    archive.write(path, path.relative_to(source))
        else:
            with tarfile.open(place, form, dereference=True) as tar:  # type: ignore[call-overload]
                for path in held:
                    info = tar.gettarinfo(path, path.relative_to(source).as_posix())
                    info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
                    with path.open("rb") as file:
                        tar.addfile(info, file)


def build(
    command: list[str], out: Path, cache: Path, keep: bool, seen: dict[str, str], clips: int
) -> dict[str, Any]:
    """One run of the command; the cache is thrown away first unless it is to be kept."""
    if not keep:
        shutil.rmtree(cache, ignore_errors=True)
    used = common.measure(["env", f"VIDKIT_CACHE={cache}", *command, "--out", os.fspath(out)])
    facts = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    shards = {one["shard"]: one["sha256"] for one in json.loads((out / "shards.json").read_text(encoding="utf-8"))}
    shutil.rmtree(out)
    if facts["counts"]["ok"] != clips:
        raise SystemExit(f"{facts['counts']['ok']} clips were built, not {clips}")
    if seen and seen != shards:
        raise SystemExit("shards built from archives are not those built from files")
    seen.update(shards)
    return used.row()


def unpack(folder: Path, out: Path) -> dict[str, Any]:
    """What building from archives saves: tar, once."""
    out.mkdir()
    parts = sorted(folder.glob("*.archive"))
    used = common.measure(["sh", "-c", 'for part in "$@"; do tar -xf "$part"; done', "sh", *parts], cwd=out)
    shutil.rmtree(out)
    return used.row()


def measure_job(job: Job, work: Path, rounds: int, clips: int, distinct: int) -> dict[str, Any]:
    """Rounds of all contenders on one kind of clips."""
    source = work / f"{job.source}-{clips}"
    make_sources(job.source, source, clips=clips, distinct=distinct, real=False, workers=WORKERS)
    out, seen = work / "out", dict[str, str]()
    folders = {"files": source}
    for name, (form, _) in FORMS.items():
        folders[name] = work / f"{job.source}-{clips}-{form.replace(':', '-')}"
        if not folders[name].exists():
            pack(source, folders[name], form)
        common.warm(folders[name])
    source_bytes = common.warm(source)
    contenders: dict[str, Callable[[int], dict[str, Any]]] = {}
    for name, folder in folders.items():
        keep = FORMS.get(name, ("", False))[1]
        command = vidkit_command(job, folder, work / f"{folder.name}.toml", clips)
        cache = work / "caches" / name.replace(" ", "")
        contenders[name] = lambda turn, c=command, k=keep, d=cache: build(c, out, d, k, seen, clips)  # type: ignore[misc]
    contenders["unpacking the tars"] = lambda turn: unpack(folders["tar"], work / "unpacked")
    contenders["tar, index kept"](-1)  # makes the index, and is not counted
    runs = common.take_turns(contenders, rounds, said=job.title)
    seconds = {name: [run["seconds"] for run in found] for name, found in runs.items()}
    return {
        "title": job.title,
        "clips": clips,
        "source_bytes": source_bytes,
        "runs": runs,
        "clips_per_s": {name: round(clips / common.median(seconds[name]), 3) for name in folders},
        "cpu_ms_per_clip": {
            name: round(1000 * common.median([run["cpu_s"] for run in runs[name]]) / clips, 2) for name in folders
        },
        "unpacking_s": round(common.median(seconds["unpacking the tars"]), 3),
        "rate_over_files": {name: common.ratios(seconds["files"], seconds[name]) for name in FORMS},
        "cpu_over_files": {
            name: common.ratios(*([run["cpu_s"] for run in runs[one]] for one in (name, "files"))) for name in FORMS
        },
    }


def report(results: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    rows = []
    for result in results.values():
        for name, rate in result["clips_per_s"].items():
            over, cpu = (
                result[key].get(name, {}).get("median", "") for key in ("rate_over_files", "cpu_over_files")
            )
            rows.append((result["title"], name, rate, over, result["cpu_ms_per_clip"][name], cpu))
    header = ("clips", "built from", "clips/s", "of the rate from files", "CPU ms/clip", "times those from files")
    return common.table(header, rows)


def main(
    jobs: Annotated[str, typer.Option(help="Some of tinyvirat,kinetics.")] = "tinyvirat,kinetics",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    times: Annotated[float, typer.Option(help="So many times the clips.", min=0.01)] = 1.0,
    quick: Annotated[bool, typer.Option(help="A few clips, one round.")] = False,
    work: Annotated[
        Path | None, typer.Option(help="Keep source clips here; a temporary folder by default.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(work or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in jobs.split(","):
            clips, distinct = (4, 2) if quick else (round(times * CLIPS[name]), 8)
            found[name] = measure_job(JOBS[name], folder, 1 if quick else rounds, clips, distinct)
    print(report(found))
    common.write_result("packed", {"workers": WORKERS, "clips_an_archive": A_PART, "jobs": found}, results)


if __name__ == "__main__":
    typer.run(main)

"""Reading clips: decoder x encode x size, with bytes.

One reading: 16 frames at stride 4 from a random start, from bytes in memory, the reader's construction
included; as a loader does it that meets each clip once in an epoch. Prepared copies are made by vidkit
(x264 medium, crf 23): short side 256 with every frame, and 64x64 with 100 frames of the clip.

    python -m benchmarks.bench_decode
    python -m benchmarks.bench_decode --quick
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import common
from benchmarks.parts import readers
from benchmarks.parts.sources import FILMED, media_folder

FRAMES, STRIDE = 16, 4
ENCODES: dict[str, tuple[int, str | None]] = {
    "g250": (250, None),
    "g30": (30, None),
    "g30 fastdecode": (30, "fastdecode"),
    "g12": (12, None),
    "g12 fastdecode": (12, "fastdecode"),
    "g4": (4, None),
    "g1": (1, None),
}
SIZES = (256, 64)


def sources(quick: bool) -> dict[str, list[bytes]]:
    """Kind -> clips: drawn ones of Kinetics' size, and filmed ones where they are."""
    from vidkit.data.synth.clips import ClipLook, draw, encode

    found: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for i in range(1 if quick else 2):
            look = ClipLook(class_index=7 * i, width=340, height=256, frames=90 if quick else 300, fps=30.0)
            path = Path(folder) / f"{i}.mp4"
            encode(draw(look, index=i), path, look.fps)
            drawn.append(path.read_bytes())
    found["drawn"] = drawn
    media = media_folder()
    if media is not None and not quick:
        found["filmed"] = [(media / name).read_bytes() for name in FILMED]
    return found


def prepare(
    kinds: dict[str, list[bytes]], encodes: dict[str, tuple[int, str | None]], folder: Path
) -> list[dict[str, Any]]:
    """Write every copy; returns the list of what to read, with bytes against the source."""
    from vidkit.data.media.transcode import transcode
    from vidkit.settings.encode import EncodeSettings

    items: list[dict[str, Any]] = []
    for kind, clips in kinds.items():
        original = sum(map(len, clips))
        copies: dict[tuple[str, str], list[bytes]] = {("source", "as it is"): clips}
        for size in SIZES:
            for name, (gop, tune) in encodes.items():
                settings = EncodeSettings(
                    size=size,
                    fit="crop" if size == 64 else "short-side",
                    max_frames=100 if size == 64 else None,
                    gop=gop,
                    tune=tune,
                )
                copies[f"{size}", name] = [transcode(clip, settings).data for clip in clips]
        for (size_name, encode_name), datas in copies.items():
            names: list[str] = []
            for data in datas:
                names.append(f"{len(items)}-{len(names)}.mp4")
                (folder / names[-1]).write_bytes(data)
            share = round(sum(map(len, datas)) / original, 4)
            items.append({"kind": kind, "size": size_name, "encode": encode_name, "bytes": share, "files": names})
    (folder / "items.json").write_text(json.dumps(items))
    return items


def read_all(folder: Path, rounds: int, seed: int) -> list[dict[str, list[float]]]:
    """For each item, reader -> ms a clip in each round; readers take turns on the same clips and starts."""
    from vidkit.data.media.frames import ClipReader

    items = json.loads((folder / "items.json").read_text())
    every = readers.available()
    rng = np.random.default_rng(seed)
    times: list[dict[str, list[float]]] = [{name: [] for name in every} for _ in items]
    clips = [[(folder / name).read_bytes() for name in item["files"]] for item in items]
    lengths = [[len(ClipReader(data)) for data in datas] for datas in clips]
    span = (FRAMES - 1) * STRIDE + 1
    for turn in range(rounds + 1):
        for item, datas, frames, found in zip(items, clips, lengths, times, strict=True):
            starts = [int(rng.integers(0, n - span + 1)) for n in frames]
            jobs = [(d, list(range(s, s + span, STRIDE))) for d, s in zip(datas, starts, strict=True)]
            expected = readers.vidkit(*jobs[0]).astype(np.int16)
            for name, reader in every.items():
                if turn == 0:  # also warms up
                    off = float(np.abs(reader(*jobs[0]) - expected).mean())
                    if off > 4:
                        raise SystemExit(f"{name} gives other frames of {item}: mean difference {off:.1f} levels")
                    continue
                began = time.perf_counter()
                for data, wanted in jobs:
                    reader(data, wanted)
                found[name].append(1000 * (time.perf_counter() - began) / len(jobs))
    return times


def busy(folder: Path, workers: int, rounds: int) -> list[dict[str, list[float]]]:
    """`read_all` in so many processes at once; rounds of all of them one after the other."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_decode",
        "--rounds",
        str(rounds),
        "--reads",
        os.fspath(folder),
    ]
    started = [
        subprocess.Popen([*command, "--seed", str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(workers)
    ]
    answers = []
    for process in started:
        said = process.communicate()[0]
        if process.returncode:
            raise SystemExit(process.returncode)
        answers.append(json.loads(said.splitlines()[-1]))
    return [
        {name: [ms for answer in answers for ms in answer[i][name]] for name in answers[0][i]}
        for i in range(len(answers[0]))
    ]


def report(items: list[dict[str, Any]], workers: list[int]) -> str:
    names = list(items[0]["ms"][str(workers[0])])
    header = ["clips", "copy", "bytes", *(f"{name}, {count} busy" for count in workers for name in names)]
    rows = []
    for item in items:
        numbers = [item["ms"][str(count)][name]["median"] for count in workers for name in names]
        rows.append((item["kind"], f"{item['size']}, {item['encode']}", item["bytes"], *numbers))
    return "Milliseconds a clip in each process:\n\n" + common.table(header, rows)


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    quick: Annotated[bool, typer.Option(help="One short clip, two encodes, one round.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
    reads: Annotated[Path | None, typer.Option(hidden=True)] = None,
    seed: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    if reads is not None:
        print(json.dumps(read_all(reads, rounds, seed)))
        return
    workers = [1, 2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("encoding the copies", file=sys.stderr)
        chosen = {name: how for name, how in ENCODES.items() if not quick or name in ("g30", "g1")}
        items = prepare(sources(quick), chosen, folder)
        for item in items:
            item.pop("files")
            item["ms"] = {}
        for count in workers:
            print(f"reading with {count} busy", file=sys.stderr)
            for item, found in zip(items, busy(folder, count, 1 if quick else rounds), strict=True):
                item["ms"][str(count)] = {
                    name: {"median": round(common.median(ms), 3), "runs": [round(value, 3) for value in ms]}
                    for name, ms in found.items()
                }
    print(report(items, workers))
    common.write_result("decode", {"readers": readers.versions(), "items": items}, results)


if __name__ == "__main__":
    typer.run(main)

"""Object stores: building to one against to a disk; reading clips from one by ranges against reading them from a
disk and against webdataset's streaming of whole shards.

The store is `moto_server` on this machine, which speaks as S3 does and is written in Python: it is slower than a
real one, and every upload to it is read back, as it does not compare checksums. So that it is not the server that
is measured, the same files lie behind nginx, too (see `parts.web`), as a web server and as a store to read
from. A relay counts moto's bytes; others make each request 20 ms longer, as a store in the same region does. Both
sides decode the same 16 frames a clip with two workers, in batches of 8; the streaming side has webdataset's usual
buffer of 1,000 clips to shuffle. CPU time is that of an epoch's processes together, curl's of webdataset included,
and the server's not.

    python -m benchmarks.bench_store            # about twenty minutes on two quiet cores
    python -m benchmarks.bench_store --quick    # does it work at all
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from benchmarks.bench_loader import JOBS, make_source
from benchmarks.parts.relay import Relay, relay
from benchmarks.parts.sources import media_folder
from benchmarks.parts.web import Web, serving

WORKERS, BATCH, FRAMES, STRIDE = 2, 8, 16, 4
BUCKET = "bench"
DELAY_S = 0.02

DISK, RANGES, CACHED, STREAM = "disk", "store, by ranges", "store, kept on a disk", "store, webdataset streams"
WEB, AS_S3, AS_S3_IN_ORDER = "web, by ranges", "web as S3, by ranges", "web as S3, by ranges, in order"
WEB_STREAM, WEB_STREAM_IN_ORDER = "web, webdataset streams", "web, webdataset streams, in order"
COLUMNS = ("clips_per_s", "clips_per_s_after_first", "cpu_ms_per_clip", "first_batch_s", "kb_per_clip", "requests")
AWAY = f", {1000 * DELAY_S:g} ms away"


@dataclass(frozen=True, kw_only=True)
class Data:
    """A dataset, on a disk and in the store."""

    folder: Path
    name: str
    clips: int
    shards: list[str]
    bytes: int


def point(port: int) -> None:
    """From now on S3 is there."""
    from vidkit.data.storage import stores

    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    stores._MADE.clear()


# --- building ------------------------------------------------------------------------------------


def plan(source: Path, per_shard: int) -> Any:
    from vidkit.data.manifests import load_spec
    from vidkit.data.plan.planning import Request, prepare
    from vidkit.settings.encode import DatasetSpec, SourceSpec

    spec = DatasetSpec(
        name="bench",
        title="bench",
        sources=(SourceSpec(name="clips", kind="folders"),),
        encode=load_spec(JOBS["64"].spec).encode,
        clips_per_shard=per_shard,
    )
    return prepare(spec, {"clips": source}, Request())


def build(prepared: Any, out: Any) -> float:
    """Seconds."""
    from vidkit.data.build.planned import build as build_dataset

    started = time.perf_counter()
    build_dataset(prepared, out, workers=WORKERS, quiet=True)
    return time.perf_counter() - started


def builds(source: Path, work: Path, clips: int, rounds: int) -> dict[str, Any]:
    prepared = plan(source, max(1, clips // 4))
    numbers = count()

    def to_disk(turn: int) -> dict[str, Any]:
        out = work / f"built-{next(numbers)}"
        seconds = build(prepared, out)
        shutil.rmtree(out)
        return {"seconds": round(seconds, 4), "clips_per_s": round(clips / seconds, 3)}

    def to_store(turn: int) -> dict[str, Any]:
        seconds = build(prepared, f"s3://{BUCKET}/built-{next(numbers)}")
        return {"seconds": round(seconds, 4), "clips_per_s": round(clips / seconds, 3)}

    runs = common.take_turns({"disk": to_disk, "store": to_store}, rounds, said="build")
    seconds = {name: [run["seconds"] for run in found] for name, found in runs.items()}
    return {
        "clips": clips,
        "runs": runs,
        "medians": {name: common.median(values) for name, values in seconds.items()},
        "store_over_disk": common.ratios(seconds["disk"], seconds["store"]),
    }


# --- reading -------------------------------------------------------------------------------------


def dataset(source: Path, work: Path, clips: int) -> Data:
    from vidkit.data.dataset import open_dataset
    from vidkit.data.storage import stores

    folder = work / f"data-{clips}"
    if not folder.exists():
        build(plan(source, max(1, clips // 8)), folder)
    fs = stores.file_system("s3")
    fs.put(f"{folder}/", f"{BUCKET}/data/", recursive=True)
    shards = open_dataset(folder).shards
    for shard in shards:  # for those who read without credentials
        fs.chmod(f"{BUCKET}/data/{shard['shard']}", "public-read")
    return Data(
        folder=folder,
        name="data",
        clips=clips,
        shards=[shard["shard"] for shard in shards],
        bytes=sum(shard["bytes"] for shard in shards),
    )


def behind(data: Data, work: Path) -> Path:
    """A folder in which the dataset lies as in the store."""
    bucket = work / "served" / BUCKET
    bucket.mkdir(parents=True, exist_ok=True)
    if not (bucket / data.name).exists():
        (bucket / data.name).symlink_to(data.folder.absolute(), target_is_directory=True)
    return bucket.parent


def loader(where: Any, **more: Any) -> Any:
    from vidkit.data import ClipDataset, ClipLoader

    clips = ClipDataset(where, "train", frames=FRAMES, stride=STRIDE, size=64, **more)
    return ClipLoader(clips, batch_size=BATCH, workers=WORKERS)


def stream_loader(data: Data, port: int, **more: Any) -> Any:
    import torch

    from vidkit.data import collate, stream

    urls = [f"http://127.0.0.1:{port}/{BUCKET}/{data.name}/{shard}" for shard in data.shards]
    clips = stream(urls, frames=FRAMES, stride=STRIDE, size=64, **more)
    return torch.utils.data.DataLoader(clips, batch_size=BATCH, num_workers=WORKERS, collate_fn=collate)


def cpu_s() -> float:
    """Processor time of this process and of the children that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def epoch(open_it: Callable[[], Any], through: Relay | Web | None) -> dict[str, Any]:
    """One epoch of a loader that is opened anew."""
    if through is not None:
        through.take()
    started, used = time.perf_counter(), cpu_s()
    batches = open_it()
    first, clips = 0.0, 0
    for batch in batches:
        first = first or time.perf_counter() - started
        clips += len(batch)
        if clips == len(batch):
            after_first = time.perf_counter()
    seconds = time.perf_counter() - started
    steady = time.perf_counter() - after_first
    if hasattr(batches, "close"):
        batches.close()
    del batches
    gc.collect()  # worker processes are waited for with the last reference
    found = {
        "clips": clips,
        "seconds": round(seconds, 4),
        "first_batch_s": round(first, 4),
        "clips_per_s": round(clips / seconds, 2),
        "clips_per_s_after_first": round((clips - BATCH) / steady, 2),
        "cpu_ms_per_clip": round(1000 * (cpu_s() - used) / clips, 3),
    }
    if through is not None:
        told = through.take()
        found |= {"kb_per_clip": round(told["bytes"] / clips / 1000, 2), "requests": told["requests"]}
    return found


def readers(data: Data, through: Relay | None, work: Path) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Who reads: from a disk, or through a relay."""
    if through is None:
        return {DISK: lambda turn: epoch(lambda: loader(data.folder), None)}
    at = f"s3://{BUCKET}/{data.name}"
    kept = work / f"kept-{through.port}"

    def ours(turn: int, **more: Any) -> dict[str, Any]:
        point(through.port)
        return epoch(lambda: loader(at, **more), through)

    ours(-1, disk_cache=kept)  # the first epoch fills it
    return {
        RANGES: ours,
        CACHED: lambda turn: ours(turn, disk_cache=kept),
        STREAM: lambda turn: epoch(lambda: stream_loader(data, through.port), through),
    }


IN_ORDER: dict[str, Any] = {"mode": "segments", "training": False}


def web_readers(data: Data, port: int, through: Relay | Web) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Who reads from the fast server."""

    def ranges(at: str, **more: Any) -> Callable[[int], dict[str, Any]]:
        def run(turn: int) -> dict[str, Any]:
            point(port)
            return epoch(lambda: loader(at, **more), through)

        return run

    def streams(**more: Any) -> Callable[[int], dict[str, Any]]:
        return lambda turn: epoch(lambda: stream_loader(data, port, **more), through)

    store = f"s3://{BUCKET}/{data.name}"
    return {
        WEB: ranges(f"http://127.0.0.1:{port}/{BUCKET}/{data.name}"),
        AS_S3: ranges(store),
        AS_S3_IN_ORDER: ranges(store, **IN_ORDER),
        WEB_STREAM: streams(),
        WEB_STREAM_IN_ORDER: streams(**IN_ORDER, shuffle=0),
    }


def cpu_of_a_clip(data: Data, port: int, web: int, rounds: int) -> dict[str, Any]:
    """Processor time of this process alone, which reads and decodes: what a worker of a loader takes."""
    from vidkit.data import ClipDataset

    def contender(where: Any, port: int) -> Callable[[int], dict[str, Any]]:
        point(port)
        clips = ClipDataset(where, "train", frames=FRAMES, stride=STRIDE, size=64)
        clips[0]

        def run(turn: int) -> dict[str, Any]:
            point(port)
            clips[0]
            started = time.process_time()
            for first in range(0, len(clips), BATCH):
                clips.ahead(range(first, min(first + 2 * BATCH, len(clips))))
                for i in range(first, min(first + BATCH, len(clips))):
                    clips[i]
            return {"cpu_ms": round(1000 * (time.process_time() - started) / len(clips), 3)}

        return run

    store = f"s3://{BUCKET}/{data.name}"
    contenders = {
        DISK: contender(data.folder, port),
        RANGES: contender(store, port),
        AS_S3: contender(store, web),
        WEB: contender(f"http://127.0.0.1:{web}/{BUCKET}/{data.name}", web),
    }
    runs = common.take_turns(contenders, rounds, said="CPU")
    return {name: common.median([run["cpu_ms"] for run in found]) for name, found in runs.items()} | {"runs": runs}


def reading(data: Data, port: int, web: Web, work: Path, rounds: int) -> dict[str, Any]:
    with relay(port) as near, relay(port, DELAY_S) as far, relay(web.port, DELAY_S) as web_far:
        contenders = readers(data, None, work)
        for words, through in (("", near), (AWAY, far)):
            contenders |= {name + words: run for name, run in readers(data, through, work).items()}
        for words, told, at in (("", web, web.port), (AWAY, web_far, web_far.port)):
            contenders |= {name + words: run for name, run in web_readers(data, at, told).items()}  # type: ignore[arg-type]
        runs = common.take_turns(contenders, rounds, said="read")
    medians = {
        name: {what: common.median([run[what] for run in found]) for what in COLUMNS if what in found[0]}
        for name, found in runs.items()
    }

    def over(a: str, b: str, what: str = "clips_per_s") -> dict[str, Any]:
        return common.ratios([run[what] for run in runs[a]], [run[what] for run in runs[b]])

    return {
        "clips": data.clips,
        "cpu_ms_of_a_clip": cpu_of_a_clip(data, port, web.port, rounds),
        "web_server": web.program,
        "load_average": os.getloadavg(),
        "kb_of_a_clip": round(_clip_bytes(data) / 1000, 2),
        "shards": len(data.shards),
        "shard_bytes": data.bytes,
        "runs": runs,
        "medians": medians,
        "ranges_over_disk": over(RANGES, DISK),
        "ranges_over_streaming": over(RANGES, STREAM),
        "ranges_over_streaming_far": over(RANGES + AWAY, STREAM + AWAY),
        "ranges_over_streaming_web": {
            name + words: over(name + words, stream + words)
            for name, stream in ((WEB, WEB_STREAM), (AS_S3, WEB_STREAM), (AS_S3_IN_ORDER, WEB_STREAM_IN_ORDER))
            for words in ("", AWAY)
        },
        "cpu_of_streaming_over_ranges": {
            AS_S3: over(WEB_STREAM, AS_S3, "cpu_ms_per_clip"),
            AS_S3_IN_ORDER: over(WEB_STREAM_IN_ORDER, AS_S3_IN_ORDER, "cpu_ms_per_clip"),
        },
    }


def _clip_bytes(data: Data) -> float:
    from vidkit.data.load.split import open_split

    return float(open_split(data.folder, "train").nbytes.mean())


def report(built: dict[str, Any], read: dict[str, Any]) -> str:
    rows = [(name, *(medians.get(what, "") for what in COLUMNS)) for name, medians in read["medians"].items()]
    rows_built = [(name, seconds, built["clips"] / seconds) for name, seconds in built["medians"].items()]
    cpu = read["cpu_ms_of_a_clip"]
    return (
        common.table(("built to", "seconds", "clips/s"), rows_built)
        + f"\n\nAn epoch of {read['clips']} clips of {read['kb_of_a_clip']} kB, the loader's start included:\n\n"
        + common.table(
            (
                *("read from", "clips/s", "clips/s after the first batch", "CPU ms a clip", "first batch, s"),
                *("kB read a clip", "requests"),
            ),
            rows,
        )
        + "\n\nProcessor time of a clip in one process, ms: "
        + ", ".join(f"{name} {cpu[name]}" for name in (DISK, RANGES, AS_S3, WEB))
    )


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    clips: Annotated[
        int, typer.Option(help="That are read; a tenth as many are built in each round.", min=16)
    ] = 480,
    quick: Annotated[bool, typer.Option(help="A few clips, one round.")] = False,
    work: Annotated[
        Path | None, typer.Option(help="Keep clips and datasets here; else in a temporary folder.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
) -> None:
    import s3fs
    import torch
    import webdataset

    from tests.data.storage import moto
    from vidkit.data.storage import stores

    torch.set_num_threads(1)
    few, many, rounds = (4, 16, 1) if quick else (clips // 10, clips, rounds)
    with tempfile.TemporaryDirectory() as temporary, moto.serving(moto.program() or "moto_server") as port:
        folder = Path(work or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        point(port)
        stores.file_system("s3").mkdir(BUCKET)
        sources = {}
        for number in (few, many):
            sources[number] = folder / f"source-{number}"
            make_source(sources[number], number, real=media_folder() is not None and not quick)
        common.warm(sources[few])
        built = builds(sources[few], folder, few, rounds)
        data = dataset(sources[many], folder, many)
        with serving(behind(data, folder), folder / "web") as web:
            read = reading(data, port, web, folder, rounds)
    print(report(built, read))
    versions = {"moto": version("moto"), "s3fs": s3fs.__version__, "webdataset": webdataset.__version__}
    how = {"workers": WORKERS, "batch": BATCH, "frames": FRAMES, "stride": STRIDE, "delay_s": DELAY_S}
    common.write_result("store", {**how, "versions": versions, "build": built, "read": read}, results)


if __name__ == "__main__":
    typer.run(main)

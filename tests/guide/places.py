"""What the commands of a page need besides a folder: archives, a store, a cluster, made on the spot. Each gives the
words that the page has for it, with those of this machine.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data import builds
from tests.data.storage import moto
from tests.guide.fences import PAGES, SHELL, fences
from vidkit.data.build.clip_worker import ClipJob, ClipOutcome, ClipWorker, make_clip
from vidkit.data.storage import stores
from vidkit.data.synth.layouts import KINDS

#: What stands on a page -> what it is here.
Words = Mapping[str, str]
Place = Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[Words]]


def disk(here: Path, patch: pytest.MonkeyPatch) -> AbstractContextManager[Words]:
    """Nothing but a folder."""
    return nullcontext({})


class _FromArchives(builds.InProcess):
    """As it, and files may lie in archives."""

    def run(self, job: ClipJob) -> ClipOutcome:
        return make_clip(job)


@contextmanager
def packed(here: Path, patch: pytest.MonkeyPatch) -> Iterator[Words]:
    """Downloads as they come: data/kinetics, ssv2 and ucf101 with archives in the place of videos."""
    patch.setenv("VIDKIT_CACHE", os.fspath(here / "cache"))
    patch.setattr("vidkit.data.build.executors.ClipWorker", _FromArchives)
    kinetics, ssv2, ucf101 = (here / "data" / name for name in ("kinetics", "ssv2", "ucf101"))
    videos = {path.name: path for path in kinetics.rglob("*.mp4")}
    for split in ("train", "val", "test"):
        with (kinetics / f"{split}.csv").open(newline="") as file:
            names = sorted(
                f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
                for row in csv.DictReader(file)
            )
        (kinetics / split).mkdir(exist_ok=True)
        for part in range(2):
            with tarfile.open(kinetics / split / f"part_{part}.tar.gz", "w:gz") as tar:
                for name in names[part::2]:
                    tar.add(videos[name], name)
    for path in videos.values():
        path.unlink()
    whole = io.BytesIO()
    folder = ssv2 / "20bn-something-something-v2"
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    data, half = whole.getvalue(), len(whole.getvalue()) // 2
    for part, some in enumerate((data[:half], data[half:])):
        (ssv2 / f"{folder.name}-{part:02d}").write_bytes(some)
    shutil.rmtree(folder)
    with zipfile.ZipFile(ucf101 / "UCF101.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted((ucf101 / "UCF-101").rglob("*.avi")):
            zipped.write(path, path.relative_to(ucf101))
    shutil.rmtree(ucf101 / "UCF-101")
    yield {}


@contextmanager
def store(here: Path, patch: pytest.MonkeyPatch) -> Iterator[Words]:
    """An S3 server with the bucket s3://lab, and Kinetics in it."""
    server = moto.program()
    if server is None:
        pytest.skip("moto_server is not installed: pip install 'moto[server]'")
    pytest.importorskip("s3fs")
    patch.setattr("vidkit.data.build.executors.ClipWorker", ClipWorker)  # it fetches what is in a store
    patch.setitem(KINDS, "demo", replace(KINDS["demo"], clips=60))
    with moto.serving(server) as port:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "of-the-test")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        stores._MADE.clear()
        fs = stores.file_system("s3")
        fs.mkdir("lab")
        fs.put(f"{here / 'data' / 'kinetics'}/", "lab/kinetics/", recursive=True)
        yield {"/scratch/": f"{here}/scratch/"}
        stores._MADE.clear()


@contextmanager
def cluster(here: Path, patch: pytest.MonkeyPatch) -> Iterator[Words]:
    """Ray's, begun as the page says, of a head and a node; both end with their process groups."""
    ray = pytest.importorskip("ray")
    port = moto.free_port()
    words = {"/data/": f"{here}/data/", "head:6379": f"{ray.util.get_node_ip_address()}:{port}"}
    patch.setenv("PYTHONPATH", builds.environment()["PYTHONPATH"])
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("HOME", os.fspath(here / "home"))  # its token is not the user's
    patch.setenv("RAY_AUTH_MODE", "token")
    page = next(page for page in PAGES if page.name == "past-one-machine.md")
    lines = [line for one in fences(page) if one.language in SHELL for line in one.text.splitlines()]
    starts = [line.partition("#")[0].split() for line in lines if line.startswith("ray start ")]
    assert len(starts) == 2, "a head, and a node"
    assert "export RAY_AUTH_MODE=token " in "\n".join(lines)
    program = os.fspath(Path(sys.executable).with_name("ray"))
    subprocess.run([program, "get-auth-token", "--generate"], check=True, capture_output=True, timeout=60)
    begun: list[subprocess.Popen[bytes]] = []
    try:
        for number, start in enumerate(starts):
            given = ["--port", str(port)] if "--head" in start else ["--num-cpus", "1"]
            typed = [told(word, words) for word in start[1:] if word not in ("--port", "6379")]
            small = ["--object-store-memory", str(80 << 20), "--block"]
            _begun([program, *typed, *given, *small], here / f"ray-{number}.log", begun)
        yield words
    finally:
        for process in begun[::-1]:
            _ended(process)


def _begun(words: list[str], log: Path, begun: list[subprocess.Popen[bytes]]) -> None:
    """Tried three times: Ray gives a node 30 s to start, which a machine with much else to do may need."""
    for _ in range(3):
        with log.open("wb") as file:
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        begun.append(process)
        while process.poll() is None:
            if "Ray runtime started" in log.read_text(errors="replace"):
                return
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))


def _ended(process: subprocess.Popen[bytes]) -> None:
    """With all that it began."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
            return


def told(text: str, words: Words) -> str:
    """The text of a page, in this machine's words."""
    for theirs, ours in words.items():
        text = text.replace(theirs, ours)
    return text


#: Their commands run in a process each: Ray reads its environment once.
APART = frozenset({"past-one-machine.md"})

PLACES: Mapping[str, Place] = {
    "packed-sources.md": packed,
    "past-one-machine-stores.md": store,
    "past-one-machine.md": cluster,
}

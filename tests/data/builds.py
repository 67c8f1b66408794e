"""Small builds for tests: through the Python API, through the command line, and what they leave."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.badmedia import indexed_clip
from vidkit.data.build.build import BuildSettings, Built, build
from vidkit.data.build.clip_worker import ClipJob, ClipOutcome, make_clip
from vidkit.data.media.transcode import encoder_fingerprint
from vidkit.data.plan.planning import Prepared, Request, describe, identity, prepare
from vidkit.data.progress import Progress
from vidkit.settings.encode import DatasetSpec, EncodeSettings, SourceSpec

TINY = EncodeSettings(size=32, max_frames=4, preset="ultrafast")

#: Class folders without annotations: the files are the plan.
FOLDERS = DatasetSpec(
    name="folders",
    title="Folders",
    sources=(SourceSpec(name="mine", kind="folders"),),
    encode=TINY,
    clips_per_shard=4,
)

#: Annotated, so that a file can be missing.
LISTED = DatasetSpec(
    name="listed",
    title="Listed",
    sources=(SourceSpec(name="lists", kind="listfile", classes="names", class_names=("a", "b")),),
    encode=TINY,
    clips_per_shard=4,
)


#: A spec file of the same, for commands.
LISTED_TOML = """
name = "{name}"
title = "{title}"
clips_per_shard = {per_shard}

[encode]
size = 32
max_frames = 4
preset = "ultrafast"

[[sources]]
name = "lists"
kind = "listfile"
classes = "names.txt"
"""


def listed_spec(folder: Path, *, name: str = "mine", title: str = "Mine", per_shard: int = 4) -> Path:
    """A spec file in `folder`, with its class names beside it."""
    (folder / "names.txt").write_text("a\nb\n")
    path = folder / f"{name}{per_shard}.toml"
    path.write_text(LISTED_TOML.format(name=name, title=title, per_shard=per_shard))
    return path


def listed_tree(root: Path, clips: int = 10, *, missing: int = 0, broken: int = 0) -> Path:
    """`train.csv` and `val.csv` as other tools write them, and tiny clips.

    Of each split's files the first ones are missing, the next ones cut in half.
    """
    for split, count in (("train", clips - clips // 4), ("val", clips // 4)):
        folder = root / split
        folder.mkdir(parents=True)
        lines = [f"{split}/{split}{i}.mp4 {i % 2}" for i in range(count)]
        (root / f"{split}.csv").write_text("".join(f"{line}\n" for line in lines))
        for i in range(missing, count):
            write_clip(folder / f"{split}{i}.mp4", first=i + 1000 * (split == "val"))  # no file in two splits
            if i < missing + broken:
                cut(folder / f"{split}{i}.mp4")
    return root


def write_clip(path: Path, *, first: int = 0, frames: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed_clip(path, frames, 32, 32, first=first, options={"preset": "ultrafast"})


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def plan(spec: DatasetSpec, folder: Path, **request: Any) -> Prepared:
    return prepare(spec, {spec.sources[0].name: folder}, Request(**request))


def run(
    prepared: Prepared,
    out: Path,
    *,
    encoder: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Built:
    """Build in this process."""
    how = BuildSettings(out=out, roots=prepared.roots, encode=prepared.spec.encode, **settings)
    facts = identity(prepared, encoder or encoder_fingerprint())
    return build(
        prepared.table,
        how,
        facts,
        partial(describe, prepared),
        progress or Progress("building", prepared.table.num_rows, quiet=True),
    )


class InProcess:
    """Stands in for `ClipWorker` where a test needs many builds: no child, and each clip made once."""

    def __init__(self, timeout_s: float, should_stop: Callable[[], bool]) -> None:
        pass

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, job: ClipJob) -> ClipOutcome:
        data = Path(job.root, job.path).read_bytes()
        return _made(job, data)


@functools.cache
def _made(job: ClipJob, data: bytes) -> ClipOutcome:
    return make_clip(job)


def snapshot(out: Path) -> dict[str, str]:
    """Every file below a folder and its sha256; the lock is the only one that may differ."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def ledger(out: Path) -> list[dict[str, Any]]:
    with (out / "clips.parquet").open("rb") as file:
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def by_id(out: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"].partition("/")[2]: row for row in ledger(out)}


def facts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    return found


def check_whole(out: Path) -> list[dict[str, Any]]:
    """What holds of every finished dataset, checked from the files alone; returns the ledger."""
    rows, about = ledger(out), facts(out)
    shards = json.loads((out / "shards.json").read_text(encoding="utf-8"))
    counts = about["counts"]
    assert about["status"] == "complete"
    assert not (out / ".build").exists()
    statuses = Counter(row["status"] for row in rows)
    assert counts["planned"] == len(rows) == counts["ok"] + counts["failed"] + counts["missing"]
    assert {name: counts[name] for name in ("ok", "failed", "missing")} == {
        name: statuses[name] for name in ("ok", "failed", "missing")
    }
    assert [row["key"] for row in rows] == [f"{i:08d}" for i in range(len(rows))]
    for row in rows:
        assert (row["status"] == "ok") == (row["error"] is None), row
        assert (row["status"] == "missing") == (row["error"] == "missing"), row
        assert row["status"] == "ok" or row["message"], row
    for shard in shards:
        data = (out / shard["shard"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        mine = [row for row in rows if row["shard"] == shard["shard"] and row["status"] == "ok"]
        with tarfile.open(out / shard["shard"]) as tar:
            members = tar.getmembers()
            assert [m.name for m in members] == [f"{r['key']}.{e}" for r in mine for e in ("mp4", "json")]
            for row, clip, text in zip(mine, members[::2], members[1::2], strict=True):
                assert (clip.offset_data, clip.size) == (row["offset"], row["nbytes"])
                assert data[clip.offset_data + 4 : clip.offset_data + 8] == b"ftyp"
                meta = json.loads(data[text.offset_data : text.offset_data + text.size])
                assert all(meta[name] == row[name] for name in meta), meta
    stored = {row["shard"] for row in rows if row["status"] == "ok"}
    assert {shard["shard"] for shard in shards} == stored
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.tar*")} == stored
    return rows


# --- the command line ------------------------------------------------------------------------------


def command(*arguments: str | os.PathLike[str]) -> list[str]:
    return [sys.executable, "-m", "vidkit", *map(os.fspath, arguments)]


def environment(**more: str) -> dict[str, str]:
    """A child's environment: this checkout, whatever the current folder."""
    here = os.fspath(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path, **more}


def vidkit(
    *arguments: str | os.PathLike[str], cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return _run(command(*arguments), cwd, more)


def python(code: str, *words: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python of its own; `words` are its arguments."""
    return _run([sys.executable, "-c", code, *words], cwd, more)


def _run(words: list[str], cwd: Path | None, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def descendants(pid: int) -> set[int]:
    """Processes below `pid` (Linux)."""
    parent_of = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parent_of[int(folder.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parent_of.items() if parent in new} - found
        found |= new
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a dead one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

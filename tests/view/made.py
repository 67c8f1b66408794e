"""A built dataset to look at: clips that play, failures of three kinds, a leak; and one of any number of rows."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn

from tests.badmedia import indexed_clip
from tests.data import builds
from vidkit.data.tables import LEDGER_SCHEMA
from vidkit.settings.encode import DatasetSpec, EncodeSettings, SourceSpec
from vidkit.view.shelf import Shelf, fill
from vidkit.view.web.app import app
from vidkit.view.web.serve import listening

SPEC = DatasetSpec(
    name="seen",
    title="To be looked at",
    sources=(SourceSpec(name="mine", kind="folders"),),
    encode=EncodeSettings(size=96, preset="ultrafast"),
    clips_per_shard=6,
)
CLASSES = ("boat", "car & cart", "tree")
#: Frames of a clip, at 25 a second.
FRAMES = 50
TOKEN = "the-token"


def build(root: Path) -> Path:
    """15 clips of three classes are planned: 12 are stored, of which one lies in two splits; three failed."""
    clips = root / "clips"
    number = 0
    for name in CLASSES:
        for split, count in (("train", 3), ("val", 1)):
            for _ in range(count):
                path = clips / split / name / f"{number:03d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                indexed_clip(path, FRAMES, 96, 72, first=100 * number, options={"preset": "ultrafast"})
                number += 1
    shutil.copy(clips / "train" / "tree" / "008.mp4", clips / "val" / "tree" / "copy.mp4")
    builds.cut(clips / "train" / "boat" / "002.mp4")
    (clips / "train" / "boat" / "empty.mp4").write_bytes(b"")
    (clips / "val" / "boat" / "text.mp4").write_bytes(b"no video at all\n" * 40)
    prepared = builds.plan(SPEC, clips)
    builds.run(prepared, root / "seen", workers=2)
    return root / "seen"


def rows_of(root: Path) -> list[dict[str, Any]]:
    return builds.ledger(root)


def rewritten(root: Path, rows: list[dict[str, Any]]) -> None:
    """Another ledger, with the sha256 that belongs to it: as if it had been built so."""
    with (root / "clips.parquet").open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), file)
    facts = builds.facts(root)
    facts["files"]["clips.parquet"] = hashlib.sha256((root / "clips.parquet").read_bytes()).hexdigest()
    (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")


def many(root: Path, source: Path, count: int) -> Path:
    """A dataset of `count` rows over the shards of another one, clips again and again under new names."""
    shutil.copytree(source, root)
    some = rows_of(source)
    rows = []
    for i in range(count):
        row = dict(some[i % len(some)])
        row |= {"clip_id": f"mine/made/{i:06d}", "key": f"{i:08d}", "group": f"video {i // 7}"}
        row |= {"class_name": f"class {i % 97:02d}", "labels": [f"class {i % 97:02d}"], "start_s": float(-i % 7)}
        if row["status"] == "ok":
            row |= {"duration_s": 1 + (i * 37 % 400) / 40, "warnings": ["concealed"] if i % 50 == 0 else []}
        rows.append(row)
    rewritten(root, rows)
    return root


@contextmanager
def served(shelf: Shelf) -> Iterator[str]:
    """The address of a server of this process."""
    with listening(0) as found:
        found.listen(64)
        settings = uvicorn.Config(app(shelf, TOKEN), log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def shelf(*paths: Path) -> Shelf:
    return fill(paths)

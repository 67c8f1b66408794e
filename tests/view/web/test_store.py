"""A dataset that lies in a store is looked at by ranges; the store is one of fsspec's own, in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data import builds
from tests.view import made
from tests.view.web.test_guard import Server
from vidkit.errors import ConfigError
from vidkit.view.clips import opened as opening
from vidkit.view.shelf import fill

fsspec = pytest.importorskip("fsspec", reason='no fsspec: pip install "vidkit[s3]"')


@pytest.fixture
def memory(seen: Path) -> Any:
    """The dataset at memory://seen."""
    files = fsspec.filesystem("memory")
    for path in seen.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/seen/{path.relative_to(seen).as_posix()}", path.read_bytes())
    yield files
    files.rm("/seen", recursive=True)


def test_a_dataset_in_a_store(memory: Any, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_BELIEVED", 0.0)
    row = next(row for row in made.rows_of(seen) if row["status"] == "ok")
    data = (seen / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["nbytes"]]
    shelf = fill(["memory://seen", "memory://seen/", seen])
    assert [str(watched.root) for watched in shelf.datasets] == ["memory://seen", str(seen)]
    with made.served(shelf) as address:
        server = Server(address)
        for path in ("/", "/d/0", "/d/0/counts", "/d/0/failures", "/d/0/leaks", "/d/0/about", "/side"):
            assert server.ask(path).status == 200, path
        assert server.ask("/d/0/rows").value["total"] == 15
        assert server.ask(f"/d/0/video/{row['key']}.mp4").body == data
        part = server.ask(f"/d/0/video/{row['key']}.mp4", range="bytes=5-104")
        assert (part.status, part.body) == (206, data[5:105])
        assert server.ask(f"/d/0/video/{row['key']}.mp4", range=f"bytes={row['nbytes']}-").status == 416
        assert server.ask(f"/d/0/thumb/{row['key']}.webp").body[8:12] == b"WEBP"
        assert row["clip_id"] in server.ask(f"/d/0/clip/{row['key']}").text
        memory.rm(f"/seen/{row['shard']}")
        gone = server.ask(f"/d/0/clip/{row['key']}")
        assert (gone.status, "cannot be shown" in gone.text) == (200, True)
        memory.pipe_file("/seen/clips.parquet", b"PAR1 and more")
        found = server.ask("/d/0")
        assert (found.status, "clips.parquet" in found.text) == (409, True)


def test_a_store_that_leads_elsewhere(memory: Any, seen: Path, tmp_path: Path) -> None:
    """Names of shards with .. are as bad there as here."""
    root = Path(shutil.copytree(seen, tmp_path / "copy"))
    rows = [{**row, "shard": "../secret.tar"} for row in made.rows_of(root)]
    made.rewritten(root, rows)
    shards = [
        {**shard, "shard": "../secret.tar", "bytes": 10**6}
        for shard in json.loads((root / "shards.json").read_text())
    ]
    memory.pipe_file("/secret.tar", b"s" * 10**6)
    for name, data in (
        ("clips.parquet", (root / "clips.parquet").read_bytes()),
        ("dataset.json", json.dumps(builds.facts(root)).encode()),
        ("shards.json", json.dumps(shards).encode()),
    ):
        memory.pipe_file(f"/seen/{name}", data)
    key = next(row["key"] for row in rows if row["status"] == "ok")
    with made.served(fill(["memory://seen"])) as address:
        found = Server(address).ask(f"/d/0/video/{key}.mp4")
    assert (found.status, b"sss" in found.body) == (409, False)


def test_no_dataset_there(memory: Any) -> None:
    with pytest.raises(ConfigError, match="no dataset in memory://nothing"):
        fill(["memory://nothing"])

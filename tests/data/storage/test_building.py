"""Builds into a store: the bytes of a build on a disk, whatever dies, answers 503, or is damaged on the way."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.builds import LISTED, environment, listed_spec, listed_tree, plan, run, snapshot, write_clip
from tests.data.storage.conftest import SECRET, Store
from vidkit.data.build import lease
from vidkit.data.build.place import held
from vidkit.data.manifests import load_spec
from vidkit.data.plan.planning import Prepared
from vidkit.data.storage import stores, upload
from vidkit.data.storage.places import StorePath, place
from vidkit.data.verify.dataset import verify
from vidkit.errors import BuildError, ConfigError

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards: two of train, and one of val that has no clip in the end."""
    return listed_tree(tmp_path_factory.mktemp("clips") / "tree", clips=10, missing=1, broken=1)


@pytest.fixture(scope="module")
def prepared(clips: Path) -> Prepared:
    return plan(LISTED, clips)


@pytest.fixture(scope="module")
def expected(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the same build on a disk."""
    out = tmp_path_factory.mktemp("disk") / "disk"
    run(prepared, out)
    return snapshot(out)


def at(store: Store, name: str) -> StorePath:
    found = place(store.at(name))
    assert isinstance(found, StorePath)
    return found


def objects(where: StorePath) -> dict[str, str]:
    """Every object below a folder and its sha256."""
    return {name: hashlib.sha256((where / name).read_bytes()).hexdigest() for name in sorted(where.names())}


def half_made(where: StorePath) -> int:
    bucket, _, key = where.key.partition("/")
    found = stores.file_system("s3").call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
    return len(found.get("Uploads", []))


def build(prepared: Prepared, where: StorePath, **settings: Any) -> Any:
    return run(prepared, where, **settings)  # type: ignore[arg-type]


# --- the same bytes --------------------------------------------------------------------------------


def test_a_store_holds_what_a_disk_holds(store: Store, prepared: Prepared, expected: dict[str, str]) -> None:
    out = at(store, "same")
    built = build(prepared, out)
    assert built.made == 10
    assert objects(out) == expected  # and nothing else: no plan, no journal, no owner
    assert verify(out).ok
    again = build(prepared, out)
    assert (again.made, again.facts) == (0, built.facts)
    assert objects(out) == expected


def test_large_shards_go_in_parts_and_half_made_uploads_are_given_up(
    store: Store, prepared: Prepared, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PART", 8000)
    out = at(store, "parts")
    proxy = store.through_proxy()
    proxy.answer = lambda asked: (403, b"") if asked.method == "POST" and "uploadId" in asked.path else None
    with pytest.raises(BuildError, match=r"cannot write to s3://vidkit-test/parts"):
        build(prepared, out)  # no upload of parts can end
    assert proxy.count("PUT", "partNumber=2") > 0
    assert half_made(out) == 0
    assert not any(name.endswith(".tar") for name in out.names())
    proxy.reset()
    build(prepared, out)
    assert all("x-amz-checksum-sha256" in one.headers for one in proxy.seen if "partNumber" in one.path)
    assert objects(out) == expected


def test_what_a_killed_upload_left_is_given_up_by_the_next_build(store: Store) -> None:
    out = at(store, "left")
    bucket, _, key = out.key.partition("/")
    stores.file_system("s3").call_s3("create_multipart_upload", Bucket=bucket, Key=f"{key}/train/000000.tar")
    assert half_made(out) == 1
    with held(out):
        assert half_made(out) == 0
    assert not out.names()


# --- what is there already -------------------------------------------------------------------------


def test_a_shard_that_is_there_is_done_and_another_is_an_error_that_names_both(
    store: Store, prepared: Prepared, expected: dict[str, str]
) -> None:
    out = at(store, "there")
    fs = stores.file_system("s3")
    stopped = _stop_before_the_records(store, prepared, out)
    assert stopped["train/000000.tar"] == expected["train/000000.tar"]
    # killed between a shard and its journal: the shard is made again, and found to be there
    upload.remove(out / ".build/train-000000.jsonl")
    proxy = store.through_proxy()
    build(prepared, out)
    assert objects(out) == expected
    assert proxy.count("PUT", "there/train/000000.tar") == 0
    store.point(store.url)
    other = at(store, "other")
    _stop_before_the_records(store, prepared, other)
    upload.remove(other / ".build/train-000001.jsonl")
    fs.pipe_file((other / "train/000001.tar").key, b"something else")
    with pytest.raises(BuildError, match="other bytes") as caught:
        build(prepared, other)
    assert expected["train/000001.tar"] in str(caught.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)


def _stop_before_the_records(store: Store, prepared: Prepared, out: StorePath) -> dict[str, str]:
    """A build whose store refuses the ledger; what is there then."""
    proxy = store.through_proxy()
    proxy.answer = lambda asked: (403, b"") if asked.method == "PUT" and "clips.parquet" in asked.path else None
    with pytest.raises(BuildError):
        build(prepared, out)
    proxy.reset()
    store.point(store.url)
    return objects(out)


def test_a_resumed_build_makes_only_what_is_not_there(
    store: Store, prepared: Prepared, expected: dict[str, str]
) -> None:
    out = at(store, "resumed")
    left = _stop_before_the_records(store, prepared, out)
    assert json.loads((out / "dataset.json").read_text())["status"] == "building"
    assert {name for name in left if name.endswith(".tar")} == {n for n in expected if n.endswith(".tar")}
    upload.remove(out / ".build/train-000001.jsonl")
    upload.remove(out / "train/000001.tar")
    assert build(prepared, out).made == 4
    assert objects(out) == expected


def test_failures_are_tried_again(store: Store, tmp_path: Path) -> None:
    tree = listed_tree(tmp_path / "tree", clips=6, missing=1)
    prepared = plan(LISTED, tree)
    out = at(store, "retried")
    build(prepared, out)
    write_clip(tree / "train" / "train0.mp4", first=0)
    again = plan(LISTED, tree)
    built = build(again, out, retry_failed=True)
    assert built.made == 2  # one in each split was missing
    run(again, tmp_path / "disk")
    assert objects(out) == snapshot(tmp_path / "disk")


def test_a_place_that_holds_something_else_is_left_alone(store: Store, prepared: Prepared, clips: Path) -> None:
    out = at(store, "strange")
    stores.file_system("s3").pipe_file((out / "thesis.tex").key, b"all of it")
    with pytest.raises(BuildError, match=r"is not empty and holds no dataset: thesis.tex"):
        build(prepared, out)
    assert list(objects(out)) == ["thesis.tex"]
    other = at(store, "settings")
    build(prepared, other)
    spec = replace(LISTED, encode=replace(LISTED.encode, size=48))
    with pytest.raises(BuildError, match=r"encode.size: 32 there, 48 here"):
        build(plan(spec, clips), other)


# --- a store in trouble ----------------------------------------------------------------------------


def test_a_store_that_is_busy_now_and_then(store: Store, prepared: Prepared, expected: dict[str, str]) -> None:
    proxy = store.through_proxy()
    turn = itertools.count()
    proxy.answer = lambda asked: ((503, 429, 500)[next(turn) % 3], b"") if next(turn) % 5 == 0 else None
    out = at(store, "busy")
    build(prepared, out)
    proxy.reset()
    store.point(store.url)
    assert objects(out) == expected


def test_a_store_that_stays_busy_is_an_error_that_says_how_to_go_on(
    store: Store, prepared: Prepared, expected: dict[str, str]
) -> None:
    proxy = store.through_proxy()
    proxy.answer = lambda asked: (503, b"") if "train/000001.tar" in asked.path else None
    out = at(store, "down")
    with pytest.raises(BuildError, match=r"after 4 tries") as caught:
        build(prepared, out)
    assert "run the same command again; what is done is kept" in str(caught.value)
    proxy.reset()
    build(prepared, out)
    assert objects(out) == expected


def test_any_store_of_fsspec(prepared: Prepared, expected: dict[str, str]) -> None:
    """One without S3's words: whole objects, read back."""
    out = place("memory://vidkit/any")
    assert isinstance(out, StorePath)
    build(prepared, out)
    assert objects(out) == expected
    assert verify(out).ok


# --- who builds ------------------------------------------------------------------------------------


def test_two_builders_at_once(store: Store, prepared: Prepared, expected: dict[str, str]) -> None:
    out = at(store, "two")
    words = r"another build is at work in s3://vidkit-test/two \(process \d+ on"
    with lease.hold(out / ".build", upload.abilities(out / ".build")), pytest.raises(BuildError, match=words):
        build(prepared, out)
    build(prepared, out)
    assert objects(out) == expected


def test_an_owner_elsewhere_is_watched_and_taken_over_when_it_is_silent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "LEASE_S", 0.6)
    monkeypatch.setattr(lease, "_LOOK_S", 0.05)
    work = at(store, "silent") / ".build"
    able = upload.abilities(work)
    with lease.hold(work, able) as first:
        first.me["process"] = "another-machine pid:[1] 7"
        time.sleep(0.3)  # until it has renewed so
        with pytest.raises(BuildError, match="another build is at work"), lease.hold(work, able):
            pass
        first.check()
        first._end.set()  # it is silent from now on
        first._thread.join()
        with lease.hold(work, able) as second:
            second.check()
            assert json.loads((work / lease.OWNER).read_text())["id"] == second.me["id"]
            late = lease.Lease(work / lease.OWNER, able)
            late.me = first.me
            late._renew()  # the first one comes back
            with pytest.raises(BuildError, match="could not renew"):
                late.check()
    assert not (work / lease.OWNER).exists()


def test_one_of_two_that_come_at_the_same_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_LOOK_S", 0.05)
    store.through_proxy()
    work = at(store, "race") / ".build"
    able = upload.abilities(work)
    held, refused = [], []
    go, end = threading.Barrier(4), threading.Event()

    def come() -> None:
        go.wait()
        try:
            with lease.hold(work, able) as mine:
                held.append(mine)
                end.wait(20)
        except BuildError as error:
            refused.append(error)

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(held) + len(refused) < 4:
        time.sleep(0.02)
    end.set()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 3)


def test_a_web_server_takes_nothing(prepared: Prepared) -> None:
    with pytest.raises(ConfigError, match="takes no files"):
        build(prepared, place("https://host/k400"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "says"), [("s3://no-such-bucket-of-ours/x", "there is no such bucket"), (None, "AWS_ACCESS_KEY_ID")]
)
def test_a_place_that_cannot_be_written(store: Store, prepared: Prepared, address: str | None, says: str) -> None:
    if address is None:
        store.through_proxy().answer = lambda asked: (403, b"")
    with pytest.raises(BuildError, match=says) as caught:
        build(prepared, place(address or f"s3://me:{SECRET}@vidkit-test/refused"))  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


# --- the command, as a process ---------------------------------------------------------------------


def test_the_command_is_killed_and_goes_on(store: Store, tmp_path: Path) -> None:
    tree = listed_tree(tmp_path / "tree", clips=16)
    spec = listed_spec(tmp_path)
    out = at(store, "killed")
    command = [sys.executable, "-m", "vidkit", "build-dataset", str(spec), "--source", f"lists={tree}"]
    command += ["--workers", "2", "--out"]
    env = {**environment(), **{name: value for name, value in os.environ.items() if name.startswith("AWS_")}}
    first = subprocess.Popen(
        [*command, str(out)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    until = time.monotonic() + 60
    while not any(name.endswith(".jsonl") for name in out.names()):
        assert first.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = set(out.names())
    assert ".build/owner.json" in done
    second = subprocess.run([*command, str(out)], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    run(plan(load_spec(str(spec)), tree), tmp_path / "disk")
    assert objects(out) == snapshot(tmp_path / "disk")
    for name in ("dataset.json", "README.md"):
        text = (out / name).read_text()
        assert "s3://" not in text
        assert SECRET not in text
    assert SECRET not in second.stdout + second.stderr
    assert str(out) in second.stdout + second.stderr

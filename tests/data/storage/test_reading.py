"""Datasets in a store: the same records and the same batches as from a disk, read by ranges, and clear errors."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.storage.conftest import SECRET, Store
from tests.data.storage.proxy import Asked
from tests.data.tinyset import build, many
from vidkit.cli.app import app
from vidkit.data import ClipBatch, ClipDataset, ClipLoader, collate
from vidkit.data.dataset import open_dataset
from vidkit.data.storage import stores
from vidkit.data.verify.dataset import verify
from vidkit.errors import DatasetError, VidkitError
from vidkit.view.shelf import fill


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("store") / "data", [*many(23), *many(7, split="val")])


@pytest.fixture
def at(store: Store, local: Path) -> str:
    return store.upload(local, "reading")


def open_clips(where: Any, **how: Any) -> ClipDataset:
    return ClipDataset(where, "train", **{"frames": 4, "stride": 2, **how})


def told(batch: ClipBatch) -> tuple[Any, ...]:
    tensors = (batch.class_id, batch.index, batch.view, batch.frames, batch.video)
    return (*(tensor.contiguous().numpy().tobytes() for tensor in tensors), batch.key, len(batch.bad))


def cli(*args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = app(list(args), standalone_mode=False)
    return code, capsys.readouterr().out


# --- the same as from a disk -----------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_from_a_disk_and_only_clips_are_read(
    store: Store, at: str, local: Path, workers: int
) -> None:
    theirs = ClipLoader(open_clips(local), batch_size=4, workers=workers)
    expected = [[told(batch) for batch in theirs] for _ in range(2)]
    proxy = store.through_proxy()
    clips = open_clips(at)
    opening = proxy.sent
    proxy.reset()
    ours = ClipLoader(clips, batch_size=4, workers=workers)
    assert [[told(batch) for batch in ours] for _ in range(2)] == expected
    ours.close()
    # each batch's clips once, and little else: 20 of the 23 clips make whole steps
    assert proxy.count("GET") <= 2 * 20
    assert proxy.sent <= 2 * (int(clips.clips.nbytes.sum()) + 20 * 4096)
    assert opening < int((local / "train" / "000000.tar").stat().st_size)  # records alone, no shard


def test_a_run_goes_on_exactly_where_it_stopped(at: str, local: Path) -> None:
    whole = ClipLoader(open_clips(local), batch_size=4)
    expected = [told(batch) for batch in itertools.chain(whole, whole)]
    first = ClipLoader(open_clips(at), batch_size=4, workers=1)
    got = []
    for batch in first:
        got.append(told(batch))
        if len(got) == 3:
            break
    state = first.state_dict()
    first.close()
    second = ClipLoader(open_clips(at), batch_size=4, workers=2)
    second.load_state_dict(state)
    got += [told(batch) for batch in itertools.chain(second, second)]
    second.close()
    assert got == expected


def test_the_batches_after_are_asked_for_while_one_is_decoded(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = open_clips(at)
    asked: list[list[int]] = []
    ahead = clips.ahead
    monkeypatch.setattr(clips, "ahead", lambda these: (asked.append(these := list(these)), ahead(these))[1])
    batches = [batch.index.tolist() for batch in ClipLoader(clips, batch_size=4)]
    # 32 clips make up for a store far away; each is told once
    assert asked == [list(itertools.chain(*batches)), *batches[1:]]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torchs_own_loader_reads_a_batch_at_once(at: str, local: Path, start: str) -> None:
    """Also where the main process has read before: its connections and threads are of no use to a forked child."""
    clips, plain = open_clips(at), open_clips(local)
    assert clips[3].video.equal(plain[3].video)
    loader = torch.utils.data.DataLoader(
        clips, batch_size=4, collate_fn=collate, num_workers=1, multiprocessing_context=start
    )
    expected = torch.utils.data.DataLoader(plain, batch_size=4, collate_fn=collate)
    assert [told(batch) for batch in loader] == [told(batch) for batch in expected]


def test_the_cache_in_host_memory_is_filled_from_a_store(at: str, local: Path) -> None:
    ours = ClipLoader(open_clips(at), batch_size=4, workers=2, cache="host")
    theirs = ClipLoader(open_clips(local), batch_size=4)
    assert [told(batch) for batch in ours] == [told(batch) for batch in theirs]
    ours.close()


def test_what_a_sample_says_is_read_from_behind_its_clip(at: str, local: Path) -> None:
    assert open_clips(at).meta(7) == open_clips(local).meta(7)


# --- the cache on a disk ---------------------------------------------------------------------------


def test_the_second_epoch_comes_from_the_disk(store: Store, at: str, local: Path, tmp_path: Path) -> None:
    expected = ClipLoader(open_clips(local), batch_size=4)
    proxy = store.through_proxy()
    ours = ClipLoader(open_clips(at, disk_cache=tmp_path / "kept"), batch_size=4, workers=2)
    assert [told(batch) for batch in ours] == [told(batch) for batch in expected]
    proxy.reset()
    again = [told(batch) for batch in ours]
    ours.close()
    assert again == [told(batch) for batch in expected]
    assert proxy.count("GET") <= 3  # clips that the first epoch left out


def test_the_cache_keeps_to_its_limit_and_mends_what_is_damaged(store: Store, at: str, tmp_path: Path) -> None:
    proxy = store.through_proxy()
    half = int(open_clips(at).clips.nbytes.sum()) // 2
    clips = open_clips(at, disk_cache=tmp_path, disk_cache_bytes=half)
    good = [clips.bytes(i) for i in range(len(clips))]
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert half // 2 < sum(path.stat().st_size for path in kept) <= half
    proxy.reset()
    again = open_clips(at, disk_cache=tmp_path, disk_cache_bytes=half)
    proxy.reset()
    assert [again.bytes(i) for i in range(len(again))] == good
    assert proxy.count("GET") == len(good) - len(kept)
    data = bytearray(kept[0].read_bytes())
    data[len(data) // 2] ^= 1
    kept[0].write_bytes(data)
    assert [again.bytes(i) for i in range(len(again))] == good
    less = open_clips(at, disk_cache=tmp_path, disk_cache_bytes=half // 3)
    assert [less.bytes(i) for i in range(len(less))] == good
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= half // 3


# --- commands --------------------------------------------------------------------------------------


def test_verify_and_inspect_say_the_same_as_of_the_folder(
    store: Store, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = store.upload(whole, "commands")
    ours, theirs = verify(at), verify(whole)
    assert theirs.ok
    assert ours == theirs
    for command in (["verify"], ["inspect"], ["inspect", "--sheet", str(tmp_path / "sheet.png"), "--clips", "4"]):
        found = [cli(*command, where, "--json", capsys=capsys) for where in (at, str(whole))]
        plain = [(code, {**json.loads(out), "dataset": None}) for code, out in found]
        assert plain[0] == plain[1]
        assert plain[0][0] == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_verify_finds_damage_in_a_store(store: Store, root: Path) -> None:
    shard = root / "train" / "000000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    (root / "train" / "000077.tar").write_bytes(bytes(10240))
    at = store.upload(root, "damaged")
    stores.file_system("s3").rm(f"{at}/val/000000.tar".removeprefix("s3://"))
    kinds = {problem.kind for problem in verify(at).problems}
    assert {"checksum", "extra-shard", "missing-shard"} <= kinds


# --- web servers -----------------------------------------------------------------------------------


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[int]:
    """Python's own, which knows no ranges."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def test_a_dataset_behind_a_web_server(s3_port: int, store: Store, whole: Path) -> None:
    """The S3 server is one: plain GETs of objects."""
    store.upload(whole, "web")
    fs = stores.file_system("s3")
    for key in fs.find(f"{store.bucket}/web"):
        fs.chmod(key, "public-read")
    at = f"http://127.0.0.1:{s3_port}/{store.bucket}/web"
    assert verify(at) == verify(whole)
    ours, theirs = (ClipDataset(where, "train", frames=4, stride=1) for where in (at, whole))
    assert all(ours[i].video.equal(theirs[i].video) for i in range(len(theirs)))


def test_a_server_without_ranges_is_refused_before_a_shard_is_read(local: Path) -> None:
    with web_server(local) as port, pytest.raises(DatasetError, match="does not serve parts of files") as caught:
        ClipDataset(f"http://127.0.0.1:{port}", "train")
    assert "python -m http.server" in str(caught.value)


# --- errors ----------------------------------------------------------------------------------------


def test_answers_that_pass_are_asked_again(store: Store, at: str, local: Path) -> None:
    proxy = store.through_proxy()
    statuses = itertools.cycle((503, 429, 500))
    known = set()

    def the_first_time(asked: Asked) -> tuple[int, bytes] | None:
        what = (asked.method, asked.path, asked.headers.get("range"))
        if what in known:
            return None
        known.add(what)
        return next(statuses), b""

    proxy.answer = the_first_time
    clips = open_clips(at)
    plain = open_clips(local)
    assert [clips.bytes(i) for i in range(len(clips))] == [plain.bytes(i) for i in range(len(plain))]


def test_a_store_that_stays_down_is_one_error_after_a_few_tries(store: Store, at: str) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at)
    proxy.reset()
    proxy.answer = lambda asked: (503, b"")
    with pytest.raises(DatasetError, match="after 4 tries") as caught:
        clips.bytes(0)
    assert proxy.count("GET") == 5  # the first by a signed address
    assert "000000.tar" in str(caught.value)
    assert "run the same command again" in str(caught.value)


def test_a_worker_says_it_too(store: Store, at: str) -> None:
    proxy = store.through_proxy()
    clips = open_clips(at)
    proxy.answer = lambda asked: (503, b"")
    loader = ClipLoader(clips, batch_size=4, workers=1)
    with pytest.raises(DatasetError, match="after 4 tries"):
        list(loader)
    loader.close()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://vidkit-test/nothing-here", "no dataset in s3://vidkit-test/nothing-here"),
        ("s3://no-such-bucket-of-ours/k400", "there is no such bucket"),
        ("http://127.0.0.1:1/k400", "cannot be reached"),
    ],
)
def test_an_address_that_is_wrong_is_one_clear_error(store: Store, address: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        open_dataset(address)
    with pytest.raises(VidkitError, match=says):
        fill([address])


def test_credentials_that_are_missing_or_refused(store: Store, at: str, caplog: pytest.LogCaptureFixture) -> None:
    proxy = store.through_proxy()
    proxy.answer = lambda asked: (403, b"")
    with pytest.raises(DatasetError, match="AWS_ACCESS_KEY_ID") as caught:
        open_dataset(at.replace("s3://", f"s3://me:{SECRET}@"))
    assert proxy.count("HEAD") + proxy.count("GET") == 1  # nothing gets better by asking again
    store.point(store.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        store.monkeypatch.delenv(name)
    store.monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store.monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    store.monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(DatasetError, match="no credentials were found"):
        open_dataset(at)
    assert SECRET not in str(caught.value) + caplog.text


def test_a_shard_that_is_gone_or_short(store: Store, local: Path) -> None:
    at = store.upload(local, "short")
    fs = stores.file_system("s3")
    fs.pipe_file(f"{store.bucket}/short/train/000001.tar", b"short")
    with pytest.raises(DatasetError, match=r"000001.tar: the shard has 5 bytes"):
        open_clips(at)
    fs.rm(f"{store.bucket}/short/train/000001.tar")
    with pytest.raises(DatasetError, match=r"000001.tar: the shard is not there"):
        open_clips(at)

"""One object at a time: it is written once, and what is there is what was meant, whatever the store can do."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path

import pytest

from tests.data.storage.conftest import Store
from tests.data.storage.proxy import Asked, Proxy
from vidkit.data.storage import stores, upload
from vidkit.data.storage.places import StorePath, place
from vidkit.data.storage.upload import Abilities, put

PLAIN = Abilities(checks=False, only_new=True)
DATA = bytes(range(256)) * 40


def at(store: Store, name: str) -> StorePath:
    found = place(store.at(f"upload/{name}"))
    assert isinstance(found, StorePath)
    return found


def compare(asked: Asked) -> tuple[int, bytes] | None:
    """As S3 itself does: what does not fit its checksum is refused."""
    told = asked.headers.get("x-amz-checksum-sha256")
    fits = told is None or "uploadId" in asked.path or base64.b64decode(told) == hashlib.sha256(asked.body).digest()
    return None if fits else (400, b"<Error><Code>BadDigest</Code><Message>no</Message></Error>")


def damage_once(proxy: Proxy) -> list[str]:
    """The first upload of every object; returns their paths."""
    damaged: list[str] = []

    def damage(asked: Asked) -> bytes:
        name = asked.path.partition("?")[0]
        if asked.method != "PUT" or name in damaged:
            return asked.body
        damaged.append(name)
        return asked.body[:70] + bytes([asked.body[70] ^ 1]) + asked.body[71:]

    proxy.change = damage
    return damaged


def test_what_a_store_can_do_is_tried_out(store: Store) -> None:
    folder = at(store, "able")
    assert upload.abilities(folder) == Abilities(checks=False, only_new=True)
    proxy = store.through_proxy()
    upload.abilities(folder)
    assert not proxy.seen  # once for each process
    proxy.answer = compare
    assert upload.abilities(folder / "checks") == Abilities(checks=True, only_new=True)
    proxy.reset()
    proxy.hidden = frozenset({"if-none-match"})  # as older ones, which ignore it
    assert upload.abilities(folder / "ignores") == Abilities(checks=False, only_new=False)
    proxy.reset()
    proxy.answer = lambda asked: (501, b"") if "if-none-match" in asked.headers else None
    assert upload.abilities(folder / "refuses") == Abilities(checks=False, only_new=False)
    assert not folder.names()


@pytest.mark.parametrize("part", [1 << 20, 4000])
def test_an_upload_that_is_damaged_on_the_way_is_noticed_and_sent_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(upload, "PART", part)
    source = tmp_path / "shard.tar"
    source.write_bytes(DATA)
    proxy = store.through_proxy()
    damaged = damage_once(proxy)
    to = at(store, f"damaged-{part}")
    assert put(to, source, PLAIN, only_new=True)
    assert len(damaged) >= 1
    assert to.read_bytes() == DATA
    uploads = [asked for asked in proxy.seen if asked.method == "PUT"]
    assert all("x-amz-checksum-sha256" in asked.headers for asked in uploads)


def test_a_store_that_compares_refuses_it_by_itself(store: Store) -> None:
    proxy = store.through_proxy()
    damaged = damage_once(proxy)
    to = at(store, "refused")
    change = proxy.change

    def damage_and_compare(asked: Asked) -> tuple[int, bytes] | None:
        return compare(Asked(asked.method, asked.path, asked.headers, change(asked)))

    proxy.answer, proxy.change = damage_and_compare, lambda asked: asked.body
    assert put(to, DATA, Abilities(checks=True, only_new=True), only_new=True)
    assert (len(damaged), proxy.count("PUT"), proxy.count("GET")) == (1, 2, 0)  # and nothing is read back
    assert to.read_bytes() == DATA


def test_a_line_that_damages_everything_is_an_error(store: Store) -> None:
    proxy = store.through_proxy()
    proxy.change = lambda asked: b"?" + asked.body[1:]
    with pytest.raises(OSError, match="what arrives is not what was sent, 3 times"):
        put(at(store, "never"), DATA, PLAIN, only_new=True)


def test_an_answer_that_is_lost_is_no_second_upload(store: Store) -> None:
    """The store has it, and the client hears of a fault: it asks again, and finds its own."""
    proxy = store.through_proxy()
    proxy.after = lambda asked: (500, b"") if proxy.count("PUT") == 1 and asked.method == "PUT" else None
    to = at(store, "lost")
    assert not put(to, DATA, PLAIN, only_new=True)
    assert to.read_bytes() == DATA


@pytest.mark.parametrize(
    "able", [PLAIN, Abilities(checks=True, only_new=True), Abilities(checks=False, only_new=False)]
)
def test_the_same_is_done_and_another_is_an_error(store: Store, able: Abilities) -> None:
    to = at(store, f"same-{able.checks}-{able.only_new}")
    assert put(to, DATA, able, only_new=True)
    assert not put(to, DATA, able, only_new=True)
    with pytest.raises(FileExistsError) as caught:
        put(to, b"other", able, only_new=True)
    for data in (DATA, b"other"):
        assert hashlib.sha256(data).hexdigest() in str(caught.value)
    assert to.read_bytes() == DATA
    assert put(to, b"other", able)
    assert to.read_bytes() == b"other"


def test_an_object_that_something_else_wrote_is_read_to_know_it(store: Store) -> None:
    to = at(store, "foreign")
    stores.file_system("s3").pipe_file(to.key, DATA)
    assert upload.sha256_of(to, Abilities(checks=True, only_new=True)) == hashlib.sha256(DATA).hexdigest()
    assert upload.sha256_of(to / "none", PLAIN) is None


def test_waits_grow_and_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(stores, "WAITS_S", (1.0, 2.0, 4.0))
    proxy = store.through_proxy()
    proxy.answer = lambda asked: (429, b"")
    with pytest.raises(OSError, match="after 4 tries"):
        upload.send(at(store, "waits"), DATA)
    assert len(proxy.seen) == 4  # the libraries below do not try by themselves
    assert [low <= wait <= 2 * low for wait, low in zip(waited, (0.5, 1, 2), strict=True)] == [True] * 3


def test_empty_objects(store: Store) -> None:
    to = at(store, "empty")
    assert put(to, b"", PLAIN, only_new=True)
    assert (to.read_bytes(), to.size(), list(to.blocks())) == (b"", 0, [])
    assert not put(to, b"", PLAIN, only_new=True)

"""Requests without a browser: who is answered, which bytes are given, and errors as pages."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.data import builds
from tests.view import made


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def value(self) -> Any:
        return json.loads(self.body)


class Server:
    """Asks as a page of the server does, or as somebody else."""

    def __init__(self, address: str) -> None:
        self.where = urlsplit(address).netloc
        found = self.ask(f"/?token={made.TOKEN}", cookie=None)
        assert found.status == 303
        self.cookie = found.headers["set-cookie"].split(";")[0]
        self.attributes = found.headers["set-cookie"]

    def ask(
        self,
        path: str,
        *,
        cookie: str | None = "ours",
        method: str = "GET",
        body: str | None = None,
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection(self.where, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie is not None:
            named["cookie"] = self.cookie if cookie == "ours" else cookie
        connection.putrequest(method, path, skip_host="host" in named)
        for name, value in named.items():
            connection.putheader(name, value)
        data = (body or "").encode()
        if body is not None:
            connection.putheader("content-length", str(len(data)))
        connection.endheaders(data or None)
        answer = Answer(connection.getresponse())
        connection.close()
        return answer


@pytest.fixture(scope="module")
def server(seen: Path) -> Iterator[Server]:
    with made.served(made.shelf(seen)) as address:
        yield Server(address)


@pytest.fixture(scope="module")
def row(seen: Path) -> dict[str, Any]:
    return next(row for row in made.rows_of(seen) if row["status"] == "ok")


PATHS = ("/d/0", "/d/0/rows", "/d/0/video/{key}.mp4", "/d/0/thumb/{key}.webp", "/static/view.css", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "cookie", [None, "vidkit-the-to=wrong", "vidkit-the-to=", "other=the-token", "\xff=\xfe;;="]
)
def test_nothing_without_the_token(server: Server, row: dict[str, Any], path: str, cookie: str | None) -> None:
    found = server.ask(path.format(**row), cookie=cookie)
    assert found.status == 403
    assert b"ftyp" not in found.body
    assert "seen" not in found.text


def test_a_wrong_token_in_the_address(server: Server) -> None:
    assert server.ask("/d/0?token=wrong", cookie=None).status == 403
    assert server.ask("/d/0?token=", cookie=None).status == 403


def test_the_token_becomes_a_cookie(server: Server) -> None:
    """And leaves the address, with the rest of it kept."""
    found = server.ask(f"/d/0?class=a+b&token={made.TOKEN}&split=val", cookie=None)
    assert (found.status, found.headers["location"]) == (303, "/d/0?class=a+b&split=val")
    clicked = server.ask(f"/d/0?class=a+b&token={made.TOKEN}", cookie=None, sec_fetch_site="cross-site")
    assert (clicked.status, 'content="0;url=/d/0?class=a+b"' in clicked.text) == (200, True)
    assert clicked.headers["set-cookie"] == server.attributes
    attributes = {part.strip().lower() for part in server.attributes.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]:80"]
)
@pytest.mark.parametrize("path", ["/d/0", "/d/0/video/{key}.mp4"])
def test_another_host(server: Server, row: dict[str, Any], host: str, path: str) -> None:
    """A name elsewhere that was made to point here, with the right cookie and all."""
    assert server.ask(path.format(**row), host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:9000"])
def test_names_of_this_machine(server: Server, host: str) -> None:
    """Through a tunnel, the port may be another one."""
    assert server.ask("/d/0", host=host).status == 200


def test_other_pages_and_other_methods(server: Server) -> None:
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        assert server.ask("/d/0/rows", sec_fetch_site=site).status == 403
    assert server.ask("/d/0/rows", sec_fetch_site="same-origin").status == 200
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert server.ask("/d/0/rows", method=method).status == 405
    assert server.ask("/d/0", method="POST", body="{}").status == 405


def test_headers_of_every_answer(server: Server, row: dict[str, Any]) -> None:
    for path in (*PATHS, f"/d/0/clip/{row['key']}"):
        headers = server.ask(path.format(**row)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/d/0/video/../../../../etc/passwd",
        "/d/0/video/..%2f..%2fdataset.json.mp4",
        "/d/0/video/%2e%2e.mp4",
        "/d/0/thumb/..%2f..%2f..%2fetc%2fpasswd.webp",
        "/d/0/clip/..%2f..%2fdataset.json",
        "/d/0/video/99999999.mp4",
        "/d/7/video/00000000.mp4",
        "/d/-1",
        "/d/x",
        "/d/0/leaks?page=1",
    ],
)
def test_nothing_else_of_the_disk(server: Server, path: str) -> None:
    found = server.ask(path)
    assert found.status == 404
    assert b"root:" not in found.body


# --- bytes


def test_a_whole_clip(server: Server, seen: Path, row: dict[str, Any]) -> None:
    data = (seen / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["nbytes"]]
    found = server.ask(f"/d/0/video/{row['key']}.mp4")
    assert (found.status, found.body) == (200, data)
    assert found.headers["content-type"] == "video/mp4"
    assert found.headers["accept-ranges"] == "bytes"
    head = server.ask(f"/d/0/video/{row['key']}.mp4", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(data)))


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("0-", 0, None),
        ("0-0", 0, 1),
        ("5-9", 5, 10),
        ("100-", 100, None),
        ("-7", -7, None),
        ("10-99999999", 10, None),
    ],
)
def test_parts_of_a_clip(
    server: Server, seen: Path, row: dict[str, Any], asked: str, start: int, end: int | None
) -> None:
    data = (seen / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["nbytes"]]
    found = server.ask(f"/d/0/video/{row['key']}.mp4", range=f"bytes={asked}")
    assert (found.status, found.body) == (206, data[start:end])
    first = start % len(data)
    assert found.headers["content-range"] == f"bytes {first}-{first + len(found.body) - 1}/{len(data)}"


def test_parts_that_are_not_there(server: Server, row: dict[str, Any]) -> None:
    """Not even those that the shard would have."""
    for asked in (f"{row['nbytes']}-", f"{row['nbytes'] + 10}-{row['nbytes'] + 20}", "-0", "9-5", "99999999999-"):
        found = server.ask(f"/d/0/video/{row['key']}.mp4", range=f"bytes={asked}")
        assert (found.status, found.body) == (416, b""), asked
        assert found.headers["content-range"] == f"bytes */{row['nbytes']}"
    for odd in (
        "bytes=0-1,5-6",
        "bytes=a-b",
        "bits=0-5",
        "bytes=-",
        f"bytes={'9' * 5000}-",
    ):  # one may answer these as if none were asked for
        found = server.ask(f"/d/0/video/{row['key']}.mp4", range=odd)
        assert (found.status, len(found.body)) == (200, row["nbytes"]), odd


def test_a_failed_clip_has_no_video(server: Server, seen: Path) -> None:
    bad = next(row for row in made.rows_of(seen) if row["status"] != "ok")
    assert server.ask(f"/d/0/video/{bad['key']}.mp4").status == 404
    assert server.ask(f"/d/0/thumb/{bad['key']}.webp").status == 404
    page = server.ask(f"/d/0/clip/{bad['key']}")
    assert page.status == 200
    assert bad["message"].split(";")[0] in page.text


# --- rows and errors


def test_rows(server: Server, seen: Path) -> None:
    every = server.ask("/d/0/rows?facets=1").value
    rows = made.rows_of(seen)
    assert every["total"] == len(rows) == len(every["rows"])
    assert every["facets"]["status"] == {"failed": 3, "ok": 12}
    place = {name: i for i, name in enumerate(every["columns"])}
    assert [row[place["clip_id"]] for row in every["rows"]] == [row["clip_id"] for row in rows]
    some = server.ask("/d/0/rows?class=car+%26+cart&from=1&count=2").value
    assert (some["total"], len(some["rows"])) == (4, 2)
    assert {row[place["class"]] for row in some["rows"]} == {"car & cart"}
    keys = [rows[3]["key"], rows[5]["key"]]
    marked = server.ask("/d/0/rows", method="POST", body=json.dumps({"keys": keys})).value
    assert [row[place["key"]] for row in marked["rows"]] == keys


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/d/0/rows?seconds=long", None, "10..20"),
        ("/d/0/rows?sort=colour", None, "expected one of"),
        ("/d/0/rows?pred=none", None, "no predictions"),
        ("/d/0/rows", "{", "the body is not"),
        ("/d/0/rows", '{"keys": 5}', "the body is not"),
        ("/d/0/rows", '{"keys": [5]}', "keys"),
    ],
)
def test_questions_that_mean_nothing(server: Server, path: str, body: str | None, words: str) -> None:
    found = server.ask(path, method="GET" if body is None else "POST", body=body, accept="application/json")
    assert found.status == 400
    assert words in found.value["error"]
    page = server.ask(path, method="GET" if body is None else "POST", body=body, accept="text/html")
    assert page.status == 400
    assert "<!DOCTYPE html>" in page.text


def test_what_a_name_holds_stays_text(seen: Path, tmp_path: Path) -> None:
    """Names come from files of others: none of them becomes part of a page."""
    root = Path(shutil.copytree(seen, tmp_path / "copy"))
    evil = "<script>alert(1)</script>'\"&"
    rows = [
        {**row, "class_name": evil, "labels": [evil], "clip_id": f"mine/{evil}{i}", "group": evil, "message": evil}
        for i, row in enumerate(made.rows_of(root))
    ]
    made.rewritten(root, rows)
    facts = builds.facts(root)
    facts["leaks"][0] |= {"value": evil, "clip_ids": [rows[0]["clip_id"], rows[1]["clip_id"]]}
    (root / "dataset.json").write_text(json.dumps({**facts, "name": evil, "title": evil, "notes": [evil]}))
    with made.served(made.shelf(root)) as address:
        server = Server(address)
        for path in (
            "/d/0",
            "/d/0/counts",
            "/d/0/failures",
            "/d/0/leaks",
            "/d/0/about",
            "/d/0/clip/00000001",
            "/side",
        ):
            found = server.ask(path)
            assert found.status == 200, path
            assert "alert(1)</script>" not in found.text, path
            assert "alert(1)" in found.text, path


def test_errors_are_pages(seen: Path, tmp_path: Path) -> None:
    """A missing shard, a ledger that was changed, and a page that is older than the dataset."""
    root = Path(shutil.copytree(seen, tmp_path / "copy"))
    row = next(row for row in made.rows_of(root) if row["status"] == "ok")
    with made.served(made.shelf(root)) as address:
        server = Server(address)
        shard = root / row["shard"]
        moved = shard.rename(tmp_path / "away.tar")
        found = server.ask(f"/d/0/video/{row['key']}.mp4")
        assert (found.status, "the shard is not there" in found.text) == (409, True)
        page = server.ask(f"/d/0/clip/{row['key']}")
        assert (page.status, "the shard is not there" in page.text) == (200, True)
        moved.rename(shard)
        old = server.ask("/d/0/rows?v=0123456789ab", accept="application/json")
        assert (old.status, old.value["hint"]) == (409, "load the page again")
        facts = builds.facts(root)
        made.rewritten(root, made.rows_of(root)[1:])
        (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
        for path in ("/d/0", "/d/0/rows", f"/d/0/video/{row['key']}.mp4", "/d/0/counts"):
            found = server.ask(path)
            assert (found.status, "the ledger was changed" in found.text) == (409, True), path
            assert "vidkit verify" in found.text
        assert server.ask("/static/view.css").status == 200


def test_pages_of_a_part(seen: Path, tmp_path: Path) -> None:
    """That a study makes: it has the facts of the whole, and counts of its own."""
    from vidkit.bench.studies.parts import Part, write_part

    part = write_part(seen, Part(name="one", classes=("tree",)), tmp_path / "part")
    with made.served(made.shelf(part)) as address:
        server = Server(address)
        for path in ("/d/0", "/d/0/counts", "/d/0/failures", "/d/0/leaks", "/d/0/about", "/d/0/rows"):
            assert server.ask(path).status == 200, path


def test_damage_that_nothing_looks_for_is_a_page(seen: Path, tmp_path: Path) -> None:
    """A part of dataset.json that only one page needs: that page says so, the others are there."""
    root = Path(shutil.copytree(seen, tmp_path / "copy"))
    facts = builds.facts(root)
    facts["leaks"][0].pop("splits")
    (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    with made.served(made.shelf(root)) as address:
        server = Server(address)
        found = server.ask("/d/0/leaks")
        assert (found.status, "this page cannot be made: KeyError" in found.text) == (500, True)
        assert server.ask("/d/0").status == 200


def test_a_page_without_its_package(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("vidkit.view.web.clips.summary.failures", lacks)
    with made.served(made.shelf(seen)) as address:
        found = Server(address).ask("/d/0/failures")
    assert (found.status, "this page needs torch, which is not installed" in found.text) == (501, True)
    assert "vidkit[train]" in found.text


def test_datasets_alone_bring_no_torch(seen: Path) -> None:
    """Every page of a dataset, answered by a process that never imports it."""
    code = f"""
import sys
from pathlib import Path
from tests.view import made
from tests.view.web.test_guard import Server
with made.served(made.shelf(Path({str(seen)!r}))) as address:
    server = Server(address)
    for path in ("/", "/d/0", "/d/0/rows?facets=1", "/d/0/counts", "/d/0/failures", "/d/0/leaks", "/d/0/about",
                 "/d/0/clip/00000003", "/d/0/thumb/00000003.webp", "/side"):
        assert server.ask(path).status in (200, 303, 404), path
print(sorted({{"torch", "matplotlib", "scipy", "timm", "webdataset"}} & sys.modules.keys()))
"""
    done = builds.python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

"""A server that speaks as S3 does, as a process of its own; and a proxy before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data.storage import moto
from tests.data.storage.proxy import Proxy, proxy_to
from vidkit.data.storage import stores

SECRET = "a-secret-of-the-test"


@dataclass(frozen=True)
class Store:
    """An S3 server and a proxy before it. `at(name)` is a bucket's folder of its own for each test."""

    url: str
    proxy: Proxy
    bucket: str
    monkeypatch: pytest.MonkeyPatch

    def at(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def through_proxy(self) -> Proxy:
        """From now on every request goes through the proxy."""
        self.point(self.proxy.url)
        return self.proxy

    def point(self, url: str) -> None:
        self.monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        stores._MADE.clear()

    def upload(self, folder: Path, name: str) -> str:
        """A folder's files as objects, put by the library itself."""
        fs = stores.file_system("s3")
        fs.put(f"{folder}/", f"{self.bucket}/{name}/", recursive=True)
        return self.at(name)


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    server = moto.program()
    if server is None:
        pytest.skip("moto_server is not installed: pip install 'moto[server]'")
    pytest.importorskip("s3fs")
    with moto.serving(server, S3_UPLOAD_PART_MIN_SIZE="256") as port:  # S3 itself takes no parts below 5 MiB
        yield port


@pytest.fixture(scope="session")
def s3_proxy(s3_port: int) -> Iterator[Proxy]:
    with proxy_to(s3_port) as proxy:
        yield proxy


@pytest.fixture
def store(s3_port: int, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Credentials stand in the environment, as anybody's do."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key-of-the-test"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stores, "WAITS_S", (0.01, 0.02, 0.02))
    s3_proxy.reset()
    made = Store(f"http://127.0.0.1:{s3_port}", s3_proxy, "vidkit-test", monkeypatch)
    made.point(made.url)
    fs = stores.file_system("s3")
    if not fs.exists(made.bucket):
        fs.mkdir(made.bucket)
    yield made
    stores._MADE.clear()

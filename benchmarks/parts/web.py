"""A web server before a folder, in processes of its own: nginx where it is installed, else starlette.

Both serve ranges; nginx at a cost that does not count beside a client's. As far as reading goes it is a store of
S3, too, that looks at no signature: `http://127.0.0.1:PORT/BUCKET/KEY` is the file BUCKET/KEY.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data.storage.moto import free_port

_NGINX = """
daemon off; pid {work}/pid; error_log {work}/errors; worker_processes 1; {user}
events {{ worker_connections 512; }}
http {{
    log_format sent '$bytes_sent'; access_log {work}/sent sent;
    keepalive_requests 1000000; sendfile on; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


@dataclass
class Web:
    """Its program, its port, and where it writes the bytes of each answer."""

    program: str
    port: int
    log: Path
    _read: int = 0

    def take(self) -> dict[str, int]:
        """What was sent since the last time."""
        time.sleep(0.05)  # lines are written once an answer has gone
        with self.log.open() as file:
            file.seek(self._read)
            sizes = [int(line) for line in file.read().split()]
            self._read = file.tell()
        return {"bytes": sum(sizes), "requests": len(sizes)}


@contextmanager
def serving(folder: Path, work: Path) -> Iterator[Web]:
    """A server of a folder's files, until the context ends. `work` is for what it writes."""
    work.mkdir(parents=True, exist_ok=True)
    found = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    web = Web("nginx" if found else "starlette", free_port(), work / "sent")
    web.log.touch()
    with _nginx(found, web, folder, work) if found else _starlette(web, folder):
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{web.port}/", timeout=1).close()
            except urllib.error.HTTPError:  # it answers
                break
            except OSError:
                time.sleep(0.05)
            else:
                break
        web.take()
        yield web


@contextmanager
def _nginx(program: str, web: Web, folder: Path, work: Path) -> Iterator[None]:
    user = "user root;" if os.geteuid() == 0 else ""  # its workers read what we can
    text = _NGINX.format(work=work, user=user, port=web.port, folder=folder)
    (work / "conf").write_text(text)
    process = subprocess.Popen([program, "-c", work / "conf", "-p", work], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _starlette(web: Web, folder: Path) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(web.port, folder, web.log), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _serve(port: int, folder: Path, log: Path) -> None:
    import uvicorn
    from starlette.staticfiles import StaticFiles

    files = StaticFiles(directory=folder)
    sent = log.open("a", buffering=1)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        size = 0

        async def count(message: Any) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            await send(message)

        try:
            await files(scope, receive, count)
        finally:
            sent.write(f"{size}\n")

    uvicorn.run(counted, port=port, log_level="error", lifespan="off", access_log=False)

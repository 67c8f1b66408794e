"""A small HTTP proxy between the code and a server: it counts, refuses and damages as a test says."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Proxy:
    """`answer` may give (status, body) instead of asking the server, and `after` once it was asked; `change` may
    give another body to the server, which does not see the `hidden` headers."""

    port: int
    server: http.server.ThreadingHTTPServer
    seen: list[Asked] = field(default_factory=list)
    sent: int = 0
    """Bytes of bodies that went back."""
    answer: Callable[[Asked], tuple[int, bytes] | None] = lambda asked: None
    change: Callable[[Asked], bytes] = lambda asked: asked.body
    after: Callable[[Asked], tuple[int, bytes] | None] = lambda asked: None
    hidden: frozenset[str] = frozenset()
    writing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def count(self, method: str, part: str = "") -> int:
        return sum(asked.method == method and part in asked.path for asked in self.seen)

    def reset(self) -> None:
        self.seen, self.sent = [], 0
        self.answer = self.after = lambda asked: None
        self.change, self.hidden = lambda asked: asked.body, frozenset()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # who asked has gone
            self.close_connection = True

    def _serve(self) -> None:
        body = self._body()
        asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.proxy.seen.append(asked)
        told = self.proxy.answer(asked)
        if told is not None:
            self._reply(told[0], [], told[1])
            return
        body = self.proxy.change(asked)
        link = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=30)
        # the server looks whether an object is there, and then writes it: others could come in between
        self.proxy.writing.acquire()
        try:
            left_out = {"transfer-encoding", "expect"} | self.proxy.hidden
            headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
            if body or self.command in ("PUT", "POST"):
                headers["Content-Length"] = str(len(body))
            link.request(self.command, self.path, body, headers)
            found = link.getresponse()
            data = found.read()
            told = self.proxy.after(asked)
            if told is not None:
                self._reply(told[0], [], told[1])
                return
            kept = [(k, v) for k, v in found.getheaders() if k.lower() not in ("transfer-encoding", "connection")]
            self._reply(found.status, kept, data)
        finally:
            self.proxy.writing.release()
            link.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.proxy.sent += len(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy to a server on this machine, until the context ends."""
    handler = type("Handler", (_Handler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy = Proxy(port, server)
    handler.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()

"""The server: on this machine alone, until it is stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Callable

import uvicorn

from vidkit.errors import ConfigError
from vidkit.view.shelf import Shelf
from vidkit.view.web.app import app
from vidkit.view.web.guard import TOKEN

#: Where marks are kept depends on the port, so it is the same every time, if it is free.
PORT = 8313
_TRIES = 20

#: Seconds that open connections have when the server is stopped.
_PATIENCE = 1


def listening(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1.

    Args:
        port: None: `PORT`, or the next one that is free; 0: any.

    Raises:
        ConfigError: it cannot be had.
    """
    for tried in [port] if port is not None else range(PORT, PORT + _TRIES):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", tried))
        except OSError as error:
            found.close()
            if port is not None:
                raise ConfigError(
                    f"port {port} cannot be had: {error.strerror}", field="--port", hint="give another one, or 0"
                ) from None
            continue
        return found
    raise ConfigError(
        f"ports {PORT} to {PORT + _TRIES - 1} are taken", field="--port", hint="give another one, or 0"
    )


def serve(shelf: Shelf, port: int | None, ready: Callable[[str], None]) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Args:
        ready: called with the address once the server listens.
    """
    token = secrets.token_urlsafe(18)
    with listening(port) as found:
        found.listen(128)
        ready(f"http://127.0.0.1:{found.getsockname()[1]}/?{TOKEN}={token}")
        settings = uvicorn.Config(
            app(shelf, token),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=_PATIENCE,
        )
        with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
            uvicorn.Server(settings).run(sockets=[found])


def has_display() -> bool:
    """Whether a browser's window could be seen."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )

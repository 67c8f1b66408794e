"""A real browser, driven over a pair of pipes in Chromium's own protocol: no driver, no library.

It is looked for in $VIDKIT_CHROMIUM, on PATH, and where Playwright keeps the ones it installs.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")

#: Seconds for an answer. The test fails then; it never hangs.
PATIENCE = 60.0

FLAGS = (
    "--headless",
    "--no-sandbox",  # there is none where the tests run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """The browser's program; None where there is none."""
    named = os.environ.get("VIDKIT_CHROMIUM")
    if named:
        return named
    on_path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if on_path:
        return on_path
    kept = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache/ms-playwright")
    places = ("chromium*/chrome-linux*/chrome", "chromium*/chrome-linux*/headless_shell")
    found_there = sorted(path for pattern in places for path in kept.glob(pattern))
    return str(found_there[-1]) if found_there else None


class Browser:
    """One page. What it logs and requests from the moment it opens is kept."""

    def __init__(self, read: int, write: int, log: Path) -> None:
        self._read, self._write, self._log = read, write, log
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self, url: str) -> None:
        """Load it whole."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{part}.enable")
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while not self.heard("Page.loadEventFired"):
            self._take(deadline)

    def heard(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def value(self, script: str) -> Any:
        """Of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, out: Path, *, width: int = 1360, scheme: str = "light") -> None:
        """The page from top to bottom."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(found["data"]))

    def point(self, x: float, y: float) -> None:
        """Move the pointer there, in pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def pdf(self, out: Path) -> None:
        """As it is printed."""
        out.write_bytes(base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self._write, left) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._take(deadline)
            if answer is not None and answer["id"] == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _take(self, deadline: float) -> dict[str, Any] | None:
        """The next message: an answer; None for an event, which is kept."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing for {PATIENCE:g} s"
            more = os.read(self._read, 1 << 16)
            assert more, f"the browser ended: {self._log.read_text(errors='replace')[-2000:]}"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "id" in message:
            return message
        self.events.append(message)
        return None


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Started for one page, with an empty profile, and ended."""
    to_read, to_write = os.pipe()
    answer_read, answer_write = os.pipe()

    def place() -> None:
        """It reads commands from descriptor 3 and answers on 4. Copies first: these may be 3 or 4 themselves."""
        commands, answers = os.dup(to_read), os.dup(answer_write)
        os.dup2(commands, 3)
        os.dup2(answers, 4)

    with (profile / "chromium.log").open("wb") as log:
        # ours are not inherited, so nothing else needs closing; closing would take 3 and 4 away
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile / 'profile'}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            close_fds=False,
            preexec_fn=place,
        )
    os.close(to_read)
    os.close(answer_write)
    driven = Browser(answer_read, to_write, profile / "chromium.log")
    try:
        yield driven
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to_write)
        os.close(answer_read)

"""The system's Chromium, driven by Playwright. Where there is none, tests that need it are skipped; in
continuous integration they fail, since skipping would hide what is broken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import browser

#: What has gone wrong in a page since it was opened.
Faults = list[str]


def required() -> str:
    """The browser's program."""
    program = browser.find()
    if program is None:
        words = "no browser: put chromium on PATH or name it in $VIDKIT_CHROMIUM (Debian: apt-get install chromium)"
        if _required():
            pytest.fail(words)
        pytest.skip(words)
    return program


def _required() -> bool:
    return os.environ.get("VIDKIT_BROWSER") == "required"


@contextmanager
def chromium() -> Iterator[Any]:
    program = required()
    if not _required():
        pytest.importorskip("playwright.sync_api")
    from playwright import sync_api as api

    with api.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=program,
            # there is no sandbox where the tests run as root, in a container
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield started
        started.close()


@contextmanager
def page(started: Any, **how: Any) -> Iterator[tuple[Any, Faults]]:
    """A window of its own, with nothing kept from before."""
    context = started.new_context(viewport={"width": 1280, "height": 800}, **how)
    context.set_default_timeout(30_000)
    seen, faults = context.new_page(), Faults()
    seen.on(
        "console",
        lambda said: faults.append(f"{said.type}: {said.text}") if said.type in ("error", "warning") else None,
    )
    seen.on("pageerror", lambda error: faults.append(f"exception: {error}"))
    seen.on("requestfailed", lambda asked: _failed(asked, faults))
    yield seen, faults
    context.close()


def until(seen: Any, script: str, seconds: float = 30) -> None:
    """Wait for a JavaScript expression to hold. (The driver's own way is forbidden by the page.)"""
    last = time.monotonic() + seconds
    while not _holds(seen, script):
        assert time.monotonic() < last, f"not within {seconds:g} s: {script}"
        time.sleep(0.02)


def _holds(seen: Any, script: str) -> bool:
    try:
        return bool(seen.evaluate(script))
    except Exception as error:  # of the driver, which need not be there to import this
        if "context was destroyed" not in str(error):
            raise
        return False  # the page gives way to another one


def _failed(asked: Any, faults: Faults) -> None:
    """A request that the page itself gave up (it scrolled on, it plays no more) is none."""
    if "ERR_ABORTED" not in (asked.failure or ""):
        faults.append(f"request: {asked.url} {asked.failure}")

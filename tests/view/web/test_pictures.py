"""Pictures of the guide: docs/guide/pictures/, of what `make demo` leaves. `make pictures` does both."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.view import made
from tests.view.web import pages
from tests.view.web.pages import until

#: Folders to look at: a dataset, and one with runs and predictions.
VARIABLE = "VIDKIT_PICTURES"

OUT = Path(__file__).resolve().parents[3] / "docs" / "guide" / "pictures"

pytestmark = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"makes pictures where ${VARIABLE} is set")

_NO_TILE = "[...document.querySelectorAll('.tile img')].every(i => i.hidden || i.naturalWidth)"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with made.served(made.shelf(*map(Path, os.environ[VARIABLE].split()))) as found:
        yield found


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with pages.chromium() as browser:
        yield browser


def save(page: Any, name: str) -> None:
    """Small: a guide is read over slow lines, too."""
    OUT.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(OUT / f"{name}.webp", quality=76, method=6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures(started: Any, address: str, scheme: str) -> None:
    size = {"width": 1200, "height": 720}
    with pages.page(started, base_url=address, color_scheme=scheme) as (page, faults):
        page.set_viewport_size(size)
        page.goto(f"/?token={made.TOKEN}")
        page.goto("/d/0")
        until(page, "document.querySelectorAll('.tile img[src]').length > 8")
        for i, mark in enumerate("1121"):
            page.keyboard.press("ArrowDown" if not i else "ArrowRight")
            page.keyboard.press(mark)
        until(page, _NO_TILE)
        until(page, "getComputedStyle(document.getElementById('announce')).opacity === '0'")
        save(page, f"clips-{scheme}")
        if scheme == "dark":
            page.set_viewport_size({"width": 390, "height": 720})
            until(page, _NO_TILE)
            save(page, "phone")
            assert faults == []
            return
        for link, name in (("test.parquet", "confusions"), ("Curves of all in one", "curves")):
            page.goto("/")
            page.get_by_role("link", name=link).click()
            page.locator("h1").wait_for()
            page.evaluate("document.querySelector('.matrix')?.scrollIntoView({ block: 'end' })")
            save(page, name)
        page.goto("/")
        page.get_by_role("link", name="pretrain", exact=True).click()
        page.get_by_role("link", name="what it sees").click()
        until(page, "document.querySelectorAll('canvas').length === 5", seconds=240)
        page.get_by_role("button", name="Pause").click()
        page.locator("#time").fill("3")
        save(page, "masks")
        page.goto("/d/0?split=test&status=ok")
        until(page, "document.querySelectorAll('.tile a[href]').length > 8")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('video')?.currentTime > 0.5")
        page.keyboard.press(",")
        page.keyboard.press("1")
        until(page, "!document.getElementById('video').seeking")
        until(page, "getComputedStyle(document.getElementById('announce')).opacity === '0'")
        save(page, "clip")
        assert faults == []

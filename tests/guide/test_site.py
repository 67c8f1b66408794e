"""The guide as a site: built strictly, asks nothing of a network, and its search works from a disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import browser
from tests.guide.fences import DOCS

PROGRAM = browser.find()
ROOT = DOCS.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    pytest.importorskip("mkdocstrings", reason="the guide is built by the extra `docs`: pip install 'vidkit[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", os.fspath(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loads = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(https?:[^\"' >]+)", text)
        loads += re.findall(r"<link\b(?![^>]*canonical)[^>]*\bhref=[\"']?(https?:[^\"' >]+)", text)
        assert loads == [], f"{page.name} loads {loads}"
        assert "@import" not in text


@pytest.mark.slow
def test_the_python_page_has_signatures_and_words(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "guide" / "python.html").read_text(encoding="utf-8"))
    for words in ("retry_failed", "Clips of one split of a built dataset", "batch_size"):
        assert words in text, words


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no browser: put chromium on PATH or name it in $VIDKIT_CHROMIUM")
def test_search_from_a_disk(site: Path, tmp_path: Path) -> None:
    assert PROGRAM is not None
    with browser.browser(PROGRAM, tmp_path) as seen:
        seen.open((site / "index.html").as_uri())
        seen.value(
            "(() => { const query = document.querySelector('[data-md-component=search-query]');"
            " query.focus(); query.value = 'Holm';"
            " query.dispatchEvent(new Event('input', {bubbles: true}));"
            " query.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true})); })()"
        )
        results = "[...document.querySelectorAll('.md-search-result__link')].map(a => a.getAttribute('href'))"
        deadline = time.monotonic() + browser.PATIENCE
        while not (found := seen.value(results)):
            assert time.monotonic() < deadline, "the search finds nothing"
            time.sleep(0.1)
        assert any("ablations.html" in link for link in found), found
        asked = [event["request"]["url"] for event in seen.heard("Network.requestWillBeSent")]
        assert [url for url in asked if url.startswith("http")] == []
        errors = [event for event in seen.heard("Log.entryAdded") if event["entry"]["level"] == "error"]
        assert errors == []
        assert seen.heard("Runtime.exceptionThrown") == []

"""The page as a browser shows it: no error, no request, tables, plots and pictures in their places."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests import browser
from tests.bench.made_rows import DEFAULT, planned, predictions, row
from tests.bench.report.test_table import folder
from vidkit.bench.report import html
from vidkit.bench.report import table as report
from vidkit.bench.report.mask_pictures import Picture

PROGRAM = browser.find()

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no browser: put chromium on PATH or name it in $VIDKIT_CHROMIUM (Debian: apt-get install chromium)",
)


def made(path: Path) -> report.Results:
    """Four strategies, of which one cell failed and one is missing; logs, predictions."""
    cells = [
        planned(mask=mask, ratio=ratio, seed=seed, paper=(DEFAULT,) if (mask, ratio) == ("adaptive", 0.95) else ())
        for mask in ("adaptive", "tube", "random", "frame")
        for ratio in (0.9, 0.95)
        for seed in (0, 1)
    ]
    rows = []
    for number, cell in enumerate(cells[:-4]):
        run = path / "pretrain" / cell.config_hash
        run.mkdir(parents=True)
        lines = [
            {"step": step, "epoch": step / 10, "loss": 2.0 / (1 + step / (number + 5)), "lr": 0.1}
            for step in range(1, 400)
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        about = predictions(path, cell, [(i * 7 + number) % 20 > number for i in range(60)])
        about["runs"]["pretrain"] = f"pretrain/{cell.config_hash}"
        rows.append(row(cell, **about, predicted_bytes=10**8 * (number + 5), device="cuda"))
    rows.append(row(cells[-4], status="failed", reason='loss <nan> & "more"'))
    rows.append(row(cells[-3], status="failed", reason='loss <nan> & "more"'))
    return report.read_results([folder(path, cells, rows)])


def picture() -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (700, 300), "#446688").save(file, format="PNG")
    return Picture(name="adaptive 0.95", caption="12 of 256 tokens visible", png=file.getvalue())


def test_in_a_browser(tmp_path: Path) -> None:
    assert PROGRAM is not None
    without = Picture(name="tube 0.95", caption="No picture: the checkpoint is not among the results", png=None)
    page = tmp_path / "page.html"
    page.write_text(html.page(made(tmp_path), [picture(), without]), encoding="utf-8")
    with browser.browser(PROGRAM, tmp_path) as seen:
        seen.open(page.as_uri())

        assert seen.heard("Runtime.consoleAPICalled") == []
        assert seen.heard("Runtime.exceptionThrown") == []
        assert [entry["entry"]["text"] for entry in seen.heard("Log.entryAdded")] == []
        asked = [event["request"]["url"] for event in seen.heard("Network.requestWillBeSent")]
        assert [url for url in asked if not url.startswith("data:image/png")] == [page.as_uri()]

        assert seen.value("document.compatMode") == "CSS1Compat"
        assert seen.value("document.title").startswith("Ablation, recipe tiny")
        assert seen.value("document.querySelectorAll('#results tbody tr').length") == 8
        assert seen.value("document.querySelectorAll('#rows tbody tr').length") == 12
        assert seen.value("document.querySelectorAll('table caption').length") == 3
        headings = seen.value("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert headings == ["Contrasts", "Accuracy", "Losses", "Masks", "Rows"]
        words = seen.value("document.querySelector('#results').textContent")
        assert "missing" in words
        assert 'failed: loss <nan> & "more"' in words
        assert "70.04" in words

        titles = seen.value("[...document.querySelectorAll('svg > title')].map(t => t.textContent)")
        assert titles == [
            "top-1 % against mask ratio",
            "top-1 % against predicted memory of a pre-training step, GB",
            "Loss in pre-training",
        ]
        assert seen.value("[...document.querySelectorAll('svg')].every(s => s.querySelector('desc').textContent)")
        # everything drawn lies inside its plot, and nothing has fallen together
        assert seen.value(
            "[...document.querySelectorAll('svg')].every(s => { const b = s.getBBox(), v = s.viewBox.baseVal;"
            " return b.x >= 0 && b.y >= 0 && b.x + b.width <= v.width && b.y + b.height <= v.height"
            " && b.width > 300 && b.height > 200; })"
        )
        assert seen.value("document.querySelectorAll('.curve path').length") == 6
        assert seen.value("document.querySelectorAll('.point').length") == 12
        assert seen.value("[...document.images].map(i => [i.complete, i.naturalWidth, !!i.alt])") == [
            [True, 700, True]
        ]

        _sorts(seen)
        _tells(seen)
        _fits_a_phone(seen, tmp_path / "phone.png")
        for scheme in ("light", "dark"):
            shot = tmp_path / f"{scheme}.png"
            seen.screenshot(shot, scheme=scheme)
            paper, ink = (
                seen.value(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
            )
            assert abs(_brightness(paper) - _brightness(ink)) > 0.6, f"{scheme}: {ink} on {paper}"
            with Image.open(shot) as picture_of_page:
                assert len(picture_of_page.convert("RGB").getcolors(1 << 24) or ()) > 50, "an empty page"
        seen.pdf(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
        assert [entry["entry"]["text"] for entry in seen.heard("Log.entryAdded")] == [], "after all that, too"


def _column(seen: browser.Browser, name: str) -> list[str]:
    """A column of the table as it stands, from top to bottom."""
    found: list[str] = seen.value(
        f"(() => {{ const t = document.querySelector('#results');"
        f" const i = [...t.tHead.rows[0].cells].findIndex(c => c.textContent === {json.dumps(name)});"
        " return [...t.tBodies[0].rows].map(r => r.cells[i].textContent); })()"
    )
    return found


def _click(seen: browser.Browser, name: str) -> str | None:
    """On a column's head. How the table is sorted then."""
    found: str | None = seen.value(
        "(() => { const h = [...document.querySelectorAll('#results thead th')]"
        f".find(c => c.textContent === {json.dumps(name)});"
        " h.querySelector('button').click(); return h.getAttribute('aria-sort'); })()"
    )
    return found


def _sorts(seen: browser.Browser) -> None:
    """By a column's numbers or words, what has none always last; a third click brings the first order back."""
    texts = ["52.50 ± 6.35", "± 0.38", "<0.0001", "+3.52", "1,024 of 2,048", "-5.0 %", "1a.2", "12ab", "ok"]
    numbers = seen.value(f"{json.dumps(texts)}.map(text => key({{ textContent: text }})).map(String)")
    assert numbers == ["52.5", "0.38", "0.0001", "3.52", "1024", "-5", "NaN", "NaN", "NaN"]
    before = _column(seen, "mask")
    masks = [*zip(before, _column(seen, "top-1 %"), strict=True)]
    accuracy = [text for text in _column(seen, "top-1 %") if text != "–"]
    rising = sorted(accuracy, key=lambda text: float(text.split()[0]))
    assert rising != accuracy
    assert _click(seen, "top-1 %") == "ascending"
    assert _column(seen, "top-1 %") == [*rising, "–", "–"]
    assert sorted(zip(_column(seen, "mask"), _column(seen, "top-1 %"), strict=True)) == sorted(masks), "whole rows"
    assert _click(seen, "top-1 %") == "descending"
    assert _column(seen, "top-1 %") == [*rising[::-1], "–", "–"]
    assert _click(seen, "mask") == "ascending"
    assert seen.value("document.querySelectorAll('#results [aria-sort]').length") == 1
    assert _column(seen, "mask") == sorted(before)
    assert _click(seen, "mask") == "descending"
    assert _click(seen, "mask") is None
    assert _column(seen, "mask") == before


def _tells(seen: browser.Browser) -> None:
    """What lies under the pointer says its value: a cell's mark, a point of a curve; and nothing elsewhere."""
    for which, kind, said in (
        (0, ".point use", "adaptive, 0.9: "),
        (2, ".curve path", "adaptive 0.9, epoch "),
    ):
        x, y = seen.value(
            f"(() => {{ const s = document.querySelectorAll('figure svg')[{which}];"
            " s.scrollIntoView({block: 'center'});"
            f" const m = s.querySelector({json.dumps(kind)}), b = m.getBoundingClientRect();"
            " if (m.tagName === 'use') return [b.x + b.width / 2, b.y + b.height / 2];"
            " const p = m.getPointAtLength(m.getTotalLength() / 2).matrixTransform(m.getScreenCTM());"
            " return [p.x, p.y]; })()"
        )
        seen.point(x + 2, y + 2)
        assert seen.value("document.querySelector('#told').hidden") is False
        told = seen.value("document.querySelector('#told').textContent")
        assert told.startswith(said), told
        left, top, right, width = seen.value(
            "(() => { const b = document.querySelector('#told').getBoundingClientRect();"
            " return [b.left, b.top, b.right, innerWidth]; })()"
        )
        assert 0 <= left < right <= width
        assert y - 80 < top < y
    seen.point(1, 1)
    assert seen.value("document.querySelector('#told').hidden") is True


def _fits_a_phone(seen: browser.Browser, shot: Path) -> None:
    """The page is as wide as the screen; the table scrolls by itself, and each row's name stays in sight."""
    seen.screenshot(shot, width=390)
    assert seen.value("document.documentElement.scrollWidth") == 390
    first = "document.querySelector('#results tbody th')"
    moved = seen.value(
        "(() => { const w = document.querySelector('.wide'); w.scrollLeft = 400; return w.scrollLeft; })()"
    )
    assert moved > 300
    left, right = (seen.value(f"{first}.getBoundingClientRect().{side}") for side in ("left", "right"))
    assert 0 <= left < right < 200
    assert seen.value(f"getComputedStyle({first}, '::after').content") == '" 0.9"'
    assert seen.value("[...document.querySelectorAll('figure')].every(f => f.getBoundingClientRect().right <= 390)")
    seen.value("document.querySelector('.wide').scrollLeft = 0")


def _brightness(colour: str) -> float:
    """Of "rgb(r, g, b)", from 0 to 1."""
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 765

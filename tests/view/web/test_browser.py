"""The viewer in a real browser: clips play, filters count, marks are exported, ten thousand rows scroll.

With $VIDKIT_PICTURES=1 the pictures of the guide are made on the way: docs/guide/pictures/.
"""

from __future__ import annotations

import csv
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.view import made
from tests.view.web import pages
from tests.view.web.pages import until

MANY = 10_000

#: Frames that are drawn in a second, while the grid scrolls up by so many pixels in each.
FRAMES = (
    "new Promise(done => { const s = document.querySelector('.scroll'), began = performance.now(); let n = 0;"
    " const step = now => { n++; s.scrollTop -= %d;"
    " if (now - began < 1000) requestAnimationFrame(step); else done(n); };"
    " requestAnimationFrame(step); })"
)


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with pages.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(seen: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small dataset, one of ten thousand rows, and the small one under another name."""
    folder = tmp_path_factory.mktemp("many")
    many = made.many(folder / "many", seen, MANY)
    shutil.copytree(seen, folder / "again")
    with made.served(made.shelf(seen, many, folder / "again")) as found:
        yield found


@pytest.fixture
def page(started: Any, address: str) -> Iterator[Any]:
    """A page that may do anything but fail."""
    with pages.page(started, base_url=address) as (opened, faults):
        opened.goto(f"/?token={made.TOKEN}")
        yield opened
        assert faults == []


def count(page: Any, words: str, pane: int = 0) -> None:
    """Wait until a pane says how many clips there are."""
    page.locator(".count").nth(pane).get_by_text(words, exact=True).wait_for()


def shot(page: Any, selector: str) -> bytes:
    found: bytes = page.locator(selector).first.screenshot()
    return found


def test_a_clip_plays_when_pointed_at(page: Any) -> None:
    page.goto("/d/0?status=ok")
    count(page, "12 of 15 clips")
    tile = page.locator(".tile").first
    until(page, "document.querySelector('.tile img').naturalWidth > 0")
    assert page.locator("video").count() == 0
    with page.expect_response(re.compile(r"/d/0/video/\d+\.mp4")) as answered:
        tile.hover()
    assert answered.value.status == 206, "by a range of bytes"
    until(page, "document.querySelector('.tile.plays video')?.currentTime > 0.2")
    assert page.evaluate("document.querySelector('video').muted")
    frames = []
    for _ in range(2):
        before = page.evaluate("document.querySelector('video').currentTime")
        frames.append(shot(page, ".tile .picture"))
        until(page, f"Math.abs(document.querySelector('video').currentTime - {before}) > 0.3")
    assert frames[0] != frames[1], "the picture moves"
    page.mouse.move(5, 5)
    until(page, "!document.querySelector('video')")


def test_filters_change_the_count_and_the_address(page: Any) -> None:
    page.goto("/d/0")
    count(page, "15 clips")
    page.get_by_role("checkbox", name="car & cart").check()
    count(page, "4 of 15 clips")
    assert page.url.endswith("/d/0?class=car+%26+cart")
    page.get_by_role("checkbox", name="val").check()
    count(page, "1 of 15 clips")
    page.go_back()
    count(page, "4 of 15 clips")
    page.reload()
    count(page, "4 of 15 clips")
    assert page.get_by_role("checkbox", name="car & cart").is_checked()
    page.get_by_role("button", name="Clear", exact=True).first.click()
    count(page, "15 clips")
    page.get_by_placeholder("Search").fill("moov")
    count(page, "1 of 15 clips")
    assert page.locator(".tile .why b").first.inner_text() == "truncated"
    assert "moov atom" in page.locator(".tile .why small").first.inner_text()
    page.goto("/d/0?status=ok&sort=-bytes&seconds=..1")
    count(page, "0 of 15 clips")
    assert page.get_by_text("No clip is like this.").is_visible()


def test_marks_are_kept_and_exported(page: Any, seen: Path, tmp_path: Path) -> None:
    rows = {row["clip_id"]: row for row in made.rows_of(seen)}
    page.goto("/d/0?status=ok&sort=id")
    count(page, "12 of 15 clips")
    page.keyboard.press("ArrowDown")
    for key in ("1", "ArrowRight", "2", "ArrowRight", "2", "ArrowRight", "9", "9"):
        page.keyboard.press(key)
    assert page.locator(".tile .mark:not(:empty)").all_inner_texts() == ["1", "2", "2"]
    assert "No mark" in page.locator("#announce").inner_text()
    page.reload()
    count(page, "12 of 15 clips")
    page.get_by_text("Marks", exact=False).first.click()
    with page.expect_download() as exported:
        page.get_by_role("button", name="Export CSV").click()
    exported.value.save_as(tmp_path / "marks.csv")
    with (tmp_path / "marks.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    ids = sorted(clip_id for clip_id, row in rows.items() if row["status"] == "ok")[:3]
    assert [(row["clip_id"], row["mark"]) for row in found] == list(zip(ids, "122", strict=True))
    assert all(rows[row["clip_id"]]["class_name"] == row["class"] for row in found)
    page.get_by_label("Show clips with mark 2").check()
    count(page, "2 of 15 clips")
    with page.expect_download() as exported:
        page.get_by_role("button", name="Export exclusion list").click()
    assert exported.value.suggested_filename == "seen-exclude.csv"
    exported.value.save_as(tmp_path / "exclude.csv")
    assert (tmp_path / "exclude.csv").read_text().splitlines() == ["clip_id", *ids[1:]]


def test_ten_thousand_rows_scroll(page: Any) -> None:
    began = time.monotonic()
    page.goto("/d/1")
    count(page, "10,000 clips")
    until(page, "document.querySelector('.tile .name')?.textContent")
    took = time.monotonic() - began
    assert took < 8, f"{took:.2f} s until clips are there"
    sizes = page.evaluate(
        "(() => { const s = document.querySelector('.scroll'); return [s.scrollHeight, s.clientHeight]; })()"
    )
    assert sizes[0] > 20 * sizes[1]
    for share in (0.25, 0.9, 0.5, 1.0):
        page.evaluate(
            f"(() => {{ const s = document.querySelector('.scroll'); s.scrollTop = {share} * s.scrollHeight; }})()"
        )
        until(
            page,
            "(() => { const s = document.querySelector('.scroll').getBoundingClientRect();"
            " const t = [...document.querySelectorAll('.tile')].filter(t => { const r = t.getBoundingClientRect();"
            " return r.bottom > s.top && r.top < s.bottom; });"
            " return t.length > 5 && t.every(t => t.querySelector('.name').textContent); })()",
        )
        assert page.locator(".tile").count() < 300, "only what is in sight is in the page"
    last = page.locator(f".tile[aria-posinset='{MANY}']")
    assert last.get_attribute("aria-setsize") == str(MANY)
    assert "mine/made/009999" in last.locator("a").get_attribute("aria-label")
    page.keyboard.press("Home")
    until(page, "document.activeElement.closest('.tile')?.ariaPosInSet === '1'")
    page.keyboard.press("End")
    until(page, f"document.activeElement.closest('.tile')?.ariaPosInSet === '{MANY}'")
    # frames are not held up: beside a page that stands still, in the same second or so
    still, scrolled = (page.evaluate(FRAMES % step) for step in (0, 40))
    assert scrolled > still / 4, f"{scrolled} frames in a second of scrolling, {still} without"


def test_the_page_of_a_clip(page: Any) -> None:
    page.goto("/d/0?class=tree&status=ok")
    count(page, "5 of 15 clips")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/clip/**")
    assert page.get_by_text("1 of 5", exact=True).is_visible()
    until(page, "document.getElementById('video').currentTime > 0.1")
    page.keyboard.press(".")
    until(page, "document.getElementById('video').paused && !document.getElementById('video').seeking")
    frame = int(page.locator("#frame").inner_text())
    page.keyboard.press(".")
    until(page, f"document.getElementById('frame').value === '{(frame + 1) % made.FRAMES}'")
    page.keyboard.press("4")
    assert page.locator(".marking [aria-pressed=true]").inner_text() == "4"
    assert page.locator(".fields th").count() > 25
    page.keyboard.press("ArrowRight")
    page.get_by_text("2 of 5", exact=True).wait_for()
    page.wait_for_load_state()  # its keys are there once its scripts have run
    page.keyboard.press("Escape")
    count(page, "5 of 15 clips")
    assert page.locator(".tile .mark:not(:empty)").inner_text() == "4"


def test_every_page_of_a_dataset(page: Any) -> None:
    """Each is there, named, and without a fault; on a phone nothing sticks out; the dark has its own colours."""
    of_one = ("", "/counts", "/failures", "/leaks", "/about", "/clip/00000003")
    for path in ("/", *(f"/d/0{one}" for one in of_one), "/side?d=0&d=1&d=2"):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.emulate_media(color_scheme="light")
        page.goto(path)
        assert page.title().endswith("vidkit")
        assert page.locator("main").count() == 1
        assert page.locator("h1").count() == 1, path
        skip = "document.querySelector(document.querySelector('.skip').getAttribute('href'))"
        assert page.evaluate(f"{skip} !== null"), path
        unnamed = "[...document.querySelectorAll('a, button, input, select, summary')].filter(e =>"
        unnamed += " !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.title)).map(e => e.outerHTML)"
        assert page.evaluate(unnamed) == [], "a screen reader has no name for these"
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
        page.set_viewport_size({"width": 375, "height": 800})
        page.reload()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        tab = page.locator(".tabs [aria-current]")
        if tab.count():
            box = tab.bounding_box()
            assert box["x"] >= 0, path
            assert box["x"] + box["width"] <= 375, path


def test_filters_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/d/0")
    count(page, "15 clips")
    assert not page.locator("#asked").is_visible()
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_role("checkbox", name="tree").check()
    page.get_by_role("button", name="Close the filters").click()
    count(page, "5 of 15 clips")
    assert page.locator(".tile").first.is_visible()


def test_side_by_side(page: Any) -> None:
    page.goto("/side?status=failed")
    count(page, "3 of 15 clips", 0)
    count(page, "2,000 of 10,000 clips", 1)
    page.goto("/side")
    page.get_by_role("checkbox", name="class 05").check()
    count(page, "0 of 15 clips", 0)
    count(page, "104 of 10,000 clips", 1)


def test_which_stand_side_by_side(page: Any) -> None:
    """This one and another; more can be added and taken away under the same filters, and all are in sight."""
    page.goto("/d/1?status=ok")
    count(page, "8,000 of 10,000 clips")
    page.get_by_role("link", name="Side by side").click()
    count(page, "12 of 15 clips", 1)
    page.get_by_label("Beside").select_option(label="seen (again)")
    page.get_by_role("button", name="Add").click()
    page.wait_for_url("**/side?status=ok&d=1&d=0&d=2")
    for pane in range(3):
        count(page, "8,000 of 10,000 clips" if pane == 0 else "12 of 15 clips", pane)
        box = page.locator(".pane").nth(pane).bounding_box()
        assert box["x"] + box["width"] <= 1280
        assert box["y"] + box["height"] <= 800
        assert page.locator(".pane").nth(pane).locator(".tile").first.is_visible()
    page.get_by_role("button", name="Take seen (many) away").click()
    page.wait_for_url("**/side?status=ok&d=0&d=2")
    count(page, "12 of 15 clips", 1)


def test_a_filter_that_means_nothing(started: Any, address: str) -> None:
    """It says so until it means something again."""
    with pages.page(started, base_url=address) as (page, faults):
        page.goto(f"/d/0?seconds=2e1..&token={made.TOKEN}")
        page.get_by_text("seconds is '2e1..'; expected a range").wait_for()
        page.get_by_text("Length and size").click()
        page.get_by_label("Seconds at least").fill("1")
        page.keyboard.press("Enter")
        count(page, "12 of 15 clips")
        assert not page.locator("#trouble").is_visible()
        assert [fault for fault in faults if "400" not in fault] == []


def test_the_focus_stays_among_the_clips(page: Any) -> None:
    page.goto("/d/0")
    count(page, "15 clips")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.tile')?.ariaPosInSet") == "1", "as the skip link says"
    page.keyboard.press("/")
    page.keyboard.type("tree")
    count(page, "5 of 15 clips")
    page.keyboard.press("Escape")  # empties the field, and goes back to the clips
    count(page, "15 clips")
    until(page, "document.activeElement.closest('.tile')?.ariaPosInSet === '1'")


def test_a_link_in_a_page_elsewhere(started: Any, address: str) -> None:
    """The printed address may be clicked in a terminal that is a page itself."""
    link = f'<a href="{address}/d/0?split=val&token={made.TOKEN}">look</a>'
    with pages.page(started) as (page, faults):
        page.route("http://elsewhere.example/", lambda asked: asked.fulfill(content_type="text/html", body=link))
        page.goto("http://elsewhere.example/")
        page.get_by_text("look").click()
        count(page, "5 of 15 clips")
        assert page.url == f"{address}/d/0?split=val"
        assert faults == []


def test_a_changed_dataset_is_said(started: Any, seen: Path, tmp_path: Path) -> None:
    """A page that is open while its dataset is built again says so, and how to go on."""
    root = Path(shutil.copytree(seen, tmp_path / "copy"))
    with made.served(made.shelf(root)) as address, pages.page(started, base_url=address) as (page, faults):
        page.goto(f"/?token={made.TOKEN}")
        count(page, "15 clips")
        made.rewritten(root, made.rows_of(root)[:-1])
        page.get_by_role("checkbox", name="tree").check()
        page.get_by_text("the dataset was changed while this page was open").wait_for()
        page.get_by_role("link", name="Load the page again").click()
        until(page, "!document.getElementById('trouble') || document.getElementById('trouble').hidden")
        page.get_by_role("button", name="Clear", exact=True).first.click()
        count(page, "14 clips")
        assert [fault for fault in faults if "409" not in fault] == []


# --- runs


@pytest.fixture(scope="module")
def runs_address(seen: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.view.runs import runs

    with made.served(made.shelf(*runs.everything(tmp_path_factory.mktemp("all"), seen))) as found:
        yield found


@pytest.fixture
def runs_page(started: Any, runs_address: str) -> Iterator[Any]:
    with pages.page(started, base_url=runs_address) as (opened, faults):
        opened.goto(f"/?token={made.TOKEN}")
        yield opened
        assert faults == []


def test_a_cell_of_a_confusion_opens_its_clips(runs_page: Any) -> None:
    page = runs_page
    page.get_by_role("link", name="test.parquet").click()
    assert "9 clips" not in page.locator("h1").inner_text()
    page.get_by_text("clips tested").wait_for()
    cell = page.locator(".matrix .miss a").first
    expected = cell.inner_text()
    cell.click()
    page.wait_for_url(re.compile(r"/d/0\?pred=.*&true=.*&said="))
    count(page, f"{expected} of 15 clips")
    assert page.locator(".tile .info.wrong").count() == int(expected)
    page.get_by_role("combobox", name="The first choice is").select_option("yes")
    count(page, "0 of 15 clips")
    page.go_back()
    count(page, f"{expected} of 15 clips")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".top5").first.wait_for()
    assert page.locator(".top5").first.locator("tr").count() == 3
    assert page.locator("h3 .tag.failed").first.inner_text() == "wrong"


def test_masks_at_any_ratio(runs_page: Any) -> None:
    page = runs_page
    page.goto("/d/0/clip/00000003")
    page.get_by_role("link", name="adaptive", exact=True).click()
    until(page, "document.querySelectorAll('canvas').length === 5", seconds=90)
    assert page.locator("figcaption b").all_inner_texts() == ["video", "prediction", "error", "probability", "mask"]
    words = page.locator(".model .told")
    before = words.inner_text()
    assert before.startswith("adaptive, ratio 0.75: ")
    pixels = "document.querySelectorAll('canvas')[4].toDataURL()"
    drawn = page.evaluate(pixels)
    page.locator("#ratio").fill("0.5")
    until(page, "document.querySelector('.told').textContent.startsWith('adaptive, ratio 0.5: ')")
    assert page.evaluate(pixels) != drawn
    assert "ratio=0.5" in page.url
    page.locator("#mask").select_option("tube")
    until(page, "document.querySelector('.told').textContent.startsWith('tube')")
    assert page.locator("canvas").count() == 4, "tube masks have no probability"
    page.get_by_role("button", name="Pause").click()
    page.locator("#time").fill("0")
    still = page.evaluate("document.querySelector('canvas').toDataURL()")
    page.locator("#time").fill("3")
    assert page.evaluate("document.querySelector('canvas').toDataURL()") != still
    page.get_by_label("Beside").select_option(label="tube")
    page.get_by_role("button", name="Add").click()
    until(page, "document.querySelectorAll('.model').length === 2")
    until(page, "[...document.querySelectorAll('.told')].every(t => t.textContent.startsWith('tube, ratio 0.5: '))")
    until(page, "[...document.querySelectorAll('.model')].every(m => m.querySelector('canvas'))", seconds=20)


def test_curves_and_tables(runs_page: Any) -> None:
    page = runs_page
    page.get_by_role("link", name="Curves of all in one").click()
    page.locator(".plots svg").first.wait_for()
    titles = page.locator(".plots svg > title").all_text_contents()
    assert titles == ["loss", "probe knn", "lr"]
    box = page.locator(".plots svg").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * 0.6)
    for step in range(40):
        if page.locator("#told").is_visible():
            break
        page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * step / 40)
    assert re.fullmatch(r"(adaptive|tube), epoch [\d.]+: [\d.]+", page.locator("#told").inner_text())
    page.goto("/table?t=0")
    assert "no <memory>" in page.locator("#results").inner_text()
    page.locator("#results thead button", has_text="mask").first.click()
    assert page.locator("#results tbody tr").first.inner_text().split()[0] == "adaptive"
    page.get_by_role("link", name="confusion, right and wrong clips").click()
    page.get_by_text("clips tested").wait_for()


def test_pages_of_runs_fit_a_phone(runs_page: Any) -> None:
    page = runs_page
    links = page.evaluate("[...document.querySelectorAll('main a')].map(a => a.getAttribute('href'))")
    page.set_viewport_size({"width": 375, "height": 800})
    for path in ["/", *dict.fromkeys(links)]:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path

"""What the pages for readers point at is there: files, headings, pictures."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
READER = MarkdownIt("commonmark").enable("table")


def tokens(page: Path) -> list[Token]:
    """All of a page, those within a line among them."""
    blocks = READER.parse(page.read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block, *(block.children or []))]


def targets(page: Path) -> list[str]:
    """Where its links and pictures lead, in Markdown and in HTML."""
    found = []
    for token in tokens(page):
        found += [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]
        if token.type in ("html_inline", "html_block"):
            found += re.findall(r"""(?:href|src)=["']([^"']+)""", token.content)
    return found


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them in addresses: a name that comes again has a number behind it."""
    flat = tokens(page)
    seen: Counter[str] = Counter()
    found = set(re.findall(r"""\b(?:id|name)=["']([^"']+)""", page.read_text(encoding="utf-8")))
    for heading, inline in pairwise(flat):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children or [])
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in targets(page):
        link = urlsplit(target)
        if link.scheme or link.netloc:
            assert link.scheme in ("https", "mailto"), f"{target} is no address to give a reader"
            continue
        there = (page.parent / unquote(link.path)).resolve() if link.path else page
        assert there.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert there.exists(), f"{target}: there is no {there.relative_to(ROOT)}"
        if link.fragment:
            assert there.suffix == ".md", f"{target}: only a page has headings"
            assert link.fragment in anchors(there), f"{target}: no such heading in {there.relative_to(ROOT)}"


def test_paths_that_contributing_names_exist() -> None:
    named = [token.content for token in tokens(ROOT / "CONTRIBUTING.md") if token.type == "code_inline"]
    paths = [name for name in named if re.fullmatch(r"\.?[\w-]+/[\w./-]*", name) and "NAME" not in name]
    assert len(paths) > 20
    for path in paths:
        assert (ROOT / path).exists(), f"CONTRIBUTING.md names {path}, which is not there"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# A title\n## A title\n", {"a-title", "a-title-1"}),
        ("## What `vidkit --help` says, & why?\n", {"what-vidkit---help-says--why"}),
        ('<a id="here"></a>\n', {"here"}),
    ],
)
def test_anchors(tmp_path: Path, text: str, names: set[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert anchors(page) == names


def test_targets(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('[a](b.md#c) ![d](e.png) `[f](g)`\n\n| h |\n| --- |\n| [i](j) |\n\n<img src="k.svg">\n')
    assert targets(page) == ["b.md#c", "e.png", "j", "k.svg"]

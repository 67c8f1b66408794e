"""The guide's blocks of code, in order: what is run, what is a file, and what needs more than this machine has.

A block of `sh` is run as it stands. One with `title="takes ..."` is run by `make guide-commands`; one with
`title="needs ..."` is not run. A block whose title is a file's name is that file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

DOCS = Path(__file__).resolve().parents[2] / "docs"
READER = MarkdownIt("commonmark").enable("table")

PAGES = sorted([*DOCS.glob("*.md"), *(DOCS / "guide").glob("*.md")])
SHELL = ("sh", "bash", "console")


@dataclass(frozen=True, slots=True)
class Fence:
    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def is_file(self) -> bool:
        return re.fullmatch(r"[\w-]+\.(py|toml|txt|csv)", self.title) is not None

    @property
    def needs(self) -> bool:
        return self.title.startswith("needs ")

    @property
    def slow(self) -> bool:
        return self.title.startswith("takes ")

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def fences(page: Path) -> list[Fence]:
    found = []
    for token in READER.parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            title = re.search(r'title="([^"]*)"', rest)
            marked = title.group(1) if title else ""
            found.append(Fence(page, (token.map or [0])[0] + 1, language, marked, token.content))
    return found


@dataclass(frozen=True, slots=True)
class Command:
    """`vidkit WORDS`; `anyway`: it may fail, as `|| true` says."""

    words: tuple[str, ...]
    anyway: bool


def commands(fence: Fence) -> Iterator[Command]:
    """The lines that start vidkit, by itself or under torchrun; continued lines are one."""
    for line in fence.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["vidkit"]:
            words = words[1:]
        elif words[:1] == ["torchrun"] and "vidkit" in words:
            words = words[words.index("vidkit") + 1 :]
        else:
            continue
        end = next((at for at, word in enumerate(words) if word in ("||", "&&", ";", "|", ">")), len(words))
        yield Command(tuple(words[:end]), words[end:] == ["||", "true"])


def tables(page: Path) -> dict[str, list[list[str]]]:
    """Heading -> rows of the first table below it, cells as they are written, heads left out."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if fenced:
            continue
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found.setdefault(heading, []).append([cell.strip("| ") for cell in cells])
    return {name: rows[2:] for name, rows in found.items()}


def named(rows: list[list[str]]) -> list[str]:
    """What the first cells name, in order."""
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]

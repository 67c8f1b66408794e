"""A page of results: one table, notes, and sections with figures. One file that asks for nothing.

The templates lie beside this module, and are in the wheel. Whatever a value holds is escaped, but for the SVG of
our own plots; a name that a template lacks is an error, not a gap. The page itself forbids requests, and every
script but ours.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The head of a table's column, and how its cells look."""

    name: str
    look: str = ""
    """Classes of the style sheet: right, quoted, status, long."""
    heads: bool = False
    """Its cells name their rows, and stay in sight."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One text of a table; `bad` makes it stand out."""

    text: str
    bad: bool = False
    more: str = ""
    """Of a row's header: what else tells it from the others, shown where the other columns are out of sight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of cells, each as long as `columns`."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A plot, or a picture."""

    svg: str = ""
    """From `style.svg`: it is put into the page as it is."""
    image: str = ""
    """Address of a picture: "data:image/png;base64,..."."""
    alt: str = ""
    caption: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page under its own heading, in the order of the fields."""

    title: str
    before: tuple[str, ...] = ()
    """Sentences."""
    figures: tuple[Figure, ...] = ()
    after: tuple[str, ...] = ()
    summary: str = ""
    table: Table | None = None
    """Folded up under `summary`."""
    unfolded: bool = False
    """The table stands open, until it is folded up."""


def render(title: str, table: Table, notes: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole page, as HTML that is well-formed XML too, its script apart."""
    script = part("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            table=table,
            notes=notes,
            sections=sections,
            style=part("page.css"),
            script=script,
            allowed=f"sha256-{allowed}",
        )
    )


@functools.cache
def part(name: str) -> str:
    """A file of the templates, as it is."""
    return resources.files(__package__ or "").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

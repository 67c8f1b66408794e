"""Official lists that name a video by class and file: their lines, found in the index, as rows."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from vidkit.data.sources.parts.finder import PathFinder
from vidkit.data.sources.parts.reading import Reading
from vidkit.data.sources.parts.rows import ANNOTATED, ENDING, FOUND, MISSING, note
from vidkit.data.sources.parts.texts import AnnotationFile
from vidkit.errors import display_path


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A line."""

    file: AnnotationFile
    row: int
    split: str
    """As the source names it."""
    label: str | None
    """As the list spells it; None: it cannot be told."""
    path: str
    """`class/file`, or the line itself where `fault` says what is wrong with it."""
    group: str | None = None
    fault: tuple[str, str] | None = None
    """Field and what is wrong with it."""


def plan_listed(entries: Iterable[Listed], reading: Reading) -> None:
    """A row for every line; its native id is the file's name without ending.

    The video is the file of that path below any folder, or of that name under another ending. Which files no line
    names is counted.
    """
    matching, files = reading.matching, reading.files
    finder = PathFinder.of(files, reading.roots.folder)
    claimed = bytearray(len(files.videos))
    for entry in entries:
        matching.count(ANNOTATED)
        shown, video, path, unsafe = entry.file.shown, None, None, False
        error = message = None
        label = None if entry.label is None else reading.lookup.find(entry.label)
        if entry.fault is not None:
            error, message = "bad-annotation", note(shown, entry.row, *entry.fault)
        else:
            located = finder.below(entry.path, lambda prefix: True, lambda prefix: prefix.count("/"))
            video, unsafe = located.video, located.how == "unsafe"
            if video is not None:
                claimed[video] = 1
                path = files.videos[video]
                unsafe = path in files.outside
                matching.count(FOUND)
                if located.how == "ending":
                    matching.count(ENDING, f"{entry.path} -> {display_path(path)}")
            if unsafe:
                error, path = "unsafe-path", None
                message = note(shown, entry.row, "path", f"{entry.path!r} leads out of the source folder")
            elif label is None:
                text = f"{entry.label!r} is none of the {len(reading.lookup.names)} classes"
                error, message = "unknown-label", note(shown, entry.row, "label", text)
            elif path is None:
                text = f"no file {entry.path!r}{reading.near(entry.path)}"
                error, message = "missing", note(shown, entry.row, "path", text)
                matching.count(MISSING, entry.path)
        bad = entry.fault is not None or unsafe
        given = [] if entry.label is None else [label if label is not None else entry.label]
        reading.rows.add(
            f"{shown}:{entry.row}" if bad else posixpath.splitext(posixpath.basename(entry.path))[0],
            path,
            entry.split,
            given,
            file=shown,
            row=entry.row,
            group=entry.group,
            error=error,
            message=message,
        )
    reading.count_unclaimed(claimed.__getitem__)


def wanted_division(there: Iterable[int], version: str | None) -> int:
    """Which of the official divisions of clips: the spec's `version`, else the first of those that are there."""
    if version is not None and version.isdecimal():
        return int(version)
    return min(there, default=1)

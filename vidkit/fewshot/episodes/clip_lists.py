"""Lists of clips that a user has, such as those of a benchmark: only they are in episodes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vidkit.errors import AnnotationError
from vidkit.fewshot.episodes.labelled import LabelledClips

#: YouTube id, and the times that Kinetics' file names add to it
_TIMED = re.compile(r"(.{11})_[0-9]{6}_[0-9]{6}")

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A dataset's clips, of which those that no list names are in no episode."""

    clips: LabelledClips
    """All of them, in the same rows; class id -1: not listed."""
    named: int
    """Different clips that the lists name."""
    absent: tuple[str, ...]
    """Those of them that the dataset has not, as listed."""


def listed_clips(clips: LabelledClips, files: Sequence[str | os.PathLike[str]]) -> Listed:
    """Keep the labels of clips that are listed.

    A line names a clip by its file or id, with or without folders, ending and numbers after it:
    `test18/195025`, `air drumming/-3WBdF5jkp4_000023_000033.mp4 3`. Folders say nothing: lists number their
    classes or spell them in their own way.

    Raises:
        AnnotationError: a file that cannot be read or is empty; a line that two clips could be meant by; lists
            that name no clip of the dataset.
    """
    rows_of = _names(clips)
    kept = np.zeros(len(clips), bool)
    seen: set[str] = set()
    absent: dict[str, None] = {}
    for file in files:
        for number, line in _lines(Path(file)):
            name = _stem(line)
            if name in seen:
                continue
            seen.add(name)
            rows = rows_of.get(name) or rows_of.get(_youtube(name) or "", [])
            if len(rows) > 1:
                both = ", ".join(clips.clip_id[row].as_py() for row in rows[:2])
                raise AnnotationError(f"{name!r} could be {both}", file=file, row=number, hint="list whole ids")
            if rows:
                kept[rows[0]] = True
            else:
                absent[name] = None
    if not kept.any():
        first = next(iter(absent))
        raise AnnotationError(
            f"none of the {len(seen):,} clips listed is in {clips.name!r}; the first is {first!r}",
            file=files[0],
            hint=f"the dataset's own names are like {clips.clip_id[0].as_py()!r}",
        )
    chosen = replace(clips, class_id=np.where(kept, clips.class_id, -1))
    return Listed(clips=chosen, named=len(seen), absent=tuple(absent))


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"the list of clips cannot be read: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise AnnotationError("the list of clips is not UTF-8 text", file=file) from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise AnnotationError("the list of clips is empty", file=file, hint="write one clip a line")
    return lines


def _stem(line: str) -> str:
    """
    >>> _stem("air drumming/-3WBdF5jkp4_000023_000033.mp4 3"), _stem("test18/195025"), _stem("195025")
    ('-3WBdF5jkp4_000023_000033', '195025', '195025')
    """
    last = re.sub(r"[ ,;\t]+[0-9]+$", "", line).rpartition("/")[2]
    ending = last.rfind(".")
    return last[:ending] if ending > 0 and _ENDING.fullmatch(last[ending:]) else last


def _youtube(name: str) -> str | None:
    match = _TIMED.fullmatch(name)
    return match.group(1) if match else None


def _names(clips: LabelledClips) -> dict[str, list[int]]:
    """What a list may call a clip -> its rows: the last part of its id, and its YouTube id without times."""
    found: dict[str, list[int]] = {}
    for row, clip_id in enumerate(clips.clip_id.to_pylist()):
        name = clip_id.rpartition("/")[2]
        for key in {name, _youtube(name) or name}:
            found.setdefault(key, []).append(row)
    return found

"""Clip rows under construction, what is planned of them, and what a reader hands back."""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.manifests import source_classes
from vidkit.data.paths import path_to_text, text_to_path
from vidkit.data.tables import TRIES_FIELD, ClipRows, Matching, Try
from vidkit.errors import display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

#: headings of `Matching.counts` that several readers share
ANNOTATED = "annotated"
FOUND = "annotated and found"
MISSING = "annotated but missing"
UNANNOTATED = "present but unannotated"
TWICE = "matched twice (the first is used)"
COPIES = "matched twice (the first that can be used is)"
SUFFIX = "paths matched by their last parts"
ENDING = "videos under another ending than annotated"
PLANNED = "planned"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceResult:
    """What a reader found: the clip table and everything that explains it."""

    table: pa.Table
    """`CLIP_SCHEMA`, sorted by clip_id; and `TRIES_FIELD` where a clip has several files."""
    matching: Matching
    classes: tuple[str, ...]
    root: Path
    """What `path` in the table is relative to; real, without links."""
    annotations: Mapping[str, str]
    """Annotation file -> sha256 of its bytes."""
    version: str | None = None

    def __repr__(self) -> str:
        return f"SourceResult({self.matching.source!r}, {self.table.num_rows} rows, {len(self.classes)} classes)"


@functools.cache
def plain(text: str) -> str:
    """Text that Arrow can store: lone surrogates (JSON escapes, odd file names) as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def note(file: str, row: int | None, field_name: str | None, text: str, *, unit: str = "row") -> str:
    """A row's message: file, row and field, then what is wrong, on one line."""
    where = f"{file}, {unit} {row}" if row is not None else file
    where += f", field {field_name!r}" if field_name else ""
    line = " ".join(plain(f"{where}: {text}").split())
    return line if len(line) <= 300 else line[:299] + "…"


@dataclass(slots=True)
class Rows:
    """Clip rows under construction, with unique ids: a second row of one native id gets `#2`."""

    source: str
    matching: Matching
    clips: ClipRows = field(init=False)
    _first: dict[str, int] = field(default_factory=dict)
    _again: dict[str, list[int]] = field(default_factory=dict)
    _files: list[str] = field(default_factory=list)
    _file_of: array[int] = field(default_factory=lambda: array("i"))
    _row_of: array[int] = field(default_factory=lambda: array("i"))

    def __post_init__(self) -> None:
        self.clips = ClipRows(self.source)

    def add(
        self,
        native_id: str,
        path: str | None,
        split: str,
        labels: list[str],
        *,
        file: str,
        row: int,
        unit: str = "row",
        group: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        error: str | None = None,
        message: str | None = None,
        tries: list[Try] | None = None,
        again: Literal["error", "copy", "clip"] = "error",
    ) -> int | None:
        """Append one clip; returns its row, or None where it adds none. `split` is the source's own name for it.

        The same clip in two splits is planned twice (a leak that the merge reports). Twice in one split of one
        file is an error of the second row; in two annotation files that agree it is one clip. Where the files
        are the plan, `unit` is "file" and `file` the video.

        Args:
            tries: files to try one after another, `path` first, where there are several.
            again: what a second video of one native id is: an "error", a further "copy" to try if its labels are
                the same, or a "clip" of its own.
        """
        unique = native_id
        if native_id in self._first:
            before = [self._first[native_id], *self._again.get(native_id, [])]
            same = next((i for i in before if self.clips.split[i] == split), None)
            if same is not None and again == "copy" and error is None and self._is_copy(same, path, labels):
                return None
            if same is not None and again != "clip":
                there = self._files[self._file_of[same]]
                if there != file and self.clips.labels[same] == labels and unit != "file":
                    self.matching.count("annotated alike in two files (planned once)", native_id)
                    return None
                if error is None or error == "missing":
                    error = "duplicate-row"
                    at = there if unit == "file" else f"{there}, {unit} {self._row_of[same]}"
                    message = note(file, None if unit == "file" else row, None, f"the same clip as {at}", unit=unit)
            number = len(before) + 1
            while (unique := f"{native_id}#{number}") in self._first:
                number += 1
            self._again.setdefault(native_id, []).append(len(self.clips))
        self._first[unique] = len(self.clips)
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        self._file_of.append(len(self._files) - 1)
        self._row_of.append(row)
        self.clips.add(unique, path, split, labels, group, start_s, end_s, error, message)
        row_number = len(self.clips) - 1
        if tries is not None:
            self.clips.tries[row_number] = tries
        return row_number

    def _is_copy(self, row: int, path: str | None, labels: list[str]) -> bool:
        """Whether `path` holds the same clip as `row`; then it is tried after the files that are there."""
        first = self.clips.path[row]
        if path is None or first is None or self.clips.labels[row] != labels or self.clips.error[row] is not None:
            return False
        tries = self.clips.tries.setdefault(row, [Try(text_to_path(first))])
        tries.append(Try(path))
        self.matching.count(COPIES, f"{display_path(tries[0].path)}: {display_path(path)}")
        return True

    def place(self, packed: Mapping[str, Sequence[str]]) -> None:
        """Name the archives that files lie in, where they do; several places of one file are tried in order.

        Args:
            packed: see `FileIndex.packed`.
        """
        if not packed:
            return
        clips = self.clips
        for row, path in enumerate(clips.path):
            if path is None:
                continue
            tries = clips.tries.get(row) or [Try(text_to_path(path), clips.start_s[row], clips.end_s[row])]
            if not any(one.path in packed for one in tries):
                continue
            tries = [replace(one, path=place) for one in tries for place in packed.get(one.path, (one.path,))]
            clips.path[row] = path_to_text(tries[0].path)
            if len(tries) > 1 or row in clips.tries:
                clips.tries[row] = tries


def finish(
    rows: Rows,
    spec: SourceSpec,
    options: SourceOptions,
    *,
    only: Iterable[str] | None = None,
    part: float | None = None,
) -> pa.Table:
    """Keep what is planned, count what is not, sort by clip_id.

    In this order: splits that the spec does not name go, then classes outside `only`, then rows without a file
    under --present-only, then all but a seeded share `part` of each class and split.
    """
    matching = rows.matching
    table = rows.clips.table()

    def keep(mask: pa.Array, heading: str) -> pa.Table:
        dropped = table.filter(pc.invert(mask))
        if dropped.num_rows:
            matching.count(f"not planned: {heading}", by=dropped.num_rows)
            for clip_id in dropped["clip_id"].slice(0, Matching.KEEP).to_pylist():
                matching.count(f"not planned: {heading}", clip_id, by=0)
        return table.filter(mask)

    for theirs in sorted(set(pc.unique(table["split"]).to_pylist()) - set(spec.splits)):
        table = keep(pc.not_equal(table["split"], theirs), f"split {theirs}")
    theirs_to_ours = pa.array(list(spec.splits.values()), pa.string())
    ours = theirs_to_ours.take(pc.index_in(table["split"], value_set=pa.array(list(spec.splits), pa.string())))
    table = table.set_column(table.schema.get_field_index("split"), table.schema.field("split"), ours)

    usable = pc.or_kleene(pc.is_null(table["error"]), pc.fill_null(pc.equal(table["error"], "missing"), False))
    if only is not None:
        chosen = set(only)
        classes = source_classes(spec)
        first = pc.binary_join(table["labels"], "\x1f")
        wanted = pc.is_in(first, value_set=pa.array(sorted(chosen), pa.string()))
        # a row that cannot be used stays, as a failure, unless its label is surely another class
        rest = sorted(set(classes.names) - chosen) if classes is not None else []
        other = pc.is_in(first, value_set=pa.array(rest, pa.string()))
        mask = pc.or_(wanted, pc.and_(pc.invert(usable), pc.invert(other)))
        table = keep(mask, "class not chosen, or label withheld")
    if options.present_only:
        unsafe = pc.fill_null(pc.equal(table["error"], "unsafe-path"), False)
        table = keep(pc.or_(pc.is_valid(table["path"]), unsafe), "no file (present only)")
    if part is not None:
        table = keep(_share(table, part, options.seed), f"outside the share of {part:g}")
    matching.count(PLANNED, by=table.num_rows)
    if TRIES_FIELD.name in table.column_names and table[TRIES_FIELD.name].null_count == table.num_rows:
        table = table.drop_columns([TRIES_FIELD.name])
    return table.sort_by("clip_id").combine_chunks()


def _share(table: pa.Table, part: float, seed: int) -> pa.Array:
    """Mask of a share of each (split, label): the first by sha256 of "seed:clip_id".

    The share is rounded half up and at least one clip, and depends on neither row nor file order.
    """
    labels = pc.binary_join(table["labels"], "\x1f").to_pylist()
    groups: dict[tuple[str, str], list[tuple[bytes, int]]] = {}
    for i, (split, label, clip_id) in enumerate(
        zip(table["split"].to_pylist(), labels, table["clip_id"].to_pylist(), strict=True)
    ):
        rank = hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()
        groups.setdefault((split, label), []).append((rank, i))
    mask = bytearray(table.num_rows)
    for members in groups.values():
        members.sort()
        for _, i in members[: max(1, int(part * len(members) + 0.5))]:
            mask[i] = 1
    return pa.array([bool(value) for value in mask], pa.bool_())

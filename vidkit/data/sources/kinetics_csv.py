"""Kinetics annotation tables: `label,youtube_id,time_start,time_end,split,is_cc`, in any order of columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vidkit.data.sources.parts.reading import Reading
from vidkit.data.sources.parts.rows import note
from vidkit.data.sources.parts.splits import split_of_name
from vidkit.data.sources.parts.texts import AnnotationFile, columns_of, short, split_header
from vidkit.data.sources.youtube import is_youtube_id
from vidkit.data.tables import SPLITS
from vidkit.errors import AnnotationError

NEEDED = ("youtube_id", "time_start", "time_end")
KNOWN = ("label", *NEEDED, "split", "is_cc")
_TABLES = frozenset({".csv", ".tsv", ".tab"})
_HINT = "a Kinetics CSV begins with: label,youtube_id,time_start,time_end,split,is_cc (the test CSV may lack label)"


class KineticsRow(NamedTuple):
    """One annotation row. `problem` says why it cannot be used; the other fields then hold what could be read."""

    file: str
    row: int
    youtube_id: str
    label: str | None
    start_s: float | None
    end_s: float | None
    split: str
    problem: str | None = None
    unit: str = "row"


def find_csvs(files: Sequence[AnnotationFile]) -> list[AnnotationFile]:
    """The Kinetics tables among `files`: training, validation, test, then those that say no split.

    Raises:
        AnnotationError: a table named for a split that has some columns of a Kinetics CSV, but not all it needs.
    """
    found = []
    for file in files:
        if file.ending not in _TABLES and not (file.ending == ".txt" and file.split is not None):
            continue
        columns, _ = columns_of(file, KNOWN)
        if "youtube_id" in columns:
            found.append(file)
        elif len(set(columns) & set(KNOWN)) >= 2:
            raise AnnotationError(_lacking(columns), file=file.path, row=1, hint=_HINT)
    return in_order(found)


def in_order(files: Sequence[AnnotationFile]) -> list[AnnotationFile]:
    """Training, validation, test, then those that say no split."""
    order = {split: i for i, split in enumerate(SPLITS)}
    return sorted(files, key=lambda file: (order.get(file.split or "", len(SPLITS)), file.shown))


def _lacking(columns: Sequence[str]) -> str:
    lacking = [name for name in NEEDED if name not in columns]
    return (
        f"no column {' and no column '.join(map(repr, lacking))}; found: {short(', '.join(columns)) or 'nothing'}"
    )


def read_csv(file: AnnotationFile, reading: Reading) -> Iterator[KineticsRow]:
    """Rows of one table, in order. Numbers of a table with semicolons may have a decimal comma.

    Raises:
        AnnotationError: needed columns are absent, no split can be told, or the text is no CSV.
    """
    text = reading.text(file)
    _, delimiter = split_header(next(iter(text[:65536].splitlines()), ""), KNOWN)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from _rows(reader, file, delimiter)
    except csv.Error as error:
        raise AnnotationError(
            f"not readable as CSV: {error}", file=file.path, row=reader.line_num, hint="look at that line"
        ) from error


def _rows(reader: Any, file: AnnotationFile, delimiter: str) -> Iterator[KineticsRow]:
    header = [name.strip().lower() for name in next(reader, [])]
    if any(name not in header for name in NEEDED):
        raise AnnotationError(_lacking(header), file=file.path, row=1, hint=_HINT)
    file_split = file.split
    if "split" not in header and file_split is None:
        raise AnnotationError(
            "no column 'split', and the file name does not say train, val or test; "
            f"found: {short(', '.join(header))}",
            file=file.path,
            row=1,
            hint="name the file train.csv, val.csv or test.csv, or add the column",
        )
    if "label" not in header and file_split in ("train", "val"):
        raise AnnotationError(
            f"no column 'label' in a CSV of the {file_split} split; found: {short(', '.join(header))}",
            file=file.path,
            row=1,
            hint=_HINT,
        )
    parse = _RowParser(file.shown, header, file_split, decimal="," if delimiter == ";" else ".")
    any_row = False
    for values in reader:
        if values:
            any_row = True
            yield parse(values, reader.line_num)
    if not any_row:
        raise AnnotationError("a header, but no rows", file=file.path, hint="download it again, or move it away")


class _RowParser:
    def __init__(self, shown: str, header: list[str], file_split: str | None, *, decimal: str) -> None:
        at = {name: header.index(name) for name in KNOWN if name in header}
        self.shown = shown
        self.header = header
        self.file_split = file_split
        self.comma = decimal == ","
        self.youtube_id, self.start, self.end = (at[name] for name in NEEDED)
        self.times = (self.start, self.end)
        self.label, self.split = at.get("label"), at.get("split")
        self.width = max(at[name] for name in at if name != "is_cc") + 1

    def __call__(self, values: list[str], line: int) -> KineticsRow:
        if len(values) < self.width or (len(values) > len(self.header) and any(values[len(self.header) :])):
            found = f"{len(values)} fields where the header has {len(self.header)}"
            lacking = self.header[len(values)] if len(values) < self.width else None
            return self.bad(values, line, lacking, found)
        youtube_id = values[self.youtube_id].strip()
        if not is_youtube_id(youtube_id):
            return self.bad(
                values,
                line,
                "youtube_id",
                f"{youtube_id[:80]!r} is no YouTube id (11 characters of A-Z a-z 0-9 _ -)",
            )
        split = self.split_of(values)
        if split is None:
            return self.bad(values, line, "split", f"{values[self.split or 0]!r} is none of train, val, test")
        try:
            if self.comma:
                values = [value.replace(",", ".") if i in self.times else value for i, value in enumerate(values)]
            start, end = float(values[self.start]), float(values[self.end])
        except ValueError:
            start = end = -1.0
        if not 0 <= start < end < 1e6:
            given = f"{values[self.start]!r} to {values[self.end]!r}"
            return self.bad(values, line, "time_start", f"{given} are no seconds, start before end")
        label = values[self.label].strip() if self.label is not None else ""
        if not label and split != "test":
            return self.bad(values, line, "label", f"empty in the {split} split")
        return KineticsRow(self.shown, line, youtube_id, label or None, start, end, split)

    def split_of(self, values: list[str]) -> str | None:
        given = values[self.split].strip() if self.split is not None and self.split < len(values) else ""
        return split_of_name(given) if given else self.file_split

    def bad(self, values: list[str], line: int, field: str | None, text: str) -> KineticsRow:
        youtube_id = values[self.youtube_id].strip() if self.youtube_id < len(values) else ""
        label = values[self.label].strip() if self.label is not None and self.label < len(values) else ""
        # a row that names no usable split stands with the file's, or with train: it needs a place in the ledger
        split = self.split_of(values) or self.file_split or "train"
        return KineticsRow(
            self.shown, line, youtube_id, label or None, None, None, split, note(self.shown, line, field, text)
        )

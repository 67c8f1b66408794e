"""Kinetics' own JSON files: `{"<YouTube id>": {"annotations": {"label", "segment"}, "subset"}}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vidkit.data.sources.kinetics_csv import KineticsRow, in_order
from vidkit.data.sources.parts.jsons import kind_of, parse_json
from vidkit.data.sources.parts.reading import Reading
from vidkit.data.sources.parts.rows import note, plain
from vidkit.data.sources.parts.splits import split_of_name
from vidkit.data.sources.parts.texts import AnnotationFile, head, short
from vidkit.data.sources.youtube import is_youtube_id
from vidkit.errors import AnnotationError

# an object whose first value is an object that names a field of Kinetics' own
_FORM = re.compile(
    r'\s*\{\s*"[^"\\]{1,64}"\s*:\s*\{(?:[^{}]|\{[^{}]*\})*?"(?:annotations|subset|duration)"\s*:', re.DOTALL
)


def find_jsons(files: Sequence[AnnotationFile]) -> list[AnnotationFile]:
    """Kinetics JSON files among `files`, training first."""
    return in_order([file for file in files if file.ending == ".json" and _FORM.match(head(file))])


def read_json(file: AnnotationFile, reading: Reading) -> Iterator[KineticsRow]:
    """One row for each id, in the order of the file; records are numbered from 1.

    Raises:
        AnnotationError: malformed, no object of ids, or an id that stands twice.
    """
    value = parse_json(reading.text(file), file, unique=True)
    if not isinstance(value, dict):
        raise AnnotationError(f"expected an object of YouTube ids, found {kind_of(value)}", file=file.path)
    for number, (youtube_id, record) in enumerate(value.items(), start=1):
        yield _row(file, number, youtube_id, record)


def _row(file: AnnotationFile, number: int, youtube_id: str, record: Any) -> KineticsRow:
    faults: list[str] = []

    def fault(field: str | None, text: str) -> None:
        faults.append(note(file.shown, number, field, text, unit="record"))

    if not is_youtube_id(youtube_id):
        fault(None, f"{youtube_id[:80]!r} is no YouTube id (11 characters of A-Z a-z 0-9 _ -)")
    if not isinstance(record, dict):
        fault(None, f"expected an object, found {kind_of(record)}")
        record = {}
    split = file.split
    if (subset := record.get("subset")) is not None:
        said = split_of_name(subset) if isinstance(subset, str) else None
        if said is None:
            fault("subset", f"{short(repr(subset), 80)} is none of train, val, test")
        split = said or split
    elif split is None:
        fault("subset", "missing, and the file name does not say train, val or test")
    annotations = record.get("annotations")
    if not isinstance(annotations, dict):
        fault("annotations", f"expected an object, found {kind_of(annotations)}")
        annotations = {}
    label = annotations.get("label")
    if label is not None and not isinstance(label, str):
        fault("annotations.label", f"{short(repr(label), 80)} is no text")
        label = None
    label = plain(label.strip()) if label is not None else ""
    if not label and split != "test" and not faults:
        fault("annotations.label", f"empty in the {split} split")
    start = end = None
    segment = annotations.get("segment")
    if isinstance(segment, list) and _are_times(segment):
        start, end = float(segment[0]), float(segment[1])
    else:
        fault("annotations.segment", f"{short(repr(segment), 80)} is no [start, end] in seconds, start before end")
    problem = faults[0] if faults else None
    return KineticsRow(
        file.shown, number, youtube_id, label or None, start, end, split or "train", problem, unit="record"
    )


def _are_times(values: list[Any]) -> bool:
    numbers = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in values)
    return len(values) == 2 and numbers and bool(0 <= values[0] < values[1] < 1e6)

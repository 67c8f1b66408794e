"""JSON annotation files: lists of records, with errors that name line, column and record."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from vidkit.data.sources.parts.texts import AnnotationFile, short
from vidkit.errors import AnnotationError

_BETWEEN = re.compile(r"[\s,]*")


def parse_json(text: str, file: AnnotationFile, *, unique: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        unique: refuse a key that stands twice in an object, of which JSON readers keep the last.

    Raises:
        AnnotationError: malformed, with the line, the column and the record that it happened in.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise AnnotationError(
                f"the key {twice[:80]!r} stands twice in one object", file=file.path, hint="keep one of the two"
            )
        return found

    try:
        return json.loads(text, object_pairs_hook=once if unique else None)
    except json.JSONDecodeError as error:
        record = _record_at(text, error.pos)
        within = f", in record {record}" if record else ""
        raise AnnotationError(
            f"malformed JSON at line {error.lineno}, column {error.colno}{within}: {error.msg}",
            file=file.path,
            row=error.lineno,
            hint="download the file again; it may have been cut short",
        ) from error
    except ValueError as error:  # Python refuses to read whole numbers of thousands of digits
        raise AnnotationError(f"JSON that cannot be read: {error}", file=file.path) from error
    except RecursionError as error:
        raise AnnotationError("JSON nested too deeply to be an annotation file", file=file.path) from error


def _record_at(text: str, position: int) -> int | None:
    """Number of the record, from 1, that `position` lies in, where the text is a list of records."""
    start = text.find("[")
    if start < 0 or position <= start:
        return None
    decoder = json.JSONDecoder()
    at, record = start + 1, 0
    while True:
        gap = _BETWEEN.match(text, at)
        at = gap.end() if gap else at
        record += 1
        try:
            _, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return record
        if at > position:
            return record


def kind_of(value: object) -> str:
    """What a JSON value is, in words for messages."""
    if isinstance(value, dict):
        return f"an object with the keys {short(', '.join(map(repr, list(value)[:6]))) or '(none)'}"
    names = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def check_order(found: dict[str, int], expected: tuple[str, ...], file: AnnotationFile) -> None:
    """Raise where a label map on disk is not the class list, naming the first difference.

    Raises:
        AnnotationError: a wrong order of labels makes every result wrong without any other sign.
    """
    by_id = sorted((number, name) for name, number in found.items())
    for number, name in enumerate(expected):
        there = by_id[number] if number < len(by_id) else None
        if there != (number, name):
            says = f"has {short(repr(there[1]))} as {there[0]}" if there else "ends before it"
            raise AnnotationError(
                f"the labels differ from the published list of {len(expected)}: "
                f"label {number} should be {name!r}, but the file {says}",
                file=file.path,
                hint="check that the file is the published one; class ids would be wrong with another order",
            )
    if len(by_id) > len(expected):
        raise AnnotationError(
            f"{len(by_id)} labels, where the published list has {len(expected)}; the first that is too many: "
            f"{short(repr(by_id[len(expected)][1]))}",
            file=file.path,
        )


def label_map(value: Any, file: AnnotationFile) -> dict[str, int]:
    """A JSON object of label -> index, where the index may be written as text.

    Raises:
        AnnotationError: it is something else.
    """
    if not isinstance(value, dict):
        raise AnnotationError(f"expected an object of label -> index, found {kind_of(value)}", file=file.path)
    found: dict[str, int] = {}
    for name, number in value.items():
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not whole and not (isinstance(number, str) and re.fullmatch("[0-9]{1,9}", number)):
            raise AnnotationError(f"{short(repr(number))} is no whole number", file=file.path, field=short(name))
        found[name] = int(number)
    return found

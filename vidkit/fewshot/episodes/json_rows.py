"""JSON objects from files, field by field: what is wrong is said with file, row and field."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.errors import AnnotationError, ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonRow:
    """One object. `within` is the field of the file's object that it is the value of, with a dot, or empty."""

    values: dict[str, Any]
    file: str | os.PathLike[str]
    row: int | None = None
    within: str = ""
    hint: str | None = None

    def error(self, message: str, field: str | None = None) -> AnnotationError:
        """An error that names file, row and `field`, to be raised."""
        name = None if field is None else self.within + field
        return AnnotationError(message, file=self.file, row=self.row, field=name, hint=self.hint)

    def get(self, field: str) -> Any:
        """A field's value. AnnotationError: it is missing."""
        if field not in self.values:
            raise self.error("the field is missing", field)
        return self.values[field]

    def inner(self, field: str) -> JsonRow:
        """The object that is a field's value."""
        value = self.get(field)
        if not isinstance(value, dict):
            raise self.error(f"expected an object, found {_shown(value)}", field)
        return JsonRow(values=value, file=self.file, row=self.row, within=f"{self.within}{field}.", hint=self.hint)

    def text(self, field: str) -> str:
        """A field's text. AnnotationError: it is missing, or no text."""
        value = self.get(field)
        if not isinstance(value, str):
            raise self.error(f"expected text, found {_shown(value)}", field)
        return value

    def flag(self, field: str) -> bool:
        """A field's true or false. AnnotationError: it is missing, or neither."""
        value = self.get(field)
        if not isinstance(value, bool):
            raise self.error(f"expected true or false, found {_shown(value)}", field)
        return value

    def number(self, field: str, least: int = 0) -> int:
        """A field's whole number from `least`. AnnotationError: it is missing, or no such number."""
        value = self.get(field)
        if type(value) is not int or value < least:  # a bool is an int too
            raise self.error(f"expected a whole number from {least}, found {_shown(value)}", field)
        return value

    def numbers(self, field: str, length: int, below: int) -> list[int]:
        """`length` whole numbers from 0 to `below - 1`."""
        values = self._list(field, length)
        for value in values:
            if type(value) is not int or not 0 <= value < below:
                raise self.error(f"expected whole numbers from 0 to {below - 1}, found {_shown(value)}", field)
        return values

    def texts(self, field: str, length: int | None = None) -> list[str]:
        """A field's texts. AnnotationError: it is missing, no list of texts, or not of that length."""
        values = self._list(field, length)
        for value in values:
            if not isinstance(value, str):
                raise self.error(f"expected texts, found {_shown(value)}", field)
        return values

    def _list(self, field: str, length: int | None) -> list[Any]:
        value = self.get(field)
        if not isinstance(value, list):
            raise self.error(f"expected a list, found {_shown(value)}", field)
        if length is not None and len(value) != length:
            raise self.error(f"expected {length} entries, found {len(value)}", field)
        return value


def parse_row(
    data: bytes, file: str | os.PathLike[str], row: int | None = None, *, hint: str | None = None
) -> JsonRow:
    """
    Raises:
        AnnotationError: not UTF-8, not JSON, or not an object.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise AnnotationError(f"not UTF-8: {error.reason}", file=file, row=row, hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"not JSON: {error}", file=file, row=row, hint=hint) from None
    if not isinstance(value, dict):
        raise AnnotationError(f"expected a JSON object, found {_shown(value)}", file=file, row=row, hint=hint)
    return JsonRow(values=value, file=file, row=row, hint=hint)


def check_target(path: Path, kind: str, is_not: str, *, field: str) -> None:
    """Whether a file may be written: it is not there, or empty, or of the same kind.

    Args:
        kind: what the first line of such a file names.
        is_not: what is said of another file.

    Raises:
        ConfigError: a folder, or a file that holds something else.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", field=field, hint="give the name of a file")
    if not path.exists():
        return
    with path.open("rb") as file:
        found = file.read(200)
    if found and f'"{kind}"'.encode() not in found:
        raise ConfigError(
            f"{path} exists and {is_not}, so it is not replaced",
            field=field,
            hint="choose another name, or delete the file",
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"

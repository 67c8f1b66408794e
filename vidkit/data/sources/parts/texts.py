"""Annotation files as text: which there are, in which encoding, and where their columns end."""

from __future__ import annotations

import codecs
import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from vidkit.data.packed.opening import open_source
from vidkit.data.paths import path_to_text
from vidkit.data.sources.parts.files import FileIndex, scan
from vidkit.data.sources.parts.packed import Inside
from vidkit.data.sources.parts.splits import split_of_name
from vidkit.data.tables import Matching
from vidkit.errors import AnnotationError, ClipError, ConfigError, display_path

_EMPTY = "download it again, or move it away"

#: bytes that a text begins with -> its encoding; UTF-32's begin as UTF-16's
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


#: how the note of files that told nothing begins
NOT_UNDERSTOOD = "not understood, so not read: "

#: texts that are beside many datasets, and no tables
_PROSE = frozenset({"readme", "license", "licence", "copying", "citation", "changelog", "requirements"})


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """A file that could hold annotations; nothing of it was read yet."""

    path: Path
    """Of one in an archive: where it would lie unpacked."""
    shown: str
    """Name in reports and messages: the same wherever the dataset lies."""
    packed: tuple[Path, str] | None = None
    """Source folder, and `archive::member`."""

    @property
    def split(self) -> str | None:
        """The split that its name says."""
        return split_of_name(PurePath(self.shown).stem)

    @property
    def ending(self) -> str:
        """In lower case with its dot; empty where there is none."""
        return self.path.suffix.lower()


def annotation_files(index: FileIndex, given: Iterable[Path], inside: Inside | None = None) -> list[AnnotationFile]:
    """Every file that could hold annotations: beside the videos, then in the extra folders and files `given`.

    Args:
        inside: how to look into archives in the extra folders; by default they stay closed.

    Raises:
        BuildError: an archive that cannot be indexed or inflated here.
        ConfigError: an extra folder that is not there.
    """
    found = {
        str(index.root / text): AnnotationFile(index.root / text, display_path(text), _packed(index, text))
        for text in index.texts
    }
    shown = {file.shown for file in found.values()}
    for place in given:
        if place.is_dir():
            there = scan(place, Matching("annotations"), inside=inside)
            paths = {place / text: _packed(there, text) for text in there.texts}
        elif place.is_file():
            paths = {place: None}
        else:
            raise ConfigError("no such annotation folder or file", file=place)
        for path, packed in paths.items():
            real = str(path.resolve())
            if real in found:
                continue
            name = display_path(path.name if path == place else path.relative_to(place).as_posix())
            while name in shown:  # the same name in two places
                name = f"{display_path(place.resolve().name)}/{name}"
            shown.add(name)
            found[real] = AnnotationFile(path, name, packed)
    return list(found.values())


def _packed(index: FileIndex, text: str) -> tuple[Path, str] | None:
    """See `AnnotationFile.packed`."""
    return (index.root, index.packed[text][0]) if text in index.packed else None


def read_annotation(file: AnnotationFile, hashes: dict[str, str], matching: Matching) -> str:
    """The text of an annotation file; its sha256 goes into `hashes`, its name into the report.

    Raises:
        AnnotationError: it cannot be read, is empty, or is neither UTF-8 nor UTF-16.
    """
    data = read_bytes(file)
    if not data.strip():
        raise AnnotationError("the annotation file is empty", file=file.path, hint=_EMPTY)
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        raise AnnotationError(
            f"not {name} text (byte 0x{data[error.start]:02x} at position {error.start})",
            file=file.path,
            row=data[: error.start].decode(encoding, "ignore").count("\n") + 1,
            hint="save the file as UTF-8",
        ) from error
    if "\0" in text:  # blocks that were never written
        row = text[: text.index("\0")].count("\n") + 1
        hint = "download it again, or save it as UTF-8"
        raise AnnotationError("a NUL byte, so this is no plain text", file=file.path, row=row, hint=hint)
    if not text.strip():
        raise AnnotationError("the annotation file is empty", file=file.path, hint=_EMPTY)
    hashes[file.shown] = hashlib.sha256(data).hexdigest()
    matching.annotation_files.append(file.shown)
    return text


def head(file: AnnotationFile, nbytes: int = 16384) -> str:
    """The first lines of a file, to see what it is.

    Raises:
        AnnotationError: it cannot be read; or it is empty, and its name says that it lists a split.
    """
    data = read_bytes(file, nbytes)
    text = data.decode(_encoding(data), "replace")
    if not text.strip() and split_of_name(file.path.stem) is not None:
        raise AnnotationError("the annotation file is empty", file=file.path, hint=_EMPTY)
    return text


def read_bytes(file: AnnotationFile, nbytes: int = -1) -> bytes:
    """The first bytes of an annotation file, or all of them.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        with _open(file) as stream:
            return stream.read(nbytes)
    except OSError as error:
        raise AnnotationError(f"cannot read the annotation file: {error.strerror}", file=file.path) from error
    except ClipError as error:
        text = f"cannot read the annotation file in its archive: {error.message}"
        raise AnnotationError(
            text, file=file.path, hint="unpack it, or give its place with --annotations"
        ) from error


def _open(file: AnnotationFile) -> BinaryIO:
    if file.packed is None:
        return file.path.open("rb")
    root, place = file.packed
    return open_source(os.fspath(root), path_to_text(place), follow_symlinks=True)


def _encoding(data: bytes) -> str:
    """By the mark at the beginning; without one, UTF-16 shows as every second byte being NUL."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    start = data[:64]
    start = start[: len(start) // 2 * 2]
    for name, zeros, letters in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
        if len(start) >= 8 and not any(zeros) and all(letters):
            return name
    return "utf-8"


def short(value: object, most: int = 200) -> str:
    """A value from a file for a message: a header can be a megabyte."""
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def columns_of(file: AnnotationFile, known: Iterable[str]) -> tuple[list[str], str]:
    """(columns of the file's first line, in small letters; what stands between them).

    Of comma, semicolon and tab the one that gives most of the `known` columns, as spreadsheets write all three.
    """
    return split_header(next(iter(head(file).replace("\0", "").splitlines()), ""), known)


def split_header(line: str, known: Iterable[str]) -> tuple[list[str], str]:
    """See `columns_of`."""
    wanted = set(known)
    best: tuple[list[str], str] = ([], ",")
    most = -1
    for delimiter in ",;\t|":
        try:
            columns = [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:  # a first line of a hundred kilobytes
            continue
        if len(wanted & set(columns)) > most:
            best, most = (columns, delimiter), len(wanted & set(columns))
    return best


def name_unread(files: Iterable[AnnotationFile], used: Iterable[str], root: Path, matching: Matching) -> None:
    """Note the annotation files that told nothing: a misspelled header must not pass for no annotations.

    Those that lie elsewhere may be another source's: `matching.unread` keeps them until all sources are read.
    """
    left = unread(files, used)
    matching.unread += [file.shown for file in left if not file.path.is_relative_to(root)]
    if here := [file.shown for file in left if file.path.is_relative_to(root)]:
        matching.notes.append(not_understood(here))


def unread(files: Iterable[AnnotationFile], used: Iterable[str]) -> list[AnnotationFile]:
    """Of files that could hold annotations those that are not `used` (by their shown names), and no prose."""
    taken = set(used)
    return [file for file in files if file.shown not in taken and file.path.stem.lower() not in _PROSE]


def not_understood(names: Sequence[str]) -> str:
    """The note of files that told nothing."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return f"{NOT_UNDERSTOOD}{', '.join(names[:5])}{more}"

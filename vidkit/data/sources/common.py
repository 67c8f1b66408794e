"""What every reader shares: where to look, how rows are collected, and what is planned of them."""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.manifests import source_classes
from vidkit.data.sources.files import FileIndex, scan, split_of_name
from vidkit.data.tables import ClipRows, Matching
from vidkit.errors import AnnotationError, ConfigError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

#: headings of `Matching.counts` that several readers share
ANNOTATED = "annotated"
FOUND = "annotated and found"
MISSING = "annotated but missing"
UNANNOTATED = "present but unannotated"
TWICE = "matched twice (the first is used)"
SUFFIX = "paths matched by their last parts"
PLANNED = "planned"

_EMPTY = "download it again, or move it away"


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """The folders that were given for one source."""

    folder: Path
    annotations: tuple[Path, ...] = ()
    """Folders or files with annotations that do not lie beside the videos."""
    kinetics: Path | None = None
    """For Mini-Kinetics: the Kinetics folder, with the CSV and perhaps the videos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceResult:
    """What a reader found: the clip table and everything that explains it."""

    table: pa.Table
    """`CLIP_SCHEMA`, sorted by clip_id."""
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


class ClassLookup:
    """Class names as annotations and folders spell them: exact, else without case, spaces and punctuation."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: name for name in names}
        self._loose: dict[str, str | None] = {}
        for name in names:
            key = self._key(name)
            self._loose[key] = name if key not in self._loose else None  # None: two classes, so no guess
        self._cache: dict[str, str | None] = {}

    @staticmethod
    def _key(name: str) -> str:
        return "".join(char for char in name.casefold() if char.isalnum())

    def find(self, name: str) -> str | None:
        """The class that `name` means, or None."""
        if name not in self._cache:
            self._cache[name] = self._exact.get(name) or self._loose.get(self._key(name))
        return self._cache[name]


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    path: Path
    shown: str
    """Name in reports and messages: the same wherever the dataset lies."""


def annotation_files(index: FileIndex, roots: Roots) -> list[AnnotationFile]:
    """Every file that could hold annotations: beside the videos, then in the extra folders.

    Raises:
        ConfigError: an extra folder that is not there.
    """
    found = {str(index.root / text): AnnotationFile(index.root / text, display_path(text)) for text in index.texts}
    shown = {file.shown for file in found.values()}
    for given in roots.annotations:
        if given.is_dir():
            paths = [given / text for text in scan(given, Matching("annotations")).texts]
        elif given.is_file():
            paths = [given]
        else:
            raise ConfigError("no such annotation folder or file", file=given)
        for path in paths:
            real = str(path.resolve())
            if real in found:
                continue
            name = display_path(path.name if path == given else path.relative_to(given).as_posix())
            while name in shown:  # the same name in two places
                name = f"{display_path(given.resolve().name)}/{name}"
            shown.add(name)
            found[real] = AnnotationFile(path, name)
    return list(found.values())


def read_annotation(file: AnnotationFile, hashes: dict[str, str], matching: Matching) -> str:
    """The text of an annotation file; its sha256 goes into `hashes`, its name into the report.

    Raises:
        AnnotationError: it cannot be read, is empty, or is not UTF-8.
    """
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"cannot read the annotation file: {error.strerror}", file=file.path) from error
    if not data.strip():
        raise AnnotationError("the annotation file is empty", file=file.path, hint=_EMPTY)
    if b"\0" in data:  # UTF-16, or blocks that were never written
        row = data[: data.index(b"\0")].count(b"\n") + 1
        hint = "download it again, or save it as UTF-8"
        raise AnnotationError("a NUL byte, so this is no plain text", file=file.path, row=row, hint=hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"not UTF-8 text (byte 0x{data[error.start]:02x} at position {error.start})",
            file=file.path,
            row=data[: error.start].count(b"\n") + 1,
            hint="save the file as UTF-8",
        ) from error
    hashes[file.shown] = hashlib.sha256(data).hexdigest()
    matching.annotation_files.append(file.shown)
    return text


def head(file: AnnotationFile, nbytes: int = 16384) -> str:
    """The first lines of a file, to see what it is.

    Raises:
        AnnotationError: it cannot be read; or it is empty, and its name says that it lists a split.
    """
    try:
        with file.path.open("rb") as stream:
            text = stream.read(nbytes).decode("utf-8-sig", "replace")
    except OSError as error:
        raise AnnotationError(f"cannot read the annotation file: {error.strerror}", file=file.path) from error
    if not text.strip() and split_of_name(file.path.stem) is not None:
        raise AnnotationError("the annotation file is empty", file=file.path, hint=_EMPTY)
    return text


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
    ) -> None:
        """Append one clip. `split` is the source's own name for it.

        The same clip in two splits is planned twice (a leak that the merge reports). Twice in one split of one
        file is an error of the second row; in two annotation files that agree it is one clip. Where the files
        are the plan, `unit` is "file" and `file` the video.
        """
        unique = native_id
        if native_id in self._first:
            before = [self._first[native_id], *self._again.get(native_id, [])]
            same = next((i for i in before if self.clips.split[i] == split), None)
            if same is not None:
                there = self._files[self._file_of[same]]
                if there != file and self.clips.labels[same] == labels and unit != "file":
                    self.matching.count("annotated alike in two files (planned once)", native_id)
                    return
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

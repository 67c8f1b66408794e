"""List files of other tools: `path label` a line, several labels or none (VideoMAE, MAE-ST, V-JEPA, mmaction2)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from vidkit.data.manifests import source_classes
from vidkit.data.paths import path_to_text
from vidkit.data.sources.common import (
    ANNOTATED,
    FOUND,
    MISSING,
    SUFFIX,
    UNANNOTATED,
    AnnotationFile,
    ClassLookup,
    Roots,
    Rows,
    SourceResult,
    annotation_files,
    finish,
    head,
    note,
    read_annotation,
)
from vidkit.data.sources.files import VIDEO_ENDINGS, FileIndex, Located, PathFinder, scan, split_of_name
from vidkit.data.sources.youtube import parse_name, stem_of
from vidkit.data.tables import SPLITS, Matching
from vidkit.errors import AnnotationError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

# the path may hold spaces: it ends at the last video ending that only whole numbers follow
_ENDINGS = "|".join(sorted(ending[1:] for ending in VIDEO_ENDINGS))
_LINE = re.compile(rf"(.*\.(?:{_ENDINGS}))((?:[ \t,]+-?[0-9]{{1,9}})*)[ \t]*", re.IGNORECASE)
_VIDEO = re.compile(rf"\.(?:{_ENDINGS})(?![^\s,])", re.IGNORECASE)
_EXPECTED = "is no video path with whole numbers after it"


class ListLine(NamedTuple):
    row: int
    path: str | None
    """None: the line is no path with labels."""
    ids: list[int]
    text: str


def parse_lines(text: str) -> Iterator[ListLine]:
    """Lines of a list file; empty lines and `#` comments are skipped."""
    for row, line in enumerate(text.split("\n"), start=1):
        line = line.strip("\r\n")
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            yield ListLine(row, None, [], line)
        else:
            ids = [int(number) for number in match.group(2).replace(",", " ").split()]
            yield ListLine(row, match.group(1), ids, line)


def is_list(file: AnnotationFile) -> bool:
    """Whether most of the first lines name a video. What follows it may be wrong: that is each row's own error."""
    start = head(file)
    if len(start) >= 16384:
        start = start[: start.rfind("\n") + 1]
    lines = list(itertools.islice(parse_lines(start), 10))
    return sum(_VIDEO.search(line.text) is not None for line in lines) * 2 > len(lines)


def split_of(file: AnnotationFile) -> str | None:
    return split_of_name(PurePath(file.shown).stem)


def find_lists(files: Sequence[AnnotationFile]) -> list[AnnotationFile]:
    """List files whose names say their split: training, validation, test."""
    named = [file for file in files if file.path.suffix.lower() != ".json" and split_of(file) is not None]
    return sorted(filter(is_list, named), key=lambda file: (SPLITS.index(split_of(file) or ""), file.shown))


def class_names(spec: SourceSpec) -> tuple[str, ...]:
    classes = source_classes(spec)
    if classes is None:
        raise AnnotationError(
            f"source {spec.name!r} of kind {spec.kind!r} needs a class list", hint="set classes in the spec"
        )
    return classes.names


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of a folder with list files. Label ids are positions in the source's class list.

    Raises:
        AnnotationError: no list file, or none whose name says its split.
        ConfigError: a folder that cannot be read.
    """
    matching = Matching(spec.name)
    files = scan(roots.folder, matching, follow_symlinks=options.follow_symlinks)
    annotations = annotation_files(files, roots)
    lookup = ClassLookup(class_names(spec))
    lists = find_lists(annotations)
    if not lists:
        unnamed = [file for file in annotations if file.path.suffix.lower() != ".json" and is_list(file)]
        if unnamed:
            raise AnnotationError(
                "a list file whose name does not say train, val or test",
                file=unnamed[0].path,
                hint="rename it, e.g. train.txt",
            )
        for file in annotations:
            if split_of(file) is not None and (first := next(parse_lines(head(file)), None)) is not None:
                raise AnnotationError(
                    f"no list file: {first.text[:120]!r} {_EXPECTED}",
                    file=file.path,
                    row=first.row,
                    hint="lines must be `path label`, the labels being ids of the class list",
                )
        raise AnnotationError(
            "no list file found (lines of `path label`)",
            file=roots.folder,
            hint="give its place with --annotations",
        )
    rows = Rows(spec.name, matching)
    hashes: dict[str, str] = {}
    plan(lists, files, roots, lookup, rows, hashes)
    table = finish(rows, spec, options)
    return SourceResult(
        table=table,
        matching=matching,
        classes=lookup.names,
        root=files.root,
        annotations=hashes,
        version=spec.version,
    )


def plan(
    lists: Sequence[AnnotationFile],
    files: FileIndex,
    roots: Roots,
    lookup: ClassLookup,
    rows: Rows,
    hashes: dict[str, str],
) -> None:
    """Rows for every line of every list."""
    matching = rows.matching
    finder = PathFinder.of(files, roots.folder)
    entries: list[tuple[AnnotationFile, ListLine, Located]] = []
    for file in lists:
        text = read_annotation(file, hashes, matching)
        base = file.path.parent.resolve()
        inside = base.relative_to(files.root).as_posix() if base.is_relative_to(files.root) else ""
        for line in parse_lines(text):
            located = Located(None, "missing") if line.path is None else finder.locate(line.path, base=inside)
            entries.append((file, line, located))
    claims = _claims(entries, files)
    for file, line, located in entries:
        matching.count(ANNOTATED)
        if located.how == "suffix" and located.video is not None and len(claims[located.video]) > 1:
            located = Located(None, "claimed")
        split = split_of(file)
        assert split is not None
        _add(line, located, split, file.shown, files, lookup, rows)
    for i, path in enumerate(files.videos):
        if i not in claims:
            matching.count(UNANNOTATED, display_path(path))
    matching.layout = "list files"
    if by_suffix := matching.counts.get(SUFFIX):
        matching.notes.append(
            f"{by_suffix:,} paths of list files are not as written below this folder; "
            "each was matched by the longest run of its last parts"
        )


def _claims(entries: list[tuple[AnnotationFile, ListLine, Located]], files: FileIndex) -> dict[int, set[str]]:
    """Video -> the paths that name it. Different ones: it is the file of at most one of them."""
    claims: dict[int, set[str]] = {}
    for _, line, located in entries:
        if located.video is not None:
            path = files.videos[located.video] if located.how == "exact" else line.path or ""
            claims.setdefault(located.video, set()).add(path)
    return claims


def _add(
    line: ListLine, located: Located, split: str, shown: str, files: FileIndex, lookup: ClassLookup, rows: Rows
) -> None:
    matching = rows.matching
    path = None if located.video is None else files.videos[located.video]
    bad_ids = [i for i in line.ids if not 0 <= i < len(lookup.names)]
    labels = sorted({lookup.names[i] if i not in bad_ids else str(i) for i in line.ids})
    error = message = None
    if path is not None:
        matching.count(FOUND)
        if located.how == "suffix":
            matching.count(SUFFIX, f"{line.path} -> {display_path(path)}")
    if line.path is None:
        error = "bad-annotation"
        message = note(shown, line.row, "path", f"{line.text[:120]!r} {_EXPECTED}")
    elif located.how == "unsafe" or (path is not None and path in files.outside):
        error, path = "unsafe-path", None
        message = note(shown, line.row, "path", f"{line.path!r} leads out of the source folder")
    elif bad_ids:
        error = "unknown-label"
        message = note(
            shown, line.row, "label", f"{bad_ids[0]} is no id of the class list (0 to {len(lookup.names) - 1})"
        )
    elif path is None:
        error = "missing"
        text = f"no file {line.path!r}"
        if located.how == "ambiguous":
            text = f"{located.others} files could be {line.path!r}, and nothing tells which"
        elif located.how == "claimed":
            text = f"no file {line.path!r}: the one of that name may as well be another line's"
        message = note(shown, line.row, "path", text)
        matching.count(MISSING, line.path)
    named = line.path if path is None else path
    name = parse_name(stem_of(named)) if named is not None else None
    if name is not None:
        native = name.youtube_id if name.times is None else f"{name.youtube_id}_{name.times}"
    elif named is None or error == "unsafe-path":
        native = f"{shown}:{line.row}"
    else:
        native = path_to_text(named[: named.rfind(".")].lstrip("/"))
    group = name.youtube_id if name is not None else None if path is None else path_to_text(path)
    rows.add(native, path, split, labels, file=shown, row=line.row, group=group, error=error, message=message)

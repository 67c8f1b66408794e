"""List files of other tools -> clip table: `path label` a line (VideoMAE, MAE-ST, V-JEPA, mmaction2)."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidkit.data.paths import path_to_text
from vidkit.data.sources.list_lines import EXPECTED, ListLine, form_of, names_video, parse_lines, split_numbers
from vidkit.data.sources.parts.classes import ClassLookup
from vidkit.data.sources.parts.endings import has_ending, stem_of, without_ending
from vidkit.data.sources.parts.files import FileIndex
from vidkit.data.sources.parts.finder import Located, PathFinder
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import ANNOTATED, ENDING, FOUND, MISSING, SUFFIX, SourceResult, note
from vidkit.data.sources.parts.texts import AnnotationFile, head
from vidkit.data.sources.youtube import native_of, parse_name
from vidkit.data.tables import SPLITS
from vidkit.errors import AnnotationError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

_UNLABELLED = "lines without a label in lists that give labels"
_COMMENTS = "lines of lists that begin with # and name no file (comments)"


def _is_file(files: FileIndex) -> Callable[[str], bool]:
    """Whether a list's path is that of a file whose name alone does not say so: no ending, or `#` in front."""
    names: dict[str, list[str]] = {}
    for path in (*(path for path in files.videos if "#" in path or not has_ending(path)), *files.rest):
        names.setdefault(posixpath.basename(path), []).append(path)

    def is_file(text: str) -> bool:
        parts = posixpath.normpath(text).lstrip("/")
        return any(f"/{path}".endswith(f"/{parts}") for path in names.get(posixpath.basename(parts), ()))

    return is_file


def _is_list(file: AnnotationFile, files: FileIndex) -> bool:
    """Whether most of the first lines name a video. What follows it may be wrong: that is each row's own error."""
    start = head(file)
    if len(start) >= 8192:
        start = start[: start.rfind("\n") + 1]
    lines = list(itertools.islice(parse_lines(start, _is_file(files)), 10))
    return sum(line.path is not None or names_video(line.text) for line in lines) * 2 > len(lines)


def find_lists(reading: Reading) -> list[AnnotationFile]:
    """List files whose names say their split: training, validation, test."""
    named = [file for file in reading.annotations if file.ending != ".json" and file.split is not None]
    lists = [file for file in named if _is_list(file, reading.files)]
    return sorted(lists, key=lambda file: (SPLITS.index(file.split or ""), file.shown))


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of a folder with list files. Label ids are positions in the source's class list.

    Raises:
        AnnotationError: no list file, none whose name says its split, or ids that contradict the folders.
        ConfigError: a folder that cannot be read.
    """
    reading = Reading.begin(spec, roots, options)
    lists = find_lists(reading)
    if not lists:
        _refuse(reading)
    plan(lists, reading)
    return reading.end()


def _refuse(reading: Reading) -> None:
    files = [file for file in reading.annotations if file.ending != ".json"]
    unnamed = [file for file in files if _is_list(file, reading.files)]
    if unnamed:
        raise reading.refusal(
            "a list file whose name does not say train, val or test",
            file=unnamed[0].path,
            hint="rename it, e.g. train.txt",
        )
    for file in reading.annotations:
        lines = parse_lines(head(file)) if file.split is not None else iter(())
        if (first := next((line for line in lines if line.path is None), None)) is not None:
            raise reading.refusal(
                f"no list file: {first.text[:120]!r} {EXPECTED}",
                file=file.path,
                row=first.row,
                hint="lines must be `path label`, the labels being ids of the class list",
            )
    raise reading.refusal(
        "no list file found (lines of `path label`)",
        hint="give its place with --annotations",
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a list, as it is understood."""

    file: AnnotationFile
    line: ListLine
    labels: list[int]
    """Ids as written."""
    problem: tuple[str, str] | None
    """Error code and what is wrong with the numbers."""
    first_frame: int
    located: Located


def plan(lists: Sequence[AnnotationFile], reading: Reading) -> None:
    """Rows for every line of every list."""
    matching = reading.matching
    parsed = {file.shown: _parse(file, reading) for file in lists}
    named = {line.path for lines in parsed.values() for line in lines if line.path is not None}
    wanted = {posixpath.basename(path) for path in named}
    files = reading.files = reading.files.adopt(
        (path for path in reading.files.rest if posixpath.basename(path) in wanted), matching
    )
    finder = PathFinder.of(files, reading.roots.folder)
    entries: list[_Entry] = []
    for file in lists:
        entries += _entries(file, parsed[file.shown], finder, reading)
    _check_ids(entries, reading)
    claims = _claims(entries, files)
    seen: dict[str, set[str]] = {}
    for entry in entries:
        matching.count(ANNOTATED)
        located = entry.located
        if located.how in ("suffix", "ending") and located.video is not None and len(claims[located.video]) > 1:
            located = Located(None, "claimed")
        _add(entry, located, reading, seen)
    reading.count_unclaimed(claims.__contains__)
    matching.layout = "list files"
    if by_suffix := matching.counts.get(SUFFIX):
        matching.notes.append(
            f"{by_suffix:,} paths of list files are not as written below this folder; "
            "each was matched by the longest run of its last parts"
        )


def _parse(file: AnnotationFile, reading: Reading) -> list[ListLine]:
    def on_comment(line: ListLine) -> None:
        reading.matching.count(_COMMENTS, f"{file.shown}, row {line.row}: {line.text[:60]}")

    return list(parse_lines(reading.text(file), _is_file(reading.files), on_comment))


def _entries(file: AnnotationFile, lines: Sequence[ListLine], finder: PathFinder, reading: Reading) -> list[_Entry]:
    base = file.path.parent.resolve()
    inside = base.relative_to(finder.index.root).as_posix() if base.is_relative_to(finder.index.root) else ""
    numbers = [line.ids for line in lines if line.path is not None]
    form = form_of(numbers, _ids(reading), multi_label=reading.spec.multi_label)
    if form != "labels":
        without = "" if "label" in form else ", which gives no labels"
        reading.matching.notes.append(f"{file.shown}: the lines are read as `path {form}`{without}")
    # a list may be without labels, wholly or for the most part; where most lines have one, another is a slip
    with_numbers = sum(map(bool, numbers))
    lacking = f"has no label, as {with_numbers:,} of the list's {len(numbers):,} lines have"
    entries = []
    for line in lines:
        problem, found = None, ([], 0) if line.path is None else split_numbers(line.ids, form)
        if found is None:
            found, problem = ([], 0), ("bad-annotation", f"{line.text[-60:]!r} has no `{form}` after the path")
        labels, first_frame = found
        if line.path is not None and with_numbers and not line.ids and "label" in form:
            reading.matching.count(_UNLABELLED, f"{file.shown}, row {line.row}: {line.path}")
            if 2 * with_numbers > len(numbers) and not reading.spec.multi_label:
                problem = ("no-label", lacking)
        located = Located(None, "missing") if line.path is None else finder.locate(line.path, base=inside)
        entries.append(_Entry(file, line, labels, problem, first_frame, located))
    return entries


def _ids(reading: Reading) -> range:
    """Label ids as lists of this source write them."""
    first = reading.options.ids_from
    return range(first, first + len(reading.lookup.names))


def _check_ids(entries: Sequence[_Entry], reading: Reading) -> None:
    """Compare ids with the folders that the paths name: a list that counts from 1 shifts every label by one.

    Raises:
        AnnotationError: path and id name different classes in most lines that can be compared.
    """
    lookup, ids, other_first = reading.lookup, _ids(reading), 1 - reading.options.ids_from
    compared = unlike = other = 0
    first: tuple[_Entry, str] | None = None
    folders: dict[str, str | None] = {}
    for entry in entries:
        if entry.line.path is None or not entry.labels:
            continue
        folder = posixpath.basename(posixpath.dirname(entry.line.path))
        if folder not in folders:
            folders[folder] = lookup.find(folder)
        if (label := folders[folder]) is None:
            continue
        compared += 1
        if label in (_name(n, ids.start, lookup) for n in entry.labels):
            continue
        unlike += 1
        other += label in (_name(n, other_first, lookup) for n in entry.labels)
        first = first or (entry, label)
    if first is None or 2 * unlike <= compared:
        return
    entry, label = first
    number = entry.labels[0]
    readings = " or ".join(
        f"{_name(number, start, lookup) or 'no class'!r} (ids from {start})" for start in (ids.start, other_first)
    )
    raise AnnotationError(
        f"path and id name different classes in {unlike:,} of {compared:,} lines, here folder {label!r} and id "
        f"{number}: {readings}",
        file=entry.file.path,
        row=entry.line.row,
        field="label",
        hint=f"read the list with --ids-from {other_first}"
        if 2 * other > unlike
        else "check that the ids are positions in this source's class list, or correct the folders",
    )


def _name(number: int, first: int, lookup: ClassLookup) -> str | None:
    return lookup.names[number - first] if first <= number < first + len(lookup.names) else None


def _claims(entries: Sequence[_Entry], files: FileIndex) -> dict[int, set[str]]:
    """Video -> the paths that name it. Different ones: it is the file of at most one of them."""
    claims: dict[int, set[str]] = {}
    for entry in entries:
        if (video := entry.located.video) is not None:
            path = files.videos[video] if entry.located.how == "exact" else entry.line.path or ""
            claims.setdefault(video, set()).add(path)
    return claims


def _add(entry: _Entry, located: Located, reading: Reading, seen: dict[str, set[str]]) -> None:
    """One row. `seen` holds the paths of each native id: `x.mp4` and `x.webm` are two clips."""
    matching, files, lookup = reading.matching, reading.files, reading.lookup
    line, shown = entry.line, entry.file.shown
    split = entry.file.split
    assert split is not None
    path = None if located.video is None else files.videos[located.video]
    ids = _ids(reading)
    bad_ids = [i for i in entry.labels if i not in ids]
    labels = sorted({str(i) if i in bad_ids else lookup.names[i - ids.start] for i in entry.labels})
    error = message = None
    if path is not None:
        matching.count(FOUND)
        if located.how in ("suffix", "ending"):
            matching.count(SUFFIX if located.how == "suffix" else ENDING, f"{line.path} -> {display_path(path)}")
    if line.path is None:
        error = "bad-annotation"
        message = note(shown, line.row, "path", f"{line.text[:120]!r} {EXPECTED}")
    elif located.how == "unsafe" or (path is not None and path in files.outside):
        error, path = "unsafe-path", None
        message = note(shown, line.row, "path", f"{line.path!r} leads out of the source folder")
    elif entry.problem is not None:
        error, text = entry.problem
        message = note(shown, line.row, "label", text)
    elif bad_ids:
        error = "unknown-label"
        message = note(
            shown, line.row, "label", f"{bad_ids[0]} is no id of the class list ({ids.start} to {ids.stop - 1})"
        )
    elif entry.first_frame:
        error = "bad-annotation"
        text = f"the clip begins at frame {entry.first_frame}, and lists can only name whole files"
        message = note(shown, line.row, "start", text)
    elif path is None:
        error, message = "missing", note(shown, line.row, "path", _why_missing(line.path, located, reading))
        matching.count(MISSING, line.path)
    named = line.path if path is None else path
    name = parse_name(stem_of(named)) if named is not None else None
    if name is not None:
        native = native_of(name)
    elif named is None or error == "unsafe-path":
        native = f"{shown}:{line.row}"
    else:
        native = path_to_text(without_ending(named).lstrip("/"))
    group = name.youtube_id if name is not None else None if path is None else path_to_text(path)
    paths = seen.setdefault(native, set())
    another = name is None and named is not None and named not in paths
    paths.add(named or "")
    reading.rows.add(
        native,
        path,
        split,
        labels,
        file=shown,
        row=line.row,
        group=group,
        error=error,
        message=message,
        again="clip" if another else "error",
    )


def _why_missing(path: str, located: Located, reading: Reading) -> str:
    if located.how == "ambiguous":
        some = ", ".join(display_path(reading.files.videos[i]) for i in located.near)
        more = ", ..." if located.others > len(located.near) else ""
        return f"{located.others} files could be {path!r}, and nothing tells which: {some}{more}"
    if located.how == "claimed":
        return f"no file {path!r}: the one of that name may as well be another line's"
    return f"no file {path!r}{reading.near(path)}"

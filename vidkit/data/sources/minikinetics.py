"""Mini-Kinetics-200: lists of YouTube ids without labels, joined with the Kinetics CSV or class folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vidkit.data.manifests import class_list
from vidkit.data.sources.common import (
    AnnotationFile,
    ClassLookup,
    Roots,
    Rows,
    SourceResult,
    annotation_files,
    finish,
    note,
    read_annotation,
)
from vidkit.data.sources.files import FileIndex, scan
from vidkit.data.sources.kinetics import join, report_files
from vidkit.data.sources.kinetics_csv import KineticsRow, find_csvs, read_csv
from vidkit.data.sources.listfile import class_names
from vidkit.data.sources.youtube import YoutubeIndex, is_youtube_id
from vidkit.data.tables import Matching
from vidkit.errors import AnnotationError
from vidkit.settings.encode import SourceOptions, SourceSpec

#: sha256 of the lists as published
PUBLISHED = {
    "train": "0441a381a00524a4577c2a94bff3bc5cf47624d19d1026909e192afa0dabb541",
    "val": "a60dfc6ff61092accb522f17e989b58a5790a6e41f8a6ea698e59a714a3168f1",
}

_LIST = re.compile(r"(train|val)_ytid_list\.txt", re.IGNORECASE)
_HINT = "put train_ytid_list.txt and val_ytid_list.txt into the folder, or give their place with --annotations"


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of Mini-Kinetics. The lists are the plan; labels and times come from the Kinetics CSV.

    Lists, CSV and videos may lie in the folder itself or in `roots.kinetics`; `root` is the one of the two that
    holds more of the listed videos. An id that neither the CSV nor a class folder gives a label fails (`no-label`).

    Raises:
        AnnotationError: no list of ids, or an annotation file that is not what it claims to be.
        ConfigError: a folder that cannot be read.
    """
    matching = Matching(spec.name)
    names = class_names(spec)
    lookup = ClassLookup(sorted({*class_list("kinetics400").names, *names}))
    hashes: dict[str, str] = {}
    places = _places(roots, options, matching)
    also = () if roots.kinetics is None else (roots.kinetics,)
    annotations = annotation_files(places[0][1], replace(roots, annotations=roots.annotations + also))
    lists = _find_lists(annotations, roots)
    wanted = {
        split: list(_ids(read_annotation(file, hashes, matching), file)) for split, file in sorted(lists.items())
    }
    for split, file in sorted(lists.items()):
        same = hashes[file.shown] == PUBLISHED[split]
        matching.notes.append(f"{file.shown} {'is' if same else 'differs from'} the published list")
    for split in sorted(set(spec.splits) & set(PUBLISHED) - set(lists)):
        matching.notes.append(f"no list of {split} ids found: that split is empty")
    csvs = find_csvs(annotations)
    known = _labels({item[1] for ids in wanted.values() for item in ids}, csvs, hashes, matching)
    files, counted = _fullest(places, wanted, lookup, matching)
    for name, number in counted.counts.items():
        matching.count(name, by=number)
        matching.examples.setdefault(name, []).extend(counted.examples.get(name, ()))
    index = YoutubeIndex(files, lookup)
    rows = Rows(spec.name, matching)
    join(_annotated(wanted, lists, known, index, matching), index, lookup, rows)
    report_files(index, matching)
    _mark_problems(rows, set(names), bool(csvs))
    table = finish(rows, spec, options, part=options.kinetics_fraction)
    return SourceResult(
        table=table, matching=matching, classes=names, root=files.root, annotations=hashes, version=spec.version
    )


def _places(roots: Roots, options: SourceOptions, matching: Matching) -> list[tuple[Path, FileIndex, Matching]]:
    folders = [roots.folder]
    if roots.kinetics is not None and roots.kinetics.resolve() != roots.folder.resolve():
        folders.append(roots.kinetics)
    places = []
    for folder in folders:
        counted = Matching(matching.source)
        places.append((folder, scan(folder, counted, follow_symlinks=options.follow_symlinks), counted))
    return places


def _find_lists(annotations: list[AnnotationFile], roots: Roots) -> dict[str, AnnotationFile]:
    found: dict[str, AnnotationFile] = {}
    for file in annotations:
        if match := _LIST.fullmatch(file.path.name):
            split = match.group(1).lower()
            if split in found and found[split].path.read_bytes() != file.path.read_bytes():
                raise AnnotationError(
                    f"a second list of {split} ids, which differs from {found[split].path}",
                    file=file.path,
                    hint="keep one of the two",
                )
            found.setdefault(split, file)
    if not found:
        raise AnnotationError("no list of Mini-Kinetics ids found", file=roots.folder, hint=_HINT)
    return found


def _ids(text: str, file: AnnotationFile) -> Iterator[tuple[int, str]]:
    for row, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield row, line.strip()


def _labels(
    wanted: set[str], csvs: list[AnnotationFile], hashes: dict[str, str], matching: Matching
) -> dict[str, list[KineticsRow]]:
    """YouTube id -> its rows in the Kinetics CSVs, usable ones first."""
    known: dict[str, list[KineticsRow]] = {}
    for file in csvs:
        for row in read_csv(file, hashes, matching):
            if row.youtube_id in wanted and row.label is not None:
                known.setdefault(row.youtube_id, []).append(row)
    for rows in known.values():
        rows.sort(key=lambda row: row.problem is not None)
    return known


def _fullest(
    places: list[tuple[Path, FileIndex, Matching]],
    wanted: dict[str, list[tuple[int, str]]],
    lookup: ClassLookup,
    matching: Matching,
) -> tuple[FileIndex, Matching]:
    if len(places) == 1:
        return places[0][1], places[0][2]
    ids = {item[1] for listed in wanted.values() for item in listed}
    indexes = [YoutubeIndex(files, lookup) for _, files, _ in places]
    held = [sum(bool(index.all_of(youtube_id)) for youtube_id in ids) for index in indexes]
    best = max(range(len(places)), key=lambda place: (held[place], -place))
    matching.notes.append(
        f"videos are taken from the {'kinetics' if best else 'minikinetics'} folder, which holds {held[best]:,} "
        f"of the {len(ids):,} listed ids (the other holds {held[1 - best]:,})"
    )
    return places[best][1], places[best][2]


def _annotated(
    wanted: dict[str, list[tuple[int, str]]],
    lists: dict[str, AnnotationFile],
    known: dict[str, list[KineticsRow]],
    index: YoutubeIndex,
    matching: Matching,
) -> Iterator[KineticsRow]:
    """One row for each listed id: split from the list; label and times from the CSV, or label from the folder."""
    for split, listed in sorted(wanted.items()):
        shown = lists[split].shown
        for row, youtube_id in listed:
            if not is_youtube_id(youtube_id):
                problem = note(shown, row, None, f"{youtube_id[:80]!r} is no YouTube id")
                yield KineticsRow(shown, row, youtube_id, None, None, None, split, problem)
                continue
            candidates = known.get(youtube_id, [])
            found = next(
                (item for item in candidates if item.split == split), candidates[0] if candidates else None
            )
            if found is not None:
                if found.split != split:
                    matching.count("split differs from the Kinetics CSV (the list holds)", youtube_id)
                yield KineticsRow(shown, row, youtube_id, found.label, found.start_s, found.end_s, split)
                continue
            folders = {index.folders.of(index.files.videos[i]).label for i in index.all_of(youtube_id)} - {None}
            label = folders.pop() if len(folders) == 1 else None
            if label is not None:
                matching.count("labels taken from class folders")
            yield KineticsRow(shown, row, youtube_id, label, None, None, split)


def _mark_problems(rows: Rows, names: set[str], with_csv: bool) -> None:
    """Rows that the join let through, but whose label is absent or none of the 200."""
    clips = rows.clips
    for i, labels in enumerate(clips.labels):
        if clips.error[i] not in (None, "missing"):
            continue
        if not labels:
            clips.error[i] = "no-label"
            clips.message[i] = (
                "the Kinetics CSV does not have this id, and no class folder holds it"
                if with_csv
                else "no Kinetics CSV was found, and no class folder holds this id"
            )
        elif labels[0] not in names:
            clips.error[i] = "unknown-label"
            clips.message[i] = f"{labels[0]!r} is none of the {len(names)} classes"

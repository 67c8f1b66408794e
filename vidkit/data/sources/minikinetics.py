"""Mini-Kinetics-200: lists of YouTube ids without labels, joined with the Kinetics CSV or class folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vidkit.data.manifests import class_list
from vidkit.data.sources.kinetics import annotated, tables
from vidkit.data.sources.kinetics_csv import KineticsRow
from vidkit.data.sources.kinetics_join import join, report_files
from vidkit.data.sources.parts.classes import class_names
from vidkit.data.sources.parts.files import scan
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import Rows, SourceResult, note
from vidkit.data.sources.parts.texts import AnnotationFile, read_bytes
from vidkit.data.sources.youtube import YoutubeIndex, is_clip_name, is_youtube_id
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
    names = class_names(spec)
    both = (*roots.annotations, *(() if roots.kinetics is None else (roots.kinetics,)))
    reading = Reading.begin(
        spec,
        replace(roots, annotations=both),
        options,
        classes=sorted({*class_list("kinetics400").names, *names}),
        is_named=is_clip_name,
    )
    matching = reading.matching
    lists = _find_lists(reading)
    wanted = {split: list(_ids(reading.text(file))) for split, file in sorted(lists.items())}
    for split, file in sorted(lists.items()):
        same = reading.hashes[file.shown] == PUBLISHED[split]
        matching.notes.append(f"{file.shown} {'is' if same else 'differs from'} the published list")
    for split in sorted(set(spec.splits) & set(PUBLISHED) - set(lists)):
        matching.notes.append(f"no list of {split} ids found: that split is empty")
    csvs, jsons, unused = tables(reading)
    ids = {item[1] for listed in wanted.values() for item in listed}
    known = _labels(ids, annotated(csvs, jsons, reading))
    _take_fullest(ids, reading)
    index = YoutubeIndex(reading.files, reading.lookup)
    join(_annotated(wanted, lists, known, index, matching), index, reading.lookup, reading.rows)
    report_files(index, matching)
    _mark_problems(reading.rows, set(names), bool(csvs or jsons))
    understood = [file.shown for file in (*unused, *lists.values())]
    return reading.end(classes=names, part=options.kinetics_fraction, understood=understood)


def _find_lists(reading: Reading) -> dict[str, AnnotationFile]:
    found: dict[str, AnnotationFile] = {}
    for file in reading.annotations:
        if match := _LIST.fullmatch(file.path.name):
            split = match.group(1).lower()
            if split in found and read_bytes(found[split]) != read_bytes(file):
                raise AnnotationError(
                    f"a second list of {split} ids, which differs from {found[split].path}",
                    file=file.path,
                    hint="keep one of the two",
                )
            found.setdefault(split, file)
    if not found:
        known = [file.shown for some in tables(reading) for file in some]
        raise reading.refusal("no list of Mini-Kinetics ids found", hint=_HINT, understood=known)
    return found


def _ids(text: str) -> Iterator[tuple[int, str]]:
    for row, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield row, line.strip()


def _labels(wanted: set[str], annotated: Iterable[KineticsRow]) -> dict[str, list[KineticsRow]]:
    """YouTube id -> its rows in the Kinetics tables, usable ones first."""
    known: dict[str, list[KineticsRow]] = {}
    for row in annotated:
        if row.youtube_id in wanted and row.label is not None:
            known.setdefault(row.youtube_id, []).append(row)
    for rows in known.values():
        rows.sort(key=lambda row: row.problem is not None)
    return known


def _take_fullest(ids: set[str], reading: Reading) -> None:
    """Take the videos from the Kinetics folder, if it holds more of the listed ones."""
    other = reading.roots.kinetics
    if other is None or other.resolve() == reading.roots.folder.resolve():
        return
    counted = Matching(reading.spec.name)
    follow = reading.options.follow_symlinks
    files = scan(
        other,
        counted,
        follow_symlinks=follow,
        is_named=is_clip_name,
        names_class=lambda name: reading.lookup.find(name) is not None,
        inside=reading.roots.inside,
    )
    here, there = (
        sum(bool(index.all_of(youtube_id)) for youtube_id in ids)
        for index in (YoutubeIndex(found, reading.lookup) for found in (reading.files, files))
    )
    reading.matching.notes.append(
        f"videos are taken from the {'kinetics' if there > here else 'minikinetics'} folder, which holds "
        f"{max(here, there):,} of the {len(ids):,} listed ids (the other holds {min(here, there):,})"
    )
    if there > here:  # what the walk of the first folder counted goes with it
        reading.files = files
        reading.matching.counts, reading.matching.examples = counted.counts, counted.examples


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

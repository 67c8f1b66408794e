"""Kinetics on disk -> clip table: CSVs, JSON, list files or class folders, with videos in any layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vidkit.data.manifests import class_list
from vidkit.data.paths import path_to_text
from vidkit.data.sources import listfile
from vidkit.data.sources.folders import note_tree
from vidkit.data.sources.kinetics_csv import KNOWN, KineticsRow, find_csvs, read_csv
from vidkit.data.sources.kinetics_join import join, report_files
from vidkit.data.sources.kinetics_json import find_jsons, read_json
from vidkit.data.sources.parts.endings import stem_of, without_ending
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import SourceResult, note
from vidkit.data.sources.parts.texts import AnnotationFile, columns_of, short
from vidkit.data.sources.youtube import YoutubeIndex, is_clip_name, native_of, parse_name
from vidkit.errors import ConfigError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of a Kinetics folder.

    CSVs and Kinetics' own JSON files are the plan where there are any, then list files, then the files in class
    folders. Native ids are `<YouTube id>_<start>_<end>`, or the bare id where no times are known; the group is
    the YouTube id.

    Raises:
        AnnotationError: an annotation file that is not what it claims to be, or nothing to tell labels from.
        ConfigError: a folder that cannot be read.
    """
    reading = Reading.begin(spec, roots, options, is_named=is_clip_name)
    classes, only = _choice(spec, options, reading.lookup.names)
    csvs, jsons, unused = tables(reading)
    lists = listfile.find_lists(reading)
    if csvs or jsons:
        if lists:
            reading.matching.notes.append(f"list files not used, as there are CSVs: {_names(lists)}")
            unused += lists
        index = YoutubeIndex(reading.files, reading.lookup)
        join(annotated(csvs, jsons, reading), index, reading.lookup, reading.rows)
        report_files(index, reading.matching)
    elif lists:
        listfile.plan(lists, reading)
    else:
        _refuse_unusable(reading)
        _plan_folders(YoutubeIndex(reading.files, reading.lookup), reading)
    return reading.end(
        classes=classes, only=only, part=options.kinetics_fraction, understood=[file.shown for file in unused]
    )


def tables(reading: Reading) -> tuple[list[AnnotationFile], list[AnnotationFile], list[AnnotationFile]]:
    """(CSVs, JSON files, JSON files that CSVs make superfluous): Kinetics is published in both forms."""
    csvs, jsons = find_csvs(reading.annotations), find_jsons(reading.annotations)
    covered = {file.split for file in csvs}
    unused = [file for file in jsons if file.split in covered or None in covered]
    if unused:
        reading.matching.notes.append(f"JSON files not used, as there are CSVs: {_names(unused)}")
    return csvs, [file for file in jsons if file not in unused], unused


def annotated(
    csvs: Sequence[AnnotationFile], jsons: Sequence[AnnotationFile], reading: Reading
) -> Iterator[KineticsRow]:
    """Every row of every table."""
    for file in csvs:
        yield from read_csv(file, reading)
    for file in jsons:
        yield from read_json(file, reading)


def _refuse_unusable(reading: Reading) -> None:
    """No CSV and no list file: labels can only come from class folders. Say what is wrong where they cannot."""
    for file in reading.annotations:
        if file.ending == ".csv" and file.split is not None:
            columns = short(", ".join(columns_of(file, KNOWN)[0])) or "nothing"
            raise reading.refusal(
                "neither a Kinetics CSV nor a list file; "
                f"needed: label, youtube_id, time_start, time_end; found: {columns}",
                file=file.path,
                row=1,
                hint="put the annotations into the folder or give their place with --annotations",
            )
    if not reading.files.videos:
        raise reading.refusal(
            "no videos, no CSV and no list file found",
            hint="check the folder; links that lead out of it need --follow-symlinks",
        )


def _plan_folders(index: YoutubeIndex, reading: Reading) -> None:
    """No annotations: the files are the plan, and their folders the labels."""
    matching = reading.matching
    videos = index.files.videos
    if not any(index.folders.of(path).is_class for path in videos):
        raise reading.refusal(
            f"{len(videos):,} videos, but neither annotations nor class folders to take labels from",
            hint="give the folder with train.csv, val.csv and test.csv with --annotations",
        )
    unsplit = False
    for number, path in enumerate(videos, start=1):
        name = parse_name(stem_of(path))
        folder = index.folders.of(path)
        unsplit = unsplit or folder.split is None
        error = message = None
        shown = display_path(path)
        if name is None:
            matching.count("file names that hold no YouTube id", shown)
        if path in index.files.outside:
            error, message = "unsafe-path", "the file is a link that leads out of the source folder"
        elif folder.label is None and folder.is_class:
            error = "unknown-label"
            message = note(shown, None, None, "its folder is in no class list of this source")
        elif folder.label is None:
            error, message = (
                "no-label",
                note(shown, None, None, "lies in no class folder, and there are no annotations"),
            )
        reading.rows.add(
            path_to_text(without_ending(path)) if name is None else native_of(name),
            None if error == "unsafe-path" else path,
            folder.split or "train",
            [folder.label] if folder.label is not None else [],
            file=shown,
            row=number,
            unit="file",
            group=name.youtube_id if name is not None else None,
            error=error,
            message=message,
            again="copy",
        )
    matching.layout = "class folders without annotations: the files are the plan"
    if unsplit:
        matching.notes.append("videos under no split folder count as training")
    note_tree(reading)


def _choice(
    spec: SourceSpec, options: SourceOptions, names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """(classes of the source, the ones to keep or None for all) under --kinetics-classes."""
    if options.kinetics_classes == "all":
        return names, None
    chosen = set(class_list("minikinetics200").names)
    kept = tuple(name for name in names if name in chosen)
    if not kept:
        raise ConfigError(
            f"--kinetics-classes {options.kinetics_classes}: none of the 200 is in class list {spec.classes!r}"
        )
    return kept, kept


def _names(files: list[AnnotationFile]) -> str:
    return ", ".join(file.shown for file in files)

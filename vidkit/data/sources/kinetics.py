"""Kinetics on disk -> clip table: CSVs, list files or class folders, with videos in any layout."""

from __future__ import annotations

from collections.abc import Iterable

from vidkit.data.manifests import class_list
from vidkit.data.paths import path_to_text
from vidkit.data.sources import listfile
from vidkit.data.sources.common import (
    ANNOTATED,
    FOUND,
    MISSING,
    TWICE,
    UNANNOTATED,
    AnnotationFile,
    ClassLookup,
    Roots,
    Rows,
    SourceResult,
    annotation_files,
    finish,
    note,
)
from vidkit.data.sources.files import FileIndex, scan
from vidkit.data.sources.kinetics_csv import KineticsRow, columns_of, find_csvs, read_csv
from vidkit.data.sources.youtube import YoutubeIndex, is_youtube_id, parse_name, stem_of, times_text
from vidkit.data.tables import Matching
from vidkit.errors import AnnotationError, ConfigError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

OTHER_FOLDER = "folder's class differs from the annotation (the annotation holds)"
OTHER_SPLIT = "folder's split differs from the annotation (the annotation holds)"


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of a Kinetics folder.

    CSVs are the plan where there are any, then list files, then the files in class folders. Native ids are
    `<YouTube id>_<start>_<end>`, or the bare id where no times are known; the group is the YouTube id.

    Raises:
        AnnotationError: an annotation file that is not what it claims to be, or nothing to tell labels from.
        ConfigError: a folder that cannot be read.
    """
    matching = Matching(spec.name)
    files = scan(roots.folder, matching, follow_symlinks=options.follow_symlinks)
    annotations = annotation_files(files, roots)
    classes, only = _choice(spec, options)
    lookup = ClassLookup(listfile.class_names(spec))
    hashes: dict[str, str] = {}
    rows = Rows(spec.name, matching)
    csvs = find_csvs(annotations)
    lists = listfile.find_lists(annotations)
    if csvs:
        if lists:
            matching.notes.append(f"list files not used, as there are CSVs: {_names(lists)}")
        index = YoutubeIndex(files, lookup)
        annotated = (row for file in csvs for row in read_csv(file, hashes, matching))
        join(annotated, index, lookup, rows)
        report_files(index, matching)
    elif lists:
        listfile.plan(lists, files, roots, lookup, rows, hashes)
    else:
        _refuse_unusable(files, annotations, roots)
        _plan_folders(YoutubeIndex(files, lookup), rows)
    table = finish(rows, spec, options, only=only, part=options.kinetics_fraction)
    return SourceResult(
        table=table, matching=matching, classes=classes, root=files.root, annotations=hashes, version=spec.version
    )


def join(annotated: Iterable[KineticsRow], index: YoutubeIndex, lookup: ClassLookup, rows: Rows) -> None:
    """One clip row for each annotation row, with the video that carries its YouTube id and times."""
    matching = rows.matching
    videos, outside = index.files.videos, index.files.outside
    count = matching.count
    for item in annotated:
        count(ANNOTATED)
        label = lookup.find(item.label) if item.label is not None else None
        labels = [label] if label is not None else [item.label] if item.label else []
        times = None if item.start_s is None or item.end_s is None else times_text(item.start_s, item.end_s)
        known = is_youtube_id(item.youtube_id)
        native = item.youtube_id if known else f"{item.file}:{item.row}"
        if known and times is not None:
            native = f"{item.youtube_id}_{times}"
        found, more = index.find(item.youtube_id, times, label) if known else (None, 0)
        path, start_s, end_s, error, message = None, None, None, None, None
        if found is not None:
            path = videos[found]
            count(FOUND)
            if more:
                count(TWICE, f"{native}: {display_path(path)} and {more} more")
            folder = index.folders.of(path)
            if folder.label is not None and label is not None and folder.label != label:
                count(OTHER_FOLDER, f"{display_path(path)}: annotated {label!r}")
            if folder.split is not None and folder.split != item.split:
                count(OTHER_SPLIT, f"{display_path(path)}: annotated {item.split!r}")
            if not stem_of(path)[11:]:  # a bare id may be the whole video; the build looks at its length
                start_s, end_s = item.start_s, item.end_s
        if path in outside:
            error, message = "unsafe-path", "the file is a link that leads out of the source folder"
        elif item.problem is not None:
            error, message = "bad-annotation", item.problem
        elif item.label is not None and label is None:
            error = "unknown-label"
            message = note(item.file, item.row, "label", f"{item.label!r} is in no class list of this source")
        elif path is None:
            count(MISSING, native)
            error, message = "missing", _looked_for(item.youtube_id, times, index)
        rows.add(
            native,
            None if error == "unsafe-path" else path,
            item.split,
            labels,
            file=item.file,
            row=item.row,
            group=item.youtube_id if known else None,
            start_s=start_s,
            end_s=end_s,
            error=error,
            message=message,
        )


def _looked_for(youtube_id: str, times: str | None, index: YoutubeIndex) -> str:
    names = f"{youtube_id}_{times} or {youtube_id}" if times else youtube_id
    others = index.all_of(youtube_id)
    also = f"; {stem_of(index.files.videos[others[0]])} is there, with other times" if others else ""
    return f"looked for {names}, with any video ending{also}"


def report_files(index: YoutubeIndex, matching: Matching) -> None:
    """Describe the layout, and count the videos that no annotation row took."""
    videos = index.files.videos
    kinds = {"flat": 0, "class folders": 0, "class folders, bare ids": 0, "flat, bare ids": 0}
    for i, path in enumerate(videos):
        if not index.claimed[i]:
            matching.count(UNANNOTATED, display_path(path))
            continue
        kind = "class folders" if index.folders.of(path).is_class else "flat"
        kinds[kind if stem_of(path)[11:] else f"{kind}, bare ids"] += 1
    matching.layout = "; ".join(f"{kind} ({n:,})" for kind, n in kinds.items() if n) or "no video that is annotated"


def _refuse_unusable(files: FileIndex, annotations: list[AnnotationFile], roots: Roots) -> None:
    """No CSV and no list file: labels can only come from class folders. Say what is wrong where they cannot."""
    for file in annotations:
        if file.path.suffix.lower() == ".csv" and listfile.split_of(file) is not None:
            columns = ", ".join(columns_of(file))[:200] or "nothing"
            raise AnnotationError(
                "neither a Kinetics CSV nor a list file; "
                f"needed: label, youtube_id, time_start, time_end; found: {columns}",
                file=file.path,
                row=1,
                hint="put the annotations into the folder or give their place with --annotations",
            )
    if not files.videos:
        raise AnnotationError(
            "no videos, no CSV and no list file found",
            file=roots.folder,
            hint="check the folder; links that lead out of it need --follow-symlinks",
        )


def _plan_folders(index: YoutubeIndex, rows: Rows) -> None:
    """No annotations: the files are the plan, and their folders the labels."""
    matching = rows.matching
    videos = index.files.videos
    if not any(index.folders.of(path).is_class for path in videos):
        raise AnnotationError(
            f"{len(videos):,} videos, but neither annotations nor class folders to take labels from",
            file=index.files.root,
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
        native = path_to_text(path[: path.rfind(".")])
        if name is not None:
            native = name.youtube_id if name.times is None else f"{name.youtube_id}_{name.times}"
        rows.add(
            native,
            None if error == "unsafe-path" else path,
            folder.split or "train",
            [folder.label] if folder.label is not None else [],
            file=shown,
            row=number,
            unit="file",
            group=name.youtube_id if name is not None else None,
            error=error,
            message=message,
        )
    matching.layout = "class folders without annotations: the files are the plan"
    if unsplit:
        matching.notes.append("videos under no split folder count as training")


def _choice(spec: SourceSpec, options: SourceOptions) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """(classes of the source, the ones to keep or None for all) under --kinetics-classes."""
    names = listfile.class_names(spec)
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

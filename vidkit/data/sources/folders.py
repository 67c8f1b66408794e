"""Any videos in class folders -> clip table: `<class>/x.mp4` or `<split>/<class>/x.mp4`."""

from __future__ import annotations

from vidkit.data.manifests import source_classes
from vidkit.data.paths import path_to_text
from vidkit.data.sources.common import ClassLookup, Roots, Rows, SourceResult, finish, note, plain
from vidkit.data.sources.files import FileIndex, scan, split_of_folders, split_of_name
from vidkit.data.tables import Matching
from vidkit.errors import AnnotationError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of class folders: the files are the plan, native ids are paths without their ending.

    A video's class is the folder that it lies in; its split the nearest folder above that is named as one
    (train where there is none). Without a class list the classes are the folder names, sorted.

    Raises:
        AnnotationError: there is no video in any class folder.
        ConfigError: a folder that cannot be read.
    """
    matching = Matching(spec.name)
    files = scan(roots.folder, matching, follow_symlinks=options.follow_symlinks)
    classes = source_classes(spec)
    lookup = ClassLookup(classes.names if classes is not None else _class_folders(files))
    if not any(_parse(path)[0] is not None for path in files.videos):
        raise AnnotationError(
            f"{len(files.videos):,} videos, none of them in a class folder",
            file=roots.folder,
            hint="expected <class>/x.mp4, or <split>/<class>/x.mp4 with train, val or test",
        )
    rows = Rows(spec.name, matching)
    for number, path in enumerate(files.videos, start=1):
        folder, split = _parse(path)
        label = lookup.find(folder) if folder is not None else None
        error = message = None
        shown = display_path(path)
        if path in files.outside:
            error, message = "unsafe-path", "the file is a link that leads out of the source folder"
        elif folder is None:
            error, message = "no-label", note(shown, None, None, "lies in no class folder")
        elif label is None:
            error, message = (
                "unknown-label",
                note(shown, None, None, f"{folder!r} is no class of this source"),
            )
        rows.add(
            path_to_text(path[: path.rfind(".")]),
            None if error == "unsafe-path" else path,
            split or "train",
            [label if label is not None else folder] if folder is not None else [],
            file=shown,
            row=number,
            unit="file",
            error=error,
            message=message,
        )
        if split is None:
            matching.count("under no split folder (counted as training)", shown)
    matching.layout = "class folders: the files are the plan"
    table = finish(rows, spec, options)
    return SourceResult(
        table=table, matching=matching, classes=lookup.names, root=files.root, annotations={}, version=spec.version
    )


def _parse(path: str) -> tuple[str | None, str | None]:
    """(class folder, split) of a video's path; a folder named as a split is no class."""
    parts = path.split("/")[:-1]
    folder = plain(parts.pop()) if parts and split_of_name(parts[-1]) is None else None
    return folder, split_of_folders(parts)


def _class_folders(files: FileIndex) -> list[str]:
    return sorted({folder for path in files.videos if (folder := _parse(path)[0]) is not None})

"""Any videos in class folders -> clip table: `<class>/x.mp4`, split folders above or below the classes."""

from __future__ import annotations

from typing import NamedTuple

from vidkit.data.manifests import source_classes
from vidkit.data.paths import path_to_text
from vidkit.data.sources.parts.classes import ClassLookup, merge_spellings
from vidkit.data.sources.parts.endings import without_ending
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import SourceResult, note, plain
from vidkit.data.sources.parts.splits import split_level, split_of_folder
from vidkit.errors import display_path
from vidkit.settings.encode import SourceOptions, SourceSpec


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of class folders: the files are the plan, native ids are paths without their ending.

    A video's class is the folder that it lies in. Its split is the folder that is named as one, whole, at the one
    level where the tree has its splits (train where there is none): `<split>/<class>/x.mp4`, or
    `<class>/<split>/x.mp4` where every class folder holds split folders only. Without a class list the classes are
    the folder names, sorted; spellings that differ only in case, blanks, punctuation or normal form are one class.

    Raises:
        AnnotationError: there is no video in any class folder, or only some class folders hold split folders.
        ConfigError: a folder that cannot be read.
    """
    classes = source_classes(spec)
    lookup = None if classes is None else ClassLookup(classes.names)
    reading = Reading.begin(
        spec,
        roots,
        options,
        classes=(),
        # without a class list any name is a class's
        names_class=lambda name: lookup is None or lookup.find(name) is not None,
    )
    matching, rows, videos = reading.matching, reading.rows, reading.files.videos
    places = _places(videos)
    if mixed := _split_in_part(places):
        raise reading.refusal(
            f"{display_path(mixed)} holds split folders, other class folders do not", hint=_EXPECTED
        )
    named = [place.name for path in videos if (place := places[_folder(path)]).name is not None]
    if not named:
        raise reading.refusal(
            f"{len(videos):,} videos, none of them in a class folder",
            hint=_EXPECTED,
        )
    class_of, merged = merge_spellings(named)
    if lookup is not None:
        class_of = {name: label for name in class_of if (label := lookup.find(name)) is not None}
    else:
        lookup = ClassLookup(sorted(set(class_of.values())))
        for text in merged:
            matching.doubt(f"spellings of one class: {text}")
    reading.lookup = lookup
    if below := [folder for folder, place in places.items() if place.above]:
        parents = {_folder(folder) for folder in below}
        if len(parents) == 1:  # as well a folder around splits whose videos have no classes
            matching.doubt(f"the only class is {display_path(min(parents))}, a folder around split folders")
    for number, path in enumerate(videos, start=1):
        folder, split, _ = places[_folder(path)]
        label = class_of.get(folder) if folder is not None else None
        error = message = None
        shown = display_path(path)
        if path in reading.files.outside:
            error, message = "unsafe-path", "the file is a link that leads out of the source folder"
        elif folder is None:
            error, message = "no-label", note(shown, None, None, "lies in no class folder")
        elif label is None:
            error, message = (
                "unknown-label",
                note(shown, None, None, f"{folder!r} is no class of this source"),
            )
        rows.add(
            path_to_text(without_ending(path)),
            None if error == "unsafe-path" else path,
            split or "train",
            [label if label is not None else folder] if folder is not None else [],
            file=shown,
            row=number,
            unit="file",
            error=error,
            message=message,
            again="clip",
        )
        if split is None:
            matching.count("under no split folder (counted as training)", shown)
    matching.layout = "class folders: the files are the plan"
    note_tree(reading)
    return reading.end()


_EXPECTED = "expected <class>/x.mp4, <split>/<class>/x.mp4 or <class>/<split>/x.mp4 with train, val or test"


class _Place(NamedTuple):
    """What a folder says of the videos in it."""

    name: str | None
    """The class as it is spelled there; None: the folder is no class."""
    split: str | None
    above: bool = False
    """The class is the folder around the split's."""


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _places(videos: list[str]) -> dict[str, _Place]:
    """Folder -> class and split."""
    parts = {folder: folder.split("/") if folder else [] for folder in map(_folder, videos)}
    level = split_level(parts[_folder(path)] for path in videos)
    # <class>/<split>/x.mp4: below the classes there is nothing but split folders
    last = level is not None and level > 0 and all(len(names) == level + 1 for names in parts.values() if names)
    places = {}
    for folder, names in parts.items():
        if last and names:
            places[folder] = _Place(plain(names[-2]), split_of_folder(names[-1]), above=True)
            continue
        split = split_of_folder(names[level]) if level is not None and level < len(names) else None
        is_class = bool(names) and not (split is not None and level == len(names) - 1)
        places[folder] = _Place(plain(names[-1]) if is_class else None, split)
    return places


def _split_in_part(places: dict[str, _Place]) -> str | None:
    """A class folder of split folders in a tree where others are not so; None where there is none.

    A folder of one folder that is named as a split may well be one of classes: `vehicles/train/x.mp4`.
    """
    if any(place.split for place in places.values()):
        return None
    children: dict[str, set[str | None]] = {}
    for folder in places:
        if "/" in folder:
            children.setdefault(_folder(folder), set()).add(split_of_folder(folder.rpartition("/")[2]))
    return min((parent for parent, found in children.items() if len(found) > 1 and None not in found), default=None)


def note_tree(reading: Reading) -> None:
    """Note what a tree of class folders may have left out by accident: hidden folders, classes of one split."""
    notes = reading.matching.notes
    if hidden := [display_path(path) for path in reading.files.hidden]:
        notes.append(f"hidden folders are left out: {_some(hidden)}")
    clips = reading.rows.clips
    splits: dict[str, set[str]] = {}
    for split, labels, error in zip(clips.split, clips.labels, clips.error, strict=True):
        if labels and error is None:
            splits.setdefault(labels[0], set()).add(split)
    if len({split for found in splits.values() for split in found}) < 2:
        return
    alone = [f"{name} ({min(found)})" for name, found in sorted(splits.items()) if len(found) == 1]
    if alone:
        notes.append(f"{len(alone)} of {len(splits)} classes have clips in one split only: {_some(alone)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")

"""TinyVIRAT v1 and v2 on disk -> clip table. Multi-label; found by the names and the form of the JSON files."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Sequence
from typing import Any

from vidkit.data.sources.parts.finder import Located, PathFinder
from vidkit.data.sources.parts.jsons import check_order, kind_of, label_map, parse_json
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import ANNOTATED, ENDING, FOUND, MISSING, TWICE, SourceResult, note, plain
from vidkit.data.sources.parts.splits import split_of_folders, split_of_name
from vidkit.data.sources.parts.texts import AnnotationFile, read_annotation
from vidkit.data.tables import SPLITS, Matching
from vidkit.errors import AnnotationError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

_NAME = re.compile(r"tiny.*\.json", re.IGNORECASE)
_HINT = (
    "put tiny_train.json and tiny_test.json (v1) or tiny_train_v2.json, tiny_val_v2.json and "
    "tiny_test_v2_public.json (v2) into the folder, or give their place with --annotations"
)


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of TinyVIRAT: native id is the annotated path without its ending, the group the VIRAT video.

    v1 where both releases are found, unless `spec.version` says otherwise. Labels are sorted, each once.

    Raises:
        AnnotationError: no annotation file, one that is not what it claims to be, or a class map in another order.
        ConfigError: a folder that cannot be read.
    """
    reading = Reading.begin(spec, roots, options)
    named = [file for file in reading.annotations if _NAME.fullmatch(file.path.name) and file.split is not None]
    if not named:
        raise reading.refusal("no TinyVIRAT annotation file found", hint=_HINT)
    version, chosen, unused = _choose(named, reading)
    for file in reading.annotations:
        if file.path.name.lower() == "class_map.json":
            found = label_map(parse_json(reading.text(file), file, unique=True), file)
            check_order(found, reading.lookup.names, file)
    finder = PathFinder.of(reading.files, roots.folder)
    claimed = bytearray(len(reading.files.videos))
    reading.matching.annotation_files.extend(file.shown for file, _ in chosen)
    for file, (digest, records) in chosen:
        reading.hashes[file.shown] = digest
        reader = _Records(file, version, finder, claimed, reading)
        for number, record in enumerate(records, start=1):
            reader.add(record, number)
    reading.count_unclaimed(claimed.__getitem__)
    reading.matching.layout = f"TinyVIRAT {version}"
    return reading.end(version=version, understood=unused)


_Loaded = tuple[AnnotationFile, tuple[str, list[Any]]]


def _choose(named: Sequence[AnnotationFile], reading: Reading) -> tuple[str, list[_Loaded], list[str]]:
    """(version, its files with digest and records, files of the other): v1 is {"tubes": [...]}, v2 a list."""
    wanted, matching = reading.spec.version, reading.matching
    versions: dict[str, list[_Loaded]] = {}
    for file in sorted(named, key=lambda file: (SPLITS.index(file.split or ""), file.shown)):
        hashes: dict[str, str] = {}
        value = parse_json(read_annotation(file, hashes, Matching(matching.source)), file)
        version, records = ("v1", value.get("tubes")) if isinstance(value, dict) else ("v2", value)
        if not isinstance(records, list):
            raise AnnotationError(
                f'expected {{"tubes": [...]}} (v1) or a list (v2), found {kind_of(value)}',
                file=file.path,
                hint="take the file as published, or move it out of the folder",
            )
        if not records:
            raise AnnotationError("the list of records is empty", file=file.path, hint="download it again")
        versions.setdefault(version, []).append((file, (hashes[file.shown], records)))
    if wanted is not None and wanted not in versions:
        raise AnnotationError(
            f"no annotation file of TinyVIRAT {wanted}; found {', '.join(sorted(versions))}",
            file=named[0].path.parent,
            hint=_HINT,
        )
    version = wanted if wanted is not None else min(versions)
    unused = [file.shown for other in versions if other != version for file, _ in versions[other]]
    for other in sorted(set(versions) - {version}):
        names = ", ".join(file.shown for file, _ in versions[other])
        why = "as the spec asks" if wanted is not None else 'set version = "v2" in the spec for the other'
        matching.notes.append(f"both releases were found; {version} is used ({why}); not read: {names}")
    return version, versions[version], unused


class _Records:
    """Turns the records of one file into rows."""

    def __init__(
        self,
        file: AnnotationFile,
        version: str,
        finder: PathFinder,
        claimed: bytearray,
        reading: Reading,
    ) -> None:
        split = file.split
        assert split is not None
        self.split = split
        self.shown = file.shown
        self.beside = posixpath.dirname(file.shown).split("/")
        # the labels of v2's test split are withheld
        self.labelled = not (split == "test" and version == "v2")
        self.finder, self.claimed = finder, claimed
        self.files, self.lookup, self.rows = reading.files, reading.lookup, reading.rows
        self.near = reading.near

    def add(self, record: Any, number: int) -> None:
        matching = self.rows.matching
        matching.count(ANNOTATED)
        faults: list[tuple[str, str]] = []

        def fault(code: str, field: str | None, text: str) -> None:
            faults.append((code, note(self.shown, number, field, text, unit="record")))

        if not isinstance(record, dict):
            fault("bad-annotation", None, f"expected an object, found {kind_of(record)}")
            record = {}
            given = None
        else:
            given = record.get("path")
            if not isinstance(given, str) or not given.strip() or "\0" in given:
                fault("bad-annotation", "path", f"{given!r} is no path" if "path" in record else "missing")
                given = None
        labels = self._labels(record, fault) if record else []
        located = self._locate(given) if given is not None else Located(None, "missing")
        path = None if located.video is None else self.files.videos[located.video]
        if located.how == "unsafe":
            fault("unsafe-path", "path", f"{given!r} leads out of the source folder")
        if path is not None and located.video is not None:
            self.claimed[located.video] = 1
            matching.count(FOUND)
            if located.how == "ending":
                matching.count(ENDING, f"{given} -> {display_path(path)}")
            if located.others:
                matching.count(TWICE, f"{given}: {display_path(path)} and {located.others} more")
            if path in self.files.outside:
                fault("unsafe-path", "path", f"{given!r} is a link that leads out of the source folder")
                path = None
        elif given is not None and not faults:
            text = f"no file {given!r} under a folder of the {self.split} split"
            if located.how == "ambiguous":
                some = ", ".join(display_path(self.files.videos[i]) for i in located.near)
                text = f"{located.others} files could be {given!r}, and nothing tells which: {some}"
            fault("missing", "path", text + (self.near(given) if located.how == "missing" else ""))
            matching.count(MISSING, plain(given))
        error, message = faults[0] if faults else (None, None)
        if any(code == "unsafe-path" for code, _ in faults):  # the fault to know about, whatever else is wrong
            error, message = next(item for item in faults if item[0] == "unsafe-path")
        native = f"{self.shown}:{number}"
        if given is not None and located.how != "unsafe":
            native = plain(posixpath.splitext(given)[0]).lstrip("/")
        self.rows.add(
            native,
            path,
            self.split,
            labels,
            file=self.shown,
            row=number,
            unit="record",
            group=_group(record, given),
            error=error,
            message=message,
        )

    def _locate(self, given: str) -> Located:
        def accept(prefix: str) -> bool:
            return split_of_folders(prefix.split("/"), split_of_name) in (self.split, None)

        def rank(prefix: str) -> int:
            # nearest to the annotation file first: v1 and v2 can lie side by side
            pairs = zip(prefix.split("/"), self.beside, strict=False)
            return -sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

        return self.finder.below(given, accept, rank)

    def _labels(self, record: dict[str, Any], fault: Any) -> list[str]:
        given = record.get("label")
        if given is None and not self.labelled:
            return []
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            fault("bad-annotation", "label", f"{given!r} is no list of names" if "label" in record else "missing")
            return []
        if not given and self.labelled:
            fault("bad-annotation", "label", "the list is empty")
        names = {name: self.lookup.find(name) for name in given}
        for name, known in names.items():
            if known is None:
                fault("unknown-label", "label", f"{name!r} is none of the {len(self.lookup.names)} labels")
        return sorted({known if known is not None else plain(name) for name, known in names.items()})


def _group(record: dict[str, Any], given: str | None) -> str | None:
    """The surveillance video that the clip was cut from: `video_id`, or the path's folder."""
    video = record.get("video_id")
    if isinstance(video, str) and video:
        return plain(video)
    folder = posixpath.basename(posixpath.dirname(given)) if given is not None else ""
    return plain(folder) if folder and folder != ".." else None

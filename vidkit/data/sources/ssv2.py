"""Something-Something v2 on disk -> clip table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from vidkit.data.sources.parts.classes import ClassLookup
from vidkit.data.sources.parts.endings import may_be_video, stem_of
from vidkit.data.sources.parts.files import FileIndex
from vidkit.data.sources.parts.jsons import check_order, kind_of, label_map, parse_json
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import ANNOTATED, COPIES, FOUND, MISSING, SourceResult, note, plain
from vidkit.data.sources.parts.texts import AnnotationFile, head
from vidkit.data.tables import Try
from vidkit.errors import AnnotationError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec

_NAME = re.compile(r"(something-something-v2-)?(train|validation|val|test|labels)\.json", re.IGNORECASE)
_ANSWER = re.compile(r'\s*"?([0-9]+)"?\s*;\s*(.+?)\s*')
_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of Something-Something v2: native id and group are the video's number.

    Raises:
        AnnotationError: no annotation file, one that is not what it claims to be, or labels in another order.
        ConfigError: a folder that cannot be read.
    """
    reading = Reading.begin(spec, roots, options, is_named=_is_named)
    named = _find(reading.annotations)
    if not {"train", "val", "test"} & set(named):
        raise reading.refusal(
            "no annotation file found",
            hint="put something-something-v2-train.json (or train.json) and its like into the folder, "
            "or give their place with --annotations",
            understood=[file.shown for file in named.get("labels", ())],
        )
    for file in named.get("labels", ()):
        labels = label_map(parse_json(reading.text(file), file, unique=True), file)
        check_order(labels, reading.lookup.names, file)
    if "labels" not in named:
        reading.matching.notes.append("no labels file: class ids are those of the published list")
    answers = _read_answers(reading) if "test" in named else {}
    videos = _Videos(reading.files)
    for split in ("train", "val", "test"):
        for file in named.get(split, ()):
            records = parse_json(reading.text(file), file)
            if not isinstance(records, list):
                raise AnnotationError(f"expected a list of records, found {kind_of(records)}", file=file.path)
            if not records:
                raise AnnotationError("the list of records is empty", file=file.path, hint="download it again")
            for number, record in enumerate(records, start=1):
                _add(record, number, split, file.shown, answers, videos, reading)
    if answers:
        reading.matching.count("answers for the test split", by=len(answers))
    reading.count_unclaimed(videos.claimed.__getitem__)
    folders = sorted({path.rpartition("/")[0] for path in reading.files.videos})
    reading.matching.layout = (
        f"videos in {', '.join(display_path(f) or 'the folder itself' for f in folders[:3])}"
        + (f" and {len(folders) - 3:,} more folders" if len(folders) > 3 else "")
    )
    return reading.end()


def _is_named(path: str) -> bool:
    stem = stem_of(path)
    return may_be_video(path) and stem.isascii() and stem.isdecimal()


def _find(annotations: Sequence[AnnotationFile]) -> dict[str, list[AnnotationFile]]:
    """Split or "labels" -> files. Short names (train.json) count only where there is no long one."""
    named: dict[str, list[tuple[bool, AnnotationFile]]] = {}
    for file in annotations:
        if match := _NAME.fullmatch(file.path.name):
            what = match.group(2).lower()
            named.setdefault(_SPLITS.get(what, what), []).append((match.group(1) is not None, file))
    return {
        what: [file for is_long, file in found if is_long or not any(long for long, _ in found)]
        for what, found in named.items()
    }


class _Videos:
    def __init__(self, files: FileIndex) -> None:
        self.files = files
        self.claimed = bytearray(len(files.videos))
        self._by_id: dict[str, list[int]] = {}
        for i, path in enumerate(files.videos):
            self._by_id.setdefault(stem_of(path), []).append(i)

    def find(self, native_id: str) -> list[str]:
        """The files of a video, those first that may be opened."""
        found = self._by_id.get(native_id, [])
        for i in found:
            self.claimed[i] = 1
        return sorted((self.files.videos[i] for i in found), key=lambda path: path in self.files.outside)


def _read_answers(reading: Reading) -> dict[str, tuple[str, str]]:
    """Video number -> (label, where it stands), from CSVs of `id;label`."""
    answers: dict[str, tuple[str, str]] = {}
    for file in reading.annotations:
        if file.ending != ".csv":
            continue
        lines = [line for line in head(file).splitlines() if line.strip()][:2]
        if not any(_ANSWER.fullmatch(line) for line in lines):
            continue
        for row, line in enumerate(reading.text(file).splitlines(), start=1):
            if match := _ANSWER.fullmatch(line):
                answers[match.group(1)] = (match.group(2).strip('"'), f"{file.shown}, row {row}")
            elif line.strip() and row > 1:
                raise AnnotationError(f"{line[:80]!r} is not `id;label`", file=file.path, row=row)
    return answers


def _add(
    record: Any,
    number: int,
    split: str,
    shown: str,
    answers: dict[str, tuple[str, str]],
    videos: _Videos,
    reading: Reading,
) -> None:
    matching = reading.matching
    matching.count(ANNOTATED)
    error = message = None
    labels: list[str] = []

    def fault(code: str, field: str | None, text: str) -> None:
        nonlocal error, message
        if error is None:
            error, message = code, note(shown, number, field, text, unit="record")

    given = record.get("id") if isinstance(record, dict) else None
    native = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not isinstance(record, dict):
        fault("bad-annotation", None, f"expected an object, found {kind_of(record)}")
    elif not (native.isascii() and native.isdecimal()):
        fault("bad-annotation", "id", f"{given!r} is no number" if "id" in record else "missing")
        native = ""
    else:
        _read_label(record, split, answers.get(native), reading.lookup, labels, fault)
    found = videos.find(native) if native else []
    path = found[0] if found else None
    if path is not None:
        matching.count(FOUND)
        if len(found) > 1:
            matching.count(COPIES, f"{native}: {display_path(path)} and {len(found) - 1} more")
        if path in videos.files.outside:
            fault("unsafe-path", None, "the file is a link that leads out of the source folder")
            path = None
    elif error is None:
        error = "missing"
        message = f"looked for {native}.webm, {native}.mp4 or another video ending{reading.near(native)}"
        matching.count(MISSING, native)
    reading.rows.add(
        native or f"{shown}:{number}",
        path,
        split,
        labels,
        file=shown,
        row=number,
        unit="record",
        group=native or None,
        error=error,
        message=message,
        tries=[Try(one) for one in found if one not in videos.files.outside] if len(found) > 1 else None,
    )


def _read_label(
    record: dict[str, Any],
    split: str,
    answer: tuple[str, str] | None,
    lookup: ClassLookup,
    labels: list[str],
    fault: Any,
) -> None:
    if split == "test":
        if answer is None:
            return
        template: Any = answer[0]
        field, where = "label", f" (from {answer[1]})"
    else:
        template, field, where = record.get("template"), "template", ""
        if not isinstance(template, str) or not template.strip():
            fault("bad-annotation", field, f"{template!r} is no text" if "template" in record else "missing")
            return
    name = template.replace("[", "").replace("]", "").strip()
    label = lookup.find(name)
    labels.append(label if label is not None else plain(name))
    if label is None:
        fault("unknown-label", field, f"{template!r} is none of the {len(lookup.names)} templates{where}")

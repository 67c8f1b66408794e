"""UCF101 on disk -> clip table, by the official lists `trainlist01.txt` and `testlist01.txt` (or 02, 03)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vidkit.data.sources.parts.listed import Listed, plan_listed, wanted_division
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import SourceResult
from vidkit.data.sources.parts.texts import AnnotationFile
from vidkit.errors import AnnotationError
from vidkit.settings.encode import SourceOptions, SourceSpec

_LIST = re.compile(r"(train|test)list0([123])\.txt", re.IGNORECASE)
_CLASSES = re.compile(r"classind\.txt", re.IGNORECASE)
_LINE = re.compile(r"([^/]+)/([^/]+?)(?:\s+([0-9]+))?")
#: v_ApplyEyeMakeup_g08_c01: the clips of a class and a group are of one video
_GROUP = re.compile(r"v_(.+_g[0-9]{2})_c[0-9]{2}", re.IGNORECASE)


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of UCF101: native id is the file's name, the group its class and number of video (g01 to g25).

    Of the three official divisions the one that the spec's `version` names ("1", "2" or "3"), else the first that
    is there.

    Raises:
        AnnotationError: no list, or a class index in another order.
        ConfigError: a folder that cannot be read.
    """
    reading = Reading.begin(spec, roots, options)
    lists = [
        (file, match.group(1).lower(), int(match.group(2)))
        for file in reading.annotations
        if (match := _LIST.fullmatch(file.path.name))
    ]
    which = wanted_division((number for _, _, number in lists), spec.version)
    chosen = {part: file for file, part, number in lists if number == which}
    if not chosen:
        raise reading.refusal(
            f"no list of UCF101 found: trainlist{which:02}.txt or testlist{which:02}.txt",
            hint="unpack ucfTrainTestlist into the folder, or give its place with --annotations",
            understood=[file.shown for file, _, _ in lists],
        )
    for part in sorted({"train", "test"} - set(chosen)):
        reading.matching.notes.append(f"no {part}list{which:02}.txt found: that split is empty")
    for file in reading.annotations:
        if _CLASSES.fullmatch(file.path.name):
            _check_classes(file, reading)
    plan_listed((line for part, file in sorted(chosen.items()) for line in _lines(file, part, reading)), reading)
    reading.matching.layout = f"UCF101, split {which}"
    return reading.end(version=str(which), understood=[file.shown for file, _, _ in lists])


def _check_classes(file: AnnotationFile, reading: Reading) -> None:
    """classInd.txt counts from 1, and gives the order that the numbers in the lists mean."""
    names = reading.lookup.names
    for row, line in enumerate(reading.text(file).splitlines(), start=1):
        if not line.strip():
            continue
        number, _, name = line.strip().partition(" ")
        known = names[int(number) - 1] if number.isdecimal() and 1 <= int(number) <= len(names) else None
        if known is None or known != name.strip():
            raise AnnotationError(
                f"{line.strip()[:120]!r} is not class {number} as published ({known!r})",
                file=file.path,
                row=row,
                hint="take classInd.txt as published, or write a spec with a class list of your own",
            )


def _lines(file: AnnotationFile, part: str, reading: Reading) -> Iterator[Listed]:
    names = reading.lookup.names
    for row, text in enumerate(reading.text(file).splitlines(), start=1):
        if not (line := text.strip()):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            fault = ("path", f"{line[:120]!r} is not `Class/file.avi`, with a number after it in training lists")
            yield Listed(file=file, row=row, split=part, label=None, path=line, fault=fault)
            continue
        label, name, number = match.groups()
        known = reading.lookup.find(label)
        wrong = number is not None and known is not None and names.index(known) + 1 != int(number)
        group = _GROUP.match(name)
        yield Listed(
            file=file,
            row=row,
            split=part,
            label=label,
            path=f"{label}/{name}",
            group=group.group(1) if group else None,
            fault=("label", f"{label!r} is class {names.index(known) + 1}, not {number}")
            if wrong and known
            else None,
        )

"""HMDB51 on disk -> clip table, by the official lists `<class>_test_split1.txt` (or 2, 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vidkit.data.sources.parts.listed import Listed, plan_listed, wanted_division
from vidkit.data.sources.parts.reading import Reading, Roots
from vidkit.data.sources.parts.rows import SourceResult
from vidkit.data.sources.parts.texts import AnnotationFile
from vidkit.settings.encode import SourceOptions, SourceSpec

_LIST = re.compile(r"(.+)_test_split([123])\.txt", re.IGNORECASE)
_LINE = re.compile(r"(\S.*?)\s+([012])")
_SPLITS = {"0": "unused", "1": "train", "2": "test"}
#: what follows film and class in a name: body part, camera motion, people, view, quality, number
_PROPERTIES = re.compile(r"_[hluf]_(?:cm|nm)_np[0-9]+_(?:ba|fr|le|ri)_(?:goo|med|bad)_[0-9]+", re.IGNORECASE)


def read(spec: SourceSpec, roots: Roots, options: SourceOptions) -> SourceResult:
    """Clip table of HMDB51: native id is the file's name, the group the film that its name begins with.

    Of the three official divisions the one that the spec's `version` names ("1", "2" or "3"), else the first that
    is there. A division gives each class 70 training and 30 test clips; the others are its split "unused".

    Raises:
        AnnotationError: no list at all.
        ConfigError: a folder that cannot be read.
    """
    reading = Reading.begin(spec, roots, options)
    lists = [
        (file, match.group(1), int(match.group(2)))
        for file in reading.annotations
        if (match := _LIST.fullmatch(file.path.name))
    ]
    which = wanted_division((number for _, _, number in lists), spec.version)
    chosen = sorted(
        ((label, file) for file, label, number in lists if number == which), key=lambda item: item[1].shown
    )
    if not chosen:
        raise reading.refusal(
            f"no list of HMDB51 found, such as brush_hair_test_split{which}.txt",
            hint="unpack test_train_splits into the folder, or give its place with --annotations",
            understood=[file.shown for file, _, _ in lists],
        )
    there = {reading.lookup.find(label) for label, _ in chosen}
    if absent := [name for name in reading.lookup.names if name not in there]:
        some = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        reading.matching.doubt(f"no list of split {which} for {len(absent)} classes: {some}")
    plan_listed((line for label, file in chosen for line in _lines(file, label, reading)), reading)
    reading.matching.layout = f"HMDB51, split {which}"
    return reading.end(version=str(which), understood=[file.shown for file, _, _ in lists])


def _lines(file: AnnotationFile, label: str, reading: Reading) -> Iterator[Listed]:
    for row, text in enumerate(reading.text(file).splitlines(), start=1):
        if not (line := text.strip()):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            fault = ("path", f"{line[:120]!r} is not `file.avi` and 0 (unused), 1 (training) or 2 (test)")
            yield Listed(file=file, row=row, split="train", label=label, path=line, fault=fault)
            continue
        name, number = match.groups()
        yield Listed(
            file=file,
            row=row,
            split=_SPLITS[number],
            label=label,
            path=f"{label}/{name}",
            group=film_of(name, label),
        )


def film_of(name: str, label: str) -> str | None:
    """The film that a clip was cut from; None where the name does not say.

    >>> film_of("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair")
    'April_09'
    """
    match = _PROPERTIES.search(name)
    if match is None:
        return None
    before = name[: match.start()]
    found, _, rest = before.rpartition(f"_{label}")
    # some names have the class in another form: what stands before the properties is then of one film at least
    return found if found and not rest else before

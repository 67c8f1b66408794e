"""Class lists and dataset specs: the data under `manifests/`, read and checked.

The wheel carries the folder as `vidkit/_manifests`; a checkout has it at the top level.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidkit.errors import AnnotationError, ConfigError
from vidkit.settings.encode import DatasetSpec, SourceSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class ClassList:
    """Class names in the order of their ids: `names[i]` is class `i`."""

    name: str
    origin: str
    """The published list that the names come from: equal names of one origin mean the same class."""
    names: tuple[str, ...]

    @property
    def ids(self) -> dict[str, int]:
        """Name -> id, where an id is the position in `names`."""
        return {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"ClassList({self.name!r}, {len(self.names)} names)"


#: name -> (file, column with the name, column that must be 1)
_CLASS_LISTS: dict[str, tuple[str, str, str | None]] = {
    "kinetics400": ("kinetics400.csv", "name", None),
    "minikinetics200": ("kinetics400.csv", "name", "minikinetics200"),
    "ssv2": ("ssv2.csv", "template", None),
    "tinyvirat26": ("tinyvirat26.csv", "name", None),
    "ucf101": ("ucf101.csv", "name", None),
    "hmdb51": ("hmdb51.csv", "name", None),
}


def manifests_folder() -> Path:
    """Where class lists and specs are: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_manifests", package.parent / "manifests"):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"no manifests folder beside {package}", hint="reinstall vidkit; its wheel carries vidkit/_manifests"
    )


def class_list_names() -> tuple[str, ...]:
    """Names that `class_list` knows, sorted."""
    return tuple(sorted(_CLASS_LISTS))


@functools.cache
def class_list(name: str) -> ClassList:
    """A published class list by name: kinetics400, minikinetics200, ssv2, tinyvirat26, ucf101 or
    hmdb51.

    Raises:
        ConfigError: there is no list of that name.
    """
    if name not in _CLASS_LISTS:
        raise ConfigError(f"no class list {name!r}{_closest(name, class_list_names())}", hint=_known_lists())
    file, column, flag = _CLASS_LISTS[name]
    with (manifests_folder() / file).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = tuple(row[column] for row in rows if flag is None or row[flag] == "1")
    return ClassList(name=name, origin=Path(file).stem, names=names)


def source_classes(spec: SourceSpec) -> ClassList | None:
    """The class list of one source; None where the names come from its class folders."""
    if spec.class_names:
        return ClassList(name=spec.classes or spec.name, origin=f"source {spec.name}", names=spec.class_names)
    return None if spec.classes is None else class_list(spec.classes)


def spec_names() -> tuple[str, ...]:
    """Names of the specs that vidkit carries."""
    return tuple(sorted(path.stem for path in manifests_folder().glob("*.toml")))


def load_spec(name_or_path: str | os.PathLike[str]) -> DatasetSpec:
    """A dataset spec by name, or from a TOML file (an ending `.toml` or a folder in the name says which).

    Raises:
        ConfigError: no such spec, no valid TOML, or unknown keys, wrong types and bad values, all reported
            together with the file and the key of each.
    """
    given = os.fspath(name_or_path)
    if given.endswith(".toml") or os.sep in given or isinstance(name_or_path, os.PathLike):
        path = Path(given)
        if not path.is_file():
            raise ConfigError("no such spec file", file=given, hint=f"or name one of: {', '.join(spec_names())}")
    else:
        path = manifests_folder() / f"{given}.toml"
        if given not in spec_names():
            raise ConfigError(
                f"no dataset spec {given!r}{_closest(given, spec_names())}",
                hint=f"name one of {', '.join(spec_names())}, or give the path of a .toml file",
            )
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text ({error.reason} at byte {error.start})", file=path) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", file=path) from error
    faults: list[str] = []
    for number, source in enumerate(_tables(data.get("sources")), start=1):
        _fill_class_names(source, path.parent, f"sources[{number}]", faults)
    spec = _build(DatasetSpec, data, "", faults)
    if faults or spec is None:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise ConfigError(f"bad dataset spec, {len(faults)} fault{'s' * (len(faults) != 1)}:{listed}", file=path)
    return typing.cast(DatasetSpec, spec)


def _tables(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _fill_class_names(source: dict[str, Any], folder: Path, key: str, faults: list[str]) -> None:
    """Put the names of a list file beside the spec into the spec; check names of published lists."""
    classes = source.get("classes")
    if not isinstance(classes, str) or classes in _CLASS_LISTS or source.get("class_names"):
        return
    if not classes.endswith(".txt"):
        faults.append(f"{key}.classes is {classes!r}{_closest(classes, _CLASS_LISTS)}; {_known_lists()}")
        del source["classes"]
        source["class_names"] = ["?"]  # keeps the other checks of this table going
        return
    try:
        names = read_class_names(folder / classes)
    except AnnotationError as error:
        faults.append(f"{key}.classes: {error}")
        names = ("?",)
    source["class_names"] = list(names)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line, in the order of their ids.

    Raises:
        AnnotationError: the file is absent, not UTF-8, empty, or names a class twice.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise AnnotationError(f"cannot read the class list: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"class list is not UTF-8 text (byte {error.start})", file=path) from error
    names: dict[str, int] = {}
    for row, line in enumerate(lines, start=1):
        name = line.strip()
        if name in names:
            raise AnnotationError(f"class {name!r} stands in row {names[name]} already", file=path, row=row)
        if name:
            names[name] = row
    if not names:
        raise AnnotationError("class list is empty", file=path, hint="write one class name a line")
    return tuple(names)


def _known_lists() -> str:
    return f"expected one of {', '.join(class_list_names())}, or the name of a .txt file with one class a line"


def _closest(word: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


# TOML tables -> dataclasses, by the dataclasses' own type hints. Everything wrong is collected, not raised.

_BAD = object()
#: for required fields that are absent or bad, while the rest of their table is checked
_STAND_INS: dict[str, Any] = {
    **dict.fromkeys(("name", "title", "what", "where"), "x"),
    "kind": "folders",
    "value": 0,
    "sources": (SourceSpec(name="x", kind="folders"),),
}


def _build(cls: type[Any], data: Mapping[str, Any], key: str, faults: list[str]) -> Any:
    """`data` as a `cls`, or None where a fault was added."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    before = len(faults)
    values: dict[str, Any] = {}
    for name, value in data.items():
        where = f"{key}.{name}" if key else name
        if name not in fields:
            faults.append(f"{where}: unknown key{_closest(name, fields)}; expected {', '.join(fields)}")
            continue
        converted = _convert(hints[name], value, where, faults)
        if converted is not _BAD:
            values[name] = converted
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if no_default and name not in data:
            faults.append(f"{f'{key}.{name}' if key else name}: missing")
        if no_default and name not in values:
            values[name] = _STAND_INS[name]
    try:  # bad values have been replaced by good ones, so that the remaining checks still run
        made = cls(**values)
    except ConfigError as error:
        faults.append(f"{key}: {error.message}" if key else error.message)
        return None
    return made if len(faults) == before else None


def _convert(hint: Any, value: Any, key: str, faults: list[str]) -> Any:
    """`value` as the type `hint`, or `_BAD` where a fault was added."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # only "X | None" occurs; TOML has no null
        return None if value == "none" else _convert(args[0], value, key, faults)
    if origin is Literal:
        return value if value in args else _fault(faults, key, value, " or ".join(map(repr, args)))
    if origin is tuple:
        if not isinstance(value, list):
            return _fault(faults, key, value, "a list")
        items = [_convert(args[0], item, f"{key}[{i}]", faults) for i, item in enumerate(value, start=1)]
        return _BAD if any(item is _BAD for item in items) else tuple(items)
    if origin is not None:  # Mapping[str, str]
        if not isinstance(value, dict):
            return _fault(faults, key, value, "a table")
        pairs = {name: _convert(args[1], item, f"{key}.{name}", faults) for name, item in value.items()}
        return _BAD if any(item is _BAD for item in pairs.values()) else pairs
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            return _fault(faults, key, value, "a table")
        made = _build(typing.cast("type[Any]", hint), value, key, faults)
        return _BAD if made is None else made
    accepted, expected, convert = _PLAIN[hint]
    # bool is an int to Python, but `gop = true` is a slip
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        return _fault(faults, key, value, expected)
    return convert(value)


_PLAIN: dict[type, tuple[tuple[type, ...], str, Callable[[Any], Any]]] = {
    str: ((str,), "text in quotes", str),
    bool: ((bool,), "true or false", bool),
    int: ((int,), "a whole number", int),
    float: ((int, float), "a number", float),
}


def _fault(faults: list[str], key: str, value: object, expected: str) -> object:
    faults.append(f"{key} is {value!r}; expected {expected}")
    return _BAD

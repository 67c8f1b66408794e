"""Configs as plain values and back, for checkpoints and config.json, and `--set key=value` on the command line.

>>> from vidkit.settings.model import MaskConfig
>>> plain = to_plain(MaskConfig(ratio=0.9))
>>> plain["strategy"], plain["ratio"]
('adaptive', 0.9)
>>> from_plain(MaskConfig, plain) == MaskConfig(ratio=0.9)
True
>>> changed(MaskConfig(), ["ratio=0.8", "strategy=tube"]) == MaskConfig(strategy="tube", ratio=0.8)
True
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from vidkit.errors import ConfigError, VidkitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as dicts, lists, numbers, strings, booleans and None."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_plain(kind: type[T], plain: Mapping[str, Any]) -> T:
    """The dataclass `kind` from what `to_plain` made. Fields left out have their defaults.

    Raises:
        ConfigError: unknown fields, values of another type, values that the config refuses; all that were found.
    """
    from cattrs import ClassValidationError, transform_error

    try:
        made: T = _converter().structure(dict(plain), kind)
        return made
    except ClassValidationError as group:
        refused = _refused(group)
        if refused is not None:
            raise refused from None
        lines = [line.replace(" @ $.", " in ").replace(" @ $", "") for line in transform_error(group)]
        raise ConfigError(f"bad {kind.__name__}: " + "; ".join(lines)) from None


def changed(config: T, assignments: Iterable[str]) -> T:
    """`config` with `key=value` applied: dotted keys, values as TOML writes them, `null`, or else plain text.

    Raises:
        ConfigError: no `=`, a key that is not there, a value that does not fit.
    """
    plain = to_plain(config)
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{text!r} is no setting; expected key=value", field="--set")
        *path, last = key.strip().split(".")
        place: Any = plain
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise ConfigError(f"there is no setting {key!r}", field="--set", hint=_nearest(plain, key))
        place[last] = _value(value.strip())
    return from_plain(type(config), plain)


def config_hash(config: Any) -> str:
    """16 hexadecimal digits that two configs share only if they are equal.

    Fields that came later (`settings.mask.later`) are left out at their defaults: results keep their hashes.
    """
    typed = from_plain(type(config), to_plain(config))  # 40 and 40.0 are one
    text = json.dumps(_without_later(typed, to_plain(typed)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_later(config: Any, plain: Any) -> Any:
    if isinstance(config, (tuple, list)):
        return [_without_later(one, other) for one, other in zip(config, plain, strict=True)]
    if not dataclasses.is_dataclass(config):
        return plain
    return {
        one.name: _without_later(getattr(config, one.name), plain[one.name])
        for one in dataclasses.fields(config)
        if not (one.metadata.get("later") and getattr(config, one.name) == one.default)
    }


@functools.cache
def _converter() -> Any:
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True)
    for kind in (int, float, bool, str):
        converter.register_structure_hook(kind, _exactly)
    return converter


def _exactly(value: Any, kind: type) -> Any:
    """No value is converted, but a whole number is also a float. JSON knows no infinity, TOML does."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _refused(group: BaseException) -> VidkitError | None:
    """The error of a config's own check, which says more than its place."""
    if isinstance(group, VidkitError):
        return group
    found = (_refused(inner) for inner in getattr(group, "exceptions", ()))
    return next((error for error in found if error is not None), None)


def _value(text: str) -> Any:
    if text in ("None", "null"):  # "none" is the name of settings that have one
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _keys(plain: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _nearest(plain: Mapping[str, Any], key: str) -> str:
    import difflib

    keys = list(_keys(plain))
    near = [name for name in keys if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    near = near or difflib.get_close_matches(key, keys, n=3, cutoff=0.5)
    return "did you mean " + " or ".join(near) + "?" if near else "all keys are in config.json of a run"

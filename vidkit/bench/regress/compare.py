"""Has anything got worse? Measured values against a baseline that is kept with the code.

A baseline has two sections. "exact" holds what is deterministic and must not change at all, or only by rounding;
"ratios" holds what depends on the machine, as ratios against a plain way of doing the same work, measured in turns
in the same run. A baseline says under which conditions (versions, encoder, processor) it was measured: some values
mean nothing under others. Importing this module brings no torch along.

    {"format": 1, "exact": {"conditions": {...}, "values": {name: value}}, "ratios": {...}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vidkit.bench.measure import facts
from vidkit.errors import ConfigError
from vidkit.files import write_whole

#: Of the file. Raised when an older vidkit could misread it.
FORMAT = 1

Section = Literal["exact", "ratios"]
SECTIONS: tuple[Section, ...] = get_args(Section)

Value = int | float | str | tuple[float, ...]

#: "equal": the very same. "close": each number within a share of the baseline's. "least": not below it by more than
#: a share.
Rule = Literal["equal", "close", "least"]

Verdict = Literal["same", "changed", "slower", "faster", "new", "gone", "not comparable", "not measured"]

#: What ends with exit code 1. A value that is gone is no longer watched, and nobody would notice.
FAILING: tuple[Verdict, ...] = ("changed", "slower", "gone")

_UPDATE = "if all is as it should be now, write it anew with --update"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One value as it is now."""

    name: str
    value: Value | None
    """None: it was not measured; `note` says why."""
    rule: Rule = "equal"
    tolerance: float = 0.0
    """Share of the baseline's value, for "close" and "least"."""
    elsewhere: float | None = None
    """The tolerance on another processor (condition "cpu"), where it is not the same."""
    needs: tuple[str, ...] = ()
    """Conditions under which values can be compared: with others, they are not."""
    told: tuple[str, ...] = ()
    """Conditions that are mentioned where they differ; values are compared all the same."""
    note: str = ""
    turns: tuple[float, ...] = ()
    """What `value` is the median of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What was measured for one section."""

    conditions: Mapping[str, Any]
    values: tuple[Measured, ...]

    def stored(self) -> Stored:
        """As it goes into a baseline; what was not measured does not."""
        values = {found.name: found.value for found in self.values if found.value is not None}
        if len({found.name for found in self.values}) < len(self.values):
            raise ValueError("two measured values have one name")
        return Stored(conditions=dict(self.conditions), values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One section of a baseline."""

    conditions: Mapping[str, Any]
    values: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A value beside the baseline's."""

    name: str
    baseline: Value | None
    now: Value | None
    change: float | None
    """(now - baseline) / baseline; of a curve, where that is largest. None for texts, and where one is missing."""
    rule: Rule
    tolerance: float
    """That was applied."""
    verdict: Verdict
    note: str = ""
    turns: tuple[float, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the verdict ends the command with exit code 1."""
        return self.verdict in FAILING


# --- comparing -----------------------------------------------------------------------------------


def compare(baseline: Stored, found: Findings) -> tuple[Row, ...]:
    """A row for each value that was measured, then one for each that the baseline has beyond those."""
    rows = [_row(measured, baseline, found.conditions) for measured in found.values]
    known = {measured.name for measured in found.values}
    rows += [
        Row(name=name, baseline=value, now=None, change=None, rule="equal", tolerance=0.0, verdict="gone")
        for name, value in baseline.values.items()
        if name not in known
    ]
    return tuple(rows)


def _row(measured: Measured, baseline: Stored, conditions: Mapping[str, Any]) -> Row:
    before, now = baseline.values.get(measured.name), measured.value
    notes = [measured.note] if measured.note else []
    verdict: Verdict
    change = None
    tolerance = measured.tolerance
    if measured.elsewhere is not None and differences(baseline.conditions, conditions, ("cpu",)):
        tolerance = measured.elsewhere
    hindered = differences(baseline.conditions, conditions, measured.needs)
    if now is None:
        verdict = "not measured"
    elif before is None:
        verdict = "new"
    elif hindered:
        verdict, notes = "not comparable", [*notes, *hindered]
    else:
        verdict, change, words = _judged(before, now, measured.rule, tolerance)
        notes += [*words, *differences(baseline.conditions, conditions, measured.told)]
    return Row(
        name=measured.name,
        baseline=before,
        now=now,
        change=change,
        rule=measured.rule,
        tolerance=tolerance,
        verdict=verdict,
        note="; ".join(notes),
        turns=measured.turns,
    )


def _judged(before: Value, now: Value, rule: Rule, tolerance: float) -> tuple[Verdict, float | None, list[str]]:
    """Verdict, change and remarks."""
    if isinstance(before, tuple) or isinstance(now, tuple):
        return _judged_curve(before, now, tolerance)
    if isinstance(before, str) or isinstance(now, str):
        return ("same" if before == now else "changed"), None, []
    change = relative(before, now)
    if rule == "least":
        if now < before * (1 - tolerance):
            return "slower", change, []
        return ("faster" if now * (1 - tolerance) > before else "same"), change, []
    apart = abs(now - before) > tolerance * abs(before)
    return ("changed" if apart else "same"), change, []


def _judged_curve(before: Value, now: Value, tolerance: float) -> tuple[Verdict, float | None, list[str]]:
    if not (isinstance(before, tuple) and isinstance(now, tuple)):
        return "changed", None, ["a curve on one side only"]
    if len(before) != len(now):
        return "changed", None, [f"{len(before)} steps in the baseline, {len(now)} now"]
    apart = [abs(b - a) - tolerance * abs(a) for a, b in zip(before, now, strict=True)]
    changes = [relative(a, b) for a, b in zip(before, now, strict=True)]
    if max(apart) > 0:
        first = next(step for step, over in enumerate(apart, start=1) if over > 0)
        words = [f"apart from step {first} of {len(now)} on"]
    else:
        words = []
    known = [change for change in changes if change is not None]
    return ("changed" if words else "same"), max(known, key=abs, default=None), words


def relative(before: float, now: float) -> float | None:
    """(now - before) / |before|; None where `before` is 0 and `now` is not."""
    if before == 0:
        return 0.0 if now == 0 else None
    return (now - before) / abs(before)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """In words, which of the named conditions differ."""
    found = []
    for name in names:
        a, b = before.get(name), now.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
            found += [f"{name}: {key} {_word(a.get(key))} in the baseline, {_word(b.get(key))} now" for key in keys]
        elif a != b:
            found.append(f"{name} {_word(a)} in the baseline, {_word(b)} now")
    return found


def _word(value: Any) -> str:
    return "not there" if value is None else str(value)


# --- the file ------------------------------------------------------------------------------------


def read_baseline(path: Path) -> dict[str, Stored]:
    """The sections of a baseline.

    Raises:
        ConfigError: no such file, damaged, of a newer format.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise ConfigError("there is no baseline", file=path, hint="make one with --update") from None
    except OSError as error:
        raise ConfigError(f"the baseline cannot be read: {error.strerror}", file=path) from error
    except json.JSONDecodeError as error:
        raise _damaged(path, f"damaged JSON: {error.msg}", row=error.lineno) from None
    except ValueError as error:  # bytes that are no UTF-8, and numbers that are none
        raise _damaged(path, f"damaged: {error}") from None
    version = plain.get("format") if isinstance(plain, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise _damaged(path, "no baseline: `format` is missing", field="format")
    if version > FORMAT:
        raise ConfigError(
            f"format {version} is newer than this vidkit reads ({FORMAT})",
            file=path,
            field="format",
            hint="upgrade vidkit: pip install -U vidkit",
        )
    return {name: _section(path, name, plain[name]) for name in SECTIONS if name in plain}


def section_of(sections: Mapping[str, Stored], name: Section, path: Path) -> Stored:
    """Raises ConfigError where the baseline lacks it."""
    if name not in sections:
        raise ConfigError(f"the baseline has no {name!r}", file=path, field=name, hint="add it with --update")
    return sections[name]


def _section(path: Path, name: str, plain: Any) -> Stored:
    if not isinstance(plain, dict) or not all(isinstance(plain.get(k), dict) for k in ("conditions", "values")):
        raise _damaged(path, "expected `conditions` and `values`", field=name)
    values = {key: _value(path, f"{name}.values.{key}", value) for key, value in plain["values"].items()}
    return Stored(conditions=plain["conditions"], values=values)


def _value(path: Path, field: str, plain: Any) -> Value:
    if isinstance(plain, str) or _is_number(plain):
        value: Value = plain
        return value
    if isinstance(plain, list) and plain and all(_is_number(one) for one in plain):
        return tuple(plain)
    raise _damaged(path, f"{plain!r} is no number, text or list of numbers", field=field)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _damaged(path: Path, message: str, *, row: int | None = None, field: str | None = None) -> ConfigError:
    hint = "restore the file, for example from git; or, " + _UPDATE
    return ConfigError(message, file=path, row=row, field=field, hint=hint)


def write_baseline(path: Path, sections: Mapping[str, Stored]) -> None:
    """Write the file whole, or leave what was there. Raises ConfigError where that cannot be done."""
    parts = {
        name: {"conditions": sections[name].conditions, "values": sections[name].values}
        for name in SECTIONS
        if name in sections
    }
    text = json.dumps({"format": FORMAT, **parts}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    hint = "make room, or give another --baseline"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder: {error.strerror}", file=path.parent, hint=hint) from error
    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", file=path, hint=hint) from error


def measure_parts(
    parts: Mapping[str, Callable[[Path], list[Measured]]],
    folder: Path,
    done: Callable[[str], None],
    conditions: Callable[[], dict[str, Any]],
) -> Findings:
    """Every part of a section, with one thread; `done` is called with a part's name at its end."""
    values: list[Measured] = []
    from vidkit.train.descent import one_thread

    # sums in one order, and a processor time that says how much was computed
    with one_thread():
        for name, part in parts.items():
            values += part(folder)
            done(name)
    return Findings(conditions=conditions(), values=tuple(values))


def processor() -> str:
    """Its name, and the widest vectors that torch uses: many machines of a cloud share the name."""
    import torch

    return f"{facts.cpu_model()}, {torch.backends.cpu.get_cpu_capability()}"

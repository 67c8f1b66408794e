"""What an address asks of a dataset: which clips, in which order. The same words each time, so that it can be sent.

split=train&class=disc+moving+up&status=ok&seconds=2..<5&q=night&sort=-bytes
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vidkit.errors import ConfigError
from vidkit.view.clips.index import NUMBERS, Bools, Floats, Index, Ints

#: Filters that take any of several values, as the pages list them.
CHOICES = ("split", "class", "source", "status", "error", "size")

#: Orders, besides that of the plan; with - before them the other way round.
ORDERS = ("id", "class", "split", "source", "status", "size", *NUMBERS)
#: And those that need predictions.
ORDERS_OF_PREDICTIONS = ("sure",)

_RANGE = re.compile(r"(\d+(?:\.\d+)?)?\.\.(<)?(\d+(?:\.\d+)?)?")


class Answers(Protocol):
    """What a model said of clips; see `runs.predictions`. (n,) arrays over the ledger."""

    @property
    def true(self) -> Ints:
        """Class of the clip's own label; -1 where it was not tested."""

    @property
    def said(self) -> Ints:
        """Class of most probability."""

    @property
    def sure(self) -> Floats:
        """Its probability."""

    @property
    def classes(self) -> Sequence[str]:
        """Names."""


@dataclass(frozen=True, slots=True)
class Range:
    """low <= value <= high; below `high` only where `open`."""

    low: float | None
    high: float | None
    open: bool = False

    def mask(self, values: Floats) -> Bools:
        """(n,) values within; NaN never is."""
        with np.errstate(invalid="ignore"):
            mask = ~np.isnan(values)
            if self.low is not None:
                mask &= values >= self.low
            if self.high is not None:
                mask &= values < self.high if self.open else values <= self.high
        return mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Filters that all must hold, and an order."""

    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    words: str = ""
    warned: bool = False
    group: str | None = None
    sort: str | None = None
    pred: str | None = None
    """Which of the predictions that are open: its id."""
    right: bool | None = None
    true: str | None = None
    said: str | None = None
    keys: frozenset[str] | None = None
    """Of marked clips: marks are known to the page alone."""


def parse(items: Iterable[tuple[str, str]]) -> Query:
    """
    Args:
        items: (name, value) as an address has them; names that say nothing here are passed by.

    Raises:
        ConfigError: a value that means nothing.
    """
    several: dict[str, list[str]] = {}
    for name, value in items:
        if value:
            several.setdefault(name, []).append(value)
    last = {name: values[-1] for name, values in several.items()}
    sort = last.get("sort")
    if sort is not None and sort.removeprefix("-") not in (*ORDERS, *ORDERS_OF_PREDICTIONS):
        raise ConfigError(
            f"cannot sort by {sort!r}; expected one of {', '.join((*ORDERS, *ORDERS_OF_PREDICTIONS))}", field="sort"
        )
    right = last.get("right")
    if right not in (None, "yes", "no"):
        raise ConfigError(f"right is {right!r}; expected yes or no", field="right")
    return Query(
        choices={name: tuple(several[name]) for name in CHOICES if name in several},
        ranges={name: _range(name, last[name]) for name in NUMBERS if name in last},
        words=last.get("q", ""),
        warned=last.get("warned") == "1",
        group=last.get("group"),
        sort=sort,
        pred=last.get("pred"),
        right=None if right is None else right == "yes",
        true=last.get("true"),
        said=last.get("said"),
    )


def _range(name: str, text: str) -> Range:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ConfigError(f"{name} is {text!r}; expected a range such as 10..20, 10.., ..20 or 10..<20", field=name)
    low, less, high = found.groups()
    return Range(None if low is None else float(low), None if high is None else float(high), bool(less))


def masks(index: Index, query: Query, answers: Answers | None) -> dict[str, Bools]:
    """(n,) clips that pass each filter that was asked for."""
    found = {name: index.facets[name].among(wanted) for name, wanted in query.choices.items()}
    found |= {name: wanted.mask(index.numbers[name]) for name, wanted in query.ranges.items()}
    if query.words:
        found["q"] = index.with_words(query.words)
    if query.warned:
        found["warned"] = index.warned
    if query.group is not None:
        found["group"] = index.in_group(None, query.group)
    if query.keys is not None:
        found["keys"] = index.with_keys(query.keys)
    if answers is not None:
        found["pred"] = answers.true >= 0
        if query.right is not None:
            found["right"] = (answers.true == answers.said) == query.right
        for name, wanted, ids in (("true", query.true, answers.true), ("said", query.said, answers.said)):
            if wanted is not None:
                number = list(answers.classes).index(wanted) if wanted in answers.classes else -2
                found[name] = ids == number
    return found


def together(found: Mapping[str, Bools], clips: int, *, but: str | None = None) -> Bools:
    """(n,) clips that pass all filters; all but one of them, for the counts beside that one."""
    mask = np.ones(clips, np.bool_)
    for name, one in found.items():
        if name != but:
            mask &= one
    return mask


def order(index: Index, query: Query, mask: Bools, answers: Answers | None) -> Ints:
    """Row numbers of the clips in `mask`, in the order that is asked for; equal ones as the plan has them."""
    rows = np.flatnonzero(mask)
    if query.sort is None:
        return rows
    name = query.sort.removeprefix("-")
    if name in ORDERS_OF_PREDICTIONS:
        if answers is None:
            return rows
        values: Floats | Ints = answers.sure[rows]
    else:
        values = index.rank(name)[rows]
    there = ~np.isnan(values) if values.dtype.kind == "f" else values >= 0
    known = rows[there]
    by = values[there]
    placed = np.argsort(-by if query.sort.startswith("-") else by, kind="stable")
    return np.concatenate([known[placed], rows[~there]])


def counts(index: Index, query: Query, found: Mapping[str, Bools]) -> dict[str, dict[str, int]]:
    """Clips of each value of each choice, under all the other filters: what one would get by choosing it."""
    return {
        name: index.facets[name].counts(together(found, index.clips, but=name if name in query.choices else None))
        for name in CHOICES
    }

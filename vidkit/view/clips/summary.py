"""What a choice of clips comes to: histograms, failures by their words, leaks with their clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.build.card import bytes_words
from vidkit.data.look.inspect import histogram
from vidkit.errors import CLIP_ERRORS
from vidkit.view.clips.index import Bools
from vidkit.view.clips.opened import Opened

#: Different words of one failure that are listed, and leaks of one page.
MOST_WORDS = 40
LEAKS_OF_A_PAGE = 40

#: Classes that are listed in a histogram of classes.
MOST_CLASSES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """Of a histogram."""

    name: str
    clips: int
    share: float
    """Of the longest bar."""
    filter: Mapping[str, str]
    """What chooses its clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What the decoder said of some clips."""

    message: str
    clips: int
    keys: tuple[str, ...]
    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Clips that could not be used for one reason."""

    code: str
    meaning: str
    clips: int
    words: tuple[Words, ...]
    more: int
    """Other words, not listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """A leak, with its clips by split."""

    kind: str
    source: str
    value: str
    sides: tuple[tuple[str, tuple[Mapping[str, Any], ...]], ...]


def histograms(opened: Opened, mask: Bools) -> dict[str, list[Bar]]:
    """Of the clips of `mask`: numbers in bins, sizes, classes. By title."""
    index = opened.index
    found: dict[str, list[Bar]] = {}
    for title, name in (("seconds", "seconds"), ("frames", "frames"), ("size of a clip", "bytes")):
        values = index.numbers[name][mask]
        bins = histogram(values[~np.isnan(values)])
        found[title] = _bars([(_range(name, one.low, one.high), one.clips, {name: _asked(one)}) for one in bins])
    for title, name in (("width x height", "size"), ("class", "class"), ("source", "source")):
        counts = sorted(index.facets[name].counts(mask).items(), key=lambda item: -item[1])
        listed = [(value, clips, {name: value}) for value, clips in counts if clips][:MOST_CLASSES]
        found[title] = _bars(listed)
    return {title: bars for title, bars in found.items() if bars}


def _bars(rows: list[tuple[str, int, dict[str, str]]]) -> list[Bar]:
    most = max((clips for _, clips, _ in rows), default=0) or 1
    return [Bar(name=name, clips=clips, share=clips / most, filter=asked) for name, clips, asked in rows]


def _range(name: str, low: float, high: float) -> str:
    write = bytes_words if name == "bytes" else "{:.4g}".format
    return write(low) if low == high else f"{write(low)} to <{write(high)}"


def _asked(one: Any) -> str:
    less = "" if one.low == one.high else "<"
    return f"{_plain(one.low)}..{less}{_plain(one.high)}"


def _plain(value: float) -> str:
    """All of it, without more digits than it takes."""
    return f"{value:.0f}" if value == int(value) else repr(value)


def stored(opened: Opened) -> dict[str, int]:
    """Clips that are stored, their frames, bytes and shards: by the ledger, since the parts that studies make have
    facts of the whole.
    """
    good = opened.ledger.filter(pc.equal(opened.ledger["status"], "ok"))
    return {
        "clips": good.num_rows,
        "frames": pc.sum(good["frames"]).as_py() or 0,
        "bytes": pc.sum(good["nbytes"]).as_py() or 0,
        "shards": len(pc.unique(good["shard"])),
    }


def failures(opened: Opened) -> list[Failure]:
    """By code, most frequent first; each with the different words that were said."""
    ledger = opened.ledger.select(["key", "clip_id", "error", "message"])
    bad = ledger.filter(pc.is_valid(ledger["error"]))
    grouped = bad.group_by(["error", "message"]).aggregate([("key", "count"), ("key", "list"), ("clip_id", "list")])
    by_code: dict[str, list[Words]] = {}
    for row in grouped.to_pylist():
        words = Words(
            message=row["message"] or "",
            clips=row["key_count"],
            keys=tuple(row["key_list"]),
            ids=tuple(row["clip_id_list"]),
        )
        by_code.setdefault(row["error"], []).append(words)
    found = []
    for code, said in by_code.items():
        said.sort(key=lambda words: (-words.clips, words.message))
        found.append(
            Failure(
                code=code,
                meaning=CLIP_ERRORS.get(code, ""),
                clips=sum(words.clips for words in said),
                words=tuple(said[:MOST_WORDS]),
                more=max(0, len(said) - MOST_WORDS),
            )
        )
    return sorted(found, key=lambda failure: (-failure.clips, failure.code))


def leaks(opened: Opened, page: int) -> list[Shared]:
    """Those of a page, from 0: what is in several splits, with the clips of each."""
    found = []
    for leak in opened.facts["leaks"][page * LEAKS_OF_A_PAGE : (page + 1) * LEAKS_OF_A_PAGE]:
        mask = pc.is_in(opened.ledger["clip_id"], value_set=pa.array(leak["clip_ids"], pa.string()))
        rows = opened.ledger.filter(mask).to_pylist()
        sides = tuple((split, tuple(row for row in rows if row["split"] == split)) for split in leak["splits"])
        found.append(Shared(kind=leak["kind"], source=leak["source"], value=leak["value"], sides=sides))
    return found

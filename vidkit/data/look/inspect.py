"""What is in a built dataset: counts, classes, lengths, sizes and failures, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.build.card import bytes_words
from vidkit.data.dataset import open_dataset
from vidkit.data.storage.places import Place
from vidkit.errors import CLIP_ERRORS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STATUS = ("ok", "failed", "missing")

#: Most bins of a histogram, and most different sizes that are listed.
_BINS = 12

#: Values that differ by more than this factor are counted in bins of growing width.
_WIDE = 50

_COLUMNS = [
    "clip_id",
    "source",
    "split",
    "path",
    "class_id",
    "multi_hot",
    "status",
    "error",
    "message",
    "warnings",
    "nbytes",
    "frames",
    "fps",
    "duration_s",
    "width",
    "height",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Clips with `low` <= value < `high`; the value itself where both are equal."""

    low: float
    high: float
    clips: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One clip that shows what is meant."""

    clip_id: str
    path: str | None
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Clips that could not be used for one reason."""

    code: str
    clips: int
    meaning: str
    example: Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All of it, as plain values; `to_dict` gives what `vidkit inspect --json` prints."""

    name: str
    title: str
    synthetic: bool
    flip: bool
    rule: str
    label_map_sha256: str
    shards: int
    shard_bytes: int
    counts: dict[str, int]
    """planned, ok, failed, missing, with_warnings."""
    splits: dict[str, dict[str, int]]
    sources: dict[str, dict[str, Any]]
    """Tally, version and matching report of each source."""
    classes: dict[str, int]
    """Stored clips of each class (of each label under "multi-hot"), in the order of the label map."""
    unlabelled: int
    """Stored clips without a class or label."""
    frames_total: int
    seconds_total: float
    frames: list[Bin]
    seconds: list[Bin]
    clip_bytes: list[Bin]
    sizes: dict[str, int]
    """"WIDTHxHEIGHT" -> stored clips, most frequent first; sizes beyond the first 12 under "other"."""
    failures: list[Failure]
    warning: Example | None
    """A stored clip whose source has concealed damage, where there is one."""
    reconciliation: list[dict[str, Any]]
    leaks: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain containers, with the fields' own names."""
        return asdict(self)


def summarise(root: Place) -> Summary:
    """Read the records of a finished dataset; no shard is opened.

    Raises:
        DatasetError: no dataset there, unfinished, or its records are damaged.
    """
    dataset = open_dataset(root)
    facts = dataset.facts
    ledger = dataset.ledger(_COLUMNS)
    stored = ledger.filter(pc.equal(ledger["status"], "ok"))
    warned = ledger.filter(pc.greater(pc.list_value_length(ledger["warnings"]), 0))
    classes, unlabelled = _classes(facts["label_map"], stored)
    return Summary(
        name=facts["name"],
        title=facts["title"],
        synthetic=facts["synthetic"],
        flip=facts["flip"],
        rule=facts["label_map"]["rule"],
        label_map_sha256=facts["label_map"]["sha256"],
        shards=len(dataset.shards),
        shard_bytes=sum(shard["bytes"] for shard in dataset.shards),
        counts={**_tally(ledger), "with_warnings": warned.num_rows},
        splits=_tallies(ledger, "split", facts["splits"]),
        sources={
            name: {**tally, **{key: facts["sources"].get(name, {}).get(key) for key in ("version", "matching")}}
            for name, tally in _tallies(ledger, "source", facts["sources"]).items()
        },
        classes=classes,
        unlabelled=unlabelled,
        frames_total=pc.sum(stored["frames"]).as_py() or 0,
        seconds_total=pc.sum(stored["duration_s"]).as_py() or 0.0,
        frames=histogram(stored["frames"].to_numpy()),
        seconds=histogram(stored["duration_s"].to_numpy()),
        clip_bytes=histogram(stored["nbytes"].to_numpy()),
        sizes=_sizes(stored),
        failures=_failures(ledger),
        warning=_example(warned, pc.list_element(warned["warnings"], 0)) if warned.num_rows else None,
        reconciliation=list(facts["reconciliation"]),
        leaks=len(facts["leaks"]),
    )


def _tally(rows: pa.Table) -> dict[str, int]:
    counts = _value_counts(rows["status"])
    return {"planned": rows.num_rows, **{status: counts.get(status, 0) for status in _STATUS}}


def _tallies(ledger: pa.Table, column: str, order: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Tallies by the values of a column: in dataset.json's order, then whatever else the ledger has."""
    grouped = ledger.group_by([column, "status"]).aggregate([([], "count_all")]).to_pylist()
    found = {name: dict.fromkeys(("planned", *_STATUS), 0) for name in order}
    for row in grouped:
        tally = found.setdefault(row[column], dict.fromkeys(("planned", *_STATUS), 0))
        tally["planned"] += row["count_all"]
        tally[row["status"]] += row["count_all"]
    return found


def _value_counts(column: pa.ChunkedArray) -> dict[Any, int]:
    counted = pc.value_counts(column)
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _classes(label_map: Mapping[str, Any], stored: pa.Table) -> tuple[dict[str, int], int]:
    if label_map["rule"] == "multi-hot":
        names, ids = label_map["base_labels"], pc.list_flatten(stored["multi_hot"])
        unlabelled = pc.sum(pc.equal(pc.list_value_length(stored["multi_hot"]), 0)).as_py() or 0
    else:
        names, ids = label_map["classes"], stored["class_id"]
        unlabelled = ids.null_count
    counts = _value_counts(ids)
    return {name: counts.get(i, 0) for i, name in enumerate(names)}, unlabelled


def _sizes(stored: pa.Table) -> dict[str, int]:
    grouped = stored.group_by(["width", "height"]).aggregate([([], "count_all")]).to_pylist()
    grouped.sort(key=lambda row: (-row["count_all"], row["width"], row["height"]))
    sizes = {f"{row['width']}x{row['height']}": row["count_all"] for row in grouped[:_BINS]}
    rest = sum(row["count_all"] for row in grouped[_BINS:])
    return {**sizes, "other": rest} if rest else sizes


def _failures(ledger: pa.Table) -> list[Failure]:
    counts = _value_counts(ledger["error"].drop_null())
    failures = []
    for code, clips in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rows = ledger.slice(pc.index(ledger["error"], code).as_py(), 1)
        example = _example(rows, rows["message"])
        failures.append(Failure(code=code, clips=clips, meaning=CLIP_ERRORS.get(code, ""), example=example))
    return failures


def _example(rows: pa.Table, message: pa.ChunkedArray) -> Example:
    return Example(
        clip_id=rows["clip_id"][0].as_py(), path=rows["path"][0].as_py(), message=message[0].as_py() or ""
    )


def histogram(values: np.ndarray[Any, Any], bins: int = _BINS) -> list[Bin]:
    """At most `bins` bins over round numbers; one for each value where there are few.

    >>> [(b.low, b.high, b.clips) for b in histogram(np.array([1, 2, 2, 40]))]
    [(1.0, 1.0, 1), (2.0, 2.0, 2), (40.0, 40.0, 1)]
    """
    if not len(values):
        return []
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= bins // 2:
        return [Bin(low=float(v), high=float(v), clips=int(n)) for v, n in zip(distinct, counts, strict=True)]
    low, high = float(distinct[0]), float(distinct[-1])
    wide = low > 0 and high > _WIDE * float(np.quantile(values, 0.05))  # one odd clip alone makes no wide range
    edges = _wide_edges(low, high) if wide else _even_edges(low, high, bins)
    where = np.searchsorted(edges, distinct, side="right") - 1
    clips = np.bincount(where, weights=counts, minlength=len(edges) - 1)
    return [Bin(low=float(edges[i]), high=float(edges[i + 1]), clips=int(n)) for i, n in enumerate(clips)]


def _even_edges(low: float, high: float, bins: int) -> np.ndarray[Any, Any]:
    step = _round_step((high - low) / (bins - 2))  # the range may begin and end within bins
    return step * np.arange(math.floor(low / step), math.floor(high / step) + 2)


def _wide_edges(low: float, high: float) -> np.ndarray[Any, Any]:
    """1, 2, 5, 10, ... from below `low` to above `high`."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    edges = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    first = max(i for i, edge in enumerate(edges) if edge <= low)
    last = min(i for i, edge in enumerate(edges) if edge > high)
    return np.array(edges[first : last + 1])


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9)))


# --- on a terminal ---------------------------------------------------------------------------------

_BAR = 30


def render(summary: Summary, console: Console, *, top: int = 10) -> None:
    """Print it; `top` classes with most clips and as many with fewest are listed."""
    from rich.markup import escape

    counts = summary.counts
    console.print(f"[bold]{escape(summary.name)}[/bold]  {escape(summary.title)}")
    if summary.synthetic:
        console.print("[yellow]synthetic: these clips are generated, not filmed[/yellow]")
    if not summary.flip:
        console.print("[yellow]not to be flipped: labels depend on the direction[/yellow]")
    hours = f", {summary.seconds_total / 3600:.1f} h" if summary.seconds_total >= 3600 else ""
    console.print(
        f"{counts['ok']:,} clips, {summary.frames_total:,} frames, {summary.seconds_total:,.0f} s{hours}, in "
        f"{summary.shards:,} shards of {bytes_words(summary.shard_bytes)} together"
    )
    console.print(_tallies_table("split", {**summary.splits, "all": counts}))
    console.print(_tallies_table("source", summary.sources))
    _render_matching(summary, console)
    _render_reconciliation(summary.reconciliation, console)
    _render_classes(summary, console, top)
    console.print(_bars("frames", [(_range(b, "g"), b.clips) for b in summary.frames]))
    console.print(_bars("seconds", [(_range(b, ".3g"), b.clips) for b in summary.seconds]))
    console.print(_bars("bytes of a clip", [(_bytes_range(b), b.clips) for b in summary.clip_bytes]))
    console.print(_bars("width x height", list(summary.sizes.items())))
    _render_failures(summary, console)


def _table(title: str | None, left: Sequence[str], right: Sequence[str] = (), more: Sequence[str] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in more:
        table.add_column(name, overflow="fold")
    return table


def _tallies_table(what: str, tallies: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(None, [what], ["planned", *_STATUS])
    for name, tally in tallies.items():
        version = f" {tally['version']}" if tally.get("version") else ""
        table.add_row(name + version, *(f"{tally[column]:,}" for column in ("planned", *_STATUS)))
    return table


def _bars(title: str, rows: Sequence[tuple[str, int]], most: int | None = None) -> Table:
    """A text histogram; a bin with any clip at all shows a mark. `most`: what the longest bar stands for."""
    from rich.text import Text

    table = _table(None, [], [title, "clips"], [""])
    most = most or max((clips for _, clips in rows), default=0)
    for name, clips in rows:
        eighths = max(1, round(clips * _BAR * 8 / most)) if clips else 0
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        table.add_row(Text(name), f"{clips:,}", Text(bar, style="cyan"))
    return table


def _range(one: Bin, form: str) -> str:
    return format(one.low, form) if one.low == one.high else f"{one.low:{form}} to <{one.high:{form}}"


def _bytes_range(one: Bin) -> str:
    low, high = bytes_words(one.low), bytes_words(one.high)
    return low if one.low == one.high else f"{low} to <{high}"


def _render_classes(summary: Summary, console: Console, top: int) -> None:
    names = sorted(summary.classes, key=lambda name: -summary.classes[name])  # a stable sort: ties in map order
    with_clips = [name for name in names if summary.classes[name]]
    console.print(
        f"[bold]classes[/bold]  {len(names):,} under the rule {summary.rule} (label map "
        f"{summary.label_map_sha256[:12]}), {len(with_clips):,} of them with clips"
        + (f"; clips without a label: {summary.unlabelled:,}" if summary.unlabelled else "")
    )
    few = len(with_clips) <= 2 * top
    shown = with_clips if few else with_clips[:top]
    console.print(_bars("class" if few else "most clips", [(name, summary.classes[name]) for name in shown]))
    if not few:
        last, most = with_clips[-top:], summary.classes[with_clips[0]]
        console.print(_bars("fewest clips", [(name, summary.classes[name]) for name in last], most=most))
    without = [name for name in names if not summary.classes[name]]
    if without:
        from rich.markup import escape

        more = f" and {len(without) - top:,} more" if len(without) > top else ""
        console.print(f"  without a clip ({len(without):,}): {escape(', '.join(without[:top]))}{more}")


def _render_matching(summary: Summary, console: Console) -> None:
    from rich.markup import escape

    for name, source in summary.sources.items():
        matching = source["matching"]
        if not matching:
            continue
        console.print(f"[bold]{escape(name)}[/bold]  {escape(matching['layout'])}")
        for words, count in matching["counts"].items():
            examples = matching["examples"].get(words, [])
            shown = f"  [dim]e.g. {escape(', '.join(examples[:2]))}[/dim]" if examples else ""
            console.print(f"  {count:>9,}  {escape(words)}{shown}")
        for note in matching["notes"]:
            console.print(f"  [yellow]note:[/yellow] {escape(note)}")


def _render_reconciliation(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    from rich.text import Text

    if not rows:
        return
    numbers = ("expected", "planned", "found")
    table = _table("found beside expected", ["count of"], ["expected", "on disk", "stored", ""], ["where from"])
    for row in rows:
        difference = row["found"] - row["expected"]
        verdict = f"[red]{difference:+,}[/red]" if difference else "[green]equal[/green]"
        table.add_row(row["what"], *(f"{row[name]:,}" for name in numbers), verdict, Text(row["where"]))
    console.print(table)


def _render_failures(summary: Summary, console: Console) -> None:
    from rich.text import Text

    if summary.failures:
        table = _table("clips that could not be used", ["code"], ["clips"], ["meaning", "for example"])
        for failure in summary.failures:
            example = failure.example
            told = f"{example.clip_id}: {example.message}"
            table.add_row(failure.code, f"{failure.clips:,}", failure.meaning, Text(told, style="dim"))
        console.print(table)
    if summary.warning is not None:
        count = summary.counts["with_warnings"]
        console.print(f"[yellow]with warnings[/yellow] {count:,}: damage in the source that the decoder concealed")
        console.print(Text(f"  for example {summary.warning.clip_id}: {summary.warning.message}", style="dim"))
    if summary.leaks:
        console.print(f"[yellow]split leaks[/yellow] {summary.leaks:,}: listed in dataset.json and the card")

"""A comparison of two sets of results as a table, Markdown, or plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidkit.bench.report.compare import LEVEL, Change, Comparison, Figure
from vidkit.bench.report.estimates import NOTHING, written, written_p
from vidkit.settings.plain import to_plain

#: Settings that a table names for each cell; JSON has all.
MOST_SETTINGS = 4


def title(found: Comparison) -> str:
    """The heading of the table, with the dataset where there is one."""
    return f"What changed from A to B, dataset {found.dataset}" if found.dataset else "What changed from A to B"


def table(found: Comparison) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """(columns, text of each line). Columns that say nothing are left out."""
    metrics = list(dict.fromkeys(change.accuracy.metric for change in found.changes if change.accuracy))
    name = " or ".join(metrics) or "accuracy"
    every = [(found.what, [change.name for change in found.changes])]
    every += [(f"{name}, A", [written(c.accuracy.before) if c.accuracy else NOTHING for c in found.changes])]
    every += [(f"{name}, B", [written(c.accuracy.after) if c.accuracy else NOTHING for c in found.changes])]
    every += [("difference", [_difference(change) for change in found.changes])]
    every += [("p", [written_p(change.accuracy.p) if change.accuracy else NOTHING for change in found.changes])]
    every += [
        ("accuracy", [(change.accuracy.verdict if change.accuracy else "") or NOTHING for change in found.changes])
    ]
    for word in ("predicted GB", "measured GB"):
        every.append((word, [_exact(change.memory, word) for change in found.changes]))
    for word in ("step clips/s", "clips/s with loading"):
        every.append((f"{word}, B / A", [_ratio(change.speed, word) for change in found.changes]))
    every += [("found in", [change.status for change in found.changes])]
    kept = [(column, texts) for column, texts in every if set(texts) - {NOTHING}]
    return tuple(column for column, _ in kept), tuple(zip(*(texts for _, texts in kept), strict=True))


def _difference(change: Change) -> str:
    found = change.accuracy
    if found is None:
        return NOTHING
    return f"{found.difference:+.2f}" + (f" ± {found.half:.2f}" if found.half else "")


def _named(figures: Sequence[Figure], name: str) -> Figure | None:
    return next((figure for figure in figures if figure.name == name), None)


def _exact(figures: Sequence[Figure], name: str) -> str:
    found = _named(figures, name)
    if found is None:
        return NOTHING
    if found.before == found.after:
        return f"{found.before:.2f}, the same"
    text = f"{found.before:.2f} → {found.after:.2f}"
    ratio = found.ratio
    return f"{text} ({found.note})" if ratio is None else f"{text} ({100 * (ratio - 1):+.2f} %)"


def _ratio(figures: Sequence[Figure], name: str) -> str:
    found = _named(figures, name)
    if found is None:
        return NOTHING
    if found.ratio is None:
        return found.note
    ends = "" if found.interval is None else f" ({found.interval[0]:.2g} to {found.interval[1]:.2g})"
    return f"{found.ratio:.2f}{ends}"


def notes(found: Comparison) -> tuple[str, ...]:
    """What a reader needs beside the table."""
    said = [f"A: {found.before}. B: {found.after}."]
    said += [f"{fact}." for fact in found.facts]
    tested = [change.accuracy for change in found.changes if change.accuracy and change.accuracy.p is not None]
    if tested:
        one = f"the one {found.what} that was"
        number = one if len(tested) == 1 else f"the {len(tested)} {found.what}s that were"
        percent = all(accuracy.metric.partition(",")[0].endswith("%") for accuracy in tested)
        unit = "in points" if percent else "in the measure's unit"
        said.append(
            f"difference: B less A, {unit}, ± half of a 95 % interval. better or worse: p stays below "
            f"{LEVEL:g} after Holm's correction for {number} tested; p itself is not corrected."
        )
    bases: dict[str, list[str]] = {}
    for change in found.changes:
        if change.accuracy is not None and change.accuracy.basis:
            bases.setdefault(change.accuracy.basis, []).append(change.name)
    every = found.what, len(found.changes)
    said += [f"Accuracy of {_listed(names, *every)}: {basis}." for basis, names in bases.items()]
    if any(change.speed for change in found.changes):
        said.append(
            "Speed is compared on one machine only (same processor, cores and GPU); what else ran there is not "
            "known. In brackets: 95 % interval, where it was measured more than once; without, small differences "
            "mean nothing."
        )
    settings: dict[tuple[str, ...], list[str]] = {}
    for change in found.changes:
        if change.settings:
            settings.setdefault(change.settings, []).append(change.name)
    for lines, names in settings.items():
        more = f"; and {len(lines) - MOST_SETTINGS} more (--json has all)" if len(lines) > MOST_SETTINGS else ""
        said.append(f"Other settings ({_listed(names, *every)}): {'; '.join(lines[:MOST_SETTINGS])}{more}.")
    return tuple(said)


def _listed(names: Sequence[str], what: str, whole: int) -> str:
    return f"every {what}" if len(names) == whole > 1 else "; ".join(names)


def markdown(found: Comparison) -> str:
    """Heading, table and notes as Markdown."""
    columns, texts = table(found)
    text = [
        f"## {title(found)}",
        "",
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
    ]
    text += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in texts]
    return "\n".join([*text, "", *(f"- {note}" for note in notes(found))]) + "\n"


def plain(found: Comparison) -> dict[str, Any]:
    """Every figure, for JSON; of memory and speed also the ratio, None where they cannot be compared."""
    made = to_plain(found)
    for change, known in zip(made["changes"], found.changes, strict=True):
        for part in ("memory", "speed"):
            for figure, of in zip(change[part], getattr(known, part), strict=True):
                figure["ratio"] = of.ratio
    return made

"""The table of verdicts as text, for a terminal, Markdown, a page and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vidkit.bench.report.contrasts.findings import Finding
from vidkit.bench.report.contrasts.paired import MOST_SEEDS
from vidkit.bench.report.contrasts.values import ERROR, title
from vidkit.bench.report.estimates import NOTHING, written_p

TITLE = "Contrasts"
#: Heads of the columns, and whether their cells stand to the right.
COLUMNS = (
    ("contrast", False),
    ("measure", False),
    ("difference", True),
    ("p, corrected", True),
    ("verdict", False),
    ("seeds", True),
    ("earlier in pre-training", False),
    ("p, clips", True),
)

_HOW = (
    "Difference: mean over seeds of the first arm less the second, seed by seed (arms of one seed share weights, "
    "clips, order and augmentations), ± half of a 95 % interval (Student's t). In points of percent; of the "
    "reconstruction error in percent of the second arm's. From one ratio to another: the change along the line of "
    "least squares.",
    "Verdict: apart, if p of the paired t test, corrected for the number of contrasts of that measure (Holm), is "
    "below 0.05; alike, if not so and the interval lies within 2 points of 0; else undecided, with the number of "
    "seeds that would find a difference of 2 points in 80 of 100 cases if seeds spread as they did. Where there "
    "are several measures, the first one named decides.",
)
_CLIPS = (
    "p, clips: exact paired permutation test over the tested clips, each clip's answers averaged over seeds. It "
    "speaks of the models as trained, and says nothing of training again."
)
_LATE = "*: named when some of its arms had results already."


def rows(found: Sequence[Finding]) -> tuple[tuple[str, ...], ...]:
    """Texts of the table's cells."""
    return tuple(
        (
            one.contrast + ("*" if one.late else ""),
            title(one.measure).removesuffix(" %").removesuffix(","),
            _difference(one),
            written_p(one.corrected),
            said(one),
            NOTHING if one.paired is None else str(one.paired.seeds),
            ", ".join(f"{value:+.1f} at {share:.0%}" for share, value in one.before) or NOTHING,
            written_p(one.p_clips),
        )
        for one in found
    )


def said(one: Finding) -> str:
    """The verdict in words."""
    if one.paired is None:
        return "no seed has both arms"
    if one.verdict != "undecided":
        return one.verdict
    if one.paired.seeds == 1:
        return "undecided: one seed"
    if one.paired.half is None:
        return "undecided: no spread over seeds"
    if one.needed is None:
        return f"undecided: more than {MOST_SEEDS:,} seeds would decide"
    if one.needed <= one.paired.seeds:  # the spread is small, and the difference lies at the margin
        return "undecided: the difference lies near 2 points, a few more seeds would decide"
    return f"undecided: {one.needed} seeds would decide"


def _difference(one: Finding) -> str:
    if one.paired is None:
        return NOTHING
    half = "" if one.paired.half is None else f" ± {one.paired.half:.2f}"
    return f"{one.paired.difference:+.2f}{half}" + (" %" if one.measure == ERROR else "")


def notes(found: Sequence[Finding]) -> tuple[str, ...]:
    """What a reader needs beside the table."""
    if not found:
        return ()
    more = [_CLIPS] if any(one.p_clips is not None for one in found) else []
    return (*_HOW, *more, *([_LATE] if any(one.late for one in found) else []))


def markdown(found: Sequence[Finding]) -> str:
    """Table and notes under a heading; empty without contrasts."""
    if not found:
        return ""
    heads = " | ".join(name for name, _ in COLUMNS)
    rules = " | ".join("---:" if right else "---" for _, right in COLUMNS)
    lines = [f"### {TITLE}", "", f"| {heads} |", f"| {rules} |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(found)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(found))]) + "\n"


def plain(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """For JSON: every figure in full, and the verdict in words."""
    return [{**asdict(one), "said": said(one)} for one in found]

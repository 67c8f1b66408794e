"""What tables of grids and studies have in common: columns, how lines stand against the best other, notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vidkit.bench.report.estimates import NOTHING, written, written_p
from vidkit.bench.report.results import Line, cells, names
from vidkit.bench.rows.schema import Row

RIVALS = (
    "To best other: this {what}'s mean top-1 less that of the best other {what}, in points, ± half of a 95 % "
    "interval over the tested clips, and over seeds as well where both {what}s have two."
)
P_CLIPS = (
    "p, clips: exact paired permutation test over the tested clips, each clip's answers averaged over seeds (with "
    "one seed McNemar's exact test). It speaks of the models as trained: other clips, the same models."
)
P_SEEDS = (
    "p, clips and seeds: Welch's t, with the spread over seeds added to that over clips. It speaks of training "
    "again, too; with few seeds it finds large differences only."
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and how a line's text in it is made."""

    name: str
    text: Callable[[Line], str]
    right: bool = True
    brief: bool = True
    """In a terminal's table as well."""
    setting: bool = False
    """Of a cell: named once, beside the table, where it is the same in every line."""


def _rival(line: Line) -> str:
    """Signed, in points."""
    if line.rival is None:
        return NOTHING
    found = line.rival.paired
    return f"{line.rival.difference:+.2f}" + ("" if found is None else f" ± {100 * found.half:.2f}")


def p_clips(line: Line) -> float | None:
    """p against the best other line, over the tested clips (see `P_CLIPS`); None where it was not tested."""
    return None if line.rival is None or line.rival.paired is None else line.rival.paired.p_clips


def p_seeds(line: Line) -> float | None:
    """p against the best other line, over clips and seeds (see `P_SEEDS`); None where it was not tested."""
    return None if line.rival is None or line.rival.paired is None else line.rival.paired.p_seeds


AGAINST_BEST = (
    Column("to best other", _rival),
    Column("p, clips", lambda line: written_p(p_clips(line))),
    Column("p, clips and seeds", lambda line: written_p(p_seeds(line))),
)


def rival_notes(of: Sequence[Line]) -> list[str]:
    """How differences are tested, how often, and where they could not be."""
    known = [line for line in cells(of) if line.rival is not None]
    if not known:
        return []
    what = "arm" if known[0].first.arm else "cell"
    found = [RIVALS.format(what=what)]
    found += [P_CLIPS] if any(p_clips(line) is not None for line in known) else []
    found += [P_SEEDS] if any(p_seeds(line) is not None for line in known) else []
    pairs = len(known) * (len(known) - 1) // 2
    if pairs > 1 and len(found) > 1:
        found.append(
            f"p values are not corrected for the choice of the best: of {len(known)} {what}s there are {pairs} "
            f"pairs, and a p below {0.05 / pairs:.2g} holds for all of them together (Bonferroni)."
        )
    called = names(of)
    why: dict[str, list[str]] = {}
    for line in known:
        if line.rival is not None and line.rival.why is not None:
            why.setdefault(line.rival.why, []).append(f"{called[line.group]} against {called[line.rival.group]}")
    for reason, which in why.items():
        where = f"every {what}" if len(which) == len(known) else "; ".join(which)
        found.append(f"No p, since {reason}: {where}.")
    return found


def minutes(line: Line) -> str:
    """Wall time of a run in minutes: mean and interval over seeds."""
    return written(line.value(lambda row: None if row.wall_s is None else row.wall_s / 60), 1)


def machines(rows: Iterable[Row]) -> list[str]:
    """A sentence for each machine that rows were made on."""
    return [f"Run on {name}." for name in sorted({_machine(row) for row in rows if row.machine})]


def _machine(row: Row) -> str:
    gpu = row.machine.get("accelerator")
    words = [str(row.machine.get("cpu")), f"{row.machine.get('cores')} cores"]
    words += [str(gpu["name"])] if gpu else []
    words += [f"torch {row.versions.get('torch')}", f"vidkit {row.versions.get('vidkit')}"]
    words += [f"commit {_short(row.git)}"] if row.git else []
    return ", ".join(words)


def _short(commit: str) -> str:
    """Of "HASH" or "HASH+changes"."""
    number, plus, rest = commit.partition("+")
    return number[:12] + plus + rest

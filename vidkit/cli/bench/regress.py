"""`vidkit bench regress`: measure, compare with a baseline, say what moved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidkit.cli.options import Json
from vidkit.cli.output import print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidkit.bench.regress.compare import Findings, Section, Stored

EXAMPLE = "vidkit bench regress --only exact"


def run(
    baseline: Annotated[
        Path, typer.Option(metavar="FILE", help="What to compare with; --update writes it.")
    ] = Path("benchmarks/results/regress.json"),
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline anew, and show what is different.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="exact (what is deterministic) or ratios (of speed); both by default.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Has anything got worse: tokens, MACs, memory, shards, losses, and speed beside plain ways; 1 if so."""
    from vidkit.bench.regress import compare as regress
    from vidkit.bench.regress.compare import SECTIONS, Stored
    from vidkit.cli.bench import regress_report

    if only is not None and only not in SECTIONS:
        raise ConfigError(f"there is no part {only!r}", field="--only", hint="choose " + " or ".join(SECTIONS))
    chosen = SECTIONS if only is None else (only,)
    stored = _before(baseline) if update else regress.read_baseline(baseline)
    if not update:  # before minutes are spent
        for name in chosen:
            regress.section_of(stored, name, baseline)
    found = _measure(chosen)
    empty = Stored(conditions={}, values={})
    rows = {name: regress.compare(stored.get(name, empty), found[name]) for name in chosen}
    if update:
        now: dict[str, Stored] = {name: findings.stored() for name, findings in found.items()}
        regress.write_baseline(baseline, {**stored, **now})
    code = int(not update and any(row.failed for each in rows.values() for row in each))
    if as_json:
        print_json(regress_report.plain(rows, found, code=code, updated=update))
    elif update:
        regress_report.show_update(baseline, rows, new=not stored)
    else:
        regress_report.show(rows, code=code)
    return code


def _before(baseline: Path) -> dict[str, Stored]:
    """What is going to be replaced."""
    from vidkit.bench.regress import compare as regress

    if not baseline.exists():
        return {}
    try:
        return regress.read_baseline(baseline)
    except ConfigError as error:
        print(f"the old baseline is replaced without a comparison: {error.where}: {error.message}", file=sys.stderr)
        return {}


def _measure(chosen: Sequence[Section]) -> dict[Section, Findings]:
    import tempfile

    from vidkit.bench.regress import exact as regress_exact
    from vidkit.bench.regress import ratios as regress_ratios
    from vidkit.data.progress import Progress

    modules = {"exact": regress_exact, "ratios": regress_ratios}
    total = sum(len(modules[name].PARTS) for name in chosen)
    found: dict[Section, Findings] = {}
    with (
        tempfile.TemporaryDirectory(prefix="vidkit-regress-") as folder,
        Progress("measuring", total, unit="parts") as progress,
    ):

        def done(part: str) -> None:
            progress.note = part
            progress.advance()

        for name in chosen:
            work = Path(folder) / name
            work.mkdir()
            found[name] = modules[name].measure(work, done)
    return found

"""What the results of `vidkit fewshot` look like on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from vidkit.cli.output import console
from vidkit.fewshot.evaluate import Result, Row
from vidkit.fewshot.inputs.features import ClipFeatures


def render(result: Result, features: ClipFeatures | None, out: Path | None) -> None:
    """Accuracies with intervals on stdout, and what a reader needs beside them."""
    screen, rows = console(), result.rows
    first = max(rows, key=lambda row: row.episodes)
    seeds = len(result.config.seeds)
    kind = f"{first.way}-way {first.shot}-shot, {first.query} queries a class"
    tested = f"{first.episodes:,} episodes of {first.classes} meta-test classes"
    several = f" for each of {seeds} seeds" if seeds > 1 else ""
    if features is not None:
        made = "computed" if features.computed else "from the cache"
        kept = "" if features.file is None else f", {features.file}"
        _, steps, width = features.array.shape
        read = f"{features.readout} of {features.reading}"
        screen.print(escape(f"features: {features.name}, {read}, {steps} x {width} numbers a clip ({made}{kept})"))
    table = Table(
        title=f"{kind}: {tested}{several}, chance {first.chance:.1%}",
        title_justify="left",
    )
    table.add_column("learner")
    table.add_column("accuracy", justify="right")
    if seeds > 1:
        table.add_column("over seeds", justify="right")
    counts = {row.learner: row.episodes for row in rows}
    fewer = len(set(counts.values())) > 1
    if fewer:
        table.add_column("episodes", justify="right")
    for item in result.summaries:
        cells = [item.learner, f"{item.accuracy:.1%} ± {item.half_width:.1%}"]
        if item.half_width_seeds is not None:
            cells.append(f"± {item.half_width_seeds:.1%}")
        if fewer:
            cells.append(f"{counts[item.learner]:,}")
        table.add_row(*cells)
    screen.print(table)
    for row in rows:
        which = f" (seed {row.seed})" if seeds > 1 else ""
        if row.by_instance:
            cells = [f"{one.instance}: {one.accuracy:.1%} ± {one.half_width:.1%}" for one in row.by_instance]
            screen.print(f"{row.learner} by instance{which}  " + "   ".join(cells))
        if row.tune:
            screen.print(escape(f"{row.learner}{which}: {_trained(row)}"))
    over = "; over seeds by Student's t" if seeds > 1 else ""
    screen.print(f"± is half of a 95 % interval: 1.96 standard errors over episodes{over}")
    if fewer:
        screen.print("fewer episodes are the first ones of the others' list")
    seen = max(row.seen_classes for row in rows)
    if seen:
        screen.print(f"the encoder learned labels of {seen} meta-test classes: they are not unseen")
    if features is not None and not all(row.standardised for row in rows if "rates" not in row.training):
        why = "no meta-train clips: features" if result.config.standardise else "features are centred; they"
        screen.print(f"{why} are not standardised")
    if any(row.discriminant != "none" for row in rows):
        screen.print("clips were seen along the directions in which the meta-train classes differ")
    if out is not None:
        screen.print(f"wrote {escape(str(out))}")


def _trained(row: Row) -> str:
    """How the encoder was trained with a learner."""
    facts = row.training
    if "rates" in facts:
        named = ", ".join(f"{rate:g}" for rate in facts["rates"])
        chosen = (
            f"best on {facts['val_episodes']} meta-val episodes" if facts["val_accuracies"] else "the middle one"
        )
        how = f"rate {facts['rate']:g} of {named} ({chosen})" if len(facts["rates"]) > 1 else f"rate {named}"
        start = "random weights" if row.features == "random" else row.features
        return f"a network from {start} for each episode, {facts['steps']} steps, {how}"
    tuned = facts["tune"]
    which = "the whole encoder" if row.tune == "all" else f"the last {row.tune} of {tuned['of']} blocks"
    found = ""
    if tuned["val_accuracy"] is not None:
        found = f", {tuned['val_accuracy']:.1%} on meta-val after {tuned['val_accuracy_before']:.1%}"
    return f"{which} of {row.features} trained, step {tuned['kept_step']} of {tuned['steps']} kept{found}"

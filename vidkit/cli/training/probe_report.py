"""What the results of `vidkit probe` look like on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from vidkit.cli.output import console
from vidkit.settings.probe import PROBES
from vidkit.train.probe.arm import Arm, Tested, compared
from vidkit.train.probe.during import Point
from vidkit.train.probe.run import Probed


def render(found: Probed) -> None:
    """Validation figures of every layer and read-out, the one test figure of each arm, and what to know of them."""
    screen = console()
    encoder, others = found.encoder, found.baselines
    random = next((arm for arm in others if arm.name == "random"), None)
    test = encoder.test
    beside = " (random weights in brackets)" if random is not None else ""
    screen.print(
        escape(
            f"{found.facts['dataset']}, {found.facts['checkpoint']}: {test.labels.metric} on "
            f"{found.config.choose}{beside}"
        )
    )
    screen.print(_cells(encoder, random))
    for arm in others:
        if arm.name == "pixels":
            screen.print(f"pixels: {_pixels(arm)}")
    table = Table(
        title=f"chosen on {found.config.choose}, tested once on {found.config.test}", title_justify="left"
    )
    for name in ("", "probe", test.labels.metric, "95 % interval", "against"):
        table.add_column(name, justify="left" if name in ("", "probe") else "right")
    for arm in (encoder, *others):
        table.add_row(
            arm.name, _cell(arm.test), f"{arm.test.value:.1%}", _interval(arm.test), _against(encoder, arm)
        )
    screen.print(table)
    _confusion(found)
    for arm in (encoder, *others):
        for note in arm.notes:
            screen.print(escape(f"{arm.name}: {note}"))
    if not test.labels.several:
        screen.print(
            "against: clips that the encoder's probe alone gets right, and that the other alone does; p of both"
        )
    if random is not None:
        screen.print("random weights are one draw (--seed); others may differ by several points")
    screen.print(
        "between: share of the features' variance between classes of the training clips; spread: distance of clips "
        "from the mean clip, as a share of their length (near 0: all clips look alike)"
    )


def _cells(encoder: Arm, random: Arm | None) -> Table:
    probes = [name for name in PROBES if encoder.best(probe=name) is not None]
    table = Table()
    for name in ("layer", "read-out", *probes, "between", "spread"):
        table.add_column(name, justify="left" if name in ("layer", "read-out") else "right")
    for (reading, readout), spread in encoder.spreads.items():
        row = [str(reading), readout]
        for probe in probes:
            cell, other = (
                None if arm is None else arm.best(reading=reading, readout=readout, probe=probe)
                for arm in (encoder, random)
            )
            text = "" if cell is None else f"{cell.val:.1%}"
            text = f"{text} ({other.val:.1%})" if cell is not None and other is not None else text
            row.append(f"[bold]{text}[/bold]" if cell is not None and cell == encoder.test.cell else text)
        between = "" if spread.between is None else f"{spread.between:.1%}"
        if random is not None and spread.between is not None:
            theirs = random.spreads[reading, readout].between
            between = f"{between} ({theirs:.1%})" if theirs is not None else between
        table.add_row(*row, between, f"{spread.share:.1%}")
    return table


def _pixels(arm: Arm) -> str:
    best = [arm.best(probe=probe) for probe in PROBES]
    return ", ".join(f"{cell.probe} {cell.val:.1%} ({cell.readout})" for cell in best if cell is not None)


def _cell(test: Tested) -> str:
    cell = test.cell
    setting = {"knn": "k {:g}", "attentive": "step {:g}"}.get(cell.probe, "penalty {:g}").format(cell.setting)
    return f"{cell.probe} ({setting}), {cell.readout} of {cell.reading}"


def _interval(test: Tested) -> str:
    return f"{test.low:.1%} to {test.high:.1%}"


def _against(encoder: Arm, arm: Arm) -> str:
    found = None if arm is encoder else compared(encoder, arm)
    return "" if found is None else f"{found['better']} : {found['worse']}, p {found['p']:.2g}"


def _confusion(found: Probed) -> None:
    """The pairs of classes that are mixed up most; --json has the whole matrix."""
    matrix = found.encoder.test.figures.get("confusion")
    if matrix is None:
        return
    names = found.facts["classes"]
    pairs = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    screen = console()
    for n, i, j in sorted(pairs, key=lambda pair: -pair[0])[:5]:
        screen.print(escape(f"  {names[i]} taken for {names[j]}: {n:,} of {sum(matrix[i]):,}"))


def told(point: Point) -> None:
    """A line for each checkpoint, as it is done."""
    console(stderr=True).print(escape(f"{point.checkpoint}: {point.arm.test.value:.1%}"))


def render_curve(points: Sequence[Point]) -> None:
    """Accuracy against clips seen."""
    table = Table()
    metric = points[0].arm.test.labels.metric
    probes = [name for name in PROBES if points[0].arm.best(probe=name) is not None]
    for name in (
        "checkpoint",
        "clips seen",
        *(f"{name}, val" for name in probes),
        f"{metric}, test",
        "interval",
        "chosen",
    ):
        table.add_column(name, justify="left" if name in ("checkpoint", "chosen") else "right")
    for point in points:
        vals = [point.arm.best(probe=name) for name in probes]
        table.add_row(
            point.checkpoint,
            f"{point.clips:,}",
            *("" if cell is None else f"{cell.val:.1%}" for cell in vals),
            f"{point.arm.test.value:.1%}",
            _interval(point.arm.test),
            _cell(point.arm.test),
        )
    screen = console()
    screen.print(table)
    for note in dict.fromkeys(note for point in points for note in point.arm.notes):
        screen.print(escape(note))


def drawn(points: Sequence[Point]) -> str:
    """An SVG of accuracy against clips seen: the figure on test with its interval, and each probe's best on val."""
    from vidkit.bench.report.plots import Curve, curves
    from vidkit.bench.report.style import DASHES, PALETTE, svg

    tests = [point.arm.test for point in points]
    x = tuple(float(point.clips) for point in points)
    lines = [
        Curve(
            name="test",
            x=x,
            y=tuple(100 * test.value for test in tests),
            low=tuple(100 * test.low for test in tests),
            high=tuple(100 * test.high for test in tests),
            colour=PALETTE[0],
        )
    ]
    for number, name in enumerate(PROBES, start=1):
        best = [point.arm.best(probe=name) for point in points]
        y = tuple(100 * cell.val for cell in best if cell is not None)
        if len(y) == len(points):
            lines.append(Curve(name=f"{name}, val", x=x, y=y, colour=PALETTE[number], dash=DASHES[1]))
    metric = tests[0].labels.metric
    return svg(curves(lines, x="clips seen", y=f"{metric}, %", title=f"{metric} of probes on the way"))

"""The plots of reports: points with error bars, curves with bands, a row of dots for each arm of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidkit.bench.report.estimates import Estimate, written
from vidkit.bench.report.style import COLOURS, DASHES, MARKERS, PALETTE, PIXEL, Chart, Mark, canvas, look

#: Pixels between a plot's axes.
WIDTH, HEIGHT = 440, 270

#: Pixels of an arm's row.
ROW = 26

#: Pixels between the series of a plot where several have points at one place.
ASIDE = 6

_MEAN, _SEED, _CHANCE = "#0072b2", "#d55e00", "#6b6b6b"


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the x axis, and a mean with its interval above it."""

    x: float
    y: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A line over (x, y), with a band from `low` to `high` if they are given. All of one length."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    colour: str = PALETTE[0]
    dash: tuple[float, ...] = DASHES[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dots:
    """An arm: its mean over seeds, and each seed."""

    name: str
    mean: Estimate
    each: Mapping[int, float] = field(default_factory=dict)
    """By seed."""


def points(
    series: Mapping[str, Sequence[Point]],
    *,
    x: str,
    y: str,
    joined: bool,
    aside: bool = False,
    title: str = "",
    description: str = "",
    colours: Mapping[str, str] = COLOURS,
) -> Chart:
    """A point with its error bar for each cell, a colour and a mark for each series.

    Args:
        colours: of series, by name; others have the next of the palette.
        joined: lines between the points of a series.
        aside: move the series a few pixels apart, where they have points at the same x.
    """
    from matplotlib.transforms import ScaledTranslation

    every = [point for some in series.values() for point in some]
    title = title or f"{y} against {x}"
    apart = ASIDE if aside and len({point.x for point in every}) < len(every) else 0
    marks, handles = {}, []
    with look():
        figure, axes = canvas(title, x, y, width=WIDTH, height=HEIGHT)
        axes.update_datalim([(point.x, end) for point in every for end in _ends(point.y)])
        axes.autoscale_view()
        for number, (name, some) in enumerate(series.items()):
            moved = apart * (number - (len(series) - 1) / 2) * PIXEL
            how: dict[str, Any] = {
                "color": colours.get(name, PALETTE[number % len(PALETTE)]),
                "transform": axes.transData + ScaledTranslation(moved, 0, figure.dpi_scale_trans),
            }
            row = sorted(some, key=lambda point: point.x)
            if joined and len(row) > 1:
                key = f"line-{number}"
                axes.plot([point.x for point in row], [point.y.mean for point in row], gid=key, **how)
                marks[key] = Mark(kind="line", said=name)
            drawn = []
            for point in row:
                if point.y.half:
                    axes.plot([point.x] * 2, _ends(point.y), marker="_", linewidth=1, **how)
                key = f"point-{len(marks)}"
                said = f"{name}, {point.x:.4g}: {written(point.y)}, seeds: {point.y.count}"
                drawn = axes.plot(point.x, point.y.mean, MARKERS[number % len(MARKERS)], gid=key, **how)
                marks[key] = Mark(kind="point", said=said)
            handles += drawn
        axes.legend(handles, [*series], loc="upper left", bbox_to_anchor=(1.03, 1))
    said = description or f"{len(every)} points of {', '.join(series)}: {y} against {x}, with 95 % intervals."
    return Chart(figure=figure, title=title, description=said, marks=marks)


def curves(
    of: Sequence[Curve],
    *,
    x: str,
    y: str,
    title: str,
    description: str = "",
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """Lines with their names beside them, in the order given.

    Args:
        y_range: lowest and highest value, for several plots side by side; else what the curves span.
    """
    marks, handles = {}, []
    with look():
        figure, axes = canvas(title, x, y, width=WIDTH, height=HEIGHT)
        for curve in of:
            if curve.low:
                axes.fill_between(curve.x, curve.low, curve.high, color=curve.colour, alpha=0.15, linewidth=0)
        for number, curve in enumerate(of):
            key = f"curve-{number}"
            style: Any = (0, curve.dash) if curve.dash else "solid"
            alone = len(curve.x) == 1  # it would not be seen as a line
            marker = MARKERS[0] if alone else ""
            handles += axes.plot(curve.x, curve.y, marker=marker, color=curve.colour, linestyle=style, gid=key)
            if alone:
                marks[key] = Mark(kind="point", said=f"{curve.name}, {x} {curve.x[0]:.4g}: {curve.y[0]:.4g}")
                continue
            each = tuple(f"{x} {across:.4g}: {up:.4g}" for across, up in zip(curve.x, curve.y, strict=True))
            said = f"{curve.name}: {curve.y[0]:.4g} to {curve.y[-1]:.4g}"
            marks[key] = Mark(kind="curve", said=said, name=curve.name, each=each)
        if y_range is not None:
            axes.update_datalim([(curve.x[0], end) for curve in of for end in y_range])
            axes.autoscale_view()
        axes.legend(handles, [curve.name for curve in of], loc="upper left", bbox_to_anchor=(1.03, 1))
    said = description or f"{len(of)} curves: {', '.join(curve.name for curve in of)}; {y} against {x}."
    return Chart(figure=figure, title=title, description=said, marks=marks)


def dots(
    of: Sequence[Dots], *, x: str, title: str, description: str = "", digits: int = 2, chance: float | None = None
) -> Chart:
    """A row for each arm, the first on top: the mean with its interval over seeds, and a small dot for each seed.

    Args:
        chance: what guessing reaches; a line.
    """
    marks: dict[str, Mark] = {}
    with look():
        figure, axes = canvas(title, x, "", width=WIDTH, height=ROW * len(of))
        axes.set_yticks(range(len(of)), [arm.name for arm in of])
        axes.set_ylim(len(of) - 0.5, -0.5)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        for number, arm in enumerate(of):
            if arm.mean.half:
                axes.plot(_ends(arm.mean), [number] * 2, marker="|", markersize=8, color=_MEAN)
            for seed, value in arm.each.items() if arm.mean.count > 1 else ():
                key = f"seed-{len(marks)}"
                axes.plot(value, number, "o", markersize=4.4, color=_SEED, alpha=0.7, gid=key)
                marks[key] = Mark(kind="seed", said=f"{arm.name}, seed {seed}: {value:.4g}")
            key = f"mean-{len(marks)}"
            axes.plot(arm.mean.mean, number, "o", color=_MEAN, gid=key)
            said = f"{arm.name}: {written(arm.mean, digits)}, seeds: {arm.mean.count}"
            marks[key] = Mark(kind="point", said=said)
            axes.text(1.02, number, written(arm.mean, digits), transform=axes.get_yaxis_transform(), va="center")
        if chance is not None:
            axes.axvline(chance, color=_CHANCE, linewidth=1, linestyle=(0, (4, 3)))
            axes.text(chance, 1, "chance", transform=axes.get_xaxis_transform(), ha="center", va="bottom")
            axes.set_title(title, pad=24)
    said = description or f"{len(of)} arms; means with 95 % intervals over seeds, and each seed."
    return Chart(figure=figure, title=title, description=said, marks=marks)


def _ends(of: Estimate) -> list[float]:
    """Of an error bar."""
    half = of.half or 0.0
    return [of.mean - half, of.mean + half]

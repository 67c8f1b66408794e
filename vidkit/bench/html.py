"""One page with the table and its plots: no script, no network, nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vidkit.bench import report
from vidkit.bench.report import Estimate, Line, Results

#: Of the strategies: told apart without colour vision as well (Okabe and Ito), and named beside the lines.
COLOURS = {"adaptive": "#d55e00", "tube": "#0072b2", "random": "#009e73", "frame": "#6b6b6b"}

WIDTH, HEIGHT = 620, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 96, 34, 52

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1300px; padding: 0 1em; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 8px; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
.quoted { background: #f4f1e8; }
figure { display: inline-block; margin: 1em 1em 0 0; }
text { font: 12px system-ui, sans-serif; fill: #222; }
"""


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: Estimate


def page(results: Results) -> str:
    """The whole page."""
    of = report.lines(results)
    title = escape(report.title(results))
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes(results, of))
    figures = "".join(f"<figure>{svg}</figure>" for svg in plots(of))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f'<div class="wide">{_table(of)}</div>\n<ul>{notes}</ul>\n{figures}\n</body></html>\n'
    )


def _table(of: Sequence[Line]) -> str:
    columns, cells = report.table(of)
    kinds = [
        " ".join(word for word, holds in (("right", column.right), ("quoted", "(quoted)" in column.name)) if holds)
        for column in columns
    ]
    head = "".join(
        f'<th class="{kind}">{escape(column.name)}</th>' for column, kind in zip(columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))
        + "</tr>\n"
        for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def plots(of: Sequence[Line]) -> list[str]:
    """Accuracy against ratio and against memory, where lines have both."""
    lines = list({line.group: line for line in of}.values())  # one that stands for several rows of the paper: once
    metric, name = next(
        ((key, word) for key, word in (("top1", "top-1 %"), ("mAP", "mAP %")) if any(o.metric(key) for o in lines)),
        ("", ""),
    )
    if not metric:
        return []
    by_ratio: dict[str, list[Point]] = {}
    by_memory: dict[str, list[Point]] = {}
    for line in lines:
        y = line.metric(metric)
        if y is None:
            continue
        by_ratio.setdefault(line.cell.mask, []).append(Point(line.cell.ratio, y))
        memory = line.value(lambda row: row.measured_bytes or row.predicted_bytes)
        if memory is not None:
            by_memory.setdefault(line.cell.mask, []).append(Point(memory.mean / 1e9, y))
    made = [plot(by_ratio, x="mask ratio", y=name, joined=_one_setting(lines))]
    if by_memory:
        made.append(plot(by_memory, x="memory of a pre-training step, GB", y=name, joined=False))
    return made


def _one_setting(lines: Sequence[Line]) -> bool:
    """Whether each strategy and ratio is there once, so that a line between points means the ratio alone."""
    keys = [(line.cell.mask, line.cell.ratio) for line in lines]
    return len(keys) == len(set(keys))


def plot(series: dict[str, list[Point]], *, x: str, y: str, joined: bool) -> str:
    """An SVG: a point with its error bar for each cell, a colour for each strategy."""
    points = [point for some in series.values() for point in some]
    low_x, high_x = _range([point.x for point in points])
    half = [point.y.half or 0.0 for point in points]
    ends = [point.y.mean + sign * h for point, h in zip(points, half, strict=True) for sign in (-1, 1)]
    low_y, high_y = _range(ends)

    def at(a: float, b: float) -> tuple[float, float]:
        across = (a - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        up = (b - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{escape(y)} against {escape(x)}</text>']
    for i in range(5):
        a, b = low_x + i / 4 * (high_x - low_x), low_y + i / 4 * (high_y - low_y)
        (px, _), (_, py) = at(a, low_y), at(low_x, b)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py}" y2="{py}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py + 4}" text-anchor="end">{b:.3g}</text>')
        parts.append(f'<text x="{px}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{a:.3g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x)}</text>')
    for number, (name, some) in enumerate(series.items()):
        colour = COLOURS.get(name, "#000")
        placed = [(at(point.x, point.y.mean), point) for point in sorted(some, key=lambda point: point.x)]
        if joined and len(placed) > 1:
            path = " ".join(f"{px},{py}" for (px, py), _ in placed)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for (px, py), point in placed:
            if point.y.half:
                top, bottom = (at(point.x, point.y.mean + sign * point.y.half)[1] for sign in (1, -1))
                parts.append(f'<line x1="{px}" x2="{px}" y1="{top}" y2="{bottom}" stroke="{colour}"/>')
            said = escape(f"{name}, {point.x:.4g}: {report.written(point.y)}, seeds: {point.y.count}")
            parts.append(f'<circle cx="{px}" cy="{py}" r="4" fill="{colour}"><title>{said}</title></circle>')
        row = TOP + 10 + 18 * number
        parts.append(f'<circle cx="{WIDTH - RIGHT + 14}" cy="{row}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 24}" y="{row + 4}">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room

"""A study's plots as SVG, and one page with table, plots and notes: no script, no network, nothing beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from vidkit.bench.report.estimates import written
from vidkit.bench.report.svg import span, ticks
from vidkit.bench.studies import report as study_report
from vidkit.bench.studies.report import Line, Results
from vidkit.bench.studies.specs import Measure

#: Pixels of a plot: a line of it, the space for values, and what is above and below.
ROW, ACROSS, TOP, BOTTOM, RIGHT = 26, 430, 40, 48, 110
_LETTER = 6.6

_INK, _GRID, _MEAN, _SEED, _MARK = "#222222", "#e3e3e3", "#0072b2", "#d55e00", "#6b6b6b"

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1300px; padding: 0 1em; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 8px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
td:first-child { white-space: nowrap; }
td:nth-child(2) { min-width: 17em; }
td.right { white-space: nowrap; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
.quoted { background: #f4f1e8; }
figure { display: inline-block; margin: 1em 1em 0 0; }
"""


def page(results: Results) -> str:
    """The whole page."""
    named = escape(study_report.title(results))
    notes = "".join(f"<li>{escape(note)}</li>" for note in study_report.notes(results))
    figures = "".join(f"<figure>{svg}</figure>" for svg in plots(results).values())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{named}</title><style>{STYLE}</style></head>\n<body><h1>{named}</h1>\n"
        f'<div class="wide">{_table(results)}</div>\n{figures}\n<ul>{notes}</ul>\n</body></html>\n'
    )


def _table(results: Results) -> str:
    columns, cells = study_report.table(results)
    kinds = [
        " ".join(word for word, holds in (("right", column.right), ("quoted", "(quoted)" in column.name)) if holds)
        for column in columns
    ]
    head = "".join(f'<th class="{kind}">{escape(c.name)}</th>' for c, kind in zip(columns, kinds, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))
        + "</tr>\n"
        for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def plots(results: Results) -> dict[str, str]:
    """An SVG for each measure that some arm has and that is worth a plot, by the measure's name."""
    of = study_report.lines(results)
    made = {}
    for measure in results.spec.measures:
        shown = [line for line in of if line.over_seeds(measure) is not None]
        if measure.plotted and shown:
            made[measure.name] = dots(shown, measure, results.spec.title, _chance(results, measure))
    return made


def _chance(results: Results, measure: Measure) -> float | None:
    """What guessing reaches, as shown; None: the rows do not say."""
    found = {row.found["chance"] for row in results.rows if isinstance(row.found.get("chance"), float)}
    return measure.factor * found.pop() if len(found) == 1 else None


def dots(of: Sequence[Line], measure: Measure, what: str, chance: float | None = None) -> str:
    """A row for each arm: the mean with its interval over seeds, and a small dot for each seed."""
    left = 14 + round(_LETTER * max(len(line.arm) for line in of))
    height = TOP + ROW * len(of) + BOTTOM
    values = [value for line in of for value in line.by_seed(measure).values()]
    for line in of:
        mean = line.over_seeds(measure)
        assert mean is not None, "the caller sees to it"
        values += [mean.mean - (mean.half or 0.0), mean.mean + (mean.half or 0.0)]
    low, high = span(values if chance is None else [*values, chance])

    def at(value: float) -> float:
        return round(left + (value - low) / (high - low) * ACROSS, 1)

    bottom = TOP + ROW * len(of)
    parts = [_text(8, 18, f"{what}: {measure.title}", bold=True)]
    for value in ticks(low, high):
        parts.append(f'<line x1="{at(value)}" x2="{at(value)}" y1="{TOP}" y2="{bottom}" stroke="{_GRID}"/>')
        parts.append(_text(at(value), bottom + 18, f"{value:g}", anchor="middle"))
    better = "less is better" if measure.lower else "more is better"
    parts.append(_text(left + ACROSS / 2, height - 10, f"{measure.title} ({better})", anchor="middle"))
    if chance is not None:
        parts.append(
            f'<line x1="{at(chance)}" x2="{at(chance)}" y1="{TOP}" y2="{bottom}" stroke="{_MARK}" '
            'stroke-dasharray="4 3"/>'
        )
        parts.append(_text(at(chance), TOP - 6, "chance", anchor="middle"))
    for number, line in enumerate(of):
        parts += _row(line, measure, TOP + ROW * number + ROW / 2, left, at)
    title = escape(f"{what}: {measure.title}")
    said = escape(f"{len(of)} arms; means with 95 % intervals over seeds, and each seed.")
    width = left + ACROSS + RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}"><title>{title}</title>'
        f"<desc>{said}</desc>{''.join(parts)}</svg>"
    )


def _row(line: Line, measure: Measure, y: float, left: int, at: Callable[[float], float]) -> list[str]:
    mean = line.over_seeds(measure)
    assert mean is not None
    parts = [_text(left - 8, y + 4, line.arm, anchor="end")]
    if mean.half:
        low, high = at(mean.mean - mean.half), at(mean.mean + mean.half)
        parts.append(f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{_MEAN}" stroke-width="1.5"/>')
        for x in (low, high):
            parts.append(f'<line x1="{x}" x2="{x}" y1="{y - 4}" y2="{y + 4}" stroke="{_MEAN}"/>')
    if mean.count > 1:
        for seed, value in line.by_seed(measure).items():
            said = escape(f"{line.arm}, seed {seed}: {value:.4g}")
            parts.append(
                f'<circle cx="{at(value)}" cy="{y}" r="2.2" fill="{_SEED}" fill-opacity="0.7"><title>{said}</title>'
                "</circle>"
            )
    said = escape(f"{line.arm}: {written(mean, measure.digits)}, seeds: {mean.count}")
    parts.append(f'<circle cx="{at(mean.mean)}" cy="{y}" r="4.2" fill="{_MEAN}"><title>{said}</title></circle>')
    parts.append(_text(left + ACROSS + 8, y + 4, written(mean, measure.digits)))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'

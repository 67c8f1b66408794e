"""One page with the table, its plots and pictures: no script, no network, nothing beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from vidkit.bench.ablate.rows import Row
from vidkit.bench.report import table as report
from vidkit.bench.report.curves import LOSSES, LossPlots, loss_plots
from vidkit.bench.report.estimates import NOTHING
from vidkit.bench.report.mask_pictures import Picture
from vidkit.bench.report.results import Line, Results, cells, names
from vidkit.bench.report.svg import COLOURS, HEIGHT, WIDTH, Point, plot
from vidkit.bench.report.table import Column

__all__ = ["COLOURS", "HEIGHT", "WIDTH", "Point", "page", "plot", "plots"]

#: Plots and pictures keep their paper in the dark as well: their colours are chosen for it.
STYLE = """
:root { color-scheme: light dark; --ink: #222; --page: #fff; --rule: #ddd; --strong: #888; --quoted: #f4f1e8;
  --bad: #a3200d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --page: #17181a; --rule: #3a3c40; --strong: #777;
  --quoted: #2c2a22; --bad: #ff9c8a; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1360px; padding: 0 1em;
  color: var(--ink); background: var(--page); }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
caption { text-align: left; padding: 4px 8px; }
th, td { padding: 3px 8px; border-bottom: 1px solid var(--rule); text-align: left; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--strong); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: normal; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
.quoted { background: var(--quoted); font-style: italic; }
.status { white-space: normal; min-width: 8em; }
.bad { color: var(--bad); }
ul { font-size: 14px; max-width: 70em; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 1em;
  align-items: start; }
figure { margin: 0; padding: 8px; background: #fff; color: #222; border: 1px solid var(--rule);
  border-radius: 4px; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; max-width: 60em; }
@media print { body { margin: 0; max-width: none; } .wide { overflow: visible; } table { font-size: 7px; }
  .status { min-width: 0; } th, td { padding: 1px 3px; } figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; } }
@page { size: A4 landscape; margin: 12mm; }
"""


def page(results: Results, pictures: Sequence[Picture] | None = None) -> str:
    """The whole page.

    Args:
        pictures: of masks, as `mask_pictures` draws them; None: the page has no such part.
    """
    of = report.lines(results)
    title = escape(report.title(results))
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes(results, of))
    curves = [loss_plots(results, of, part) for part in LOSSES] if any(line.kind == "full" for line in of) else []
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f'<div class="wide">{_table(of)}</div>\n<ul>{notes}</ul>\n'
        f"{_accuracy(of)}{_curves(curves)}{'' if pictures is None else _masks(pictures)}{_rows(of)}"
        "</body></html>\n"
    )


# --- tables --------------------------------------------------------------------------------------


def _table(of: Sequence[Line]) -> str:
    columns, texts = _status_early(*report.table(of))
    said = "Each line is a cell over its seeds. Columns marked (quoted) are the paper's figures, not measured here."
    kinds = {
        column.name: " ".join(
            word
            for word, holds in (
                ("right", column.right),
                ("quoted", "(quoted)" in column.name),
                ("status", column.name == "status"),
            )
            if holds
        )
        for column in columns
    }
    head = "".join(f'<th scope="col" class="{kinds[c.name]}">{escape(c.name)}</th>' for c in columns)
    body = ""
    for line, row in zip(of, texts, strict=True):
        body += "<tr>"
        for column, text in zip(columns, row, strict=True):
            bad = " bad" if column.name == "status" and not line.status.startswith("ok") else ""
            tag = ("th", ' scope="row"') if column.name == "mask" else ("td", "")
            body += f'<{tag[0]}{tag[1]} class="{kinds[column.name]}{bad}">{escape(text)}</{tag[0]}>'
        body += "</tr>\n"
    return _whole_table("results", said, head, body)


def _status_early(
    columns: Sequence[Column], texts: Sequence[Sequence[str]]
) -> tuple[list[Column], list[list[str]]]:
    """What failed or is missing stands beside the seeds: a wide table ends beyond the screen."""
    names = [column.name for column in columns]
    order = [i for i, name in enumerate(names) if name != "status"]
    after = max((place for place, i in enumerate(order) if names[i] in ("V of N", "seeds")), default=-1)
    order.insert(after + 1, names.index("status"))
    return [columns[i] for i in order], [[row[i] for i in order] for row in texts]


def _whole_table(name: str, caption: str, head: str, body: str) -> str:
    return (
        f'<table id="{name}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table>"
    )


def _rows(of: Sequence[Line]) -> str:
    """Every row that the table was made of."""
    called = names(of)
    columns = ("cell", "seed", "top-1 %", "clips tested", "coverage", "config", "predictions", "run", "commit")
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = ""
    for line in cells(of):
        for row in line.rows:
            texts = "".join(f"<td>{escape(text)}</td>" for text in _facts(row))
            body += f'<tr><th scope="row">{escape(called[line.group])}</th>{texts}</tr>\n'
    if not body:
        return ""
    table = _whole_table("rows", "One line for each row of results.jsonl that came to its end.", head, body)
    return (
        f'<h2>Rows</h2>\n<details><summary>What the table was made of</summary><div class="wide">{table}</div>'
        "</details>\n"
    )


def _facts(row: Row) -> tuple[str, ...]:
    top1 = row.metrics.get("top1")
    return (
        str(row.plan.cell.seed),
        NOTHING if top1 is None else f"{100 * top1:.2f}",
        NOTHING if row.clips is None else str(row.clips),
        NOTHING if row.coverage is None else f"{row.coverage:.2%}",
        row.plan.config_hash,
        (row.predictions_sha256 or NOTHING)[:12],
        row.runs.get("test", NOTHING),
        (row.git or NOTHING)[:12],
    )


# --- figures -------------------------------------------------------------------------------------


def _figure(inner: str, caption: str = "") -> str:
    return f"<figure>{inner}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>\n"


def _beside(figures: Iterable[str]) -> str:
    """Next to each other, as many as there is room for."""
    text = "".join(figures)
    return f'<div class="figures">{text}</div>\n' if text else ""


def _accuracy(of: Sequence[Line]) -> str:
    svgs = plots(of)
    if not svgs:
        return ""
    called = names(of)
    gone = [called[line.group] for line in cells(of) if line.kind == "full" and not line.rows]
    words = f"<p>Not shown, since they have no result: {escape('; '.join(gone))}.</p>\n" if gone else ""
    return f"<h2>Accuracy</h2>\n{words}{_beside(map(_figure, svgs))}"


def _curves(of: Sequence[LossPlots]) -> str:
    if not of:
        return ""
    words = "".join(f"<p>{escape(sentence)}</p>\n" for part in of for sentence in part.missing)
    figures = _beside(_figure(svg) for part in of for svg in part.svgs)
    said = "<p>A line is the mean over seeds, the band goes from the lowest to the highest seed.</p>\n"
    return f"<h2>Losses</h2>\n{said if figures else ''}{figures}{words}"


def _masks(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return "<h2>Masks</h2>\n<p>No masks to show: no cell has a pre-training that came to its end.</p>\n"
    figures, words = [], []
    for picture in pictures:
        if picture.png is None:
            words.append(f"<p>{escape(picture.name)}: {escape(picture.caption)}</p>\n")
            continue
        said = f"Masks of {picture.name}: video, prediction, error, mask; time from left to right"
        image = f'<img src="{picture.uri}" alt="{escape(said, quote=True)}"/>'
        figures.append(_figure(image, f"{picture.name}: {picture.caption}"))
    return f"<h2>Masks</h2>\n{_beside(figures)}{''.join(words)}"


def plots(of: Sequence[Line]) -> list[str]:
    """Accuracy against ratio and against memory, where lines have both."""
    lines = cells(of)
    metric, name = next(
        ((key, word) for key, word in (("top1", "top-1 %"), ("mAP", "mAP %")) if any(o.metric(key) for o in lines)),
        ("", ""),
    )
    if not metric:
        return []
    known = [(line, y) for line in lines if (y := line.metric(metric)) is not None]
    by_ratio: dict[str, list[Point]] = {}
    for line, y in known:
        by_ratio.setdefault(line.cell.mask, []).append(Point(line.cell.ratio, y))
    made = [plot(by_ratio, x="mask ratio", y=name, joined=_one_setting(lines), aside=True)]
    for what in ("measured", "predicted"):  # both in one plot would compare two things
        by_memory: dict[str, list[Point]] = {}
        for line, y in known:
            memory = _memory(line, what)
            if memory is not None:
                by_memory.setdefault(line.cell.mask, []).append(Point(memory / 1e9, y))
        if sum(map(len, by_memory.values())) == len(known):
            made.append(plot(by_memory, x=f"{what} memory of a pre-training step, GB", y=name, joined=False))
            break
    return made


def _memory(line: Line, what: str) -> float | None:
    """Bytes, mean over seeds."""
    found = line.value(lambda row: row.measured_bytes if what == "measured" else row.predicted_bytes)
    return None if found is None else found.mean


def _one_setting(lines: Sequence[Line]) -> bool:
    """Whether each strategy and ratio is there once, so that a line between points means the ratio alone."""
    keys = [(line.cell.mask, line.cell.ratio) for line in lines]
    return len(keys) == len(set(keys))

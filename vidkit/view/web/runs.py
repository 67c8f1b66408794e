"""The pages of runs: curves, tables of results, predictions, pictures of masks."""

from __future__ import annotations

import functools
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from vidkit.bench.report import pages as reports
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError, DatasetError, display_path
from vidkit.view.clips.opened import Opened
from vidkit.view.runs import found, said
from vidkit.view.runs.confusion import confusion
from vidkit.view.runs.found import Found
from vidkit.view.runs.masks import Painter
from vidkit.view.shelf import Shelf
from vidkit.view.web import clips, pages

if TYPE_CHECKING:
    from starlette.requests import Request

#: Runs whose curves are in one plot: there are no more colours.
MOST_RUNS = 8

#: Masks that any model can be given.
_MASKS = ("tube", "random", "frame")

_painter = Painter()

#: matplotlib's settings are those of the whole process: one page draws at a time.
_drawing = threading.Lock()


def overview(shelf: Shelf) -> list[dict[str, Any]]:
    """For the first page: kinds of things with their lines."""
    kinds: list[dict[str, Any]] = []
    if shelf.tables:
        lines = [
            {"name": shelf.names[folder], "href": f"/table?t={i}", "texts": (_count(folder), _where(folder))}
            for i, folder in enumerate(shelf.tables)
        ]
        more = None
        if len(shelf.tables) > 1:
            every = [str(i) for i in range(len(shelf.tables))]
            more = {"href": pages.address("/table", {"t": every}), "words": "All in one table"}
        kinds.append(
            {"title": "Results", "columns": ("name", "runs that ended", "where"), "lines": lines, "more": more}
        )
    own = [one for one in found.runs(shelf).values() if one.table is None]
    if own:
        lines = [
            {
                "name": one.name,
                "href": pages.address("/run", {"r": one.id}),
                "texts": (*_facts(one), _where(one.path)),
            }
            for one in own
        ]
        more = None
        if len(own) > 1:
            words = "Curves of all in one" if len(own) <= MOST_RUNS else f"Curves of the first {MOST_RUNS} in one"
            more = {"href": pages.address("/run", {"r": [one.id for one in own[:MOST_RUNS]]}), "words": words}
        kinds.append(
            {"title": "Runs", "columns": ("name", "kind", "dataset", "where"), "lines": lines, "more": more}
        )
    predictions = [one for one in found.predictions(shelf).values() if one.table is None]
    if predictions:
        lines = [{"name": one.name, "href": f"/said/{one.id}", "texts": (_where(one.path),)} for one in predictions]
        kinds.append({"title": "Predictions", "columns": ("name", "where"), "lines": lines, "more": None})
    return kinds


def _where(path: Place) -> str:
    return display_path(str(path))


def _count(folder: Path) -> str:
    return f"{len(found.rows_of(folder)):,}"


def _facts(run: Found) -> tuple[str, str]:
    config = found.config_of(run.path)
    return str(config.get("kind", "")), str(config.get("dataset", ""))


# --- runs ----------------------------------------------------------------------------------------


def _run(request: Request) -> Response:
    from vidkit.view.runs import curves

    shelf: Shelf = request.app.state.shelf
    every = found.runs(shelf)
    asked = list(dict.fromkeys(request.query_params.getlist("r")))
    if not asked or not set(asked) <= set(every):
        raise HTTPException(404)
    runs = [every[short] for short in asked][:MOST_RUNS]
    configs = [found.config_of(run.path) for run in runs]
    return pages.page(
        "run.html",
        shelf=shelf,
        runs=[
            {
                "id": run.id,
                "name": run.name,
                "place": _where(run.path),
                "facts": config,
                "masks": _has_masks(run, config),
            }
            for run, config in zip(runs, configs, strict=True)
        ],
        figures=_figures(tuple(runs), tuple(_stamp(run) for run in runs)),
        settings=curves.settings(runs, configs),
        others=[one for one in every.values() if one.id not in asked] if len(runs) < MOST_RUNS else [],
        asked=asked,
    )


def _stamp(run: Found) -> int:
    log = run.path / "log.jsonl"
    return log.stat().st_mtime_ns if log.exists() else 0


@functools.lru_cache(maxsize=16)
def _figures(runs: tuple[Found, ...], stamps: tuple[int, ...]) -> tuple[str, ...]:
    """Plots of what runs have logged until then, as SVG."""
    from vidkit.bench.report.style import svg
    from vidkit.view.runs import curves

    with _drawing:
        return tuple(svg(chart) for chart in curves.charts(runs))


def _has_masks(run: Found, config: dict[str, Any]) -> bool:
    return config.get("kind") == "pretrain" and run.checkpoint.is_file()


# --- tables of results ---------------------------------------------------------------------------


def _table(request: Request) -> Response:
    """One folder of results, or several of one dataset together."""
    from vidkit.bench.report import html
    from vidkit.bench.report.results import read_results

    shelf: Shelf = request.app.state.shelf
    asked = list(dict.fromkeys(request.query_params.getlist("t")))
    if not asked or not all(one.isdecimal() and int(one) < len(shelf.tables) for one in asked):
        raise HTTPException(404)
    folders = [shelf.tables[int(one)] for one in asked]
    with _drawing:
        contents = html.contents(read_results(folders))
    by_path = {one.path: one for one in found.runs(shelf).values()}
    files = {one.path: one for one in found.predictions(shelf).values()}
    rows = [
        {
            "name": name if len(folders) == 1 else f"{shelf.names[folder]}: {name}",
            "runs": [
                (part, by_path.get(folder / row.runs[part]))
                for part in ("pretrain", "finetune")
                if part in row.runs
            ],
            "said": files.get(folder / row.runs.get("predictions", "")),
        }
        for folder in folders
        for name, row in found.rows_of(folder)
    ]
    called = ", ".join(shelf.names[folder] for folder in folders)
    where = ", ".join(map(_where, folders))
    return pages.page("results.html", shelf=shelf, name=called, place=where, of=contents, rows=rows)


def _script_of_reports(request: Request) -> Response:
    return Response(reports.part("page.js"), media_type="text/javascript", headers=pages.FRESH)


# --- predictions ---------------------------------------------------------------------------------


def _dataset_of(request: Request, one: Found) -> tuple[int, Opened]:
    """The dataset that predictions are of: (its number, it).

    Raises:
        ConfigError: none that is open is.
    """
    from vidkit.view.runs import predictions

    shelf: Shelf = request.app.state.shelf
    for number, watched in enumerate(shelf.datasets):
        try:
            opened = watched.now()
        except DatasetError:  # its own page says what is wrong
            continue
        if predictions.fits(one.path, opened):
            return number, opened
    raise ConfigError(
        "these predictions are of no dataset that is open",
        file=one.path,
        hint="give the folder of the dataset, too: vidkit view DATASET RUNS",
    )


def _said(request: Request) -> Response:
    shelf: Shelf = request.app.state.shelf
    one = said.named(shelf, request.path_params["id"])
    number, opened = _dataset_of(request, one)
    answers = said.answers(shelf, one.id, opened)
    metrics = answers.metrics()
    return pages.page(
        "said.html",
        **clips.within(shelf, number, opened),
        place=_where(one.path),
        one=one,
        tested=len(answers.rows),
        metrics=metrics,
        several=answers.several,
        of=None if answers.several else confusion(answers),
    )


# --- masks ---------------------------------------------------------------------------------------


def _masks(request: Request) -> Response:
    """A clip as one or more pre-trained models see it."""
    shelf: Shelf = request.app.state.shelf
    every = {one.id: one for one in found.checkpoints(shelf)}
    asked = list(dict.fromkeys(request.query_params.getlist("m")))[:4]
    if not asked or not set(asked) <= set(every):
        raise HTTPException(404)
    number, opened = _dataset_for(request, every[asked[0]])
    row = _row(request, opened)
    stored_rows = np.flatnonzero(opened.index.facets["status"].among(["ok"]))
    at = int(np.searchsorted(stored_rows, row))
    keys = opened.ledger["key"]
    configs = [found.config_of(every[short].path).get("config", {}) for short in asked]
    trained = [config.get("model", {}).get("mask", {}) for config in configs]
    own = [str(mask.get("strategy")) for mask in trained if mask.get("strategy") not in (None, *_MASKS)]
    return pages.page(
        "masks.html",
        **clips.within(shelf, number, opened),
        place=_where(opened.root),
        row=opened.row(row),
        models=[every[short] for short in asked],
        others=[one for short, one in every.items() if short not in asked],
        strategies=[*dict.fromkeys(own), *_MASKS],
        ratio=trained[0].get("ratio", 0.9),
        before=keys[int(stored_rows[at - 1])].as_py() if at else None,
        after=keys[int(stored_rows[at + 1])].as_py() if at + 1 < len(stored_rows) else None,
    )


def _dataset_for(request: Request, run: Found) -> tuple[int, Opened]:
    """The dataset that the address names, or the one that the run was trained on, or the first.

    Raises:
        ConfigError: none is open.
        DatasetError: it cannot be opened.
    """
    shelf: Shelf = request.app.state.shelf
    named = request.query_params.get("d", "")
    if named.isdecimal() and int(named) < len(shelf.datasets):
        return int(named), shelf.datasets[int(named)].now()
    plan = found.config_of(run.path).get("dataset_plan_sha256")
    opened = []
    for number, watched in enumerate(shelf.datasets):
        try:
            opened.append((number, watched.now()))
        except DatasetError:  # its own page says what is wrong
            continue
        if opened[-1][1].facts["plan_sha256"] == plan:
            return opened[-1]
    if not opened:
        raise ConfigError(
            "no dataset is open whose clips could be shown", hint="give one, too: vidkit view DATASET RUNS"
        )
    return opened[0]


def _row(request: Request, opened: Opened) -> int:
    """Of the clip that the address names, or of the first that was stored; validation clips come first."""
    key = request.query_params.get("key")
    if key is not None:
        row = opened.row_of(key)
        if row is None:
            raise HTTPException(404)
        return row
    good = opened.index.facets["status"].among(["ok"])
    for mask in (good & opened.index.facets["split"].among(["val"]), good):
        rows = np.flatnonzero(mask)
        if len(rows):
            return int(rows[0])
    raise DatasetError("no clip is stored in this dataset", file=opened.root)


def _painted(request: Request) -> Response:
    shelf: Shelf = request.app.state.shelf
    asked = request.query_params
    every = {one.id: one for one in found.checkpoints(shelf)}
    if asked.get("m") not in every:
        raise HTTPException(404)
    _, opened = _dataset_for(request, every[asked["m"]])
    seed = asked.get("seed", "0")
    painted = _painter.paint(
        every[asked["m"]].checkpoint,
        opened,
        _row(request, opened),
        strategy=asked.get("mask") or None,
        ratio=_share(asked["ratio"]) if asked.get("ratio") else None,
        seed=int(seed) if seed.isdecimal() and len(seed) < 10 else 0,
    )
    return pages.answer(painted.to_plain())


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ConfigError(f"the ratio is {text!r}; expected a number between 0 and 1", field="ratio")
    return value


ROUTES = (
    Route("/run", _run),
    Route("/table", _table),
    Route("/said/{id}", _said),
    Route("/masks", _masks),
    Route("/masks/painted", _painted),
    Route("/page.js", _script_of_reports),
)

"""The pages of a dataset: the grid, a clip, counts, failures, leaks; and the rows, pictures and videos for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from vidkit.errors import ConfigError, DatasetError, display_path
from vidkit.view.clips import clip as one_clip
from vidkit.view.clips import query as asking
from vidkit.view.clips import stored, summary, thumbs
from vidkit.view.clips.opened import Opened
from vidkit.view.runs import found as runs_found
from vidkit.view.runs import said
from vidkit.view.runs.predictions import Answers
from vidkit.view.shelf import Shelf
from vidkit.view.web import pages
from vidkit.view.web.ranges import clip_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from vidkit.view.clips.index import Ints

#: Rows of one answer.
MOST_ROWS = 500
#: Keys of marked clips in one question.
MOST_KEYS = 100_000

#: Columns of an answer's rows.
COLUMNS = (
    *("key", "clip_id", "class", "split", "status", "error", "message"),
    *("frames", "seconds", "width", "height", "warned"),
)
#: Letters of a message in a tile; the clip's page has all of it.
_SHORT = 90


def overview(shelf: Shelf) -> list[dict[str, Any]]:
    """For the first page: each dataset's name and counts, or what is wrong with it."""
    found = []
    for number, watched in enumerate(shelf.datasets):
        line: dict[str, Any] = {"number": number, "place": display_path(str(watched.root)), "error": None}
        try:
            opened = watched.now()
        except DatasetError as error:
            found.append({**line, "name": shelf.names[watched.root], "error": str(error)})
            continue
        facts = opened.facts
        names = facts["label_map"]["base_labels" if facts["label_map"]["rule"] == "multi-hot" else "classes"]
        found.append({**line, "name": called(shelf, number), "counts": facts["counts"], "classes": len(names)})
    return found


def called(shelf: Shelf, number: int) -> str:
    """A dataset's name; with its folder, where that is called otherwise: two may be of one spec.

    Raises:
        DatasetError: it cannot be opened.
    """
    watched = shelf.datasets[number]
    name, folder = watched.now().name, shelf.names[watched.root]
    return name if folder == name else f"{name} ({folder})"


def opened_of(request: Request) -> Opened:
    """The dataset that the address names.

    Raises:
        HTTPException: 404, there is none of that number.
        DatasetError: it cannot be opened, or is another one than when the page that asks was made.
    """
    shelf: Shelf = request.app.state.shelf
    number = request.path_params["n"]
    if number >= len(shelf.datasets):
        raise HTTPException(404)
    opened: Opened = shelf.datasets[number].now()
    asked = request.query_params.get("v")
    if asked is not None and asked != opened.version:
        raise DatasetError(
            "the dataset was changed while this page was open", file=opened.root, hint="load the page again"
        )
    return opened


def within(shelf: Shelf, number: int, opened: Opened) -> dict[str, Any]:
    """What a page within a dataset shows of it."""
    return {
        "shelf": shelf,
        "here": f"/d/{number}",
        "opened": opened,
        "called": called(shelf, number),
        "number": number,
    }


def _place(request: Request) -> dict[str, Any]:
    """What every page of a dataset needs."""
    opened = opened_of(request)
    return {
        **within(request.app.state.shelf, request.path_params["n"], opened),
        "search": request.url.query,
        "place": display_path(str(opened.root)),
    }


def _row_number(request: Request, opened: Opened) -> int:
    found = opened.row_of(request.path_params["key"])
    if found is None:
        raise HTTPException(404)
    return found


# --- the grid ------------------------------------------------------------------------------------


def _grid(request: Request) -> Response:
    values = _place(request)
    return pages.page(
        "grid.html", **values, panes=[pane(request.app.state.shelf, values["number"])], others=[], together=False
    )


def _side(request: Request) -> Response:
    """Several datasets beside each other under the same filters."""
    shelf: Shelf = request.app.state.shelf
    asked = request.query_params.getlist("d") or _first(shelf)
    if not all(one.isdecimal() and int(one) < len(shelf.datasets) for one in asked) or not asked:
        raise HTTPException(404)
    panes = [pane(shelf, int(one)) for one in dict.fromkeys(asked)]
    return pages.page(
        "grid.html",
        shelf=shelf,
        here="/side",
        panes=panes,
        others=_others(shelf, {pane["number"] for pane in panes}),
        together=True,
        opened=None,
        number=None,
        place="",
    )


def _first(shelf: Shelf) -> list[str]:
    """Two datasets that can be opened, as they were given; any two where none can."""
    good = [one["number"] for one in overview(shelf) if one["error"] is None]
    return [str(number) for number in (good or range(len(shelf.datasets)))][:2]


def _others(shelf: Shelf, there: set[int]) -> list[tuple[int, str]]:
    """(number, name) of the datasets that can be opened and are not there yet."""
    return [(one["number"], one["name"]) for one in overview(shelf) if not (one["error"] or one["number"] in there)]


def pane(shelf: Shelf, number: int) -> dict[str, Any]:
    """What a grid's script must know. Raises DatasetError."""
    opened = shelf.datasets[number].now()
    wide = opened.ledger["width"].to_numpy().astype(float) / opened.ledger["height"].to_numpy().astype(float)
    wide = wide[np.isfinite(wide)]
    return {
        "number": number,
        "name": called(shelf, number),
        "version": opened.version,
        "marks": opened.facts["plan_sha256"],
        "aspect": float(np.clip(np.median(wide), 0.6, 1.8)) if len(wide) else 1.0,
        "planned": opened.ledger.num_rows,
        "predictions": said.choices(shelf, opened),
    }


async def _rows(request: Request) -> Response:
    """Rows of the clips that the address asks for, and how many there are; keys of marked clips come as a body."""
    keys: frozenset[str] | None = None
    if request.method == "POST":
        try:
            given = json.loads(await request.body())
            keys = frozenset(given["keys"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError('the body is not {"keys": [...]}', field="keys") from None
        if len(keys) > MOST_KEYS or not all(isinstance(key, str) for key in keys):
            raise ConfigError(f"expected at most {MOST_KEYS:,} keys", field="keys")
    return await run_in_threadpool(_rows_of, request, keys)


def _rows_of(request: Request, keys: frozenset[str] | None) -> Response:
    opened = opened_of(request)
    query, found, rows, answers = chosen(request, opened, keys)
    start, count = _number(request, "from", 0), min(_number(request, "count", 200), MOST_ROWS)
    value: dict[str, Any] = {
        "total": len(rows),
        "from": start,
        "columns": [*COLUMNS, *(("said", "sure", "right") if answers is not None else ())],
        "rows": _plain_rows(opened, rows[start : start + count], answers),
    }
    if request.query_params.get("facets") == "1":
        value["facets"] = asking.counts(opened.index, query, found)
        others = asking.together(found, opened.index.clips, but="warned")
        value["warned"] = int((opened.index.warned & others).sum())
    return pages.answer(value)


def chosen(
    request: Request, opened: Opened, keys: frozenset[str] | None = None
) -> tuple[asking.Query, dict[str, Any], Ints, Answers | None]:
    """(query, masks, row numbers in order, answers of the model) of an address.

    Raises:
        ConfigError: an address that means nothing.
    """
    query = replace(asking.parse(request.query_params.multi_items()), keys=keys)
    answers = None if query.pred is None else said.answers(request.app.state.shelf, query.pred, opened)
    found = asking.masks(opened.index, query, answers)
    mask = asking.together(found, opened.index.clips)
    return query, found, asking.order(opened.index, query, mask, answers), answers


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else default


def _plain_rows(opened: Opened, rows: Ints, answers: Answers | None) -> list[list[Any]]:
    names = {"class": "class_name", "seconds": "duration_s"}
    some = opened.ledger.take(rows)
    columns: list[Sequence[Any]] = []
    for name in COLUMNS[:-1]:
        values = some[names.get(name, name)].to_pylist()
        if name == "class":
            labels = some["labels"].to_pylist()
            values = [value or ", ".join(of) for value, of in zip(values, labels, strict=True)]
        if name == "message":
            values = [value and value[:_SHORT] for value in values]
        columns.append(values)
    columns.append(opened.index.warned[rows].tolist())
    if answers is not None:
        columns.append([answers.classes[i] if i >= 0 else None for i in answers.said[rows].tolist()])
        columns.append([round(value, 4) for value in answers.sure[rows].tolist()])
        columns.append((answers.said[rows] == answers.true[rows]).tolist())
    return [list(row) for row in zip(*columns, strict=True)]


# --- one clip ------------------------------------------------------------------------------------


def _clip(request: Request) -> Response:
    values = _place(request)
    opened: Opened = values["opened"]
    number = _row_number(request, opened)
    _, _, rows, _ = chosen(request, opened)
    before, after, at = one_clip.beside(rows, number)
    keys = opened.ledger["key"]
    found = one_clip.clip(opened, number)
    return pages.page(
        "clip.html",
        **values,
        clip=found,
        at=at,
        total=len(rows),
        before=None if before is None else keys[before].as_py(),
        after=None if after is None else keys[after].as_py(),
        said=said.of_clip(request.app.state.shelf, opened, number),
        checkpoints=runs_found.checkpoints(request.app.state.shelf),
        pane=pane(request.app.state.shelf, values["number"]),
    )


def _video(request: Request) -> Response:
    opened = opened_of(request)
    place = stored.place_of(opened.row(_row_number(request, opened)))
    if place is None:
        raise HTTPException(404)
    return clip_response(request, opened, place)


def _thumb(request: Request) -> Response:
    opened = opened_of(request)
    picture = thumbs.thumb(opened, opened.row(_row_number(request, opened)))
    if picture is None:
        raise HTTPException(404)
    return Response(picture, media_type="image/webp", headers=pages.KEPT)


# --- counts, failures, leaks ---------------------------------------------------------------------


def _counts(request: Request) -> Response:
    values = _place(request)
    opened: Opened = values["opened"]
    _, found, rows, _ = chosen(request, opened)
    mask = asking.together(found, opened.index.clips)
    without = [(name, value) for name, value in request.query_params.multi_items() if name not in ("v", "from")]
    return pages.page(
        "counts.html", **values, total=len(rows), histograms=summary.histograms(opened, mask), filters=without
    )


def _failures(request: Request) -> Response:
    values = _place(request)
    return pages.page("failures.html", **values, failures=summary.failures(values["opened"]))


def _leaks(request: Request) -> Response:
    values = _place(request)
    opened: Opened = values["opened"]
    at, total = _number(request, "page", 0), len(opened.facts["leaks"])
    count = -(-total // summary.LEAKS_OF_A_PAGE)
    if at and at >= count:
        raise HTTPException(404)
    return pages.page(
        "leaks.html",
        **values,
        leaks=summary.leaks(opened, at),
        total=total,
        page=at,
        pages=count,
        pane=pane(request.app.state.shelf, values["number"]),
    )


def _about(request: Request) -> Response:
    values = _place(request)
    opened: Opened = values["opened"]
    return pages.page("about.html", **values, facts=opened.facts, stored=summary.stored(opened))


ROUTES = (
    Route("/side", _side),
    Route("/d/{n:int}", _grid),
    Route("/d/{n:int}/rows", _rows, methods=["GET", "POST"]),
    Route("/d/{n:int}/clip/{key}", _clip),
    Route("/d/{n:int}/video/{key}.mp4", _video),
    Route("/d/{n:int}/thumb/{key}.webp", _thumb),
    Route("/d/{n:int}/counts", _counts),
    Route("/d/{n:int}/failures", _failures),
    Route("/d/{n:int}/leaks", _leaks),
    Route("/d/{n:int}/about", _about),
)

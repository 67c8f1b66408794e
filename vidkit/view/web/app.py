"""All addresses, and what becomes of errors: pages that say what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vidkit import extras
from vidkit.errors import ClipError, ConfigError, DatasetError, VidkitError
from vidkit.view.shelf import Shelf
from vidkit.view.web import clips, pages, runs
from vidkit.view.web.guard import Guard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

STATIC = Path(__file__).parent / "static"


def app(shelf: Shelf, token: str) -> ASGIApp:
    """The application, guarded.

    Args:
        token: what an address must have before anything is shown.
    """
    inner = Starlette(
        routes=[
            Route("/", _home),
            *clips.ROUTES,
            *runs.ROUTES,
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={
            VidkitError: _vidkit_error,
            ClipError: _clip_error,
            ModuleNotFoundError: _lacking,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    inner.state.shelf = shelf
    return Guard(inner, token)


def _home(request: Request) -> Response:
    """What there is; where it is one dataset, its own page."""
    shelf: Shelf = request.app.state.shelf
    if len(shelf.datasets) == 1 and not (shelf.runs or shelf.tables or shelf.predictions):
        return RedirectResponse("/d/0", 303)
    return pages.page(
        "home.html", shelf=shelf, here=None, datasets=clips.overview(shelf), runs=runs.overview(shelf)
    )


def _vidkit_error(request: Request, error: Exception) -> Response:
    shown = cast(VidkitError, error)
    status = 400 if isinstance(shown, ConfigError) else 409 if isinstance(shown, DatasetError) else 500
    return pages.trouble(shown, status, as_json=pages.wants_json(request))


def _clip_error(request: Request, error: Exception) -> Response:
    shown = VidkitError(str(error), hint="see what else is wrong with `vidkit verify DIR`")
    return pages.trouble(shown, 422, as_json=pages.wants_json(request))


def _lacking(request: Request, error: Exception) -> Response:
    """Where a page needs a package that not every installation has: torch for masks, for example."""
    package = (cast(ModuleNotFoundError, error).name or str(error)).partition(".")[0]
    extra = extras.extra_of(package)
    hint = "see `vidkit doctor`" if extra is None else f"{extras.install(extra)}, and start `vidkit view` again"
    shown = VidkitError(f"this page needs {package}, which is not installed", hint=hint)
    return pages.trouble(shown, 501, as_json=pages.wants_json(request))


def _http_error(request: Request, error: Exception) -> Response:
    shown = cast(HTTPException, error)
    words = {404: "There is no such page", 405: "Nothing here can be changed"}.get(shown.status_code, shown.detail)
    return pages.trouble(VidkitError(words), shown.status_code, as_json=pages.wants_json(request))


def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours, or of a file that nothing has checked. The server's own output has where it came from."""
    shown = VidkitError(
        f"this page cannot be made: {type(error).__name__}: {error}",
        hint="is a file damaged? `vidkit verify DIR` says so of a dataset; otherwise it is a fault of the viewer",
    )
    return pages.trouble(shown, 500, as_json=pages.wants_json(request))

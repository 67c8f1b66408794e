"""Templates and what they need, and errors as pages. Values are escaped, and a name that a template lacks is an
error, not a gap.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.responses import HTMLResponse, JSONResponse, Response

from vidkit.data.build.card import bytes_words
from vidkit.errors import VidkitError

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.requests import Request

#: Pages show what is there now.
FRESH = {"cache-control": "no-store"}
#: What an address with the ledger's version holds stays as it is.
KEPT = {"cache-control": "private, max-age=31536000, immutable"}


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template with its values."""
    return HTMLResponse(templates().get_template(template).render(**values), status, headers=FRESH)


def answer(value: Any, status: int = 200) -> JSONResponse:
    """For a page's script."""
    return JSONResponse(value, status, headers=FRESH)


def trouble(error: VidkitError, status: int, *, as_json: bool = False) -> Response:
    """An error, as a page that says what to do; or for a script, which shows it on its own page."""
    if as_json:
        return answer({"error": error.message, "where": error.where, "hint": error.hint}, status)
    return page(
        "error.html",
        status,
        title=error.message,
        where=error.where,
        hint=error.hint,
        shelf=None,
        here=None,
    )


class Refused(HTMLResponse):
    """A request that is turned away; says nothing of what there is."""

    def __init__(self, status: int, words: str) -> None:
        text = f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{status}</title><p>{words}</p></html>"
        super().__init__(text, status, headers=FRESH)


def wants_json(request: Request) -> bool:
    """Whether a script asks, which shows errors itself."""
    return "application/json" in request.headers.get("accept", "")


def address(path: str, values: Mapping[str, Any] | None = None) -> str:
    """A path with a query; lists stand in it several times, None does not."""
    pairs: list[tuple[str, str]] = []
    for name, value in (values or {}).items():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if one is not None and one != "":
                pairs.append((name, str(one)))
    return quote(path) + (f"?{urlencode(pairs)}" if pairs else "")


def for_script(value: Any) -> Markup:
    """JSON that can stand in an HTML element or attribute, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=True)
    return Markup(
        text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("'", "\\u0027")
    )


@functools.cache
def templates() -> Environment:
    """Ours, and those of reports, whose tables look the same here."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=ChoiceLoader(
            [PackageLoader("vidkit.view.web", "templates"), PackageLoader("vidkit.bench.report", "templates")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"bytes": bytes_words, "number": "{:,}".format, "script": for_script}
    env.globals |= {"address": address}
    return env

"""Who may ask: only pages of this server, opened by whoever has the token, and only under a name of this machine.

Another user of the machine lacks the token. A page from elsewhere lacks the cookie, which browsers send along from
this server's own pages alone (SameSite=Strict). A name elsewhere that is made to point here ("DNS rebinding") comes
with its own Host header, and is turned away before anything else. Nothing here changes a file.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from markupsafe import escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from vidkit.view.web.pages import FRESH, Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine. The port may be another one than ours: that of an ssh tunnel.
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})

TOKEN = "token"

#: Everything comes from here; pages ask nobody else, and nobody else may frame or read them. matplotlib's plots
#: have style attributes.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Onward(HTMLResponse):
    """A page that asks for another one."""

    def __init__(self, path: str) -> None:
        words = f'<meta http-equiv="refresh" content="0;url={escape(path)}"><a href="{escape(path)}">Go on</a>'
        super().__init__(f"<!DOCTYPE html><title>vidkit</title>{words}", headers=FRESH)


class Guard:
    """Stands before an application."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token
        self._cookie = f"vidkit-{token[:6]}"  # ports share cookies: two servers each need their own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *(one for one in more if one[0] not in there)]
            await send(message)

        await self._answer(scope)(scope, receive, with_headers)

    def _answer(self, scope: Scope) -> ASGIApp:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if _name(headers.get("host", "")) not in HOSTS:
            return Refused(421, "This server answers to 127.0.0.1 and localhost only.")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return Refused(405, "Nothing here can be changed.")
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")  # the latter: another port
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(asked).get(TOKEN)
        if given is not None and self._right(given):
            rest = urlencode([(name, value) for name, value in asked if name != TOKEN])
            path = quote(scope["path"]) + (f"?{rest}" if rest else "")
            # a link that was clicked in a page elsewhere (a terminal in the browser, say): to what follows from it
            # the browser gives no strict cookie; to what our own page asks for it does
            onward: Response = _Onward(path) if elsewhere else RedirectResponse(path, 303, headers=FRESH)
            onward.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return onward
        if elsewhere:
            return Refused(403, "A page from elsewhere asked for this.")
        if not self._right(_cookies(headers.get("cookie", "")).get(self._cookie, "")):
            return Refused(403, "Open the address that `vidkit view` printed: it has the token that is needed.")
        return self._app

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _name(host: str) -> str:
    """Of a Host header, without the port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}

"""Parts of a clip, as a browser asks for them while it plays (RFC 9110, section 14): straight from the shard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from vidkit.view.clips import stored
from vidkit.view.web.pages import FRESH, KEPT

if TYPE_CHECKING:
    from starlette.requests import Request

    from vidkit.view.clips.opened import Opened
    from vidkit.view.clips.stored import Place

#: Numbers longer than any file is are no range.
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class BeyondError(Exception):
    """A part that a clip does not have."""


def part(asked: str | None, nbytes: int) -> tuple[int, int] | None:
    """(first byte, byte after the last) of a Range header.

    Returns:
        None: all of it. No part is asked for, or several at once, which one may answer as if none were.

    Raises:
        BeyondError: it begins beyond the clip.
    """
    found = _RANGE.fullmatch(asked.replace(" ", "")) if asked else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last so many
        start, end = max(0, nbytes - int(last)), nbytes
    else:
        start, end = int(first), min(int(last) + 1 if last else nbytes, nbytes)
    if not start < end:
        raise BeyondError
    return start, end


def clip_response(request: Request, opened: Opened, place: Place) -> Response:
    """The clip, or the part of it that was asked for: 200, 206 or 416.

    Raises:
        DatasetError: the shard is not there, or too short.
    """
    try:
        found = part(request.headers.get("range"), place.nbytes)
    except BeyondError:
        return Response(status_code=416, headers={"content-range": f"bytes */{place.nbytes}", **FRESH})
    file = stored.open_shard(opened, place)
    start, end = found or (0, place.nbytes)
    headers = {"accept-ranges": "bytes", "content-length": str(end - start), **KEPT}
    if found is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{place.nbytes}"
    status = 200 if found is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers, media_type="video/mp4")
    some = iterate_in_threadpool(stored.blocks(file, place.offset + start, end - start))
    return StreamingResponse(some, status, headers=headers, media_type="video/mp4")

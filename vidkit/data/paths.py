"""File names as text. Apart from the tables, so that worker processes start without pyarrow."""

from __future__ import annotations

import os
from urllib.parse import quote_from_bytes, unquote_to_bytes

_RAW = "raw-bytes:"


def path_to_text(path: str) -> str:
    """File names are bytes; Arrow text is UTF-8. Names that are not UTF-8 are stored percent-encoded.

    >>> path_to_text("a b.mp4")
    'a b.mp4'
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return _RAW + quote_from_bytes(os.fsencode(path))
    return _RAW + quote_from_bytes(os.fsencode(path)) if path.startswith(_RAW) else path


def text_to_path(text: str) -> str:
    """Inverse of `path_to_text`."""
    return os.fsdecode(unquote_to_bytes(text[len(_RAW) :])) if text.startswith(_RAW) else text

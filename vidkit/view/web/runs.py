"""The pages of runs: curves, tables of results, predictions, pictures of masks."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from vidkit.view.shelf import Shelf


def overview(shelf: Shelf) -> list[dict[str, Any]]:
    """For the first page."""
    return []


ROUTES: tuple[Route, ...] = ()

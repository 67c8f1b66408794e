"""What the commands that use a trained model read from their options alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place


def default_split(data: Place) -> str:
    """The split to use where none is named: "val", or "test" where only that one has clips."""
    from vidkit.data.dataset import open_dataset

    counts = open_dataset(data).facts["splits"]
    return next((split for split in ("val", "test") if counts.get(split, {}).get("ok")), "val")


def parse_layers(text: str | None) -> tuple[int, ...] | None:
    """
    >>> parse_layers("6,9,12")
    (6, 9, 12)
    """
    if text is None:
        return None
    if re.fullmatch(r"[0-9]+(,[0-9]+)*", text) is None:
        raise ConfigError(f"layers are {text!r}; expected numbers, such as 6,9,12", field="--layers")
    return tuple(map(int, text.split(",")))


def parse_views(text: str) -> tuple[int, int]:
    """
    >>> parse_views("5x3")
    (5, 3)
    """
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    if match is None:
        raise ConfigError(f"views is {text!r}; expected temporal x spatial, such as 5x3", field="--views")
    return int(match.group(1)), int(match.group(2))

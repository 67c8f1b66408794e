"""A JSON file beside a video, whose keys go into the sample's own JSON: what a source says of each clip."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from vidkit.data.packed.opening import open_source
from vidkit.data.paths import OutOfReachError
from vidkit.data.tables import SAMPLE
from vidkit.errors import ClipError, clean_message

#: A file that is larger is no description of a clip.
MOST_BYTES = 1 << 24


def read_sidecar(
    root: str, path: str, ending: str, *, follow_symlinks: bool = False
) -> tuple[dict[str, Any], str | None]:
    """(keys and values, or none; in words what was wrong, for the ledger's warnings).

    Args:
        root: folder of the source.
        path: of the video in it.
        ending: what stands in the place of the video's own, such as ".moving.json".

    Raises:
        OutOfReachError: a store that holds the source does not answer.
    """
    name = str(PurePosixPath(path).with_suffix(ending))
    try:
        with open_source(root, name, follow_symlinks=follow_symlinks) as file:
            text = file.read(MOST_BYTES + 1)
    except ClipError as error:
        return {}, clean_message(f"{name} is not used: {error.message}")
    except OutOfReachError:
        raise
    except OSError as error:
        return {}, clean_message(f"{name} is not used: {error.strerror}")
    if len(text) > MOST_BYTES:
        return {}, clean_message(f"{name} is not used: it has more than {MOST_BYTES:,} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, clean_message(f"{name} is not used: no JSON: {error}")
    if not isinstance(found, dict):
        return {}, clean_message(f"{name} is not used: a {type(found).__name__}; expected an object")
    taken = sorted(found.keys() & set(SAMPLE))
    if taken:
        return {}, clean_message(f"{name} is not used: {', '.join(taken)} would replace the sample's own")
    return found, None

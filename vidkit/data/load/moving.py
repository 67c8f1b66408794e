"""Where something moves, for datasets whose samples say so: the share of each cell of a row's pictures.

A sample's JSON may hold `moving`, as `vidkit synth motions` writes it. A row of a batch then comes with the same
frames and the same crop of it, so that masks by oracle and honest overlaps can be made for augmented clips.

Shapes: T frames of a row, F stored frames, C cells a side as stored, G cells a side that are asked for, R rows.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vidkit.data.load.augment import Box
from vidkit.errors import DatasetError

Shares = npt.NDArray[np.uint8]


def stored_shares(meta: Mapping[str, Any], frames: int, where: str) -> Shares:
    """(F, C, C) uint8 from a sample's JSON: how much of each cell is covered by what moves, of 255.

    Raises:
        DatasetError: there is none, or it is damaged, or of another number of frames.
    """
    said = meta.get("moving")
    if not isinstance(said, Mapping) or "shares" not in said or "cells" not in said:
        raise DatasetError(
            f"{where}: the sample does not say where something moves",
            field="moving",
            hint="build from `vidkit synth motions`, whose clips do; or choose masks that need no oracle",
        )
    try:
        data = zlib.decompress(base64.b64decode(said["shares"], validate=True))
        return np.frombuffer(data, np.uint8).reshape(frames, int(said["cells"]), int(said["cells"]))
    except (binascii.Error, zlib.error, ValueError, TypeError) as error:
        raise DatasetError(
            f"{where}: where something moves cannot be read: {error}", field="moving", hint="see `vidkit verify`"
        ) from None


def row_shares(shares_TCC: Shares, box: Box, height: int, width: int, cells: int) -> Shares:
    """(T, G, G) uint8: mean over the cells' areas of a crop, turned as the crop is.

    Args:
        box: the crop, in pixels of a picture of `height` x `width`.
    """
    rows = _overlaps(box.top / height, (box.top + box.height) / height, shares_TCC.shape[1], cells)
    columns = _overlaps(box.left / width, (box.left + box.width) / width, shares_TCC.shape[2], cells)
    found = rows @ shares_TCC.astype(np.float64) @ columns.T
    if box.flip:
        found = found[:, :, ::-1]
    rounded: Shares = np.rint(found).astype(np.uint8)
    return rounded


def _overlaps(start: float, end: float, stored: int, cells: int) -> npt.NDArray[np.float64]:
    """(G, C): which part of each new cell lies in each stored one; rows sum to 1. `start` and `end` are parts of
    the picture's side.
    """
    edges = stored * (start + (end - start) * np.arange(cells + 1) / cells)
    low, high = edges[:-1, None], edges[1:, None]
    at = np.arange(stored)
    parts: npt.NDArray[np.float64] = np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, None)
    shares: npt.NDArray[np.float64] = parts / parts.sum(axis=1, keepdims=True)
    return shares

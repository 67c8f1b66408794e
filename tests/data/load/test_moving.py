"""Where something moves, cut and turned as the pictures are: against an average over pixels, one by one."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkit.data.load.augment import Box
from vidkit.data.load.moving import row_shares, stored_shares
from vidkit.errors import DatasetError

SIDE = 64


def slow(shares: np.ndarray, box: Box, cells: int) -> np.ndarray:
    """Each picture at `fine` points a pixel and side, cut, turned and averaged over each new cell."""
    fine = 6
    big = shares.repeat(SIDE * fine // shares.shape[1], 1).repeat(SIDE * fine // shares.shape[2], 2).astype(float)
    rows = slice(box.top * fine, (box.top + box.height) * fine)
    columns = slice(box.left * fine, (box.left + box.width) * fine)
    cut = big[:, rows, columns]
    if box.flip:
        cut = cut[:, :, ::-1]
    found = np.zeros((len(shares), cells, cells))
    edges_y, edges_x = (np.arange(cells + 1) * n / cells for n in cut.shape[1:])
    for y in range(cells):
        for x in range(cells):
            weight_y, weight_x = (
                _inside(cut.shape[1], *edges_y[y : y + 2]),
                _inside(cut.shape[2], *edges_x[x : x + 2]),
            )
            weight = weight_y[:, None] * weight_x
            found[:, y, x] = (cut * weight).sum(axis=(1, 2)) / weight.sum()
    return found


def _inside(points: int, low: float, high: float) -> np.ndarray:
    return np.array([max(0.0, min(high, i + 1) - max(low, i)) for i in range(points)])


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_crop_of_shares_is_the_mean_over_its_pixels(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(9, SIDE)) for _ in range(2))
    top, left = data.draw(st.integers(0, SIDE - height)), data.draw(st.integers(0, SIDE - width))
    box = Box(top, left, height, width, data.draw(st.booleans()))
    shares = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, (2, 16, 16)).astype(np.uint8)
    cells = data.draw(st.sampled_from([1, 4, 8]))
    found = row_shares(shares, box, SIDE, SIDE, cells)
    assert found.shape == (2, cells, cells)
    assert np.abs(found - slow(shares, box, cells)).max() <= 0.5 + 1e-6


def test_the_whole_picture_keeps_its_cells() -> None:
    shares = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
    whole = Box(0, 0, SIDE, SIDE)
    assert (row_shares(shares, whole, SIDE, SIDE, 16) == shares).all()
    assert (row_shares(shares, whole._replace(flip=True), SIDE, SIDE, 16) == shares[:, :, ::-1]).all()


def said(shares: np.ndarray) -> dict[str, Any]:
    text = base64.b64encode(zlib.compress(shares.tobytes())).decode()
    return {"moving": {"cells": shares.shape[1], "shares": text}}


def test_what_is_stored_is_read_and_damage_is_named() -> None:
    shares = np.random.default_rng(1).integers(0, 256, (5, 16, 16)).astype(np.uint8)
    meta = said(shares)
    assert (stored_shares(meta, 5, "clip x") == shares).all()
    with pytest.raises(DatasetError, match="clip x: the sample does not say where something moves"):
        stored_shares({"labels": []}, 5, "clip x")
    with pytest.raises(DatasetError, match="clip x: where something moves cannot be read"):
        stored_shares(meta, 6, "clip x")
    for broken in ("???", base64.b64encode(b"no zlib").decode(), 7):
        with pytest.raises(DatasetError, match="clip x: where something moves cannot be read"):
            stored_shares({"moving": {**meta["moving"], "shares": broken}}, 5, "clip x")

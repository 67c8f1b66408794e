"""The dial of the generated motions: what it changes, what it must not, and what is said of what moves."""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.synth.generated import videos
from vidkit.data.synth.clips import ClipLook
from vidkit.data.synth.layouts import SIDECAR, write_layout
from vidkit.data.synth.motions import CELLS, FPS, FRAMES, SIZE, draw, moving, moving_shares
from vidkit.data.synth.motions_levels import HARDEST, LEVELS, level_of
from vidkit.errors import ConfigError


def look(class_index: int, frames: int = FRAMES) -> ClipLook:
    return ClipLook(class_index=class_index, width=SIZE, height=SIZE, frames=frames, fps=FPS)


def shares_of(said: dict[str, Any]) -> np.ndarray:
    grid = np.frombuffer(zlib.decompress(base64.b64decode(said["shares"])), np.uint8)
    return grid.reshape(-1, said["cells"], said["cells"])


def test_the_dial_goes_one_way() -> None:
    levels = [LEVELS[number] for number in sorted(LEVELS)]
    assert sorted(LEVELS) == [1, 2, 3, 4, 5]
    for easier, harder in itertools.pairwise(levels):
        assert easier.classes < harder.classes
        assert easier.clutter[1] < harder.clutter[1]
        assert easier.reach <= harder.reach
        assert easier.radius > harder.radius
        assert easier.edges >= harder.edges
    assert level_of(HARDEST) is levels[-1]


def test_without_a_level_clips_are_the_hardest_ones() -> None:
    assert (draw(look(3), seed=1, index=2) == draw(look(3), seed=1, index=2, level=HARDEST)).all()


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_frame_is_the_same_whatever_the_class_at_every_level(level: int) -> None:
    firsts = [draw(look(c, frames=2), seed=5, index=1, level=level)[0] for c in (0, 8, 12, 17, 47)]
    assert all((one == firsts[0]).all() for one in firsts)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_said_to_move_is_what_moves(level: int) -> None:
    """Between two clips of one scene and two classes, nothing differs but where either has its shape."""
    for index in range(3):
        clips = [draw(look(c), seed=2, index=index, level=level).astype(int) for c in (2, 9)]
        said = [moving(look(c), seed=2, index=index, level=level)["moving"] for c in (2, 9)]
        covered = sum(np.kron(shares_of(one), np.ones((4, 4), np.uint8)).astype(int) for one in said)  # type: ignore
        differs = np.abs(clips[0] - clips[1]).max(axis=3) > 12
        assert differs.any()
        assert (covered[differs] > 0).all()


@pytest.mark.parametrize("level", LEVELS)
def test_shares_are_those_of_the_drawn_shape_and_lie_in_its_box(level: int) -> None:
    for c in (0, 10, 14, 45):
        said: Any = moving(look(c), seed=4, index=c, level=level)["moving"]
        grid = shares_of(said)
        assert (grid == moving_shares(look(c), seed=4, index=c, level=level)).all()
        assert grid.shape == (FRAMES, CELLS, CELLS)
        assert len(said["boxes"]) == FRAMES
        for cells, (left, top, right, bottom) in zip(grid, said["boxes"], strict=True):
            inside = np.zeros((CELLS, CELLS), bool)
            for y in range(int(np.floor(top * CELLS)), int(np.ceil(bottom * CELLS))):
                for x in range(int(np.floor(left * CELLS)), int(np.ceil(right * CELLS))):
                    if LEVELS[level].edges and not (0 <= x < CELLS and 0 <= y < CELLS):
                        continue
                    inside[y % CELLS, x % CELLS] = True
            assert not cells[~inside].any()
        if not LEVELS[level].edges:  # the shape's area: it turns and moves, but keeps its size unless it grows
            area = grid.reshape(FRAMES, -1).sum(axis=1) / 255 / CELLS**2
            assert (area > 0.002).all()
            if c in (0, 10):
                assert np.ptp(area) < 0.12 * area.mean()


def test_with_edges_a_shape_that_leaves_is_gone() -> None:
    left = [moving_shares(look(0), seed=6, index=i, level=1)[-1] for i in range(40)]
    gone = [not grid.any() for grid in left]
    assert any(gone)
    assert not all(gone)
    for i, grid in enumerate(left):
        if grid.any():  # moving right: nothing comes in on the left
            start = moving_shares(look(0), seed=6, index=i, level=1)[0]
            assert grid.any(axis=0).argmax() >= start.any(axis=0).argmax()


def test_each_clip_has_a_file_beside_it_that_says_what_moves(tmp_path: Path) -> None:
    root = tmp_path / "motions"
    report = write_layout("motions", root, clips=12, level=1, distinct=12, seed=3, frames=8)
    assert len(report.classes) == LEVELS[1].classes
    found = videos(root)
    assert len(found) == 12
    for name in found:
        said = json.loads((root / name).with_suffix(SIDECAR).read_text())["moving"]
        assert shares_of(said).shape == (8, CELLS, CELLS)
    again = tmp_path / "shared"
    write_layout("motions", again, clips=24, level=1, distinct=12, seed=3, frames=8)
    assert all((again / name).with_suffix(SIDECAR).exists() for name in videos(again))


def test_bad_levels_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="level is 6; expected 1 to 5"):
        write_layout("motions", tmp_path / "m", clips=8, level=6)
    with pytest.raises(ConfigError, match="level is 2; expected nothing; it has no meaning for demo"):
        write_layout("demo", tmp_path / "d", clips=12, level=2)
    with pytest.raises(ConfigError, match="cannot be divided into 16 x 16 cells"):
        moving_shares(ClipLook(class_index=0, width=40, height=40, frames=2, fps=8))


@pytest.mark.parametrize("kind", ["motions", "demo"])
def test_the_shares_of_the_splits_can_be_chosen(kind: str, tmp_path: Path) -> None:
    made = write_layout(kind, tmp_path / "some", clips=20, classes=2, distinct=6, shares=(0.5, 0.1, 0.4))
    assert made.splits == {"train": 10, "val": 2, "test": 8}


@pytest.mark.parametrize(
    ("kind", "shares", "said"),
    [
        ("motions", (0.5, 0.5, 0.0), "three numbers above 0"),
        ("motions", (0.5, 0.5, 0.5), "of sum 1"),
        ("ssv2", (0.5, 0.2, 0.3), "it has no meaning for ssv2"),
    ],
)
def test_shares_that_cannot_be(kind: str, shares: tuple[float, float, float], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        write_layout(kind, tmp_path / "some", clips=20, classes=2, shares=shares)

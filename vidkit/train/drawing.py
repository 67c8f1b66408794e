"""Rows of pictures with their names, as a PNG or an animated GIF; and colours for numbers.

Drawing needs Pillow alone. The same pixels give the same bytes, with one version of Pillow.
Shapes: F frames, X pixels on a side of a picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]

#: Pixels.
_MARGIN, _GAP, _BETWEEN = 16, 2, 18
_TITLE, _LABEL, _SMALL = 18, 14, 11
_NAMES = 92
_NARROWEST = 520

_INK, _FAINT, _PAPER = "#1c1c1c", "#6b6b6b", "#ffffff"

#: How long a GIF shows a frame; the clips' own times are not kept.
FRAME_MS = 150

#: Colours of 0, 1/6, ... 1: blue for low and red for high numbers, as in AdaMAE's figures.
_RAMP = np.array(
    [[36, 40, 120], [44, 105, 185], [110, 180, 215], [235, 235, 190], [250, 180, 90], [225, 90, 50], [150, 20, 40]],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of picture of a clip."""

    name: str
    caption: str
    frames: Pixels
    """(F, X, X, 3)."""

    def __repr__(self) -> str:
        return f"Row({self.name!r}, {self.frames.shape})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A clip's rows, all of one shape."""

    name: str
    rows: tuple[Row, ...]
    shown: int = 1
    """A PNG shows frames 0, `shown`, 2 `shown` and so on."""


def heat(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    """Numbers in [0, 1] -> colours, one more axis of 3; values outside count as 0 or 1.

    >>> heat(np.array([0.0, 1.0])).tolist()
    [[36, 40, 120], [150, 20, 40]]
    """
    at = np.clip(values, 0, 1) * (len(_RAMP) - 1)
    stops = np.arange(len(_RAMP))
    colours = np.stack([np.interp(at, stops, _RAMP[:, channel]) for channel in range(3)], axis=-1)
    return np.round(colours).astype(np.uint8)


def draw_png(blocks: Sequence[Block], title: str) -> bytes:
    """Clips beneath each other, time from left to right."""
    columns = [list(range(0, len(block.rows[0].frames), block.shown)) for block in blocks]
    side = blocks[0].rows[0].frames.shape[1]
    width = _MARGIN + _NAMES + max(map(len, columns)) * (side + _GAP) + _MARGIN
    heights = [_LABEL + 8 + _height(block, side) + _BETWEEN for block in blocks]
    sheet, draw = _sheet(max(width, _NARROWEST), _MARGIN + _TITLE + 14 + sum(heights) + _MARGIN - _BETWEEN, title)
    y = _MARGIN + _TITLE + 14
    for block, frames, height in zip(blocks, columns, heights, strict=True):
        _write(draw, (_MARGIN, y), block.name, sheet.width - 2 * _MARGIN, _LABEL)
        _names(draw, block, y + _LABEL + 8, side)
        for column, frame in enumerate(frames):
            x = _MARGIN + _NAMES + column * (side + _GAP)
            _tiles(sheet, block, x, y + _LABEL + 8, frame)
        _captions(draw, block, _MARGIN + _NAMES, y + _LABEL + 8, side, len(frames) * (side + _GAP))
        y += height
    file = io.BytesIO()
    sheet.save(file, format="PNG")
    return file.getvalue()


def draw_gif(blocks: Sequence[Block], title: str) -> bytes:
    """Clips beside each other, one column each; frames one after the other, over and over."""
    side = blocks[0].rows[0].frames.shape[1]
    width = _MARGIN + _NAMES + len(blocks) * (side + _BETWEEN) + _MARGIN
    top = _MARGIN + _TITLE + 14 + _LABEL + 8
    still, draw = _sheet(max(width, _NARROWEST), top + _height(blocks[0], side) + _MARGIN, title)
    _names(draw, blocks[0], top, side)
    places = [_MARGIN + _NAMES + i * (side + _BETWEEN) for i in range(len(blocks))]
    for x, block in zip(places, blocks, strict=True):
        _write(draw, (x, top - _LABEL - 8), block.name, side + _BETWEEN - 6, _SMALL)
        _captions(draw, block, x, top, side, side)

    def at(frame: int) -> Image.Image:
        sheet = still.copy()
        for x, block in zip(places, blocks, strict=True):
            _tiles(sheet, block, x, top, frame)
        return sheet

    return _animated(at, len(blocks[0].rows[0].frames))


def _animated(at: Callable[[int], Image.Image], count: int) -> bytes:
    """One palette for all frames: with one for each, still parts would flicker. It is made from four of them."""
    from PIL import Image

    some = [at(frame) for frame in sorted({i * (count - 1) // 3 for i in range(4)})]
    together = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for i, picture in enumerate(some):
        together.paste(picture, (0, i * picture.height))
    palette = together.quantize(256, method=Image.Quantize.MEDIANCUT)
    frames = [at(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in range(count)]
    file = io.BytesIO()
    frames[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=FRAME_MS,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return file.getvalue()


# --- parts ---------------------------------------------------------------------------------------


def _sheet(width: int, height: int, title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), title, width - 2 * _MARGIN, _TITLE)
    return sheet, draw


def _height(block: Block, side: int) -> int:
    return len(block.rows) * _step(side)


def _step(side: int) -> int:
    """From one row to the next: a caption, a tile, a gap."""
    return _SMALL + 5 + side + 6


def _names(draw: ImageDraw.ImageDraw, block: Block, top: int, side: int) -> None:
    for i, row in enumerate(block.rows):
        y = top + i * _step(side) + _SMALL + 5 + side // 2 - _LABEL // 2
        _write(draw, (_MARGIN, y), row.name, _NAMES - 6, _LABEL)


def _captions(draw: ImageDraw.ImageDraw, block: Block, x: int, top: int, side: int, width: int) -> None:
    for i, row in enumerate(block.rows):
        _write(draw, (x, top + i * _step(side)), row.caption, width, _SMALL, _FAINT)


def _tiles(sheet: Image.Image, block: Block, x: int, top: int, frame: int) -> None:
    from PIL import Image

    for i, row in enumerate(block.rows):
        picture = row.frames[frame]
        sheet.paste(Image.fromarray(picture), (x, top + i * _step(len(picture)) + _SMALL + 5))


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: float, size: int, ink: str = _INK
) -> None:
    """One line of at most `width` pixels."""
    from PIL import ImageFont

    font: Any = ImageFont.load_default(size=size)
    line = " ".join(text.split())
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow without FreeType: a bitmap font of Latin-1
        line = line.encode("latin-1", "replace").decode("latin-1")
    if font.getlength(line) > width:
        while line and font.getlength(line + "...") > width:
            line = line[:-1]
        line = line.rstrip() + "..."
    draw.text(at, line, font=font, fill=ink)

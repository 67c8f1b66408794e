"""A contact sheet: a picture of clips with their labels, to see at a glance what a dataset holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.dataset import open_dataset
from vidkit.data.shards import read_sample
from vidkit.data.storage.places import Place
from vidkit.data.tables import SPLITS
from vidkit.errors import ClipError, ConfigError, DatasetError, VidkitError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_COLUMNS = ["clip_id", "split", "labels", "class_name", "status", "shard", "offset", "nbytes", "frames"]

#: A sheet of these is about as large as a picture viewer takes.
_MOST_CLIPS, _MOST_FRAMES = 500, 50

#: Pixels.
_TILE = 96
_GAP, _MARGIN, _BETWEEN = 2, 24, 22
_TITLE, _LABEL, _SMALL = 26, 16, 13

#: Width to height of the whole sheet.
_ASPECT = 1.5

_INK, _FAINT, _PAPER, _BROKEN = "#1c1c1c", "#6b6b6b", "#ffffff", "#f3d6d6"
_SPLIT_INK = {"train": "#1f5fa8", "val": "#a8601f", "test": "#2a7d46"}


@dataclass(frozen=True, slots=True)
class _Strip:
    """One clip's pictures, or why there are none."""

    row: dict[str, Any]
    pictures: list[Image.Image]
    trouble: str | None = None


def contact_sheet(
    root: Place, out: Path, *, clips: int = 24, frames: int = 6, seed: int = 0, split: str | None = None
) -> Path:
    """Draw `clips` stored clips as strips of `frames` pictures, evenly in time, and write a PNG.

    Clips are drawn by `seed`, one of each class before a second of any. A clip that cannot be decoded is shown
    as an empty strip that says so.

    Raises:
        ConfigError: `out` does not end in .png, an unknown split, or too many clips or frames.
        DatasetError: no dataset, or no stored clip in it (or in the split).
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"the contact sheet is a PNG file; {out} has another suffix", hint="end the name in .png")
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    for name, value, most in (("clips", clips, _MOST_CLIPS), ("frames", frames, _MOST_FRAMES)):
        if not 1 <= value <= most:
            raise ConfigError(f"{name} is {value}; expected 1 to {most}")
    dataset = open_dataset(root)
    ledger = dataset.ledger(_COLUMNS)
    stored = ledger.filter(pc.equal(ledger["status"], "ok"))
    shown = stored if split is None else stored.filter(pc.equal(stored["split"], split))
    if not shown.num_rows:
        where = f"split {split!r}" if split else "the dataset"
        raise DatasetError(f"no stored clip in {where}", hint="see the failures with `vidkit inspect`")
    rows = shown.take(pa.array(choose(shown, clips, seed), pa.int64())).to_pylist()
    sheet = _draw([_strip(root, row, frames) for row in rows], _heading(dataset.facts, stored), frames)
    _save(sheet, out)
    return out


def choose(stored: pa.Table, clips: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Row numbers of at most `clips` clips: one of each class (or set of labels), then a second, and so on.

    In the order in which they are shown: by class name, then as in the ledger.
    """
    rng = np.random.default_rng(seed)
    names = pc.coalesce(stored["class_name"], pc.binary_join(stored["labels"], "+"), "")
    codes = pc.dictionary_encode(names.combine_chunks())
    classes = codes.indices.to_numpy(zero_copy_only=False)
    mixed = rng.permutation(len(classes))
    by_class = mixed[np.argsort(classes[mixed], kind="stable")]
    firsts = np.searchsorted(classes[by_class], classes[by_class], side="left")
    turn = np.arange(len(by_class)) - firsts  # 0 for a class's first clip in the mixed order, 1 for its second, ...
    class_order = rng.permutation(len(codes.dictionary))
    picked = by_class[np.lexsort((class_order[classes[by_class]], turn))][:clips]
    text = codes.dictionary.to_pylist()
    return np.array(sorted(picked.tolist(), key=lambda i: (not text[classes[i]], text[classes[i]], i)), np.int64)


def _strip(root: Place, row: dict[str, Any], frames: int) -> _Strip:
    from PIL import Image

    from vidkit.data.media.frames import ClipReader

    try:
        with ClipReader(read_sample(root / row["shard"], row["offset"], row["nbytes"])) as reader:
            count = len(reader)
            pictures = reader.frames([(2 * t + 1) * count // (2 * frames) for t in range(frames)])
    except ClipError as error:
        return _Strip(row, [], str(error))
    except OSError as error:
        return _Strip(row, [], f"{row['shard']}: {error.strerror or error}")
    return _Strip(row, [Image.fromarray(picture) for picture in pictures])


def _heading(facts: dict[str, Any], stored: pa.Table) -> tuple[str, str]:
    counts = pc.value_counts(stored["split"])
    found = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
    label_map = facts["label_map"]
    names = label_map["base_labels" if label_map["rule"] == "multi-hot" else "classes"]
    parts = [f"{stored.num_rows:,} clips", f"{len(names):,} classes"]
    parts += [f"{split} {found[split]:,}" for split in SPLITS if split in found]
    parts += ["synthetic"] if facts["synthetic"] else []
    return f"{facts['name']}: {facts['title']}", ", ".join(parts)


# --- drawing ---------------------------------------------------------------------------------------


class _Pen:
    """Text of one size that fits its place, in whatever font Pillow brings."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: int) -> None:
        from PIL import ImageFont

        self.draw, self.size = draw, size
        self.font: Any = ImageFont.load_default(size=size)
        self.scalable = isinstance(self.font, ImageFont.FreeTypeFont)

    def fit(self, text: str, width: float) -> str:
        """One line of at most `width` pixels; what the font cannot spell does not stop it."""
        text = " ".join(text.split())
        if not self.scalable:  # a Pillow without FreeType: a bitmap font of Latin-1
            text = text.encode("latin-1", "replace").decode("latin-1")
        if self.width(text) <= width:
            return text
        while text and self.width(text + "...") > width:
            text = text[:-1]
        return text.rstrip() + "..."

    def width(self, text: str) -> float:
        return float(self.font.getlength(text))

    def write(self, at: tuple[float, float], text: str, width: float, ink: str = _INK) -> float:
        """Draw; returns where the text ends."""
        line = self.fit(text, width)
        self.draw.text(at, line, font=self.font, fill=ink)
        return at[0] + self.width(line)


def _draw(strips: Sequence[_Strip], heading: tuple[str, str], frames: int) -> Image.Image:
    from PIL import Image, ImageDraw

    tile = _tile([picture for strip in strips for picture in strip.pictures[:1]])
    width = frames * tile[0] + (frames - 1) * _GAP
    height = tile[1] + _LABEL + _SMALL + 14
    top = _MARGIN + _TITLE + _LABEL + 24
    columns = _columns(len(strips), width + _BETWEEN, height + _BETWEEN)
    rows = -(-len(strips) // columns)
    size = (
        2 * _MARGIN + columns * (width + _BETWEEN) - _BETWEEN,
        top + rows * (height + _BETWEEN) - _BETWEEN + _MARGIN,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, label, small = _Pen(draw, _TITLE), _Pen(draw, _LABEL), _Pen(draw, _SMALL)
    inner = size[0] - 2 * _MARGIN
    title.write((_MARGIN, _MARGIN), heading[0], inner)
    label.write((_MARGIN, _MARGIN + _TITLE + 8), heading[1], inner, _FAINT)
    for k, strip in enumerate(strips):
        # down the columns, so that neighbours in the order of classes stand beneath each other
        x = _MARGIN + (k // rows) * (width + _BETWEEN)
        y = top + (k % rows) * (height + _BETWEEN)
        label.write((x, y), _name(strip.row), width)
        split = strip.row["split"]
        end = small.write((x, y + _LABEL + 5), split, width, _SPLIT_INK.get(split, _FAINT))
        small.write((end + 8, y + _LABEL + 5), strip.row["clip_id"], x + width - end - 8, _FAINT)
        y += _LABEL + _SMALL + 14
        if strip.trouble is not None:
            draw.rectangle((x, y, x + width - 1, y + tile[1] - 1), fill=_BROKEN)
            small.write((x + 8, y + tile[1] // 2 - _SMALL), strip.trouble, width - 16)
        for t, picture in enumerate(strip.pictures):
            _paste(sheet, picture, (x + t * (tile[0] + _GAP), y), tile)
    return sheet


def _name(row: dict[str, Any]) -> str:
    return row["class_name"] or ", ".join(row["labels"]) or "(no label)"


def _tile(pictures: Sequence[Image.Image]) -> tuple[int, int]:
    """(width, height) of the place for one picture: wide enough for the widest, within reason."""
    widest = max((picture.width / picture.height for picture in pictures), default=1.0)
    return round(_TILE * min(max(widest, 0.75), 16 / 9)), _TILE


def _columns(strips: int, width: int, height: int) -> int:
    """How many columns make the sheet about `_ASPECT` times as wide as high."""

    def off(columns: int) -> float:
        rows = -(-strips // columns)
        ratio = columns * width / (rows * height)
        return max(ratio / _ASPECT, _ASPECT / ratio)

    return min(range(1, strips + 1), key=off)


def _paste(sheet: Image.Image, picture: Image.Image, at: tuple[int, int], tile: tuple[int, int]) -> None:
    """Scale a picture into its place, aspect kept."""
    from PIL import Image

    scale = min(tile[0] / picture.width, tile[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    fitted = picture.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    sheet.paste(fitted, (at[0] + (tile[0] - size[0]) // 2, at[1] + (tile[1] - size[1]) // 2))


def _save(sheet: Image.Image, out: Path) -> None:
    part = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(part, format="PNG")
        part.replace(out)
    except OSError as error:
        raise VidkitError(
            f"cannot write {out}: {error.strerror or error}", hint="give --sheet a place that can be written"
        ) from None

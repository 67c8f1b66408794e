"""What the cells of a table mask, on one clip: pictures from their pre-training checkpoints, for the page.

Importing this module brings no torch along; drawing does.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkit.bench.report.results import Line, Results, cells, names
from vidkit.data.dataset import DATASET_JSON, open_dataset
from vidkit.data.storage.places import Place, StorePath
from vidkit.errors import VidkitError
from vidkit.train.runs import RunFolder

#: Adaptive cells that are drawn; of each other strategy, one is.
MOST_ADAPTIVE = 5

#: Pixels. Wider pictures are shrunk: time steps of 224 pixels would make a page of many megabytes.
WIDEST = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Of a cell, or the reason why there is none."""

    name: str
    caption: str
    png: bytes | None

    @property
    def uri(self) -> str:
        """The PNG as an address that a page can hold; without bytes where there is none."""
        return "data:image/png;base64," + base64.b64encode(self.png or b"").decode()

    def __repr__(self) -> str:
        return f"Picture({self.name!r}, {len(self.png or b'')} bytes)"


def mask_pictures(
    results: Results,
    of: Sequence[Line],
    *,
    data: Place | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> tuple[Picture, ...]:
    """A picture for each of some cells: adaptive ones, and one of each other strategy. All show the same clip of
    the split that was tested, under the model of the first seed.

    Args:
        data: the dataset; None: the one that `vidkit ablate` builds in its folder where none is given.
        tell: called with a line of text before each picture.
    """
    called = names(of)
    found = []
    for line in _chosen(of):
        name = called[line.group]
        tell(f"drawing masks: {name}")
        try:
            found.append(_picture(results, line, name, data))
        except VidkitError as error:  # the page is made without it, and says so
            found.append(Picture(name=name, caption=f"No picture: {error.message}", png=None))
    return tuple(found)


def _chosen(of: Sequence[Line]) -> list[Line]:
    """Adaptive cells, and of each other strategy the one whose ratio is nearest to theirs."""
    trained = [line for line in cells(of) if line.kind == "full" and line.rows and "pretrain" in line.rows[0].runs]
    adaptive = [line for line in trained if line.cell.mask == "adaptive"][:MOST_ADAPTIVE]
    ratio = adaptive[0].cell.ratio if adaptive else 0.9
    nearest: dict[str, Line] = {}
    for line in trained:
        mask = line.cell.mask
        if mask != "adaptive" and (
            mask not in nearest or abs(line.cell.ratio - ratio) < abs(nearest[mask].cell.ratio - ratio)
        ):
            nearest[mask] = line
    return adaptive + list(nearest.values())


def _picture(results: Results, line: Line, name: str, data: Place | None) -> Picture:
    """
    Raises:
        VidkitError: checkpoint or dataset is missing, damaged, or another one than that of the results.
    """
    row = line.rows[0]
    folder = results.folders.get(row.plan.config_hash, Path())
    if isinstance(folder, StorePath):
        raise VidkitError("checkpoints in a store are not read; copy the results to a disk for pictures")
    checkpoint = RunFolder(folder / row.runs["pretrain"]).last
    if not checkpoint.is_file():
        raise VidkitError(f"the checkpoint {checkpoint.relative_to(folder).as_posix()} is not among the results")
    where = folder / "data" if data is None else data
    if not (where / DATASET_JSON).is_file():
        place = "in the results' folder `data`" if data is None else "there"
        raise VidkitError(f"the dataset is not {place}; name its folder by --data")
    label_map = open_dataset(where).facts["label_map"]["sha256"]
    if row.label_map_sha256 not in (None, label_map):
        raise VidkitError("the dataset is another one than the results are of; name its folder by --data")
    from vidkit.train.pictures import mask_picture

    with tempfile.TemporaryDirectory() as room:
        drawn = mask_picture(checkpoint, Path(room) / "masks.png", data=where, split=row.split or "val", clips=1)
        png = drawn.file.read_bytes()
    caption = f"{drawn.visible:,} of {drawn.tokens:,} tokens visible, seed {row.plan.seed}"
    if drawn.clips:
        caption += f", clip {drawn.clips[0]}"
    return Picture(name=name, caption=caption, png=_shrunk(png))


def _shrunk(png: bytes) -> bytes:
    """At most `WIDEST` pixels wide."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        if picture.width <= WIDEST:
            return png
        height = round(picture.height * WIDEST / picture.width)
        file = io.BytesIO()
        picture.resize((WIDEST, height), Image.Resampling.LANCZOS).save(file, format="PNG", optimize=True)
    return file.getvalue()

"""What a pre-trained model sees of a clip: video, prediction, error, probability and mask, at any ratio.

Torch and the model are loaded when the first picture is asked for, and stay; one picture is made at a time.
Shapes: R kinds of pictures, F frames, X pixels on a side.
"""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from vidkit.errors import ConfigError, DatasetError
from vidkit.view.clips import stored
from vidkit.view.clips.opened import Opened

if TYPE_CHECKING:
    from vidkit.models.checkpoints import Checkpoint

_QUALITY = 92


@dataclass(frozen=True, kw_only=True, slots=True)
class Painted:
    """All pictures of a clip in one, of R * X by F * X pixels."""

    rows: tuple[tuple[str, str], ...]
    """(name, caption) of each kind, from top to bottom."""
    frames: int
    side: int
    """X."""
    strategy: str
    ratio: float
    visible: int
    tokens: int
    webp: bytes

    def to_plain(self) -> dict[str, Any]:
        """For a page's script."""
        return {
            "rows": [{"name": name, "caption": caption} for name, caption in self.rows],
            **{name: getattr(self, name) for name in ("frames", "side", "strategy", "ratio", "visible", "tokens")},
            "image": "data:image/webp;base64," + base64.b64encode(self.webp).decode(),
        }

    def __repr__(self) -> str:
        return f"Painted({len(self.rows)} rows, {self.frames} frames, {self.strategy} {self.ratio:g})"


class Painter:
    """Keeps the checkpoints that were used last."""

    _MOST = 2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[Path, int], Checkpoint] = {}
        self._models: dict[tuple[Path, int, str | None, float | None], Any] = {}

    def paint(
        self, checkpoint: Path, opened: Opened, row: int, *, strategy: str | None, ratio: float | None, seed: int
    ) -> Painted:
        """The pictures that `vidkit masks` draws of the clip in this row of the ledger.

        Args:
            strategy, ratio: None: as the model was trained.

        Raises:
            ConfigError: a checkpoint of another kind, or masks that cannot be.
            DatasetError: the clip cannot be read.
            ClipError: it cannot be decoded.
        """
        place = stored.place_of(opened.row(row))
        if place is None:
            raise DatasetError("no clip is stored there: it failed, or its file was missing", file=opened.root)
        clip = stored.read(opened, place)
        with self._lock:
            return self._painted(checkpoint, clip, number_in_split(opened, row), strategy, ratio, seed)

    def _painted(
        self, path: Path, clip: bytes, number: int, strategy: str | None, ratio: float | None, seed: int
    ) -> Painted:
        from vidkit.data.load.video_file import views_in
        from vidkit.models.masking import mask_generator
        from vidkit.train.inference import choose_device, sampling_of, views_of
        from vidkit.train.pictures import rows_of

        where = choose_device(None)
        model, facts = self._model(path, strategy, ratio, where)
        views = views_of(facts)
        (view,) = views_in(clip, sampling_of(model.config.encoder, views))
        seen = model.predict(view.video.to(where), mask_generator(seed, number, 0, where))
        rows = rows_of(seen)
        settings = model.config.mask
        return Painted(
            rows=tuple((row.name, row.caption) for row in rows),
            frames=len(rows[0].frames),
            side=rows[0].frames.shape[1],
            strategy=settings.strategy,
            ratio=settings.ratio,
            visible=model.num_visible,
            tokens=model.config.encoder.tokens,
            webp=_webp([row.frames for row in rows]),
        )

    def _model(self, path: Path, strategy: str | None, ratio: float | None, where: Any) -> tuple[Any, Any]:
        from vidkit.models import checkpoints
        from vidkit.train.pictures import remasked

        try:
            key = path, path.stat().st_mtime_ns
        except OSError as error:
            raise ConfigError(f"the checkpoint cannot be read: {error.strerror}", file=path) from None
        if key not in self._loaded:
            _make_room(self._loaded, self._MOST)
            self._loaded[key] = checkpoints.load(path)
        loaded = self._loaded[key]
        which = (*key, strategy, ratio)
        if which not in self._models:
            _make_room(self._models, self._MOST)
            self._models[which] = checkpoints.build(remasked(loaded, path, strategy=strategy, ratio=ratio)).to(
                where
            )
        return self._models[which], loaded.facts


def _make_room(kept: dict[Any, Any], most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]


def number_in_split(opened: Opened, row: int) -> int:
    """Which of the stored clips of its split this one is: masks are drawn by that number."""
    split = opened.ledger["split"][row].as_py()
    before = opened.ledger.slice(0, row)
    good = pc.and_(pc.equal(before["status"], "ok"), pc.equal(before["split"], split))
    return int(pc.sum(good).as_py() or 0)


def _webp(rows: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> bytes:
    """Of R arrays (F, X, X, 3)."""
    from PIL import Image

    whole = np.concatenate([np.concatenate(list(frames), axis=1) for frames in rows], axis=0)
    file = io.BytesIO()
    Image.fromarray(whole).save(file, format="WEBP", quality=_QUALITY, method=2)
    return file.getvalue()

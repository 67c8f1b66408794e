"""Pictures of what a masked autoencoder does with clips: video, prediction, error, probabilities, mask.

The rows are those of AdaMAE's figures 5 to 20. A PNG shows time from left to right, one column for each step of the
token grid (the first frame of its tubelet), and clips beneath each other. A GIF shows every frame one after the
other, with a column for each clip.

Shapes: T steps of the grid, F frames (F = T * tubelet), H W tokens of a step, X pixels on a side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.video_file import read_views
from vidkit.data.media.frames import listening
from vidkit.data.storage.places import Place
from vidkit.errors import ClipError, ConfigError, VidkitError, display_path
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE, Reconstruction
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.masking import mask_generator
from vidkit.settings.mask import is_strategy, strategies_in_words
from vidkit.settings.model import AdaMAEConfig
from vidkit.settings.train import ViewConfig
from vidkit.train.drawing import Block, Row, draw_gif, draw_png, heat
from vidkit.train.files import written_whole
from vidkit.train.inference import choose_device, open_views, sampling_of, views_of

Pixels = npt.NDArray[np.uint8]

#: Clips beside or beneath each other; more than these fit no screen.
MOST_CLIPS = 24

#: A tile has at least this many pixels on a side: small clips are enlarged by a whole factor.
TILE = 112

#: What is painted where a map has no value, and over hidden patches with this share.
GREY, HIDING = 128, 0.85

FORMATS: dict[str, Callable[[Sequence[Block], str], bytes]] = {".png": draw_png, ".gif": draw_gif}


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskPicture:
    """What was drawn."""

    file: Path
    clips: tuple[str, ...]
    strategy: str
    ratio: float
    visible: int
    tokens: int


def mask_picture(
    checkpoint: Path,
    out: Path,
    *,
    clip: Path | None = None,
    data: Place | None = None,
    split: str = "val",
    clips: int = 4,
    ratio: float | None = None,
    mask: str | None = None,
    seed: int = 0,
    stride: int | None = None,
    device: str | None = None,
) -> MaskPicture:
    """Draw a pre-trained model's masks and predictions on a video file, or on clips of a dataset.

    Args:
        out: ends in .png or .gif. Written whole or not at all.
        clip: a video file; or else
        data: a built dataset.
        split, clips: how many clips of which split, chosen by `seed`, one of each class before a second.
        ratio, mask: other masks than those of the training.
        seed: of the masks too. A clip's mask does not depend on the others that are shown.
        stride: between frames; None: the training's.
        device: None: the GPU if there is one. Each kind of device draws masks of its own.

    Raises:
        ConfigError: a checkpoint of another kind, or settings that cannot be.
        DatasetError: no usable dataset, or a clip of it that cannot be decoded.
        VidkitError: a file that cannot be decoded, or a picture that cannot be written.
    """
    draw = FORMATS.get(out.suffix.lower())
    if draw is None:
        raise ConfigError(
            f"{out} ends in {out.suffix or 'nothing'}; expected .png or .gif", field="--out", hint="rename it"
        )
    if (clip is None) == (data is None):
        raise ConfigError("give either a video file (--clip) or a dataset (--data)", field="--clip")
    if not 1 <= clips <= MOST_CLIPS:
        raise ConfigError(f"clips is {clips}; expected 1 to {MOST_CLIPS}", field="--clips")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected at least 0", field="--seed")
    loaded = remasked(checkpoints.load(checkpoint), checkpoint, strategy=mask, ratio=ratio)
    where = choose_device(device)
    model = checkpoints.build(loaded)
    assert isinstance(model, AdaMAE)
    model.to(where)
    views = views_of(loaded.facts, stride=stride)
    if clip is not None:
        found = [(display_path(clip.name), 0, _file_clip(clip, model, views))]
    else:
        assert data is not None
        found = _dataset_clips(data, split, clips, seed, model, views)
    settings = model.config.mask
    blocks = []
    for name, number, video in found:
        seen = model.predict(video.to(where), mask_generator(seed, number, 0, where))
        blocks.append(Block(name=name, rows=rows_of(seen), shown=model.config.encoder.tubelet))
    tokens = model.config.encoder.tokens
    title = (
        f"{settings.strategy} masks, ratio {settings.ratio:g}: {model.num_visible:,} of {tokens:,} tokens visible"
    )
    with written_whole(out) as file:
        file.write(draw(blocks, title))
    return MaskPicture(
        file=out,
        clips=tuple(block.name for block in blocks),
        strategy=settings.strategy,
        ratio=settings.ratio,
        visible=model.num_visible,
        tokens=tokens,
    )


def remasked(loaded: Checkpoint, file: Path, *, strategy: str | None, ratio: float | None) -> Checkpoint:
    """The same weights under other masks. Without adaptive masks the sampler is left behind.

    Raises:
        ConfigError: no masked autoencoder, masks that cannot be, or adaptive ones of a model without a sampler.
    """
    if not isinstance(loaded.config, AdaMAEConfig):
        raise ConfigError(
            f"the checkpoint holds a {loaded.kind}, which masks nothing",
            file=file,
            hint="take the pre-trained model: vidkit pretrain",
        )
    old = loaded.config.mask
    if strategy is not None and not is_strategy(strategy):
        raise ConfigError(f"mask is {strategy!r}; expected {strategies_in_words()}", field="--mask")
    if strategy == "adaptive" and old.strategy != "adaptive":
        raise ConfigError(
            f"the model was trained with {old.strategy} masks: it has no sampler to draw adaptive ones",
            file=file,
            field="--mask",
            hint="choose tube, random or frame",
        )
    if strategy == "error" and old.strategy != "error":
        raise ConfigError(
            f"the model was trained with {old.strategy} masks: it has no running mean of errors to draw from",
            file=file,
            field="--mask",
            hint="choose tube, random or frame",
        )
    changes: dict[str, Any] = {"strategy": strategy, "ratio": ratio}
    mask = replace(old, **{name: value for name, value in changes.items() if value is not None})
    own = {"adaptive": "sampler.", "error": "running_errors."}
    others = tuple(prefix for name, prefix in own.items() if name != mask.strategy)
    loss = loaded.config.loss
    if mask.strategy != "adaptive":
        loss = replace(loss, objective="paper", entropy_floor=0.0)
    return replace(
        loaded,
        config=replace(loaded.config, mask=mask, loss=loss),
        model={name: value for name, value in loaded.model.items() if not name.startswith(others)},
    )


def _file_clip(path: Path, model: AdaMAE, views: ViewConfig) -> Tensor:
    """(1, C, F, X, X) uint8."""
    try:
        with listening():
            (view,) = read_views(path, sampling_of(model.config.encoder, views))
    except ClipError as error:
        raise VidkitError(f"cannot be decoded: {error}", file=path, hint="give a video file that plays") from None
    return view.video


def _dataset_clips(
    data: Place, split: str, count: int, seed: int, model: AdaMAE, views: ViewConfig
) -> list[tuple[str, int, Tensor]]:
    dataset = open_views(data, split, model.config.encoder, views)
    return [(_name(dataset, i), i, dataset[i].video) for i in chosen(dataset.clips.class_id, count, seed)]


def _name(dataset: ClipDataset, i: int) -> str:
    labels = ", ".join(dataset.classes[label] for label in dataset.clips.labels(i))
    return f"{labels or '(no label)'}: {dataset.clips.clip_id[i]}"


def chosen(class_id: npt.NDArray[np.int64], count: int, seed: int) -> list[int]:
    """At most `count` rows, ascending: one of each class at random, then a second, and so on."""
    mixed = np.random.default_rng(seed).permutation(len(class_id))
    turn = np.empty(len(mixed), np.int64)
    met: dict[int, int] = {}
    for at, row in enumerate(mixed):
        turn[at] = met[int(class_id[row])] = met.get(int(class_id[row]), -1) + 1
    return sorted(mixed[np.argsort(turn, kind="stable")][:count].tolist())


# --- rows ----------------------------------------------------------------------------------------


def rows_of(seen: Reconstruction) -> tuple[Row, ...]:
    """The rows of one clip, (F, X, X, 3) each. Maps are coloured from blue (low) to red (high)."""
    video_FXX3 = _pictures(seen.video)
    pixels = video_FXX3.shape[1]
    visible = _enlarged(seen.visible, video_FXX3)
    target = _enlarged(seen.target, video_FXX3)
    predicted = _pictures(seen.reconstruction)
    predicted[~visible & ~target] = GREY  # nothing was predicted there: its pixels would pass for a prediction
    rows = [
        Row("video", "", video_FXX3),
        Row("prediction", "visible patches kept", predicted),
        _heat_row("error", seen.error, video_FXX3, hidden=~target),
    ]
    if seen.probability is not None:
        rows.append(_heat_row("probability", seen.probability, video_FXX3))
    greyed = np.round(HIDING * GREY + (1 - HIDING) * video_FXX3.astype(np.float32)).astype(np.uint8)
    mask = np.where(visible[..., None], video_FXX3, greyed)
    share = float(seen.visible.float().mean())
    caption = f"{share:.1%} visible"
    if not bool((seen.visible | seen.target).all()):
        caption += f", {float(seen.target.float().mean()):.1%} predicted"
    rows.append(Row("mask", caption, mask))
    factor = max(1, math.ceil(TILE / pixels))
    return tuple(replace(row, frames=row.frames.repeat(factor, axis=1).repeat(factor, axis=2)) for row in rows)


def _pictures(video_1CFXX: Tensor) -> Pixels:
    """(F, X, X, 3). Predictions may leave [0, 1]."""
    bytes_1CFXX = (video_1CFXX[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(bytes_1CFXX.permute(1, 2, 3, 0).cpu().numpy())


def _enlarged(map_1THW: Tensor, like_FXX3: Pixels) -> npt.NDArray[Any]:
    """A map's values at every pixel of every frame, (F, X, X)."""
    values: npt.NDArray[Any] = map_1THW[0].cpu().numpy()
    for axis in range(3):
        values = values.repeat(like_FXX3.shape[axis] // values.shape[axis], axis=axis)
    return values


def _heat_row(name: str, map_1THW: Tensor, video_FXX3: Pixels, hidden: npt.NDArray[np.bool_] | None = None) -> Row:
    """Colours span the clip's own range, which the caption tells. `hidden` is grey: there is no value there."""
    values = _enlarged(map_1THW.float(), video_FXX3)
    known = values if hidden is None else values[~hidden]
    low, high = float(known.min()), float(known.max())
    colours = heat((values - low) / max(high - low, np.finfo(np.float32).tiny))
    if hidden is not None:
        colours[hidden] = GREY
    return Row(name, f"{low:.2g} to {high:.2g}", colours)

"""The encoder that few-shot learners start from, of a checkpoint or with random weights, and its parts to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vidkit.data.shards import sha256_file
from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.fewshot import ALL_BLOCKS, FewshotConfig
from vidkit.settings.model import ClassifierConfig, ViTConfig
from vidkit.settings.recipes import tiny
from vidkit.settings.train import ViewConfig
from vidkit.train.features.readout import (
    FULLEST,
    READOUTS,
    Reading,
    Readout,
    read_out,
    readings_of,
    tokens_at,
)
from vidkit.train.inference import views_of

#: Instead of a checkpoint: an encoder with random weights.
RANDOM: Literal["random"] = "random"

#: A checkpoint, or "random".
Init = Path | Literal["random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is read of an encoder."""

    layer: int | None = None
    """Blocks before it, from 1; None: all."""
    norm: bool = True
    """Through the final norm."""
    readout: Readout = FULLEST


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Encoder:
    """A checkpoint, how it looks at clips, and what is read of it."""

    checkpoint: Checkpoint
    name: str
    """The checkpoint's file name, or "random"."""
    sha256: str | None
    """Of the file; None with random weights."""
    classes: tuple[str, ...]
    """Classes of the dataset whose labels it was trained with."""
    views: ViewConfig
    """How it looks at clips."""
    seen: Seen = Seen()

    @property
    def reading(self) -> Reading:
        """Where its tokens are taken from."""
        return Reading(self.seen.layer or self.vit.depth, self.seen.norm)

    @property
    def readout(self) -> Readout:
        """What is kept of them."""
        return self.seen.readout

    @property
    def vit(self) -> ViTConfig:
        """Its shape."""
        return self.checkpoint.config.encoder

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, {self.vit.depth} blocks of width {self.vit.width})"

    def build(self) -> AdaMAE | VideoClassifier:
        """A model of its own, on the CPU, for features: without dropout."""
        return checkpoints.build(self.checkpoint).eval()

    def features(self, model: AdaMAE | VideoClassifier, video_BCTHW: Tensor) -> Tensor:
        """What a model of its kind gives for clips, (B, T W), with the gradient."""
        (tokens,) = tokens_at(model, video_BCTHW, (self.reading,))
        return read_out(tokens, self.readout).flatten(1)


def open_encoder(
    clips: LabelledClips,
    init: Init,
    *,
    seen: Seen = Seen(),
    seed: int = 0,
    stride: int | None = None,
) -> Encoder:
    """
    Args:
        init: a checkpoint of `vidkit pretrain` (its encoder learned without labels) or of `vidkit finetune`
            (supervised); "random": an untrained network as `random_checkpoint` makes it.
        seen: layer, norm and read-out.
        seed: of random weights. An evaluation over several seeds has one such encoder, so that their spread does
            not include its draw.
        stride: between frames; None: the training's.

    Raises:
        ConfigError: no checkpoint; one that wants larger pictures than the dataset stores; one that was trained
            with labels and does not say which; no such layer or read-out.
    """
    if init == RANDOM:
        made = random_checkpoint(clips, seed)
        views = views_of(made.facts, stride=stride)
        return _checked(Encoder(checkpoint=made, name=RANDOM, sha256=None, classes=(), views=views, seen=seen))
    path = Path(init)
    if not path.is_file():
        raise ConfigError("there is no such checkpoint", file=path, field="--init")
    loaded = checkpoints.load(path)
    _check_size(clips, loaded, path)
    return _checked(
        Encoder(
            checkpoint=loaded,
            name=path.name,
            sha256=sha256_file(path)[0],
            classes=_learned_classes(clips, loaded, path),
            views=views_of(loaded.facts, stride=stride),
            seen=seen,
        )
    )


def _checked(encoder: Encoder) -> Encoder:
    readings_of([encoder.reading.layer], [encoder.reading.norm], encoder.vit.depth)
    if encoder.readout not in READOUTS:
        raise ConfigError(
            f"read-out is {encoder.readout!r}; expected one of {', '.join(READOUTS)}", field="--readout"
        )
    return encoder


def random_checkpoint(clips: LabelledClips, seed: int) -> Checkpoint:
    """The `tiny` recipe's encoder with random weights: as many of its 64 pixels as the dataset stores, in whole
    patches; frames from segments of the whole clip.

    Raises:
        ConfigError: pictures smaller than a patch.
    """
    base = tiny().finetune.encoder
    stored = int(clips.dataset.facts["settings"]["encode.size"])
    size = min(base.size, stored // base.patch * base.patch)
    if not size:
        raise ConfigError(
            f"{clips.name!r} stores {stored} x {stored} pixels; the smallest network here takes {base.patch}",
            file=clips.dataset.root,
            field="encode.size",
            hint=f"build the dataset with encode.size = {base.patch} or more, or give --init CKPT",
        )
    config = ClassifierConfig(encoder=replace(base, size=size), classes=1, drop_path=0.0)
    model = VideoClassifier(config, torch.Generator().manual_seed(seed))
    return Checkpoint(config=config, model=model.state_dict(), facts={"mode": "segments"})


def check_encoder(config: FewshotConfig, init: Init | None) -> None:
    """Whether the learners have the encoder that they need; None: there is none, features are pixels.

    Raises:
        ConfigError: they have not.
    """
    if "finetune" in config.learners and init in (None, RANDOM):
        raise ConfigError(
            "finetune starts from a trained encoder, and there is none",
            field="--init",
            hint="give --init CKPT; from random weights it is --learner scratch",
        )
    if config.tune and init is None:
        raise ConfigError(
            "there is no encoder whose blocks could learn",
            field="--tune",
            hint="give --init CKPT, or --init random",
        )


def check_blocks(tune: int, depth: int) -> None:
    """
    Raises:
        ConfigError: an encoder of `depth` blocks has not so many.
    """
    if tune > depth:
        raise ConfigError(
            f"tune is {tune}; the encoder has {depth} blocks",
            field="--tune",
            hint=f"choose up to {depth}, or all: the tokenizer too",
        )


def open_blocks(model: AdaMAE | VideoClassifier, tune: int, reading: Reading | None = None) -> list[nn.Parameter]:
    """Let the last `tune` blocks before `reading` (None: of all) and the norm after them, if it is read, learn, and
    nothing else; with `ALL_BLOCKS` all of them and the tokenizer.

    Returns:
        Those parameters, in the model's order.

    Raises:
        ConfigError: there are not so many blocks.
    """
    reading = reading or Reading(len(model.encoder))
    blocks = model.encoder[: reading.layer]
    check_blocks(tune, len(blocks))
    whole = tune == ALL_BLOCKS
    first = 0 if whole else len(blocks) - tune
    norm = model.encoder_norm if isinstance(model, AdaMAE) else model.fc_norm
    parts: list[nn.Module] = [*blocks[first:], *([norm] if reading.norm else [])] if tune else []
    if whole:
        parts.insert(0, model.tokenizer)
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@torch.no_grad()
def features_of(
    encoder: Encoder, model: AdaMAE | VideoClassifier, videos: Sequence[Tensor], device: torch.device
) -> Tensor:
    """Features (n, T W) of clips that come in parts, as `vidkit.train.features.extract` makes them."""
    return torch.cat([encoder.features(model, part.to(device)) for part in videos])


def _check_size(clips: LabelledClips, loaded: Checkpoint, init: Path) -> None:
    stored = int(clips.dataset.facts["settings"]["encode.size"])
    size = loaded.config.encoder.size
    if size > stored:
        raise ConfigError(
            f"the checkpoint's encoder takes {size} x {size} pixels; {clips.name!r} stores {stored}: enlarged "
            "pictures are not what it was trained on",
            file=init,
            field="--init",
            hint=f"build the dataset with encode.size = {size} or more, or use a checkpoint for {stored} pixels",
        )


def _learned_classes(clips: LabelledClips, loaded: Checkpoint, init: Path) -> tuple[str, ...]:
    """Classes whose labels the encoder saw. Label maps may differ: classes are told by their names."""
    if loaded.kind != "classifier":
        return ()
    # the head has all classes of the dataset; it may have been trained on some of them
    names = [str(item) for item in loaded.facts.get("trained_classes") or loaded.facts.get("classes") or ()]
    if not names:
        raise ConfigError(
            "the checkpoint was trained with labels and does not say which, so nothing tells whether the classes "
            "of meta-test are new to it",
            file=init,
            field="classes",
            hint="use a checkpoint of `vidkit finetune`, which has its label map with it, or one that was "
            "pre-trained without labels",
        )
    if loaded.facts.get("rule") == "multi-hot":
        # it learned labels one by one; here a set of labels, joined by "+", is a class
        return tuple(name for name in clips.classes if name in names or set(name.split("+")) <= set(names))
    return tuple(names)

"""Whether learners have the features, encoder and clips that they need, and what a row says of these."""

from __future__ import annotations

from typing import Any

from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.benchmarks import labels_seen
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.fewshot.inputs.encoder import RANDOM, Encoder, check_blocks
from vidkit.fewshot.inputs.features import ClipFeatures
from vidkit.fewshot.inputs.pixels import ClipPixels, meta_splits_needed
from vidkit.settings.fewshot import PIXEL_LEARNERS, FewshotConfig, Learner


def check_given(
    clips: LabelledClips,
    features: ClipFeatures | None,
    config: FewshotConfig,
    encoder: Encoder | None,
    pixels: ClipPixels | None,
) -> None:
    """
    Raises:
        ConfigError: what learners need is not there, or of something else.
    """
    on_features = [name for name in config.learners if name not in PIXEL_LEARNERS]
    if features is None and on_features:
        raise ConfigError(f"{on_features[0]} learns from features, and there are none", field="features")
    if features is not None and len(features.array) != len(clips):
        raise ConfigError(f"{len(features.array):,} features for {len(clips):,} clips", field="features")
    if not meta_splits_needed(config):
        return
    if encoder is None or pixels is None:
        who = "tune" if config.tune else next(name for name in config.learners if name in PIXEL_LEARNERS)
        raise ConfigError(
            f"{who} needs an encoder and the clips themselves",
            field="encoder" if encoder is None else "pixels",
            hint="make them with inputs.encoder.open_encoder and inputs.pixels.load_pixels",
        )
    if "finetune" in config.learners and encoder.name == RANDOM:
        raise ConfigError(
            "finetune starts from a trained encoder, and this one has random weights",
            field="encoder",
            hint='from random weights it is "scratch"',
        )
    if len(pixels.place) != len(clips):
        raise ConfigError(f"clips in memory are of a dataset of {len(pixels.place):,}; this one has {len(clips):,}")
    vit, shape = encoder.vit, tuple(pixels.video.shape[1:])
    if shape != (vit.channels, vit.frames, vit.size, vit.size):
        raise ConfigError(
            f"clips in memory are {shape}; the encoder takes {vit.channels, vit.frames, vit.size, vit.size}",
            field="pixels",
            hint="load them with the encoder's own settings",
        )
    check_blocks(config.tune, vit.depth)
    mine = (encoder.name, encoder.sha256, encoder.reading, encoder.readout)
    theirs = features and (features.name, features.checkpoint_sha256, features.reading, features.readout)
    if config.tune and features is not None and theirs != mine:
        raise ConfigError(
            f"features are {features.readout} of {features.reading} of {features.name!r}; the encoder to be "
            f"trained gives {encoder.readout} of {encoder.reading} of {encoder.name!r}",
            field="encoder",
            hint="make both from the same checkpoint",
        )


def source_of(
    name: Learner, features: ClipFeatures | None, encoder: Encoder | None, split: ClassSplit
) -> dict[str, Any]:
    """What a row says of where a learner's features, or its network's weights, come from."""
    read = None
    if name in PIXEL_LEARNERS:
        assert encoder is not None, "checked before"
        width = encoder.vit.width
        if name == "scratch":
            return {"features": RANDOM, "width": width, "read": None, "checkpoint_sha256": None, "seen_classes": 0}
        source, sha256, classes = encoder.name, encoder.sha256, encoder.classes
    else:
        assert features is not None, "checked before"
        width = features.flat.shape[1]
        read = f"{features.readout} of {features.reading}"
        source, sha256, classes = features.name, features.checkpoint_sha256, features.classes
    seen = len(labels_seen(classes, split.test))
    return {"features": source, "width": width, "read": read, "checkpoint_sha256": sha256, "seen_classes": seen}

"""From an encoder's tokens to a clip's features: which layer, before or after the final norm, and which read-out.

An encoder gives tokens (T, S, D) for a clip: T time steps, S places. Their mean over all of it throws motion away;
mean and deviation over space for each time step keep most of what tells motions apart.

The norm is applied to each token, and what is read out is made of normalised tokens, for a masked autoencoder
(`encoder_norm`) and a classifier (`fc_norm`) alike. A classifier's own head reads the norm of the mean instead; on
generated clips the order decides nothing (ridge, 180 validation clips, mean over a pre-trained, a fine-tuned and a
random encoder and two layers, norm first and pooling first: 30.9 and 30.1 % from the mean, 47.1 and 47.0 % from
slots, 59.3 and 60.0 % from slots with deviations).

Shapes: B clips, N tokens in all (T S), D width, W numbers of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.models.layers import run_block
from vidkit.models.tokenizers import check_video, patchify

Readout = Literal["mean", "mean-std", "slots", "slots-std", "tokens"]
READOUTS: tuple[Readout, ...] = get_args(Readout)

#: The default: all others but "tokens" can be made of it.
FULLEST: Readout = "slots-std"

#: What can be made of which.
MAKES: dict[Readout, tuple[Readout, ...]] = {
    "mean": ("mean",),
    "mean-std": ("mean", "mean-std"),
    "slots": ("mean", "slots"),
    "slots-std": ("mean", "mean-std", "slots", "slots-std"),
    "tokens": ("tokens",),
}

#: Deviations are at least this, so that a gradient through them is finite.
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, order=True, slots=True)
class Reading:
    """A place in an encoder that tokens are taken from."""

    layer: int
    """Blocks before it, from 1; 0: the clip's pixels."""
    norm: bool = True
    """Through the final norm."""

    @property
    def column(self) -> str:
        """Of a file of features."""
        return f"layer{self.layer:02d}{'-norm' if self.norm else ''}"

    def __str__(self) -> str:
        return "pixels" if self.layer == 0 else f"layer {self.layer}{', norm' if self.norm else ''}"


def default_layers(depth: int) -> tuple[int, ...]:
    """The last layer and those at 1/2 and 3/4 of the depth."""
    return tuple(sorted({max(1, round(depth / 2)), max(1, round(3 * depth / 4)), depth}))


def readings_of(layers: Sequence[int] | None, norms: Sequence[bool], depth: int) -> tuple[Reading, ...]:
    """
    Args:
        layers: None: the default ones.
        norms: of before (False) and after (True).

    Raises:
        ConfigError: layers that an encoder of `depth` blocks has not.
    """
    chosen = default_layers(depth) if layers is None else tuple(layers)
    if not chosen or len(set(chosen)) != len(chosen) or not all(1 <= layer <= depth for layer in chosen):
        shown = ", ".join(map(str, chosen)) or "none"
        raise ConfigError(
            f"layers are {shown}; the encoder has layers 1 to {depth}, each at most once", field="--layers"
        )
    return tuple(Reading(layer, norm) for layer in sorted(chosen) for norm in sorted(norms))


def tokens_at(model: AdaMAE | VideoClassifier, video_BCTHW: Tensor, readings: Sequence[Reading]) -> list[Tensor]:
    """Tokens (B, T, S, D) of each reading, nothing masked, with the gradient.

    Raises:
        ConfigError: clips of another shape or dtype than the model's.
    """
    vit = model.config.encoder
    check_video(video_BCTHW, vit)
    x_BND = model.tokenizer(model.tokenizer.inputs(video_BCTHW, patchify(video_BCTHW, vit)))
    if isinstance(model, AdaMAE):
        x_BND = x_BND + model.encoder_positions
        norm, recompute = model.encoder_norm, model.config.recompute.encoder
    else:
        x_BND = x_BND + model.positions
        norm, recompute = model.fc_norm, model.config.recompute
    steps = vit.grid[0]
    found: dict[Reading, Tensor] = {}
    for layer, block in enumerate(model.encoder[: max(reading.layer for reading in readings)], start=1):
        x_BND = run_block(block, x_BND, recompute)
        for reading in readings:
            if reading.layer == layer:
                tokens_BND = norm(x_BND) if reading.norm else x_BND
                found[reading] = tokens_BND.unflatten(1, (steps, -1))
    return [found[reading] for reading in readings]


def read_out(tokens_BTSD: Tensor, readout: Readout) -> Tensor:
    """What is kept of tokens (B, T, S, D), at least float32.

    - "mean": their mean (B, 1, D)
    - "mean-std": mean and deviation over all of them (B, 1, 2 D)
    - "slots": the mean over space for each time step (B, T, D)
    - "slots-std": mean and deviation over space for each time step (B, T, 2 D)
    - "tokens": all of them (B, T, S D)
    """
    tokens_BTSD = tokens_BTSD if tokens_BTSD.dtype == torch.float64 else tokens_BTSD.float()
    if readout == "tokens":
        return tokens_BTSD.flatten(2)
    slots_BT2D = torch.cat([tokens_BTSD.mean(dim=2), _deviation(tokens_BTSD, 2)], dim=2)
    return derived(slots_BT2D, FULLEST, readout)


def derived(features_nTW: Tensor, stored: Readout, wanted: Readout) -> Tensor:
    """One read-out from another, exactly: as `read_out` gives it.

    Raises:
        ConfigError: it cannot be made, by `MAKES`.
    """
    if wanted not in MAKES[stored]:
        raise ConfigError(
            f"the read-out {wanted!r} cannot be made of {stored!r}",
            field="--readout",
            hint=f"extract the features again: vidkit extract --readout {wanted}",
        )
    if wanted == stored:
        return features_nTW
    if wanted == "mean-std":
        mean_nTD, deviation_nTD = features_nTW.chunk(2, dim=2)
        # the variance of all is the mean variance of the steps and the variance of their means
        variance_n1D = deviation_nTD.square().mean(dim=1, keepdim=True)
        variance_n1D = variance_n1D + mean_nTD.var(dim=1, correction=0, keepdim=True)
        deviation_n1D = variance_n1D.clamp_min(LEAST_DEVIATION**2).sqrt()
        return torch.cat([mean_nTD.mean(dim=1, keepdim=True), deviation_n1D], dim=2)
    means_nTD = features_nTW.chunk(2, dim=2)[0] if stored.endswith("-std") else features_nTW
    return means_nTD if wanted == "slots" else means_nTD.mean(dim=1, keepdim=True)


def width_of(readout: Readout, steps: int, places: int, width: int) -> tuple[int, int]:
    """(steps, numbers of a step) of a read-out of tokens (steps, places, width)."""
    return {
        "mean": (1, width),
        "mean-std": (1, 2 * width),
        "slots": (steps, width),
        "slots-std": (steps, 2 * width),
        "tokens": (steps, places * width),
    }[readout]


def _deviation(tokens: Tensor, dim: int) -> Tensor:
    """As a population's, over one dimension."""
    return tokens.var(dim=dim, correction=0).clamp_min(LEAST_DEVIATION**2).sqrt()

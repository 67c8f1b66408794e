"""Model settings: what the named sizes are, and that every fault is named with its value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from vidkit.errors import ConfigError
from vidkit.settings.model import (
    SIZES,
    AdaMAEConfig,
    ClassifierConfig,
    DecoderConfig,
    LossConfig,
    MaskConfig,
    RecomputeConfig,
    SamplerConfig,
    ViTConfig,
    small_64,
    vit_base,
)


@pytest.mark.parametrize(
    ("size", "encoder", "decoder", "tokens"),
    [
        ("vit-small", (384, 12, 6, 4.0), (192, 4, 3), 1568),
        ("vit-base", (768, 12, 12, 4.0), (384, 4, 6), 1568),
        ("vit-large", (1024, 24, 16, 4.0), (512, 4, 8), 1568),
        ("small-64", (192, 9, 12, 2.0), (96, 3, 6), 512),
    ],
)
def test_sizes(size: str, encoder: tuple[Any, ...], decoder: tuple[Any, ...], tokens: int) -> None:
    config = SIZES[size]()
    vit = config.encoder
    assert (vit.width, vit.depth, vit.heads, vit.mlp_ratio) == encoder
    assert (config.decoder.width, config.decoder.depth, config.decoder.heads) == decoder
    assert vit.tokens == tokens


def test_defaults_are_the_papers() -> None:
    """Table 1's grey cells and algorithm 2."""
    config = AdaMAEConfig()
    assert config == vit_base()
    assert config.mask == MaskConfig(strategy="adaptive", ratio=0.95, rounding="matched")
    assert config.loss == LossConfig(kind="mse", normalize=True, sampling_weight=1e-4)
    assert config.sampler == SamplerConfig(
        kind="mha", depth=1, width_divisor=1, heads=8, mlp_ratio=4.0, dropout=0.1
    )
    assert config.sampler.input == "detached"
    assert small_64().encoder.patch == 8


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        vit_base().encoder.width = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        ViTConfig(16)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ViTConfig(size=220), "size is 220; expected a multiple of patch 16"),
        (lambda: ViTConfig(frames=15), "frames is 15; expected a multiple of tubelet 2"),
        (lambda: ViTConfig(width=770), "heads is 12; expected a divisor of the width 770"),
        (lambda: ViTConfig(patch=0), "patch is 0; expected at least 1"),
        (lambda: ViTConfig(positions="2d"), "positions is '2d'; expected '1d' or '3d'"),  # type: ignore[arg-type]
        (lambda: ViTConfig(width=4, heads=4, positions="3d"), "width is 4; expected an even number from 6"),
        (lambda: ViTConfig(width=9, heads=3), "width is 9; expected an even number from 2"),
        (lambda: ViTConfig(channels=1), r"pixel_mean is \(0.485.*expected 1 numbers, one for each channel"),
        (lambda: ViTConfig(pixel_std=(1, 1, 0)), "pixel_std .* numbers above 0"),
        (lambda: DecoderConfig(depth=0), "depth is 0; expected at least 1"),
        (lambda: MaskConfig(ratio=1.0), "ratio is 1.0; expected above 0 and below 1"),
        (lambda: MaskConfig(ratio=0.0), "ratio is 0.0; expected above 0 and below 1"),
        (lambda: MaskConfig(strategy="tubes"), "one of tube, random, frame, adaptive"),  # type: ignore[arg-type]
        (lambda: MaskConfig(rounding="floor"), "one of matched, paper"),  # type: ignore[arg-type]
        (lambda: SamplerConfig(kind="conv"), "kind is 'conv'"),  # type: ignore[arg-type]
        (lambda: SamplerConfig(width_divisor=3), "width_divisor is 3"),  # type: ignore[arg-type]
        (lambda: SamplerConfig(input="both"), "input is 'both'; expected 'detached' or"),  # type: ignore[arg-type]
        (lambda: SamplerConfig(dropout=1.0), "dropout is 1.0; expected at least 0, below 1"),
        (lambda: LossConfig(kind="huber"), "kind is 'huber'; expected 'mse' or 'l1'"),  # type: ignore[arg-type]
        (lambda: LossConfig(sampling_weight=-1), "sampling_weight is -1; expected at least 0"),
        (lambda: RecomputeConfig(decoder="all"), "decoder is 'all'; expected one of none"),  # type: ignore[arg-type]
        (lambda: ClassifierConfig(classes=0), "classes is 0; expected at least 1"),
        (lambda: ClassifierConfig(classes=5, drop_path=1.0), "drop_path is 1.0"),
        (
            lambda: replace(vit_base(), decoder=DecoderConfig(heads=7)),
            "decoder.heads is 7; expected a divisor of the",
        ),
        (lambda: replace(vit_base(), sampler=SamplerConfig(heads=7)), "sampler.heads is 7; expected a divisor of"),
    ],
)
def test_faults_name_the_value_and_what_was_expected(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_faults_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        ViTConfig(frames=0, depth=-1, mlp_ratio=0)
    assert all(name in str(caught.value) for name in ("frames is 0", "depth is -1", "mlp_ratio is 0"))


def test_an_unused_sampler_is_not_checked() -> None:
    config = replace(vit_base(), sampler=SamplerConfig(heads=7, kind="mlp"))
    assert replace(config, mask=MaskConfig(strategy="tube")).sampler.heads == 7

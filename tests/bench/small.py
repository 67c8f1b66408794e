"""A small model of 256 tokens for the tests of measurement."""

from __future__ import annotations

from vidkit.settings.model import AdaMAEConfig, DecoderConfig, MaskConfig, ViTConfig


def small() -> AdaMAEConfig:
    return AdaMAEConfig(
        encoder=ViTConfig(frames=8, size=64, patch=8, width=128, depth=2, heads=4, mlp_ratio=2.0),
        decoder=DecoderConfig(width=64, depth=2, heads=2),
        mask=MaskConfig(ratio=0.9),
    )

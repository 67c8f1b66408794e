"""Patches against plain slicing, and the tokenizer against torch's convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from vidkit.errors import ConfigError
from vidkit.models.tokenizers import TubeletTokenizer, check_video, patchify, take, to_unit, unpatchify
from vidkit.settings.model import ViTConfig

CONFIGS = [
    ViTConfig(frames=4, size=32, patch=8, width=24, heads=2),
    ViTConfig(frames=6, size=48, patch=16, tubelet=3, width=24, heads=2),
    ViTConfig(
        frames=2, size=8, patch=4, tubelet=1, channels=1, width=6, heads=1, pixel_mean=(0.4,), pixel_std=(0.2,)
    ),
]


def clips(config: ViTConfig, batch: int = 2) -> torch.Tensor:
    shape = (batch, config.channels, config.frames, config.size, config.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_patches_are_the_cubes_of_the_clip(config: ViTConfig) -> None:
    video = clips(config)
    patches = patchify(video, config)
    assert patches.shape == (2, config.tokens, config.patch_values)
    assert patches.dtype == torch.uint8
    t, p = config.tubelet, config.patch
    time, height, width = config.grid
    token = 0
    for i in range(time):
        for j in range(height):
            for k in range(width):
                cube = video[:, :, i * t : i * t + t, j * p : j * p + p, k * p : k * p + p]
                assert torch.equal(patches[:, token], cube.permute(0, 2, 3, 4, 1).flatten(1))
                token += 1


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_unpatchify_is_the_inverse(config: ViTConfig) -> None:
    video = clips(config)
    assert torch.equal(unpatchify(patchify(video, config), config), video)


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_tokens_equal_the_convolution(config: ViTConfig) -> None:
    torch.manual_seed(0)
    tokenizer = TubeletTokenizer(config)
    video = clips(config)
    mean = torch.tensor(config.pixel_mean).view(-1, 1, 1, 1)
    std = torch.tensor(config.pixel_std).view(-1, 1, 1, 1)
    stride = (config.tubelet, config.patch, config.patch)
    values = (video.float() / 255 - mean) / std
    expected = (
        F.conv3d(values, tokenizer.proj.weight, tokenizer.proj.bias, stride=stride).flatten(2).transpose(1, 2)
    )
    got = tokenizer(patchify(video, config))
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.equal(got, tokenizer(patchify(to_unit(video), config)))
    (weight,) = torch.autograd.grad(got.square().sum(), tokenizer.proj.weight)
    (same,) = torch.autograd.grad(expected.square().sum(), tokenizer.proj.weight)
    assert torch.allclose(weight, same, rtol=1e-4, atol=1e-3)


def test_a_call_without_gradient_leaves_the_next_one_its_gradient() -> None:
    """Under autocast some versions of torch lose it."""
    config = CONFIGS[0]
    tokenizer = TubeletTokenizer(config)
    patches = patchify(clips(config), config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            tokenizer(patches)
        tokens = tokenizer(patches)
    tokens.float().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in tokenizer.parameters())


def test_take_picks_rows_of_each_sample() -> None:
    rows = torch.randn(3, 7, 5, requires_grad=True)
    index = torch.tensor([[0, 6], [3, 3], [5, 1]])
    got = take(rows, index)
    for b in range(3):
        for k in range(2):
            assert torch.equal(got[b, k], rows[b, int(index[b, k])])
    got.sum().backward()
    assert rows.grad is not None
    assert rows.grad[1, 3].tolist() == [2.0] * 5


def test_to_unit_leaves_its_input_alone() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert to_unit(pixels).tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert pixels.tolist() == [0, 51, 255]
    assert to_unit(torch.tensor([0.25], dtype=torch.float16)).dtype == torch.float32


def test_clips_that_do_not_fit_are_refused_with_both_shapes() -> None:
    config = CONFIGS[0]
    check_video(clips(config), config)
    with pytest.raises(ConfigError, match=r"shape \(2, 3, 4, 16, 32\); the model takes \(batch, 3, 4, 32, 32\)"):
        check_video(clips(config)[..., :16, :], config)
    with pytest.raises(ConfigError, match=r"dtype torch\.int32; expected uint8"):
        check_video(clips(config).int(), config)

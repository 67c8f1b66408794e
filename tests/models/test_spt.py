"""Shifted patches against plain padding and slicing; the tokenizer inside both models; what each choice costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.models.test_adamae import MINI, build, check_no_loop_over_the_batch, clips, gradients
from vidkit.errors import ConfigError
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.models.masking import mask_generator
from vidkit.models.spt import ShiftedPatchTokenizer, shift_offsets
from vidkit.models.tokenizers import TubeletTokenizer, patchify, to_unit
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, MaskConfig, ViTConfig, small_64

SHIFTS: Any = ("diagonal", "cardinal", "pixel")


def spt(shifts: Any = "diagonal", base: AdaMAEConfig = MINI) -> AdaMAEConfig:
    return replace(base, encoder=replace(base.encoder, tokenizer="spt", shifts=shifts))


#: As (left, right, top, bottom) for torch's pad, with negative numbers cropping; patches of 8 pixels.
PADS = {
    "diagonal": [(-4, 4, -4, 4), (4, -4, -4, 4), (-4, 4, 4, -4), (4, -4, 4, -4)],
    "cardinal": [(0, 0, -4, 4), (0, 0, 4, -4), (-4, 4, 0, 0), (4, -4, 0, 0)],
    "pixel": [(0, 0, -1, 1), (0, 0, 1, -1), (-1, 1, 0, 0), (1, -1, 0, 0)],
}


@pytest.mark.parametrize("shifts", SHIFTS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_tokens_equal_the_written_out_ones(shifts: Any, kind: torch.dtype) -> None:
    """Normalise, pad with zeros and crop, cut one token after another, norm, project."""
    vit = spt(shifts).encoder
    torch.manual_seed(0)
    tokenizer = ShiftedPatchTokenizer(vit)
    torch.nn.init.normal_(tokenizer.norm.weight)
    torch.nn.init.normal_(tokenizer.norm.bias)
    video = clips(MINI) if kind == torch.uint8 else to_unit(clips(MINI))
    got = tokenizer(tokenizer.inputs(video, patchify(video, vit)))

    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (vit.pixel_mean, vit.pixel_std))
    for b, clip in enumerate(to_unit(video)):
        frames = (clip - mean) / std
        moved = [F.pad(frames, pad) for pad in PADS[shifts]]
        token = 0
        for t in range(vit.grid[0]):
            for y in range(vit.grid[1]):
                for x in range(vit.grid[2]):
                    cubes = [
                        f[:, 2 * t : 2 * t + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] for f in (frames, *moved)
                    ]
                    values = torch.cat([cube.permute(1, 2, 3, 0).flatten() for cube in cubes])
                    scaled = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
                    row = tokenizer.proj(scaled * tokenizer.norm.weight + tokenizer.norm.bias)
                    # The padding is zero to within half of one of 256 levels.
                    assert torch.allclose(got[b, token], row, atol=0.03)
                    if t == 0 and 0 < y < 3 and 0 < x < 3:
                        assert torch.allclose(got[b, token], row, atol=1e-5)
                    token += 1


@pytest.mark.parametrize("shifts", SHIFTS)
def test_inputs_start_with_the_patch_and_keep_the_clips_dtype(shifts: Any) -> None:
    vit = spt(shifts).encoder
    video = clips(MINI)
    patches = patchify(video, vit)
    inputs = ShiftedPatchTokenizer(vit).inputs(video, patches)
    assert inputs.shape == (2, vit.tokens, 5 * vit.patch_values)
    assert inputs.dtype == torch.uint8
    assert torch.equal(inputs[..., : vit.patch_values], patches)
    assert torch.equal(TubeletTokenizer(vit).inputs(video, patches), patches)


def test_frames_are_kept_apart() -> None:
    """Another frame changes the tokens of its own time step, and no other."""
    vit = spt().encoder
    tokenizer = ShiftedPatchTokenizer(vit)
    video = clips(MINI)
    other = video.clone()
    other[:, :, 1] = 255 - other[:, :, 1]
    before, after = (tokenizer.inputs(v, patchify(v, vit)).view(2, *vit.grid, -1) for v in (video, other))
    assert torch.equal(before[:, 1:], after[:, 1:])
    assert (before[:, 0] != after[:, 0]).flatten(3).any(dim=3).all()


@pytest.mark.parametrize(("shifts", "reach"), [("diagonal", 4), ("cardinal", 4), ("pixel", 1)])
def test_a_token_sees_so_far_beyond_its_patch(shifts: Any, reach: int) -> None:
    """The gradient of a token in the middle: its patch, and what lies within reach."""
    vit = spt(shifts).encoder
    tokenizer = ShiftedPatchTokenizer(vit)
    video = to_unit(clips(MINI, batch=1)).requires_grad_()
    tokenizer(tokenizer.inputs(video, patchify(video, vit)))[0, 1 * 4 + 2].square().sum().backward()
    assert video.grad is not None
    seen = video.grad[0].abs().sum(dim=0) > 0
    assert not seen[2:].any()
    for axis, first in ((1, 8), (0, 16)):
        where = seen[0].any(dim=axis).nonzero().flatten().tolist()
        assert where == list(range(first - reach, first + 8 + reach))


def test_half_of_an_odd_patch_is_rounded_down() -> None:
    assert shift_offsets("diagonal", 7) == ((-3, -3), (-3, 3), (3, -3), (3, 3))
    assert shift_offsets("pixel", 7) == ((-1, 0), (1, 0), (0, -1), (0, 1))


@pytest.mark.parametrize("strategy", ["adaptive", "random"])
@pytest.mark.parametrize("shifts", SHIFTS)
def test_in_the_masked_autoencoder(shifts: Any, strategy: Any) -> None:
    """Every parameter learns, the target is the plain clip's, batch parts agree, and prediction works."""
    config = replace(spt(shifts), mask=MaskConfig(strategy=strategy, ratio=0.75))
    model = build(config).eval()
    video = clips(config, batch=4)
    out = model(video, mask_generator(0, 0, 0))
    out.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert torch.equal(model(video, keep_BV=out.keep).loss, model(to_unit(video), keep_BV=out.keep).loss)
    halves = [model(video[part], keep_BV=out.keep[part]).loss.item() for part in (slice(0, 2), slice(2, 4))]
    assert sum(halves) / 2 == pytest.approx(out.loss.item(), rel=1e-5)
    shown = model.predict(video, keep_BV=out.keep)
    assert torch.equal(shown.video, to_unit(video))
    assert shown.error.sum().item() == pytest.approx(
        out.reconstruction_loss.item() * (~shown.visible).sum().item(), rel=1e-4
    )


def test_the_reconstruction_target_is_the_plain_clips() -> None:
    """A model that predicts nothing has the same loss with either tokenizer."""
    losses = []
    for config in (MINI, spt()):
        model = build(replace(config, mask=MaskConfig(strategy="random", ratio=0.75)))
        torch.nn.init.zeros_(model.head.weight)
        torch.nn.init.zeros_(model.head.bias)
        losses.append(model(clips(MINI), mask_generator(0, 0, 0)).reconstruction_loss.item())
    assert losses[0] == losses[1]


def test_no_loop_over_the_batch() -> None:
    model = build(spt())
    check_no_loop_over_the_batch(model, lambda batch: model(clips(MINI, batch)).loss)


@pytest.mark.parametrize("strategy", ["adaptive", "tube"])
def test_nothing_reads_the_device(strategy: Any) -> None:
    """Fake tensors have no values: whatever waits for one raises. With locality self-attention as well."""
    config = spt("diagonal", small_64())
    config = replace(
        config, encoder=replace(config.encoder, attention="lsa"), mask=MaskConfig(strategy=strategy, ratio=0.9)
    )
    with FakeTensorMode():
        model = AdaMAE(config)
        model(torch.zeros(2, 3, 16, 64, 64, dtype=torch.uint8)).loss.backward()
        scores = VideoClassifier(ClassifierConfig(encoder=config.encoder, classes=5))(torch.zeros(2, 3, 16, 64, 64))
    assert scores.shape == (2, 5)
    assert all(p.grad is not None for p in model.parameters())


def test_the_classifier_takes_it_over() -> None:
    pretrained = build(spt()).eval()
    model = VideoClassifier(ClassifierConfig(encoder=spt().encoder, classes=5)).eval()
    model.load_encoder(pretrained.state_dict())
    pretrained.encoder_norm = torch.nn.Identity()  # type: ignore[assignment]
    video = clips(MINI)
    keep = torch.arange(MINI.encoder.tokens).expand(2, -1)
    inputs = pretrained.tokenizer.inputs(video, patchify(video, MINI.encoder))
    _, tokens = pretrained.choose(inputs, None, keep)
    assert torch.allclose(model.features(video), model.fc_norm(pretrained.encode(tokens, keep).mean(1)), atol=1e-5)
    plain = VideoClassifier(ClassifierConfig(encoder=MINI.encoder, classes=5))
    with pytest.raises(ConfigError, match=r"tokenizer\.norm\.weight: not in this model"):
        plain.load_encoder(pretrained.state_dict())


def test_a_call_without_gradient_leaves_the_next_one_its_gradient() -> None:
    """Under autocast some versions of torch lose it."""
    vit = spt().encoder
    tokenizer = ShiftedPatchTokenizer(vit)
    video = clips(MINI)
    inputs = tokenizer.inputs(video, patchify(video, vit))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            tokenizer(inputs)
        tokens = tokenizer(inputs)
    tokens.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in tokenizer.parameters())


def test_sampling_loss_still_reaches_the_sampler_only() -> None:
    found = []
    for weight in (0.0, 1e4):
        model = build(replace(spt(), loss=replace(MINI.loss, sampling_weight=weight))).eval()
        model(clips(MINI), mask_generator(0, 0, 0)).loss.backward()
        found.append({name: value for name, value in gradients(model).items() if "sampler" not in name})
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_initial_values_follow_the_generator() -> None:
    first, same, other = (AdaMAE(spt(), torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["tokenizer.proj.weight"], other["tokenizer.proj.weight"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ViTConfig(tokenizer="patch"), "tokenizer is 'patch'; expected 'tubelet' or 'spt'"),  # type: ignore[arg-type]
        (lambda: ViTConfig(shifts="left"), "shifts is 'left'; expected one of diagonal, cardinal, pixel"),  # type: ignore[arg-type]
        (lambda: ViTConfig(tokenizer="spt", patch=1), "patch is 1; expected at least 2, or there is no half of it"),
        (lambda: shift_offsets("up", 8), "shifts is 'up'"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_single_pixel_patches_can_shift_by_a_pixel() -> None:
    vit = ViTConfig(frames=2, size=8, patch=1, width=24, heads=2, tokenizer="spt", shifts="pixel")
    tokenizer = ShiftedPatchTokenizer(vit)
    video = torch.zeros(1, 3, 2, 8, 8, dtype=torch.uint8)
    assert tokenizer(tokenizer.inputs(video, patchify(video, vit))).isfinite().all()

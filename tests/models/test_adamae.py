"""The masked autoencoder against the written-out reference, and what holds for every configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.reference import ref_adamae
from vidkit.errors import ConfigError
from vidkit.models import layers
from vidkit.models.adamae import AdaMAE
from vidkit.models.losses import motion_energy
from vidkit.models.masking import mask_generator
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import (
    SIZES,
    AdaMAEConfig,
    DecoderConfig,
    LossConfig,
    MaskConfig,
    RecomputeConfig,
    SamplerConfig,
    ViTConfig,
    vit_base,
)

MINI = AdaMAEConfig(
    encoder=ViTConfig(frames=4, size=32, patch=8, width=48, depth=2, heads=4, mlp_ratio=2.0),
    decoder=DecoderConfig(width=24, depth=2, heads=2),
    mask=MaskConfig(ratio=0.75),
)
TABLE_1 = {
    "adaptive": MINI,
    "tube": replace(MINI, mask=MaskConfig(strategy="tube", ratio=0.75)),
    "random": replace(MINI, mask=MaskConfig(strategy="random", ratio=0.9)),
    "frame": replace(MINI, mask=MaskConfig(strategy="frame", ratio=0.5)),
    "paper rounding": replace(MINI, mask=MaskConfig(ratio=0.9, rounding="paper")),
    "decoder depth 1": replace(MINI, decoder=DecoderConfig(width=24, depth=1, heads=2)),
    "decoder depth 4": replace(MINI, decoder=DecoderConfig(width=24, depth=4, heads=2)),
    "l1": replace(MINI, loss=LossConfig(kind="l1")),
    "l1 without normalisation": replace(MINI, loss=LossConfig(kind="l1", normalize=False)),
    "mse without normalisation": replace(MINI, loss=LossConfig(normalize=False)),
    "mlp sampler": replace(MINI, sampler=SamplerConfig(kind="mlp")),
    "mlp sampler d/2": replace(MINI, sampler=SamplerConfig(kind="mlp", width_divisor=2)),
    "mha sampler d/2": replace(MINI, sampler=SamplerConfig(width_divisor=2)),
    "mha sampler depth 2, d/2": replace(MINI, sampler=SamplerConfig(depth=2, width_divisor=2)),
    "released sampler input": replace(MINI, sampler=SamplerConfig(input="released")),
    "3d positions": replace(MINI, encoder=replace(MINI.encoder, positions="3d")),
}


@pytest.fixture(params=TABLE_1, ids=lambda name: name.replace(" ", "-"))
def config(request: pytest.FixtureRequest) -> AdaMAEConfig:
    return TABLE_1[request.param]


def build(config: AdaMAEConfig, seed: int = 0) -> AdaMAE:
    """A model whose biases, norms and positions are not at their plain initial values, so that each one counts."""
    generator = torch.Generator().manual_seed(seed)
    model = AdaMAE(config, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def clips(config: AdaMAEConfig, batch: int = 2, seed: int = 1) -> Tensor:
    vit = config.encoder
    shape = (batch, vit.channels, vit.frames, vit.size, vit.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def gradients(model: AdaMAE) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Relative to each tensor's largest value: a gradient of 1e-3 must be right as well."""
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = max(float(value.abs().max()), 1e-3)
        assert float((got[name] - value).abs().max()) <= tolerance * scale, name


def test_forward_and_backward_equal_the_reference(config: AdaMAEConfig) -> None:
    model = build(config).eval()
    video = clips(config)
    out = model(video, mask_generator(0, 0, 0))
    out.loss.backward()
    got = gradients(model)
    model.zero_grad()
    expected = ref_adamae.forward(dict(model.named_parameters()), config, video, out.keep)
    expected.loss.backward()
    assert out.loss.item() == pytest.approx(expected.loss.item(), abs=1e-5, rel=1e-5)
    assert out.reconstruction_loss.item() == pytest.approx(expected.reconstruction_loss.item(), rel=1e-5)
    if expected.sampling_loss is None:
        assert out.sampling_loss is None
    else:
        assert out.sampling_loss.item() == pytest.approx(expected.sampling_loss.item(), rel=1e-5)
        entropies = [-(log_probs.exp() * log_probs).sum() for log_probs in expected.log_probs]
        assert out.sampler_entropy.item() == pytest.approx(torch.stack(entropies).mean().item(), rel=1e-5)
        effective = torch.stack(entropies).exp().mean().item()
        assert out.effective_tokens.item() == pytest.approx(effective, rel=1e-5)
    assert_same(got, gradients(model), 1e-5)


def test_float_clips_count_as_unit_range() -> None:
    model, video = build(MINI).eval(), clips(MINI)
    keep = model(video).keep
    assert torch.equal(model(video, keep_BV=keep).loss, model(video.float() / 255, keep_BV=keep).loss)


@pytest.mark.parametrize("mode", ["cheap", "light", "full"])
def test_recomputation_changes_no_gradient(mode: Any) -> None:
    """Dropout is on: what is computed again must drop the same values again."""
    settings = RecomputeConfig(encoder=mode, decoder=mode, sampler=mode)
    plain, saving = build(MINI), build(replace(MINI, recompute=settings))
    saving.load_state_dict(plain.state_dict())
    for model in (plain, saving):
        torch.manual_seed(5)
        model(clips(MINI), mask_generator(0, 0, 0)).loss.backward()
    assert plain.sampler is not None
    assert_same(gradients(saving), gradients(plain), 1e-6)


LIGHT = RecomputeConfig(encoder="light", decoder="light", sampler="light")


def in_parts(config: AdaMAEConfig, monkeypatch: pytest.MonkeyPatch, recompute: RecomputeConfig = LIGHT) -> AdaMAE:
    """A model that works on two clips at a time, with the gradients of decoder and sampler in the forward pass."""
    monkeypatch.setattr(layers, "CPU_TOKENS", 2 * config.encoder.tokens)
    return build(replace(config, recompute=recompute)).eval()


@pytest.mark.parametrize("mode", ["cheap", "light", "full"])
def test_parts_on_a_cpu_change_no_gradient(
    config: AdaMAEConfig, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps' gradients add up, each with a factor of its own: what accumulation and gradient scaling do."""
    settings = RecomputeConfig(encoder=mode, decoder=mode, sampler=mode)
    plain, saving = build(config).eval(), in_parts(config, monkeypatch, settings)
    for model in (plain, saving):
        for step, factor in enumerate((0.5, 3.0)):
            out = model(clips(config, batch=5, seed=step), mask_generator(0, step, 0))
            (factor * out.loss).backward()
    assert_same(gradients(saving), gradients(plain), 2e-5)


def test_parts_on_a_cpu_change_no_figure(config: AdaMAEConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    video = clips(config, batch=5)
    whole = build(config).eval()(video, mask_generator(0, 0, 0))
    parts = in_parts(config, monkeypatch)(video, mask_generator(0, 0, 0))
    assert torch.equal(parts.keep, whole.keep)
    for name in ("loss", "reconstruction_loss", "sampling_loss", "sampler_entropy", "motion_overlap"):
        expected, found = getattr(whole, name), getattr(parts, name)
        assert (found is None) == (expected is None), name
        assert found is None or found.item() == pytest.approx(expected.item(), rel=1e-5), name


def test_early_gradients_serve_one_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    out = in_parts(MINI, monkeypatch)(clips(MINI, batch=4))
    out.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="serve one backward pass only"):
        out.loss.backward()


def test_early_gradients_leave_frozen_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler as a whole, a part of the decoder, and everything before it."""
    frozen = ("sampler.", "decoder.0.", "encoder", "project", "tokenizer.")
    whole, parts = build(MINI).eval(), in_parts(MINI, monkeypatch)
    for model in (whole, parts):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        model(clips(MINI, batch=4), mask_generator(0, 0, 0)).loss.backward()
    assert all(not name.startswith(frozen) for name in gradients(parts))
    assert_same(gradients(parts), gradients(whole), 1e-5)


def test_early_gradients_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = build(MINI).eval(), in_parts(MINI, monkeypatch)
    for model in (whole, parts):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(clips(MINI, batch=4), mask_generator(0, 0, 0))
        out.loss.backward()
    assert_same(gradients(parts), gradients(whole), 0.05)


def test_nothing_is_differentiated_where_no_gradient_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, video = in_parts(MINI, monkeypatch), clips(MINI, batch=4)
    with torch.no_grad():
        assert not model(video).loss.requires_grad
    model.predict(video)
    assert not gradients(model)


def test_sampling_loss_reaches_the_sampler_and_nothing_else() -> None:
    """With and without the sampling loss: only the sampler's gradients differ, and without it they are zero."""
    silent = build(replace(MINI, loss=LossConfig(sampling_weight=0.0)))
    heavy = build(replace(MINI, loss=LossConfig(sampling_weight=1e4)))
    for model in (silent, heavy):
        torch.manual_seed(0)
        model(clips(MINI), mask_generator(0, 0, 0)).loss.backward()
    with_sampling = gradients(heavy)
    for name, gradient in gradients(silent).items():
        if name.startswith("sampler."):
            assert not gradient.any(), name
            assert with_sampling[name].any(), name
        else:
            assert torch.equal(gradient, with_sampling[name]), name


def test_released_sampler_input_trains_the_tokenizer_too() -> None:
    released = replace(MINI, sampler=SamplerConfig(input="released", dropout=0.0))
    heavy = build(replace(released, loss=LossConfig(sampling_weight=1.0)))
    silent = build(replace(released, loss=LossConfig(sampling_weight=0.0)))
    keep = heavy(clips(MINI), mask_generator(0, 0, 0)).keep
    for model in (heavy, silent):
        model(clips(MINI), keep_BV=keep).loss.backward()
    changed = {name for name, value in gradients(heavy).items() if not torch.equal(value, gradients(silent)[name])}
    assert {name for name in changed if not name.startswith("sampler.")} == {
        "tokenizer.proj.weight",
        "tokenizer.proj.bias",
    }


def test_every_parameter_gets_a_gradient(config: AdaMAEConfig) -> None:
    model = build(config)
    model(clips(config)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("strategy", ["tube", "random", "frame", "adaptive"])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_runs_without_reading_the_device(size: str, strategy: Any) -> None:
    """Fake tensors have no values: whatever waits for one (item, nonzero, boolean indexing) raises."""
    config = replace(SIZES[size](), mask=MaskConfig(strategy=strategy, ratio=0.9))
    vit = config.encoder
    with FakeTensorMode():
        model = AdaMAE(config)
        out = model(torch.zeros(2, vit.channels, vit.frames, vit.size, vit.size, dtype=torch.uint8))
        out.loss.backward()
    assert out.keep.shape == (2, model.num_visible)
    assert all(p.grad is not None for p in model.parameters())


def test_small_sizes_get_a_gradient_everywhere() -> None:
    """The real depths and widths of the sizes that fit into a test, at their initial values, on a shorter clip."""
    for name in ("small-64", "tiny"):
        config = SIZES[name]()
        config = replace(config, encoder=replace(config.encoder, frames=2, size=32), mask=MaskConfig(ratio=0.75))
        model = AdaMAE(config, torch.Generator().manual_seed(0))
        model(clips(config, batch=1), mask_generator(0, 0, 0)).loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters()), name


class CountOps(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def check_no_loop_over_the_batch(model: nn.Module, loss: Callable[[int], torch.Tensor]) -> None:
    """Seven clips or episodes take as many operations as two, forward and backward."""
    counts = []
    for batch in (2, 7):
        model.zero_grad()
        with CountOps() as ops:
            loss(batch).backward()
        counts.append(ops.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["adaptive", "tube", "random", "frame", "released sampler input"])
def test_no_loop_over_the_batch(name: str) -> None:
    config = TABLE_1[name]
    model = build(config)
    check_no_loop_over_the_batch(model, lambda batch: model(clips(config, batch)).loss)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nothing_waits_for_the_gpu(config: AdaMAEConfig) -> None:
    model = build(config).cuda()
    video = clips(config).cuda()
    generator = mask_generator(0, 0, 0, "cuda")
    model(video, generator).loss.backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = model(video, generator)
        out.loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out.finite.item()


def test_same_seed_same_numbers(config: AdaMAEConfig) -> None:
    results = []
    for _ in range(2):
        model = build(config)
        torch.manual_seed(3)
        out = model(clips(config), mask_generator(7, 11, 0))
        out.loss.backward()
        results.append((out, gradients(model)))
    (first, first_gradients), (second, second_gradients) = results
    assert torch.equal(first.keep, second.keep)
    assert torch.equal(first.loss, second.loss)
    assert all(torch.equal(value, second_gradients[name]) for name, value in first_gradients.items())


def test_given_masks_make_the_batch_split_irrelevant() -> None:
    """Two halves with the masks of the whole give the mean of the whole: what a two-process run relies on."""
    model = build(MINI).eval()
    video = clips(MINI, batch=4)
    whole = model(video, mask_generator(0, 0, 0))
    halves = [model(video[part], keep_BV=whole.keep[part]) for part in (slice(0, 2), slice(2, 4))]
    for name in ("loss", "reconstruction_loss", "sampling_loss", "effective_tokens", "motion_overlap"):
        mean = sum(getattr(half, name).item() for half in halves) / 2
        assert getattr(whole, name).item() == pytest.approx(mean, rel=1e-5), name


def test_bf16_autocast_stays_near_fp32() -> None:
    model = build(MINI).eval()
    video = clips(MINI)
    exact = model(video, mask_generator(0, 0, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(video, keep_BV=exact.keep)
    rough.loss.backward()
    assert rough.loss.dtype == torch.float32
    assert rough.sampler_entropy.dtype == torch.float32
    assert rough.loss.item() == pytest.approx(exact.loss.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("strategy", ["adaptive", "tube"])
def test_learns_a_fixed_batch(strategy: Any) -> None:
    """Moving bars behind a fixed mask. Predicting each patch's mean costs 1 (times 383/384)."""
    model = AdaMAE(replace(MINI, mask=MaskConfig(strategy=strategy, ratio=0.5)), torch.Generator().manual_seed(0))
    row = torch.arange(32).view(1, 1, 1, 1, 32)
    start = torch.arange(2).view(2, 1, 1, 1, 1) * 5 + torch.arange(4).view(1, 1, 4, 1, 1) * 2
    video = (((row - start) % 16 < 8) * 255).to(torch.uint8).expand(2, 3, 4, 32, 32)
    keep = model(video, mask_generator(0, 0, 0)).keep
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    torch.manual_seed(0)
    losses = []
    for _ in range(150):
        out = model(video, keep_BV=keep, diagnostics=False)
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
        losses.append(out.reconstruction_loss.item())
    assert losses[0] > 0.9
    assert sum(losses[-10:]) / 10 < 0.6 * losses[0]


def test_sampler_learns_where_the_error_is() -> None:
    """Only one quarter of the picture has texture: its tokens must become more probable than the rest."""
    config = replace(
        MINI, loss=LossConfig(normalize=False, sampling_weight=1.0), sampler=SamplerConfig(dropout=0.0)
    )
    model = AdaMAE(config, torch.Generator().manual_seed(0))
    video = torch.full((2, 3, 4, 32, 32), 128, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(60):
        noise = torch.randint(0, 256, (2, 3, 4, 16, 16), dtype=torch.uint8, generator=generator)
        video[..., :16, :16] = noise
        out = model(video, mask_generator(0, step, 0), diagnostics=False)
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    probability = model.predict(video, mask_generator(0, 0, 0)).probability
    assert probability is not None
    assert probability[..., :2, :2].sum() > 2 * 0.25 * probability.sum()


def test_non_finite_values_are_flagged_not_replaced() -> None:
    model = build(MINI)
    assert model(clips(MINI)).finite.item() is True
    with torch.no_grad():
        model.head.bias[0] = math.nan
    out = model(clips(MINI))
    assert out.finite.item() is False
    assert out.loss.isnan()
    with torch.no_grad():
        model.head.bias[0] = 0.0
        assert model.sampler is not None
        model.sampler.score.weight[0, 0] = math.inf
    assert model(clips(MINI)).finite.item() is False


def test_motion_overlap_finds_the_moving_part() -> None:
    config = replace(MINI, mask=MaskConfig(strategy="random", ratio=0.75))
    model = build(config)
    video = torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8)
    video[:, :, 1::2, 8:16] = 255  # the second row of tokens flickers
    moving = torch.tensor([[4, 5, 6, 7, 20, 21, 22, 23]])
    assert model(video, keep_BV=moving).motion_overlap.item() == 1.0
    assert model(video, keep_BV=moving - 4).motion_overlap.item() == 0.0
    assert model(video, keep_BV=moving, diagnostics=False).motion_overlap is None
    energy = motion_energy(patchify(clips(config), config.encoder), config.encoder)
    value = clips(config).float() / 255
    frames = torch.cat([torch.zeros_like(value[:, :, :1]), (value[:, :, 1:] - value[:, :, :-1]) ** 2], dim=2)
    for token, (t, y, x) in enumerate((t, y, x) for t in range(2) for y in range(4) for x in range(4)):
        cube = frames[:, :, 2 * t : 2 * t + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        assert torch.allclose(energy[:, token], cube.mean(dim=(1, 2, 3, 4)))


def test_predict_shows_the_whole_clip(config: AdaMAEConfig) -> None:
    model = build(config).train()
    video = clips(config)
    shown = model.predict(video, mask_generator(0, 0, 0))
    again = model.predict(video, mask_generator(0, 0, 0))
    assert model.training
    assert torch.equal(shown.reconstruction, again.reconstruction)  # dropout is off
    assert shown.video.shape == shown.reconstruction.shape == video.shape
    assert shown.visible.shape == shown.error.shape == (2, *config.encoder.grid)
    assert shown.visible.flatten(1).sum(dim=1).tolist() == [model.num_visible] * 2
    pixels = shown.visible.repeat_interleave(2, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, None]
    assert torch.equal(torch.where(pixels, shown.reconstruction, 0), torch.where(pixels, shown.video, 0))
    assert not shown.error[shown.visible].any()
    keep = shown.visible.flatten(1).nonzero()[:, 1].view(2, -1)
    assert shown.error.sum() / (~shown.visible).sum() == pytest.approx(
        model.eval()(video, keep_BV=keep).reconstruction_loss.item(), rel=1e-5
    )
    if config.mask.strategy == "adaptive":
        assert shown.probability is not None
        assert shown.probability.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0], rel=1e-5)
    else:
        assert shown.probability is None


def test_prediction_is_put_back_into_pixels() -> None:
    """A head that always predicts the normalised truth's mean (zero) must give each patch's own mean back."""
    model = build(MINI)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    shown = model.predict(clips(MINI), mask_generator(0, 0, 0))
    t, y, x = (int(i) for i in (~shown.visible[0]).nonzero()[0])
    cube = (slice(None), slice(2 * t, 2 * t + 2), slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8))
    mean = shown.video[0][cube].mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(shown.reconstruction[0][cube], mean.expand(3, 2, 8, 8), atol=1e-6)


def test_state_holds_parameters_only() -> None:
    """Fixed tables and constants are made anew, so that a checkpoint carries weights and nothing else."""
    model = AdaMAE(MINI)
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()
    assert model.no_weight_decay() <= model.state_dict().keys()


def test_token_counts_of_the_paper() -> None:
    config = vit_base()
    assert config.encoder.tokens == 1568
    with torch.device("meta"):
        assert AdaMAE(config).num_visible == 80
        assert AdaMAE(replace(config, mask=MaskConfig(rounding="paper"))).num_visible == 78


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (torch.zeros(2, 3, 4, 32, 40), r"\(2, 3, 4, 32, 40\).*\(batch, 3, 4, 32, 32\)"),
        (torch.zeros(3, 4, 32, 32), "batch, channels, frames, height, width"),
        (torch.zeros(2, 3, 4, 32, 32, dtype=torch.int64), "dtype torch.int64; expected uint8"),
    ],
)
def test_unfit_clips_are_refused(video: Tensor, words: str) -> None:
    model = build(MINI)
    for call in (model.forward, model.predict):
        with pytest.raises(ConfigError, match=words):
            call(video)


def test_a_mask_that_shows_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no token visible of 32"):
        AdaMAE(replace(MINI, mask=MaskConfig(ratio=0.98)))


def test_repr_has_shapes_and_no_data() -> None:
    assert repr(build(MINI)(clips(MINI))) == "AdaMAEOutput(batch=2, visible=8, device=cpu)"

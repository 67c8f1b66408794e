"""Multiply-accumulates: the formula against torch's counter, the published figures, and parameters."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.small import small
from vidkit.bench.measure.attention import kernel_storage
from vidkit.bench.measure.flops import Cost, cost, counted
from vidkit.errors import ConfigError
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import STRATEGIES, masked_indices
from vidkit.models.tokenizers import patchify, take
from vidkit.settings.model import (
    SIZES,
    AdaMAEConfig,
    ClassifierConfig,
    DecoderConfig,
    MaskConfig,
    RecomputeConfig,
    SamplerConfig,
    vit_base,
)

RATIOS = (0.75, 0.9, 0.95, 0.98)
DEPTHS = (1, 2, 4, 8)
SAMPLERS = {
    "mlp": SamplerConfig(kind="mlp"),
    "mlp-half": SamplerConfig(kind="mlp", width_divisor=2),
    "mha-1": SamplerConfig(),
    "mha-1-half": SamplerConfig(width_divisor=2),
    "mha-2-half": SamplerConfig(depth=2, width_divisor=2),
    "mha-2": SamplerConfig(depth=2),
    "released": SamplerConfig(input="released"),
    "released-half": SamplerConfig(input="released", width_divisor=2),
}


def with_mask(size: str, strategy: str, ratio: float) -> AdaMAEConfig:
    return replace(SIZES[size](), mask=replace(SIZES[size]().mask, strategy=strategy, ratio=ratio))  # type: ignore[arg-type]


def with_decoder(size: str, depth: int) -> AdaMAEConfig:
    return replace(SIZES[size](), decoder=replace(SIZES[size]().decoder, depth=depth))


def lower(config: AdaMAEConfig) -> AdaMAEConfig:
    """Three blocks of the encoder's: the others cost the same, and `slow` tests have them all."""
    return replace(config, encoder=replace(config.encoder, depth=min(3, config.encoder.depth)))


def variants(size: str, ratios: tuple[float, ...], depths: tuple[int, ...], samplers: tuple[str, ...]) -> None:
    for strategy in STRATEGIES:
        for ratio in ratios:
            VARIANTS[f"{size}-{strategy}-{ratio}"] = with_mask(size, strategy, ratio)
    for depth in depths:
        VARIANTS[f"{size}-decoder-{depth}"] = with_decoder(size, depth)
    for name in samplers:
        VARIANTS[f"{size}-sampler-{name}"] = replace(SIZES[size](), sampler=SAMPLERS[name])


# Everything on the smallest size, and each kind of value on every size; the whole product is a slow test.
VARIANTS: dict[str, AdaMAEConfig] = {}
for _size in SIZES:
    if _size == "tiny":
        variants(_size, (0.75, 0.95), DEPTHS, tuple(SAMPLERS))
    else:
        variants(_size, (0.9,), (), ())
        VARIANTS[f"{_size}-deep"] = replace(with_decoder(_size, 8), sampler=SAMPLERS["mha-2-half"])
VARIANTS = {name: lower(config) for name, config in VARIANTS.items()}
VARIANTS |= {
    "spt": replace(small(), encoder=replace(small().encoder, tokenizer="spt")),
    "lsa": replace(small(), encoder=replace(small().encoder, attention="lsa")),
    "paper rounding": replace(vit_base(), mask=MaskConfig(rounding="paper")),
    "half the targets": replace(small(), mask=MaskConfig(targets="running-cell", target_ratio=0.5)),
    "motion": replace(small(), mask=MaskConfig(strategy="motion", ratio=0.9)),
    "cross": replace(small(), decoder=replace(small().decoder, kind="cross")),
    "drawn sets": replace(small(), loss=replace(small().loss, objective="plackett-luce")),
    "narrow sampler": replace(small(), sampler=SamplerConfig(mlp_ratio=1.5)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_formula_equals_torchs_counter(name: str) -> None:
    """1 % is allowed; they are equal, as both count matrix products and nothing else."""
    config = VARIANTS[name]
    assert cost(config).forward == pytest.approx(counted(config), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_formula_equals_torchs_counter_in_every_combination(size: str) -> None:
    """All masks, ratios, decoder depths and samplers (adaptive masks have one): 4 x (3 + 8) x 4 models."""
    for strategy, ratio, depth in itertools.product(STRATEGIES, RATIOS, DEPTHS):
        config = replace(with_mask(size, strategy, ratio), decoder=with_decoder(size, depth).decoder)
        for sampler in SAMPLERS.values() if strategy == "adaptive" else [config.sampler]:
            whole = replace(config, sampler=sampler)
            assert cost(whole).forward == pytest.approx(counted(whole), rel=1e-4), whole


@pytest.mark.parametrize("name", ["mlp", "mha-2-half", "released", "released-half", "tube", "spt"])
def test_training_formula_equals_torchs_counter(name: str) -> None:
    config = {
        "tube": replace(small(), mask=MaskConfig(strategy="tube", ratio=0.9)),
        "spt": VARIANTS["spt"],
        **{n: replace(small(), sampler=sampler) for n, sampler in SAMPLERS.items()},
    }[name]
    assert cost(config).training == pytest.approx(counted(config, training=True), rel=1e-4)


@pytest.mark.parametrize(
    ("size", "tokenizer"), [*((size, "tubelet") for size in SIZES), ("small-64", "spt"), ("tiny", "spt")]
)
def test_classifiers(size: str, tokenizer: str) -> None:
    encoder = replace(lower(SIZES[size]()).encoder, tokenizer=tokenizer)  # type: ignore[arg-type]
    config = ClassifierConfig(encoder=encoder, classes=174)
    found = cost(config)
    assert found.forward == pytest.approx(counted(config), rel=1e-4)
    assert found.visible == found.tokens == encoder.tokens
    assert [part.name for part in found.parts] == ["tokenizer", "encoder", "head"]
    if size == "tiny":
        assert found.training == pytest.approx(counted(config, training=True), rel=1e-4)


def test_recomputation_is_counted_but_no_part_of_the_formula() -> None:
    config = replace(small(), recompute=RecomputeConfig(encoder="full", decoder="full", sampler="full"))
    assert cost(config) == cost(small())
    assert counted(config, training=True) > 1.2 * counted(small(), training=True)


def by_part(found: Cost) -> dict[str, float]:
    return {part.name: part.forward / 1e9 for part in found.parts}


def test_published_figures() -> None:
    """ViT-B, 16 x 224 x 224, in 10^9 multiply-accumulates. The decoder of others carries visible tokens to its end,
    which makes it 19.6.
    """
    pretraining = cost(vit_base())
    assert (pretraining.tokens, pretraining.visible) == (1568, 80)
    expected = {"tokenizer": 1.9, "sampler": 14.9, "encoder": 6.9, "decoder": 19.6}
    assert by_part(pretraining) == pytest.approx(expected, rel=0.025)
    finetuning = cost(ClassifierConfig(encoder=vit_base().encoder, classes=174))
    assert finetuning.forward / 1e9 == pytest.approx(180, abs=1)
    assert finetuning.parameters / 1e6 == pytest.approx(86.4, abs=0.3)


def test_parts_equal_the_parts_counted_alone() -> None:
    config = vit_base()
    with FakeTensorMode(), torch.no_grad(), kernel_storage("matrices"):
        model = AdaMAE(config)
        video = torch.zeros(1, 3, 16, 224, 224)
        patches = patchify(video, config.encoder)
        tokens = torch.zeros(1, 1568, 768)
        keep = torch.zeros(1, 80, dtype=torch.int64)
        hidden = masked_indices(keep, 1568)[:, : 1568 - 80]
        assert model.sampler is not None
        found = {}
        with FlopCounterMode(display=False) as counter:
            model.tokenizer(patches)
            model.tokenizer(take(patches, keep))
        found["tokenizer"] = counter.get_total_flops() / 2e9
        with FlopCounterMode(display=False) as counter:
            model.sampler(tokens)
        found["sampler"] = counter.get_total_flops() / 2e9
        with FlopCounterMode(display=False) as counter:
            latent = model.encode(tokens[:, :80], keep)
        found["encoder"] = counter.get_total_flops() / 2e9
        with FlopCounterMode(display=False) as counter:
            model.errors(model.decode(latent, keep, hidden), take(patches, hidden))
        found["decoder"] = counter.get_total_flops() / 2e9
    assert by_part(cost(config)) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("size", ["small-64", "tiny"])
def test_parameters_add_up(size: str) -> None:
    config = SIZES[size]()
    whole = sum(p.numel() for p in AdaMAE(config).parameters())
    found = cost(config)
    assert found.parameters == whole
    rows = found.rows()
    assert [row["part"] for row in rows] == ["tokenizer", "sampler", "encoder", "decoder", "total"]
    assert rows[-1]["parameters"] == whole
    assert rows[-1]["forward_macs"] == found.forward == sum(int(row["forward_macs"]) for row in rows[:-1])
    no_sampler = cost(replace(config, mask=MaskConfig(strategy="tube", ratio=0.9)))
    assert [part.name for part in no_sampler.parts] == ["tokenizer", "encoder", "decoder"]


def test_a_mask_that_shows_nothing_is_an_error() -> None:
    config = replace(small(), mask=MaskConfig(ratio=0.999))
    with pytest.raises(ConfigError, match="no token visible"):
        cost(config)


def test_a_shallower_decoder_costs_its_blocks() -> None:
    one = cost(replace(vit_base(), decoder=DecoderConfig(depth=1))).forward
    costs = [cost(replace(vit_base(), decoder=DecoderConfig(depth=depth))).forward for depth in (2, 3, 8)]
    block = costs[0] - one
    assert costs == [one + block, one + 2 * block, one + 7 * block]

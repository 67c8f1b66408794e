"""The classifier: size and cost as published, weights taken over exactly, layer-wise learning rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.models.test_adamae import MINI, build, clips
from tests.reference import ref_adamae
from vidkit.errors import ConfigError
from vidkit.models.classifier import SHARED, VideoClassifier, layer_decay_groups
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, vit_base, vit_large, vit_small

SMALL = ClassifierConfig(encoder=MINI.encoder, classes=5)


@pytest.fixture
def model() -> VideoClassifier:
    return VideoClassifier(SMALL, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("config", "millions", "macs"),
    [(vit_small(), 22.0, 57), (vit_base(), 86.5, 180), (vit_large(), 304.0, 597)],
    ids=["small", "base", "large"],
)
def test_size_and_cost_are_the_published_ones(config: AdaMAEConfig, millions: float, macs: float) -> None:
    """Multiply-accumulates of one view in thousand millions; torch counts each as two operations."""
    with torch.device("meta"):
        model = VideoClassifier(ClassifierConfig(encoder=config.encoder, classes=174))
        video = torch.zeros(1, 3, 16, 224, 224, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert model(video).shape == (1, 174)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.5)
    assert counter.get_total_flops() / 2e9 == pytest.approx(macs, abs=1.0)


def test_scores_equal_the_reference(model: VideoClassifier) -> None:
    model.eval()
    weights = dict(model.named_parameters())
    vit = SMALL.encoder
    video = clips(MINI)
    got = model(video)
    for clip, scores in zip(video, got, strict=True):
        x = ref_adamae.tokenize(weights, vit, clip.float() / 255)
        x = x + ref_adamae.positions(vit.positions, vit.grid, vit.width)
        for index in range(vit.depth):
            x = ref_adamae.block(weights, f"encoder.{index}.", x, vit.heads)
        pooled = ref_adamae.norm(weights, "fc_norm.", x.mean(dim=0, keepdim=True), 1e-6)
        expected = (pooled @ model.head.weight.T + model.head.bias)[0]
        assert torch.allclose(scores, expected, atol=1e-6)


def test_takes_tokenizer_and_encoder_over(model: VideoClassifier) -> None:
    pretrained = build(MINI).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    theirs = pretrained.state_dict()
    model.load_encoder(theirs)
    for name, value in model.state_dict().items():
        assert torch.equal(value, theirs[name] if name.startswith(SHARED) else before[name]), name
    # With every token visible, the pre-trained encoder (without its last norm) sees what the classifier sees.
    pretrained.encoder_norm = torch.nn.Identity()  # type: ignore[assignment]
    video = clips(MINI)
    keep = torch.arange(MINI.encoder.tokens).expand(2, -1)
    _, tokens = pretrained.choose(patchify(video, MINI.encoder), None, keep)
    pooled = pretrained.encode(tokens, keep).mean(dim=1)
    assert torch.allclose(model.eval().features(video), model.fc_norm(pooled), atol=1e-5)


def test_an_unfit_encoder_is_refused_and_every_key_listed(model: VideoClassifier) -> None:
    state: dict[str, Tensor] = dict(build(MINI).state_dict())
    del state["encoder.1.norm1.weight"]
    state["encoder.7.norm1.weight"] = torch.zeros(48)
    state["tokenizer.proj.bias"] = torch.zeros(47)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        model.load_encoder(state)
    text = str(caught.value)
    assert "encoder.1.norm1.weight: missing" in text
    assert "encoder.7.norm1.weight: not in this model" in text
    assert "tokenizer.proj.bias: shape (47,), here (48,)" in text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_learn_more_slowly_towards_the_input(model: VideoClassifier) -> None:
    groups = layer_decay_groups(model, weight_decay=0.05, layer_decay=0.75)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    depth = SMALL.encoder.depth
    for name, parameter in model.named_parameters():
        if name.startswith("tokenizer."):
            layer = 0
        elif name.startswith("encoder."):
            layer = int(name.split(".")[1]) + 1
        else:
            layer = depth + 1
        assert scale[id(parameter)] == pytest.approx(0.75 ** (depth + 1 - layer)), name
        assert decay[id(parameter)] == (0.0 if parameter.ndim == 1 else 0.05), name


def test_layer_groups_of_a_deep_model_are_in_numerical_order() -> None:
    """Block 10 comes after block 9, not after block 1."""
    with torch.device("meta"):
        model = VideoClassifier(ClassifierConfig(encoder=vit_base().encoder, classes=3))
    groups = layer_decay_groups(model, 0.05, 0.75)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    scales = [scale[id(block.norm1.weight)] for block in model.encoder]
    assert scales == pytest.approx([0.75 ** (12 - index) for index in range(12)])
    assert scale[id(model.fc_norm.weight)] == scale[id(model.head.weight)] == 1.0


def test_every_parameter_gets_a_gradient(model: VideoClassifier) -> None:
    model.eval()(clips(MINI)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_scores_start_nearly_equal(model: VideoClassifier) -> None:
    assert model.eval()(clips(MINI)).abs().max() < 1e-3


def test_recomputation_changes_nothing() -> None:
    """With drop path and dropout on."""
    settings = replace(SMALL, drop_path=0.5, dropout=0.5)
    results = []
    for config in (settings, replace(settings, recompute="light"), replace(settings, recompute="full")):
        model = VideoClassifier(config, torch.Generator().manual_seed(0)).train()
        torch.manual_seed(0)
        out = model(clips(MINI))
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad for p in model.parameters())])
    for other in results[1:]:
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-12) for a, b in zip(results[0], other, strict=True))


def test_bf16_autocast_runs(model: VideoClassifier) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(clips(MINI)), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in model.parameters())


def test_learns_two_clips(model: VideoClassifier) -> None:
    video, target = clips(MINI), torch.tensor([0, 1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(0)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(video), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert model.eval()(video).argmax(dim=1).tolist() == [0, 1]


def test_unfit_clips_are_refused(model: VideoClassifier) -> None:
    with pytest.raises(ConfigError, match="the model takes"):
        model(torch.zeros(1, 3, 8, 32, 32))

"""Locality self-attention against the written-out formula, in blocks, their tails, and both models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tests.models.test_adamae import MINI, build, clips
from vidkit.errors import ConfigError
from vidkit.models.classifier import VideoClassifier, layer_decay_groups
from vidkit.models.lsa import LocalityAttention
from vidkit.models.masking import mask_generator
from vidkit.settings.model import ClassifierConfig, MaskConfig, RecomputeConfig, ViTConfig

LSA = replace(MINI, encoder=replace(MINI.encoder, attention="lsa"))


def written_out(attention: Any, x: Tensor) -> Tensor:
    """One clip and one head after another: scores times the head's scale, the diagonal at minus infinity."""
    out = []
    for clip in x:
        q, k, v = F.linear(clip, attention.qkv.weight, attention.qkv.bias).chunk(3, dim=1)
        size = clip.shape[1] // attention.num_heads
        heads = []
        for head in range(attention.num_heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T * attention.score_scale[head]
            for token in range(len(clip)):
                scores[token, token] = -math.inf
            heads.append(scores.softmax(dim=1) @ v[:, part])
        out.append(F.linear(torch.cat(heads, dim=1), attention.proj.weight, attention.proj.bias))
    return torch.stack(out)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_equals_the_formula(qkv_bias: bool) -> None:
    torch.manual_seed(0)
    attention = LocalityAttention(24, 4, qkv_bias=qkv_bias, dropout=0.0)
    torch.nn.init.uniform_(attention.score_scale, 0.1, 2.0)
    x = torch.randn(3, 10, 24, requires_grad=True)
    weight = torch.randn(3, 10, 24)
    results = []
    for out in (attention(x), written_out(attention, x)):
        (out * weight).sum().backward()
        results.append(
            [out.detach(), x.grad, *(p.grad.clone() for p in attention.parameters() if p.grad is not None)]
        )
        attention.zero_grad()
        x.grad = None
    for got, expected in zip(*results, strict=True):
        assert torch.allclose(got, expected, atol=1e-5, rtol=1e-4)
    assert results[0][2].any()


def test_starts_as_plain_attention_without_the_diagonal() -> None:
    attention = LocalityAttention(24, 4, qkv_bias=True, dropout=0.0)
    assert attention.score_scale.tolist() == pytest.approx([6**-0.5] * 4)
    assert attention.score_scale.shape == (4,)


def test_no_token_attends_to_itself() -> None:
    """A token's value reaches every other token's output, and not its own."""
    attention = LocalityAttention(8, 2, qkv_bias=False, dropout=0.0)
    q, k, v = torch.randn(3, 1, 2, 5, 4).unbind()
    v.requires_grad_()
    mixed = attention.mix(q, k, v)
    for token in range(5):
        (gradient,) = torch.autograd.grad(mixed[0, :, token].sum(), v, retain_graph=True)
        reached = gradient[0].abs().sum(dim=(0, 2)) > 0
        assert reached.tolist() == [other != token for other in range(5)]


@pytest.mark.parametrize("strategy", ["adaptive", "tube"])
def test_in_the_masked_autoencoder(strategy: Any) -> None:
    config = replace(LSA, mask=MaskConfig(strategy=strategy, ratio=0.75))
    model = build(config).eval()
    out = model(clips(config), mask_generator(0, 0, 0))
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    names = [name for name, _ in model.named_parameters() if name.endswith("score_scale")]
    assert names == [f"encoder.{k}.attn.score_scale" for k in range(2)]  # the encoder's only
    saving = build(replace(config, recompute=RecomputeConfig(encoder="light", decoder="light"))).eval()
    saving.load_state_dict(model.state_dict())
    assert saving(clips(config), keep_BV=out.keep).loss.item() == pytest.approx(out.loss.item(), rel=1e-6)


def test_the_diagonal_is_that_of_the_visible_tokens() -> None:
    """An encoder over V tokens equals blocks over those V tokens with nothing else there."""
    model = build(LSA).eval()
    keep = torch.tensor([[0, 3, 9, 20, 31]]).expand(2, -1)
    tokens = torch.randn(2, 5, 48)
    x = tokens + model.encoder_positions[keep]
    for block in model.encoder:
        x = x + written_out(block.attn, block.norm1(x))  # type: ignore[operator]
        x = x + block.mlp(block.norm2(x))  # type: ignore[operator]
    assert torch.allclose(model.encode(tokens, keep), model.encoder_norm(x), atol=1e-5)


def test_the_classifier_takes_it_over() -> None:
    pretrained = build(LSA)
    model = VideoClassifier(ClassifierConfig(encoder=LSA.encoder, classes=5))
    model.load_encoder(pretrained.state_dict())
    assert torch.equal(model.encoder[1].attn.score_scale, pretrained.encoder[1].attn.score_scale)  # type: ignore[union-attr, arg-type]
    with pytest.raises(ConfigError, match=r"encoder\.0\.attn\.score_scale: not in this model"):
        VideoClassifier(ClassifierConfig(encoder=MINI.encoder, classes=5)).load_encoder(pretrained.state_dict())
    with pytest.raises(ConfigError, match=r"encoder\.0\.attn\.score_scale: missing"):
        model.load_encoder(build(MINI).state_dict())


def test_temperatures_do_not_decay() -> None:
    model = VideoClassifier(ClassifierConfig(encoder=LSA.encoder, classes=5))
    decay = {
        id(p): group["weight_decay"] for group in layer_decay_groups(model, 0.05, 0.75) for p in group["params"]
    }
    scales = [p for name, p in model.named_parameters() if name.endswith("score_scale")]
    assert len(scales) == 2
    assert all(decay[id(p)] == 0 for p in scales)


def test_bf16_autocast_stays_near_fp32() -> None:
    model = build(LSA).eval()
    exact = model(clips(LSA), mask_generator(0, 0, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(clips(LSA), keep_BV=exact.keep)
    rough.loss.backward()
    assert rough.loss.item() == pytest.approx(exact.loss.item(), rel=0.02)


def test_a_single_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="attention is 'lsa'; expected 'plain' for a single token"):
        ViTConfig(frames=2, size=16, attention="lsa")
    attention = LocalityAttention(8, 2, qkv_bias=True, dropout=0.0)
    with pytest.raises(ConfigError, match="over a single token: it has no other to attend to"):
        attention(torch.zeros(2, 1, 8))
    with pytest.raises(NotImplementedError, match="takes no other"):
        attention(torch.zeros(2, 4, 8), attn_mask=torch.zeros(4, 4))


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="attention is 'local'; expected 'plain' or 'lsa'"):
        ViTConfig(attention="local")  # type: ignore[arg-type]

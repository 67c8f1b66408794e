"""Positions against plain formulas, block tails, recomputation and initial values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.reference import ref_adamae
from vidkit.models import layers
from vidkit.models.layers import init_weights, make_blocks, position_table, run_block, run_blocks, sincos_table
from vidkit.settings.model import Positions


def test_positions_of_an_odd_width() -> None:
    """The last column has its sine alone."""
    table = sincos_table(torch.arange(7), 5)
    assert table.shape == (7, 5)
    slow = [[(math.sin, math.cos)[i % 2](n * 10000 ** (-(i // 2 * 2) / 5)) for i in range(5)] for n in range(7)]
    torch.testing.assert_close(table, torch.tensor(slow, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["1d", "3d"])
@pytest.mark.parametrize("width", [6, 24, 50, 64])
def test_positions_equal_the_formula(kind: Positions, width: int) -> None:
    got = position_table(kind, (3, 4, 5), width)
    assert got.dtype == torch.float32
    assert got.shape == (60, width)
    assert torch.allclose(got, ref_adamae.positions(kind, (3, 4, 5), width), atol=1e-6)


def test_1d_positions_by_hand() -> None:
    row = position_table("1d", (2, 2, 2), 4)[5]
    assert row.tolist() == pytest.approx([math.sin(5), math.cos(5), math.sin(0.05), math.cos(0.05)])


def test_3d_positions_tell_the_axes_apart() -> None:
    table = position_table("3d", (2, 3, 4), 48).view(2, 3, 4, 48)
    time, row, column = table.split([16, 16, 16], dim=-1)
    assert torch.equal(time, time[:, :1, :1].expand_as(time))
    assert torch.equal(row, row[:1, :, :1].expand_as(row))
    assert torch.equal(column, column[:1, :1].expand_as(column))
    assert len({tuple(token.tolist()) for token in table.view(-1, 48)}) == 24


@pytest.mark.parametrize("start", [0, 1, 7, 15])
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("recompute", ["none", "cheap", "light", "full"])
@pytest.mark.parametrize("attention", ["plain", "lsa"])
def test_tail_is_the_end_of_the_block(start: int, qkv_bias: bool, recompute: Any, attention: Any) -> None:
    torch.manual_seed(0)
    (block,) = make_blocks(1, 24, 4, 2.0, qkv_bias=qkv_bias, attention=attention)
    x = torch.randn(3, 16, 24, requires_grad=True)
    weight = torch.randn(3, 16 - start, 24)
    results = []
    for tail in (block(x)[:, start:], run_block(block, x, recompute, start)):
        (tail * weight).sum().backward()
        grads = [x.grad, *(p.grad for p in block.parameters())]
        results.append([tail.detach(), *(g.clone() for g in grads if g is not None)])
        block.zero_grad()
        x.grad = None
    assert len(results[0]) == len(results[1])
    for whole, part in zip(*results, strict=True):
        assert torch.allclose(whole, part, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["cheap", "light", "full"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["plain", "lsa"])
def test_recomputed_blocks_give_the_same_gradients(mode: Any, precision: torch.dtype, attention: Any) -> None:
    torch.manual_seed(0)
    blocks = make_blocks(2, 24, 4, 2.0, dropout=0.3, drop_path=0.3, attention=attention)
    x = torch.randn(3, 16, 24, requires_grad=True)
    results = []
    for recompute in ("none", mode):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            out = run_blocks(blocks, x, recompute)
        out.float().square().sum().backward()
        results.append([out.detach(), x.grad, *(p.grad for p in blocks.parameters())])
        blocks.zero_grad()
        x.grad = None
    for plain, again in zip(*results, strict=True):
        assert torch.equal(plain, again)


def saved_bytes(mode: Any) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of two blocks."""
    blocks = make_blocks(2, 32, 4, 4.0)
    x = torch.randn(4, 64, 32, requires_grad=True)
    own = {p.untyped_storage().data_ptr() for p in blocks.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run_blocks(blocks, x, mode)
    assert out.requires_grad
    return sum(kept.values())


def test_recomputation_keeps_what_it_says() -> None:
    """In widths per token, for two blocks; norms and attention keep a few numbers more for each token."""
    widths = {mode: saved_bytes(mode) / (4 * 64 * 32 * 4) for mode in ("none", "cheap", "light", "full")}
    assert 31 < widths["none"] < 34
    assert 20 < widths["cheap"] < 21
    assert 10 < widths["light"] < 11
    assert widths["full"] == 2


def test_parts_of_a_batch_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    blocks = make_blocks(2, 24, 4, 2.0)
    x = torch.randn(5, 16, 24, requires_grad=True)
    assert layers.cpu_parts(x)[0] is x
    results = []
    for tokens in (2048, 40):
        monkeypatch.setattr(layers, "CPU_TOKENS", tokens)
        out = run_blocks(blocks, x, "light")
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(p.grad for p in blocks.parameters())])
        blocks.zero_grad()
        x.grad = None
    assert [len(part) for part in layers.cpu_parts(x)] == [2, 2, 1]
    for whole, parts in zip(*results, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-4)


def test_without_gradients_nothing_is_recomputed() -> None:
    block = make_blocks(1, 24, 4, 2.0)[0]
    with torch.no_grad():
        x = torch.randn(1, 4, 24)
        assert torch.equal(run_block(block, x, recompute="full"), block(x))


def test_dropout_is_where_the_released_model_has_it() -> None:
    block: Any = make_blocks(1, 24, 4, 2.0, dropout=0.1)[0]
    rates = {name: module.p for name, module in block.named_modules() if isinstance(module, nn.Dropout)}
    assert rates == {"attn.attn_drop": 0.0, "attn.proj_drop": 0.1, "mlp.drop2": 0.1}


def test_drop_path_grows_with_depth() -> None:
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in make_blocks(5, 24, 4, 2.0, drop_path=0.2)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(300, 200)
        self.norm = nn.LayerNorm(8)
        self.conv = nn.Conv3d(3, 64, (2, 8, 8))
        self.mask_token = nn.Parameter(torch.full((4000,), 9.0))
        self.positions = nn.Parameter(torch.full((2, 3), 9.0))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(9.0)


@pytest.mark.parametrize("linear", ["xavier", "normal"])
def test_initial_values(linear: str) -> None:
    model = Everything()
    init_weights(model, linear=linear, generator=torch.Generator().manual_seed(0))
    model.requires_grad_(False)
    weight = model.linear.weight
    if linear == "xavier":
        bound = math.sqrt(6 / 500)
        assert weight.abs().max() == pytest.approx(bound, rel=0.01)
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    else:
        assert weight.abs().max() <= 0.02
        assert weight.std() == pytest.approx(0.02 * 0.5396, rel=0.01)  # that of a normal cut at one deviation
    assert not model.linear.bias.any()
    assert (model.norm.weight == 1).all()
    assert not model.norm.bias.any()
    assert model.conv.weight.abs().max() == pytest.approx(384**-0.5, rel=0.01)
    assert model.mask_token.std() == pytest.approx(0.02 * 0.5396, rel=0.05)
    assert not model.positions.any()


def test_initial_values_follow_the_generator() -> None:
    models = [Everything() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        init_weights(model, generator=torch.Generator().manual_seed(seed))
    first, same, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])

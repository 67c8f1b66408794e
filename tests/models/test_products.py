"""Products by either library against float64, and who uses which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vidkit.models import products
from vidkit.models.layers import make_blocks, run_blocks


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def by_onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both libraries, whatever this processor would take."""
    chosen: bool = request.param
    if chosen and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: chosen)
    return chosen


@pytest.mark.parametrize("shape", [(2, 5, 12, 7), (3, 1, 7, 12), (1, 300, 96, 96)])
@pytest.mark.parametrize("bias", [True, False])
def test_product_and_gradients_equal_those_in_float64(
    by_onednn: bool, shape: tuple[int, int, int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    batch, tokens, inputs, outputs = shape
    x, weight, slope = (
        torch.randn(size) for size in ((batch, tokens, inputs), (outputs, inputs), (batch, tokens, outputs))
    )
    sides = [x, weight, *([torch.randn(outputs)] if bias else [])]
    for side in sides:
        side.requires_grad_()
    got = products.linear(*sides)
    found = torch.autograd.grad(got, sides, slope)
    exact = [side.detach().double().requires_grad_() for side in sides]
    wanted = nn.functional.linear(*exact)
    torch.testing.assert_close(got, wanted.float())
    for one, other in zip(found, torch.autograd.grad(wanted, exact, slope.double()), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


def test_gradients_of_gradients(by_onednn: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6, requires_grad=True)

    def twice(product: object) -> Tensor:
        assert callable(product)
        (first,) = torch.autograd.grad(product(x, weight).pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), weight)
        return second

    torch.testing.assert_close(twice(products.linear), twice(nn.functional.linear), rtol=1e-4, atol=1e-3)


def test_blocks_keep_their_names_and_results(by_onednn: bool) -> None:
    torch.manual_seed(0)
    blocks = make_blocks(2, 24, 3, 2.0)
    x = torch.randn(2, 9, 24)
    names, wanted = list(blocks.state_dict()), run_blocks(blocks, x)
    products.use_fast_products(blocks)
    assert list(blocks.state_dict()) == names
    assert sum(isinstance(module, products.Linear) for module in blocks.modules()) == 8
    torch.testing.assert_close(run_blocks(blocks, x), wanted)


def test_counters_autocast_and_other_types_see_plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_multiply", lambda *sides: pytest.fail("by oneDNN"))
    layer = products.Linear(4, 4)
    with FlopCounterMode(display=False) as counter:
        layer(torch.ones(2, 4))
    assert counter.get_total_flops() == 2 * 2 * 4 * 4
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 4)).dtype == torch.bfloat16
    assert layer.double()(torch.ones(2, 4).double()).dtype == torch.float64


@pytest.mark.parametrize(("vendor", "faster"), [("GenuineIntel", False), ("AuthenticAMD", True)])
def test_the_library_depends_on_the_vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, faster: bool
) -> None:
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        pytest.skip("this torch has one library only")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    assert products.onednn_is_faster(tmp_path / "cpuinfo") is faster
    assert not products.onednn_is_faster(tmp_path / "missing")

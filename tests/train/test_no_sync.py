"""A training step never waits for the device: nothing in it reads a tensor's value, and no copy blocks.

Checked without a GPU: on the CPU by the operations of whole steps, and on fake CUDA tensors, which have a device
and no values, by the copies between host and device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.train import small
from vidkit.data.load.batch import ClipBatch, send
from vidkit.data.load.cache import DeviceCache
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.order import Request
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import STRATEGIES
from vidkit.settings.mask import ORACLES
from vidkit.settings.model import RecomputeConfig, SamplerConfig
from vidkit.settings.train import LogConfig
from vidkit.train import loop, pretrain

#: Operations whose result depends on values: on a GPU the host waits for them.
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "equal", "item")


class Waits(TorchDispatchMode):
    """Lists every operation below it for which the host would wait on a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        name = str(func).split(".")[1]
        tensors = [value for value in tree_leaves((args, given)) if isinstance(value, Tensor)]
        if name in WAITING or name.startswith("unique"):
            self.found.append(name)
        elif name in ("index", "index_put", "index_put_") and any(
            tensor.dtype in (torch.bool, torch.uint8) for tensor in tree_leaves(args[1]) if tensor is not None
        ):
            self.found.append(f"{name} by booleans")
        elif name in ("_to_copy", "copy_"):
            self._copied(name, args, given, result, tensors)
        return result

    def _copied(self, name: str, args: Any, given: Any, result: Tensor, tensors: list[Tensor]) -> None:
        source = tensors[-1] if name == "copy_" else tensors[0]
        if source.device.type == result.device.type:
            return
        blocking = not (given.get("non_blocking") or (len(args) > 2 and args[2]))
        if blocking or result.device.type == "cpu":
            self.found.append(f"{name} {source.device.type} to {result.device.type}")


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: float(x.sum()), "_local_scalar_dense"),
        (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 0], "index by booleans"),
        (lambda x: torch.equal(x, x + 1), "equal"),
    ],
)
def test_what_waits_is_seen(wait: Callable[[Tensor], Any], name: str) -> None:
    with Waits() as waits:
        wait(torch.arange(4.0))
    assert name in waits.found


def test_copies_that_block_are_seen() -> None:
    with FakeTensorMode(), Waits() as waits:
        x = torch.zeros(3)
        x.to("cuda", non_blocking=True)
        assert waits.found == []
        x.to("cuda")
        torch.zeros(3, device="cuda").cpu()
        torch.tensor([1, 2], device="cuda")
    assert waits.found == ["_to_copy cpu to cuda", "_to_copy cuda to cpu", "_to_copy cpu to cuda"]


# --- whole steps of the training loop, on the CPU ----------------------------------------------------


def steps_below(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of a run below `waits`, and nothing else of it: lines of the log and checkpoints may wait."""
    step = loop._Loop._step

    def watched(self: Any, batches: list[ClipBatch]) -> None:
        with waits:
            step(self, batches)

    monkeypatch.setattr(loop._Loop, "_step", watched)


@pytest.mark.parametrize("mask", STRATEGIES)
def test_a_step_reads_no_value(mask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits = Waits()
    steps_below(waits, monkeypatch)
    base = small.model()
    config = small.pretrain(
        model=replace(base, mask=replace(base.mask, strategy=mask, targets="running-cell", target_ratio=0.5)),
        optim=small.optim(epochs=1, warmup_epochs=0, accumulate=2, clip_norm=1.0, ema=0.9),
        log=LogConfig(every=1000),
    )
    data = (small.motions if mask in ORACLES else small.dataset)(tmp_path / "data")
    summary = pretrain.run(config, data, tmp_path / "run", quiet=True)
    assert summary["steps"] >= (2 if mask in ORACLES else 3)
    assert waits.found == []


@pytest.mark.parametrize("recompute", ["cheap", "light", "full"])
def test_recomputation_reads_no_value(recompute: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits = Waits()
    steps_below(waits, monkeypatch)
    model = small.model(
        recompute=RecomputeConfig(encoder=recompute, decoder=recompute, sampler=recompute),
        sampler=SamplerConfig(heads=2, input="released"),
    )
    config = small.pretrain(model=model, optim=small.optim(epochs=1, precision="bf16"))
    pretrain.run(config, small.dataset(tmp_path / "data"), tmp_path / "run", quiet=True)
    assert waits.found == []


# --- fake tensors on CUDA ----------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["adaptive", "tube", "random", "frame"])
def test_a_forward_pass_on_cuda_copies_nothing(mask: Any) -> None:
    base = small.model()
    config = replace(base, mask=replace(base.mask, strategy=mask))
    with FakeTensorMode():
        with torch.device("cuda"):
            model = AdaMAE(config)
        vit = config.encoder
        video = torch.zeros(2, 3, vit.frames, vit.size, vit.size, dtype=torch.uint8, device="cuda")
        with Waits() as waits:
            out = model(video)
    assert out.loss.device.type == "cuda"
    assert waits.found == []


def test_the_check_for_values_that_are_not_finite_copies_nothing() -> None:
    """What follows the backward pass: the flag that skips an update, and the sums for the log."""
    with FakeTensorMode():
        one = loop._Loop.__new__(loop._Loop)
        weight = torch.nn.Parameter(torch.zeros(3, device="cuda"))
        weight.grad = torch.ones(3, device="cuda")
        one.task = type("Task", (), {"optim": small.optim(clip_norm=1.0)})()
        one.accelerate = type("Accelerate", (), {"scaler": None})()
        one.parameters, one.at, one.sums, one.count = [weight], loop.Progressed(step=3), {}, 0
        one.bad_step = torch.full((), -1, dtype=torch.int64, device="cuda")
        one.bad_values = None
        one.optimizer = type("Optimizer", (), {"step": lambda self: None, "zero_grad": lambda self, **_: None})()
        with Waits() as waits:
            for _ in range(2):
                loss = torch.ones((), device="cuda")
                one._add({"loss": loss, "grad_norm": one._update(loss)})
    assert waits.found == []


def test_batches_of_the_device_cache_are_sent_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The "meta" device has no values either, and leaves those of the host as they are."""
    dataset = ClipDataset(small.dataset(tmp_path), "train", frames=4, stride=2, training=True, size=24)
    cache = DeviceCache(dataset, "cpu")
    cache.device, cache.frames = torch.device("meta"), cache.frames.to("meta")
    with Waits() as waits:
        batch = cache.batch([Request(clip=i) for i in range(3)])
    assert batch.video.device.type == batch.index.device.type == "meta"
    assert [one for one in waits.found if "meta" in one] == []
    assert batch.video.shape == (3, 3, 4, 24, 24)


def test_what_goes_to_a_gpu_is_pinned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, ...]] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, *_: (pinned.append(tuple(self.shape)), self)[1])
    host = torch.arange(3)
    assert send(host, "cpu") is host
    assert pinned == []
    with FakeTensorMode(), Waits() as waits:
        assert send(torch.arange(3), "cuda").device.type == "cuda"
    assert pinned == [(3,)]
    assert waits.found == []

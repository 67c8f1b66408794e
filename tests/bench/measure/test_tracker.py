"""The tracker of live bytes, on real and on fake tensors."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.bench.measure.hand_steps import block, mlp
from tests.bench.small import small
from vidkit.bench.measure.attention import kernel_storage
from vidkit.bench.measure.memory import track_step
from vidkit.bench.measure.step import PHASES, TrainStep
from vidkit.bench.measure.tracker import StorageTracker
from vidkit.settings.model import ClassifierConfig, RecomputeConfig

NONE_FAKE = (False, True)


@pytest.mark.parametrize("fake", NONE_FAKE)
def test_counts_storages_not_tensors(fake: bool) -> None:
    with FakeTensorMode() if fake else torch.no_grad(), StorageTracker() as tracker:
        a = torch.zeros(10, 10)
        b = a.t()[3:].reshape(-1)  # a copy
        assert tracker.total == 400 + 280
        view = a[2:].view(-1)
        a.add_(1)
        assert tracker.total == 680
        del a
        assert tracker.total == 680  # the view holds it
        del view
        assert tracker.total == 280
        c = b + b
        del b, c
        assert tracker.total == 0
    assert tracker.peak == 680


def test_rounds_every_storage_up() -> None:
    with StorageTracker(512) as tracker:
        small = torch.zeros(1)
        exact = torch.zeros(128)
        more = torch.zeros(129)
        assert tracker.total == 512 + 512 + 1024
        del small, exact, more
    assert tracker.total == 0


def test_kinds_and_phases() -> None:
    before = torch.zeros(25)
    tracker = StorageTracker()
    tracker.mark([before, before[3:]], "weights")
    with tracker:
        tracker.begin("one", "first")
        a = torch.zeros(50)
        b = torch.zeros(5)
        del b
        tracker.begin("two", "second")
        c = torch.zeros(2)
        tracker.mark([c], "third")
    assert tracker.live == {"weights": 100, "first": 200, "second": 0, "third": 8}
    assert tracker.phases == {"one": 320, "two": 308}
    assert (tracker.peak, tracker.at_peak) == (320, {"weights": 100, "first": 220})
    tracker.reset()
    assert tracker.peak == tracker.total == 308
    del a, c


@pytest.mark.parametrize("fake", NONE_FAKE)
def test_a_step_leaves_weights_states_and_input(fake: bool) -> None:
    with FakeTensorMode() if fake else torch.enable_grad():
        step = mlp(7, 5, 11, 3)
        tracker = StorageTracker()
        track_step(step, tracker)
        gc.collect()
        weights = sum(p.numel() for p in step.model.parameters()) * 4
        assert {kind: size for kind, size in tracker.live.items() if size} == {
            "weights": weights,
            "optimizer_states": 2 * weights + 4 * 4,
            "inputs": 7 * 5 * 4,
        }


def test_real_and_fake_tensors_count_alike() -> None:
    with kernel_storage("matrices"):
        real = track_step(block(2, 6, 16, 2), StorageTracker())
        with FakeTensorMode():
            fake = track_step(block(2, 6, 16, 2), StorageTracker())
    assert real == fake


CASES = {
    "adamae": small(),
    "recomputed": replace(small(), recompute=RecomputeConfig(encoder="full", decoder="light", sampler="light")),
    "classifier": ClassifierConfig(encoder=small().encoder, classes=7),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torchs_own_tracker(name: str, precision: str) -> None:
    tools = pytest.importorskip("torch.distributed._tools.mem_tracker", exc_type=ImportError)

    def make() -> TrainStep:
        return TrainStep(CASES[name], batch=3, precision=precision)  # type: ignore[arg-type]

    with FakeTensorMode(), kernel_storage():
        ours = track_step(make(), StorageTracker())
    with FakeTensorMode(), kernel_storage():
        step = make()
        theirs = tools.MemTracker()
        step.fill_optimizer()
        theirs.track_external(step.model, step.optimizer, step.clips)
        if step.targets is not None:
            theirs.track_external(step.targets)
        with theirs:
            for phase in PHASES:
                getattr(step, phase)()
        (snapshot,) = theirs.get_tracker_snapshot("peak").values()
    assert snapshot["Total"] == ours.total_bytes

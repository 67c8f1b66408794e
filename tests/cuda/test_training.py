"""Runs on the GPU: from every cache, resumed, and without a wait in any step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cuda.test_step import waiting_is_an_error
from tests.train import small
from vidkit.data.load.cache import DeviceCache
from vidkit.errors import TrainingError
from vidkit.settings.train import LogConfig
from vidkit.train import finetune, loop, pretrain
from vidkit.train.runs import RunFolder

pytestmark = pytest.mark.cuda

#: Steps before which kernels are loaded, and memory is taken from the driver.
WARM = 3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("cache", ["none", "device"])
def test_no_step_of_a_run_waits(
    cache: Any, precision: Any, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, batch = loop._Loop._step, DeviceCache.batch
    count = {"steps": 0, "batches": 0}

    def watched(self: Any, batches: Any) -> None:
        count["steps"] += 1
        if count["steps"] <= WARM:
            return step(self, batches)
        with waiting_is_an_error():
            return step(self, batches)

    def watched_batch(self: Any, requests: Any) -> Any:
        count["batches"] += 1
        if count["batches"] <= WARM:
            return batch(self, requests)
        with waiting_is_an_error():
            return batch(self, requests)

    monkeypatch.setattr(loop._Loop, "_step", watched)
    monkeypatch.setattr(DeviceCache, "batch", watched_batch)
    config = small.pretrain(
        optim=small.optim(precision=precision, clip_norm=1.0, ema=0.9),
        data=small.data(cache=cache),
        log=LogConfig(every=1000),
    )
    summary = pretrain.run(config, built, tmp_path, quiet=True)
    assert summary["steps"] == count["steps"] > WARM
    assert (count["batches"] > WARM) == (cache == "device")


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in RunFolder(folder).rows() if "loss" in row]


def test_every_cache_trains_alike(built: Path, tmp_path: Path) -> None:
    found = []
    for cache in ("none", "host", "device"):
        caching: Any = cache
        pretrain.run(small.pretrain(data=small.data(cache=caching)), built, tmp_path / cache, quiet=True)
        found.append(losses(tmp_path / cache))
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    # scaled in one rounding where workers round twice: pixels differ by 1 at most
    assert found[0] == pytest.approx(found[2], rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_resumed_run_goes_on(
    precision: Any, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.pretrain(optim=small.optim(precision=precision), log=LogConfig(every=1))
    pretrain.run(config, built, tmp_path / "whole", quiet=True)
    step = loop._Loop._step
    with monkeypatch.context() as patched:

        def stops(self: Any, batches: Any) -> None:
            step(self, batches)
            if self.at.step == 4:
                self.stopped = True

        patched.setattr(loop._Loop, "_step", stops)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(config, built, tmp_path / "run", quiet=True)
    pretrain.run(config, built, tmp_path / "run", quiet=True, resume=True)
    # sums on a GPU come in any order, so not to the bit
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=2e-2)
    assert len(losses(tmp_path / "run")) == 9


def test_what_is_not_finite_stops_the_run(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused update leaves the weights as they are, and the loop says so at its next look."""
    update = loop._Loop._update

    def poisoned(self: Any, loss: Any) -> Any:
        if self.at.step == 1:
            self.parameters[0].grad[0] = torch.inf
        norm = update(self, loss)
        assert all(bool(p.isfinite().all()) for p in self.parameters)
        return norm

    monkeypatch.setattr(loop._Loop, "_update", poisoned)
    with pytest.raises(TrainingError, match=r"step 2: not finite \(.*grad_norm inf"):
        pretrain.run(small.pretrain(log=LogConfig(every=50)), built, tmp_path, quiet=True)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_fine_tuning_from_the_device_cache(precision: Any, built: Path, tmp_path: Path) -> None:
    config = small.finetune(
        optim=small.optim(precision=precision, betas=(0.9, 0.999), layer_decay=0.75),
        data=small.data(cache="device", augment="none"),
    )
    summary = finetune.run(config, built, tmp_path, quiet=True)
    assert summary["status"] == "complete"
    assert torch.isfinite(torch.tensor(losses(tmp_path))).all()

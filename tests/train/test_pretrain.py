"""Pre-training runs: against a plain loop, resumed anywhere, stopped by what is not finite."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import forked
from tests.reference import ref_training
from tests.train import small
from vidkit.data import ClipDataset
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import checkpoints
from vidkit.settings.model import MaskConfig
from vidkit.settings.plain import to_plain
from vidkit.settings.train import LogConfig, PretrainConfig
from vidkit.train import loop, pretrain, setup
from vidkit.train.runs import RunFolder
from vidkit.train.schedule import learning_rate


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d")


def run(config: PretrainConfig, built: Path, out: Path, **more: Any) -> dict[str, Any]:
    return pretrain.run(config, built, out, quiet=True, **more)


class Crash(Exception):  # noqa: N818
    pass


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The run dies at the start of that step."""
    real = loop._Loop._step

    def step(self: Any, batches: Any) -> None:
        if self.at.step == number:
            raise Crash
        real(self, batches)

    monkeypatch.setattr(loop._Loop, "_step", step)


@pytest.mark.parametrize(("warmup", "epochs"), [(0.0, 2), (1.0, 3), (0.5, 4), (3.0, 3)])
def test_rates(warmup: float, epochs: int) -> None:
    optim = small.optim(warmup_epochs=warmup, epochs=epochs)
    steps = 5 * epochs
    expected = ref_training.schedule(optim.lr, optim.start_lr, optim.min_lr, round(warmup * 5), steps)
    assert [learning_rate(optim, step, 5) for step in range(steps)] == pytest.approx(expected)
    assert max(expected) == pytest.approx(optim.lr)


def test_a_run_against_a_plain_loop(built: Path, tmp_path: Path) -> None:
    config = small.pretrain()
    summary = run(config, built, tmp_path / "run")
    clips = ClipDataset(built, "train", frames=4, stride=2, size=32, seed=0)
    model, losses = ref_training.pretrain(config, clips)
    rows = RunFolder(tmp_path / "run").rows()
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-5)
    found = checkpoints.load(tmp_path / "run/checkpoints/last.pt")
    assert found.facts["step"] == summary["steps"] == 9
    small.check_weights(found.model, model.state_dict())


def test_what_a_run_leaves(built: Path, tmp_path: Path) -> None:
    config = small.pretrain(log=LogConfig(every=4, keep_epochs=2))
    summary = run(config, built, tmp_path)
    assert summary["status"] == "complete"
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["config"] == to_plain(config)
    assert (described["kind"], described["dataset"]) == ("pretrain", "tiny")
    assert described["versions"]["torch"] == torch.__version__.split("+")[0]
    rows = RunFolder(tmp_path).rows()
    assert [row["step"] for row in rows] == [4, 8, 9]
    names = {"loss", "reconstruction_loss", "sampling_loss", "sampler_entropy", "effective_tokens", "grad_norm"}
    assert names | {"motion_overlap", "lr", "epoch", "clips_per_s", "data_wait", "memory_gb"} <= rows[0].keys()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch-0002.pt", "last.pt"]
    facts = checkpoints.load(tmp_path / "checkpoints/epoch-0002.pt").facts
    assert (facts["epoch"], facts["classes"], facts["stride"]) == (2, list(small.NAMES), 2)


#: The other pairs take half a minute, and `make slow` tries them.
QUICK = {("plain", 1), ("plain", 8), ("workers", 5), ("ema", 5), ("clipped", 5)}


@pytest.mark.parametrize(
    ("how", "at"),
    [
        pytest.param(how, at, marks=() if (how, at) in QUICK else pytest.mark.slow)
        for how in ("plain", "workers", "ema", "clipped")
        for at in (1, 5, 8)
    ],
)
def test_resumed_runs_learn_the_same(
    at: int, how: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.pretrain(log=LogConfig(every=2))
    if how == "ema":
        config = replace(config, optim=replace(config.optim, ema=0.9))
    if how == "clipped":
        config = replace(config, optim=replace(config.optim, clip_norm=0.1))
    run(config, built, tmp_path / "whole")
    with monkeypatch.context() as patched:
        crash_at(patched, at)
        with pytest.raises(Crash):
            run(config, built, tmp_path / "run")
    if how == "workers":
        config = replace(config, data=small.data(workers=1))
    run(config, built, tmp_path / "run", resume=True)
    one, other = (RunFolder(tmp_path / name) for name in ("whole", "run"))
    assert small.learnt(one.rows()) == small.learnt(other.rows())
    a, b = (checkpoints.load(folder.last, training=True) for folder in (one, other))
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    assert a.training is not None
    assert b.training is not None
    if how == "ema":
        assert all(torch.equal(value, b.training["weights"][name]) for name, value in a.training["weights"].items())
        assert not all(torch.equal(value, a.model[name]) for name, value in a.training["weights"].items())


LONG = small.pretrain(optim=small.optim(epochs=400), log=LogConfig(every=1))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_killed_process(how: signal.Signals, built: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with forked.running(run, LONG, built, tmp_path / "run", says=tmp_path / "said") as process:
        while len(folder.rows()) < 9 and process.is_alive():
            time.sleep(0.01)
        os.kill(process.pid, how)
        process.join(60)
        assert process.exitcode not in (0, None)
    before = folder.rows()
    step = checkpoints.load(folder.last).facts["step"]
    assert 6 <= step < 1200
    if how == signal.SIGKILL:
        assert step % 3 == 0, "the last whole epoch"
    else:
        assert step == before[-1]["step"], "the last step"
        assert "KeyboardInterrupt" in (tmp_path / "said").read_text()
    # goes on, and the lines that both wrote are the same
    with pytest.MonkeyPatch.context() as patched:
        crash_at(patched, step + 4)
        with pytest.raises(Crash):
            run(LONG, built, tmp_path / "run", resume=True)
    after = small.learnt(folder.rows())
    assert [row["step"] for row in after] == list(range(1, step + 5))
    assert after[:step] == small.learnt(before)[:step]
    both = min(len(before), len(after))
    assert after[:both] == small.learnt(before)[:both]


def test_values_that_are_not_finite(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update is left out, the run stops, and the last checkpoint is from before."""
    real = pretrain._losses
    states: list[dict[str, torch.Tensor]] = []

    def poisoned(config: Any, rank: int) -> Any:
        inner = real(config, rank)

        def losses(model: Any, batch: Any, number: int) -> Any:
            states.append({name: value.clone() for name, value in model.state_dict().items()})
            found = inner(model, batch, number)
            return {**found, "loss": found["loss"] * float("nan")} if number == 4 else found

        return losses

    monkeypatch.setattr(pretrain, "_losses", poisoned)
    config = small.pretrain(log=LogConfig(every=50))
    with pytest.raises(
        TrainingError, match=r"step 5: not finite \(loss nan, reconstruction_loss \d\.\d+"
    ) as caught:
        run(config, built, tmp_path)
    assert "config.json" in str(caught.value)
    assert checkpoints.load(tmp_path / "checkpoints/last.pt").facts["step"] == 3
    assert all(torch.equal(states[4][name], states[5][name]) for name in states[4]), "no update of step 5"
    assert not all(torch.equal(states[3][name], states[4][name]) for name in states[3])


def test_an_infinite_gradient(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop._Loop._update

    def update(self: Any, loss: Any) -> Any:
        if self.at.step == 1:
            self.parameters[0].grad[0] = torch.inf
        return real(self, loss)

    monkeypatch.setattr(loop._Loop, "_update", update)
    with pytest.raises(TrainingError, match=r"step 2: not finite \(.*grad_norm inf"):
        run(small.pretrain(), built, tmp_path)


def test_accumulated_parts_are_one_step(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the masks fixed, two parts of two clips give the gradient of four."""
    real = pretrain._losses

    def fixed(config: Any, rank: int) -> Any:
        def losses(model: Any, batch: Any, number: int) -> Any:
            keep = torch.arange(0, 32, 4).expand(len(batch), -1)
            return {"loss": model(batch.video, keep_BV=keep).loss}

        return losses

    assert real
    monkeypatch.setattr(pretrain, "_losses", fixed)
    config = small.pretrain(model=small.model(mask=MaskConfig(strategy="random", ratio=0.75)))
    run(config, built, tmp_path / "one")
    run(replace(config, optim=replace(config.optim, accumulate=2)), built, tmp_path / "two")
    rows = [RunFolder(tmp_path / name).rows() for name in ("one", "two")]
    assert [len(r) for r in rows] == [9, 9]
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in rows[0]] == pytest.approx([row[name] for row in rows[1]], rel=1e-5)


def test_folders_that_hold_a_run(built: Path, tmp_path: Path) -> None:
    config = small.pretrain(optim=small.optim(epochs=1, warmup_epochs=0))
    run(config, built, tmp_path)
    with pytest.raises(ConfigError, match=r"holds a run already(.|\n)*--resume"):
        run(config, built, tmp_path)
    with pytest.raises(ConfigError, match=r"config\.seed: 0 in the run, 1 now"):
        run(replace(config, seed=1), built, tmp_path, resume=True)
    before = (tmp_path / "log.jsonl").read_text()
    assert run(replace(config, data=small.data(workers=1)), built, tmp_path, resume=True)["steps"] == 3
    assert (tmp_path / "log.jsonl").read_text() == before


def test_weights_from_a_checkpoint(built: Path, tmp_path: Path) -> None:
    config = small.pretrain(optim=small.optim(epochs=1, warmup_epochs=0))
    run(config, built, tmp_path / "a")
    run(config, built, tmp_path / "b", init=tmp_path / "a/checkpoints/last.pt")
    first = [RunFolder(tmp_path / name).rows()[0]["loss"] for name in "ab"]
    assert first[0] != first[1]
    other = small.pretrain(model=small.model(mask=MaskConfig(ratio=0.5)))
    with pytest.raises(ConfigError, match="other settings than this run's"):
        run(other, built, tmp_path / "c", init=tmp_path / "a/checkpoints/last.pt")


def test_steps_that_do_not_divide(built: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fewer than one step takes"):
        run(small.pretrain(optim=small.optim(batch_size=32)), built, tmp_path)
    with pytest.raises(ConfigError, match=r"data.repeats is 3; expected a divisor of the 4 clips"):
        small.pretrain(data=small.data(repeats=3))


def test_repeats_share_a_step(built: Path, tmp_path: Path) -> None:
    summary = run(small.pretrain(data=small.data(repeats=2)), built, tmp_path)
    assert (summary["steps"], summary["clips"]) == (21, 84)  # 7 steps of 2 clips with 2 crops each


def test_fp16_needs_a_gpu(built: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device"):
        run(small.pretrain(optim=small.optim(precision="fp16")), built, tmp_path)


def test_bf16(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "has_bf16_units", lambda: True)
    run(small.pretrain(), built, tmp_path / "fp32")
    run(small.pretrain(optim=small.optim(precision="bf16")), built, tmp_path / "bf16")
    losses = [[row["loss"] for row in RunFolder(tmp_path / name).rows()] for name in ("fp32", "bf16")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_bf16_is_fp32_where_the_processor_would_imitate_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(setup, "has_bf16_units", lambda: False)
    for precision in ("fp32", "bf16"):
        run(small.pretrain(optim=small.optim(epochs=1, precision=precision)), built, tmp_path / precision)
    losses = [[row["loss"] for row in RunFolder(tmp_path / name).rows()] for name in ("fp32", "bf16")]
    assert losses[0] == losses[1]
    assert "no units for bf16: training in fp32 instead" in caplog.text


def test_what_a_processor_has(tmp_path: Path) -> None:
    for flags, has in (("fpu avx2 avx512f", False), ("fpu avx512_bf16", True), ("amx_bf16 amx_tile", True)):
        path = tmp_path / f"cpuinfo-{has}-{len(flags)}"
        path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        assert setup.has_bf16_units(path) is has
    assert not setup.has_bf16_units(tmp_path / "missing")


def test_a_tracker_that_is_not_installed(built: Path, tmp_path: Path) -> None:
    config = small.pretrain(log=LogConfig(every=1, tracker="comet_ml"))
    with pytest.raises(ConfigError, match="tracker 'comet_ml' is not installed"):
        run(config, built, tmp_path)


def test_a_tracker(built: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run(small.pretrain(log=LogConfig(every=1, tracker="tensorboard")), built, tmp_path)
    (events,) = (tmp_path / "vidkit").glob("events*")
    assert b"reconstruction_loss" in events.read_bytes()


def test_ones_own_mask_is_looked_for_before_anything_is_written(tmp_path: Path) -> None:
    config = small.pretrain(model=small.model(mask=MaskConfig(strategy="no_such_masks:f", ratio=0.75)))
    with pytest.raises(ConfigError, match="cannot import no_such_masks"):
        pretrain.run(config, tmp_path / "data", tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_running_mean_of_errors_goes_on_with_the_run(tmp_path: Path) -> None:
    config = small.pretrain(model=small.model(mask=MaskConfig(strategy="error", ratio=0.75)))
    data = small.dataset(tmp_path / "data")
    pretrain.run(config, data, tmp_path / "run", quiet=True)
    found = checkpoints.load(tmp_path / "run" / "checkpoints" / "last.pt")
    error, weight = found.model["running_errors.sums"]
    assert (weight > 0).all()
    assert (error > 0).all()
    model = checkpoints.build(found)
    assert torch.equal(model.state_dict()["running_errors.sums"], found.model["running_errors.sums"])

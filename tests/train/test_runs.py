"""A run's folder: failed starts, logs that were cut off, averaged weights, places that cannot be written."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import forked
from tests.train import small
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import checkpoints
from vidkit.settings.train import LogConfig
from vidkit.train import evaluate, finetune, pretrain
from vidkit.train.runs import RunFolder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d")


def run(built: Path, out: Path, **more: Any) -> dict[str, Any]:
    config = small.pretrain(optim=small.optim(epochs=1, warmup_epochs=0, **more.pop("optim", {})))
    return pretrain.run(config, built, out, quiet=True, **more)


def test_a_start_that_failed_is_no_run(built: Path, tmp_path: Path) -> None:
    """What was wrong can be put right with the same --out, and without --resume."""
    with pytest.raises(ConfigError, match="fewer than one step takes"):
        run(built, tmp_path, optim={"batch_size": 64})
    assert (tmp_path / "config.json").exists()
    assert run(built, tmp_path)["steps"] == 3
    assert json.loads((tmp_path / "config.json").read_text())["config"]["optim"]["batch_size"] == 4
    with pytest.raises(ConfigError, match="holds a run already"):
        run(built, tmp_path)
    (tmp_path / "checkpoints/last.pt").unlink()  # the log alone tells of steps, too
    with pytest.raises(ConfigError, match="holds a run already"):
        run(built, tmp_path)


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """It is taken away before the next one is written behind it."""
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.log({"step": step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in folder.rows()] == [1, 2, 3]
    folder.rewind(3)
    folder.log({"step": 4})
    assert [row["step"] for row in folder.rows()] == [1, 2, 3, 4]
    folder.rewind(1)
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'


def test_places_that_cannot_be_written(built: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/run: cannot make the folder: Not a directory(.|\n)*--out"):
        run(built, tmp_path / "file" / "run")
    with pytest.raises(TrainingError, match=r"log.jsonl: cannot write: No such file"):
        RunFolder(tmp_path / "gone").log({"step": 1})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"log.jsonl: cannot write: No space left(.|\n)*--resume"):
        RunFolder(tmp_path).log({"step": 1})


def test_a_checkpoints_model_is_the_average(built: Path, tmp_path: Path) -> None:
    """What fine-tuning and evaluation take from last.pt is what the run itself tested."""
    config = small.finetune(optim=small.optim(ema=0.7, epochs=2))
    summary = finetune.run(config, built, tmp_path, quiet=True)
    last = tmp_path / "checkpoints/last.pt"
    found = evaluate.run(built, last, split="val", views=config.views, workers=0, quiet=True)
    assert found["top1"] == summary["metrics"]["top1"]
    whole = checkpoints.load(last, training=True)
    assert whole.training is not None
    weights = whole.training["weights"]
    assert weights.keys() == whole.model.keys()
    assert not torch.equal(weights["head.weight"], whole.model["head.weight"])
    plain = finetune.run(replace(config, optim=small.optim(epochs=2)), built, tmp_path / "plain", quiet=True)
    assert plain["steps"] == summary["steps"]
    raw = checkpoints.load(tmp_path / "plain/checkpoints/last.pt").model
    assert all(torch.equal(raw[name], weights[name]) for name in raw), "the average changes nothing else"


def test_a_finished_run_keeps_its_metrics(built: Path, tmp_path: Path) -> None:
    config = small.finetune(optim=small.optim(epochs=1, warmup_epochs=0))
    first = finetune.run(config, built, tmp_path, quiet=True)
    again = finetune.run(config, built, tmp_path, quiet=True, resume=True)
    assert again["metrics"] == first["metrics"] != {}
    assert (again["loss"], again["best"], again["steps"]) == (first["loss"], first["best"], first["steps"])


def test_a_stop_that_loader_workers_hear_too(built: Path, tmp_path: Path) -> None:
    """As a terminal's Ctrl-C and torchrun's SIGTERM do: the step is done and saved all the same."""
    config = small.pretrain(optim=small.optim(epochs=4000), log=LogConfig(every=1), data=small.data(workers=2))
    folder = RunFolder(tmp_path / "run")
    with forked.running(
        partial(pretrain.run, quiet=True), config, built, folder.root, says=tmp_path / "said"
    ) as process:
        while len(folder.rows()) < 7 and process.is_alive():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        process.join(60)
    said = (tmp_path / "said").read_text()
    assert "KeyboardInterrupt" in said
    assert "DataLoader worker" not in said
    assert checkpoints.load(folder.last).facts["step"] == folder.rows()[-1]["step"]
    assert not (tmp_path / "run/summary.json").exists()

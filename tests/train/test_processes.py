"""Two processes (gloo, CPU) against one with the same total batch."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests import forked
from tests.train import small, two_processes
from vidkit.models import checkpoints
from vidkit.train import pretrain
from vidkit.train.runs import RunFolder


def torchrun(*args: object) -> None:
    """What `torchrun --standalone --nproc-per-node 2` does, with processes that have torch already."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="two",
        start_method="fork",
        monitor_interval=0.1,
    )
    elastic_launch(config, two_processes.main)(*args)


def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = small.dataset(tmp_path / "d")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with forked.running(torchrun, built, tmp_path / "two", says=tmp_path / "said") as process:
        monkeypatch.setattr(pretrain, "_losses", pretrain._losses)  # given back afterwards
        two_processes.main(built, tmp_path / "one")
        process.join(400)
    assert process.exitcode == 0, (tmp_path / "said").read_text()[-3000:]
    for stage in ("pretrain", "finetune"):
        one, two = (RunFolder(tmp_path / name / stage) for name in ("one", "two"))
        for name in ("loss", "grad_norm", "val_top1"):
            values = [[row[name] for row in folder.rows() if name in row] for folder in (one, two)]
            assert values[0] == pytest.approx(values[1], rel=1e-5), (stage, name)
        a, b = (checkpoints.load(folder.last).model for folder in (one, two))
        small.check_weights(b, a)
    # each process knows the metrics over all clips: 7 clips on 2 processes, each counted once
    found = [json.loads((tmp_path / "two" / f"summary-{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1] == json.loads((tmp_path / "one/summary-0.json").read_text())
    assert found[0]["tested"] == found[0]["top1"]
    rows = [pq.read_table(tmp_path / name / "scores.parquet").to_pylist() for name in ("one", "two")]
    assert [row["key"] for row in rows[0]] == [row["key"] for row in rows[1]]
    assert len(rows[0]) == 7

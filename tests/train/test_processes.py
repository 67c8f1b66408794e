"""Two processes (gloo, CPU) against one with the same total batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.train import small
from vidkit.models import checkpoints
from vidkit.train.runs import RunFolder

ROOT = Path(__file__).parents[2]


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    built = small.dataset(tmp_path / "d")
    script = ["-m", "tests.train.two_processes", str(built)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = [sys.executable, *script, str(tmp_path / "one")]
    both = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for words in (alone, [*both, *script, str(tmp_path / "two")]):
        done = subprocess.run(
            words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400
        )
        assert done.returncode == 0, done.stderr[-3000:]
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

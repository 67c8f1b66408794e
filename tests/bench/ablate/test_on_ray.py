"""What a node does about a cell; that a cluster gives the same rows is in tests/test_cluster.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.ablate.test_run import ablation, jobs
from vidkit.bench.ablate.on_ray import _Cell, run_cell
from vidkit.bench.rows.files import write_plan
from vidkit.bench.rows.schema import Plan
from vidkit.errors import ConfigError
from vidkit.settings.plain import config_hash


def cell(out: Path, data: Path, failed: dict[str, str]) -> _Cell:
    (job,) = jobs(masks=("tube",))
    about = dict.fromkeys(("dataset", "label_map_sha256", "plan_sha256"))
    return _Cell(ablation=ablation(data, out, ()), about=about, job=job, failed=failed)


def begun(out: Path) -> None:
    out.mkdir()
    write_plan(out, Plan(dataset=None, label_map_sha256=None, plan_sha256=None, planned=()))


def test_a_pretraining_that_failed_on_another_node_is_not_tried_again(tmp_path: Path) -> None:
    begun(tmp_path / "out")
    (job,) = jobs(masks=("tube",))
    shared = {config_hash(job.config.pretrain): "it failed elsewhere"}
    row, failed = run_cell(cell(tmp_path / "out", tmp_path, shared))
    assert (row.status, row.reason) == ("failed", "it failed elsewhere")
    assert failed == shared


def test_a_node_that_does_not_see_the_folders_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not see .*plan\.json"):
        run_cell(cell(tmp_path / "elsewhere", tmp_path, {}))
    begun(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"does not see .*clips") as caught:
        run_cell(cell(tmp_path / "out", tmp_path / "clips", {}))
    assert "all nodes share" in str(caught.value)

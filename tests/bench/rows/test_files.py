"""Result rows: what is written is read, and a damaged line is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.made_rows import planned, row
from vidkit.bench.rows.files import holds_results, read_plan, read_rows, write_plan, write_rows
from vidkit.bench.rows.schema import SCHEMA, Plan
from vidkit.errors import ConfigError, TrainingError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = (row(planned(seed=0), top1=0.5), row(planned(seed=1), status="failed", reason="diverged at step 7"))
    write_rows(tmp_path, rows)
    assert read_rows(tmp_path) == rows
    assert not list(tmp_path.glob("*.part"))
    plan = Plan(dataset="d", label_map_sha256="0f", plan_sha256=None, planned=(planned(seed=0),))
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path) == ()
    assert read_plan(tmp_path) is None
    assert not holds_results(tmp_path)


def test_a_cell_that_ran_again_counts_once(tmp_path: Path) -> None:
    write_rows(tmp_path, [row(planned(), status="failed", reason="no memory"), row(planned(), top1=0.25)])
    (found,) = read_rows(tmp_path)
    assert (found.status, found.metrics) == ("ok", {"top1": 0.25})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "results.jsonl, row 2: no JSON"),
        ("[1]", "row 2: no JSON object"),
        ("{}", "row 2, field 'schema': no result of vidkit"),
        (json.dumps({"schema": SCHEMA + 1}), f"schema {SCHEMA + 1} is newer than this vidkit reads"),
        (json.dumps({"schema": SCHEMA, "status": "ok"}), "row 2: no result row"),
        (json.dumps({"schema": 1, "status": "ok"}), "row 2: no result row of schema 1: KeyError('plan')"),
        (json.dumps({"schema": 1, "plan": 3}), "row 2: no result row of schema 1: TypeError"),
    ],
)
def test_a_damaged_line_is_named(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_rows(tmp_path, [row(planned())])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match="row 2") as caught:
        read_rows(tmp_path)
    assert said in str(caught.value)


def test_a_field_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_rows(tmp_path, [row(planned())])
    plain = json.loads(path.read_text())
    plain["plan"]["cell"]["visible"] = "many"
    path.write_text(json.dumps(plain) + "\n")
    with pytest.raises(ConfigError, match=r"row 1: no result row.*expected int in plan\.cell\.visible"):
        read_rows(tmp_path)


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_rows(tmp_path, [row(planned(seed=seed)) for seed in range(3)])
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ConfigError, match="row 3: no JSON"):
        read_rows(tmp_path)


@pytest.mark.parametrize("name", ["plan.json", "ablation.json", "study.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "cells": [3]}'])
def test_a_damaged_plan(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(name)):
        read_plan(tmp_path)


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_rows(tmp_path, [row(planned())])
    (tmp_path / "results.jsonl.part").mkdir()
    with pytest.raises(TrainingError, match=r"results\.jsonl: cannot write"):
        write_rows(tmp_path, [])
    assert len(read_rows(tmp_path)) == 1


def test_wall_time_is_that_of_the_parts() -> None:
    assert row(planned(), seconds={"pretrain": 1.0, "test": 0.5}).wall_s == 1.5
    assert replace(row(planned())).wall_s is None

"""The paper's 27 ablations as configurations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.small import small
from vidkit.bench.ablate.table1 import DEFAULTS, manifests_folder, read_table1
from vidkit.bench.measure.memory import predict_peak
from vidkit.errors import ConfigError
from vidkit.settings.model import AdaMAEConfig, vit_base

ROWS = read_table1()


def test_27_rows_19_with_memory() -> None:
    assert Counter(row.table for row in ROWS) == {"1a": 6, "1b": 5, "1c": 4, "1d": 4, "1e": 4, "1f": 4}
    assert sum(row.memory_gb is not None for row in ROWS) == 19
    for table in {row.table for row in ROWS}:
        numbers = [row.row for row in ROWS if row.table == table]
        assert numbers == list(range(1, len(numbers) + 1))


def test_every_table_has_the_papers_own_choice_once() -> None:
    usual = [row for row in ROWS if not row.changed]
    assert [row.table for row in usual] == ["1a", "1b", "1c", "1d", "1e", "1f"]
    assert {(row.top1, row.top5) for row in usual} == {(70.04, 92.70)}
    assert all(row.config() == vit_base() for row in usual)


@pytest.mark.parametrize(
    ("table", "knobs"),
    [
        ("1a", {"mask", "ratio"}),
        ("1b", {"ratio"}),
        ("1c", {"decoder_depth"}),
        ("1d", {"loss"}),
        ("1e", {"epochs"}),
        ("1f", {"sampler"}),
    ],
)
def test_a_table_turns_its_own_knob(table: str, knobs: set[str]) -> None:
    assert knobs <= set(DEFAULTS)
    for row in ROWS:
        if row.table == table and row.changed:
            assert set(row.changed) <= knobs
            assert row.table == "1e" or row.config() != vit_base()


def test_rows_differ_in_what_they_say() -> None:
    configs = {(row.table, row.row): row.config() for row in ROWS}
    assert configs["1a", 5].mask.strategy == "frame"
    assert configs["1b", 1].mask.ratio == 0.98
    assert configs["1c", 4].decoder.depth == 8
    assert (configs["1d", 2].loss.kind, configs["1d", 2].loss.normalize) == ("l1", False)
    assert configs["1f", 1].sampler.kind == "mlp"
    assert (configs["1f", 4].sampler.depth, configs["1f", 4].sampler.width_divisor) == (2, 2)
    assert len(set(configs.values())) == 19


def test_rows_apply_to_other_sizes() -> None:
    base = replace(small(), sampler=replace(small().sampler, dropout=0.0))
    for row in ROWS:
        config = row.config(base)
        assert config.encoder == base.encoder
        assert config.decoder.width == base.decoder.width
        assert config.sampler.dropout == 0.0
    assert row.config(base, "paper").mask.rounding == "paper"


HEADER = "table,row,mask,ratio,decoder_depth,loss,sampler,epochs,top1,top5,memory_gb\n"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "", "the table is empty"),
        ("# only words\n", "", "the table is empty"),
        ("table,row\n", "row 1", "columns are table, row; expected table, row, mask"),
        (HEADER + "1a,1,tube\n", "row 2", "3 values; expected 11"),
        ("# x\n" + HEADER + "1a,1,tube,much,4,mse,,800,1,2,3\n", "row 3, field 'ratio'", "unusable value 'much'"),
        (HEADER + "1a,1,cube,0.9,4,mse,,800,1,2,3\n", "row 2, field 'mask'", "unusable value 'cube'"),
        (
            HEADER + "1a,1,adaptive,0.9,4,mse,,800,1,2,3\n",
            "row 2, field 'sampler'",
            "adaptive masks, and no others",
        ),
        (HEADER + "1a,1,tube,0.9,4,mse,mlp,800,1,2,3\n", "row 2, field 'sampler'", "adaptive masks, and no others"),
    ],
)
def test_a_bad_file_is_an_error_with_its_line(tmp_path: Path, text: str, where: str, what: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_table1(path)
    assert where in str(caught.value)
    assert what in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_the_file_names_its_source() -> None:
    text = (manifests_folder() / "adamae-table1.csv").read_text(encoding="utf-8")
    assert "arXiv 2211.09120" in text.splitlines()[0]


def test_unfused_attention_explains_the_papers_decoder() -> None:
    """The paper's decoder takes 1.7 GB a block: what a block keeps that stores its attention in matrices."""
    rows = [row for row in ROWS if row.table == "1c" and row.decoder_depth >= 4]
    four, eight = (predict_peak(row.config(), 16, "fp16", attention="matrices") for row in rows)
    quoted = [row.memory_gb for row in rows]
    assert quoted == [14.4, 21.3]
    assert (eight.total_bytes - four.total_bytes) / 1e9 == pytest.approx(21.3 - 14.4, rel=0.1)
    config: AdaMAEConfig = rows[0].config()
    assert config == vit_base()

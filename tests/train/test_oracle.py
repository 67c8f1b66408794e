"""Pre-training with masks that know what moves: exact numbers, and visible tokens where they should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train import small
from vidkit.errors import ConfigError
from vidkit.models.masking.contract import Side
from vidkit.models.masking.oracle import anti_oracle, oracle
from vidkit.settings.mask import MaskConfig
from vidkit.settings.plain import config_hash
from vidkit.settings.recipes import RECIPES
from vidkit.train import pretrain
from vidkit.train.pretrain import token_shares

GRID = (2, 3, 4)


@pytest.mark.parametrize("moving", [0, 3, 10, 20, 24])
def test_what_moves_is_seen_first_or_last(moving: int) -> None:
    generator = torch.Generator().manual_seed(3)
    shares = torch.zeros(5, 24)
    for row in shares:
        row[torch.randperm(24, generator=generator)[:moving]] = 0.01
    tokens = torch.zeros(5, 24, 1)
    for masker, wanted in ((oracle, shares > 0), (anti_oracle, shares == 0)):
        keep = masker(tokens, GRID, 8, generator, Side(shares_BN=shares)).keep
        assert keep.shape == (5, 8)
        assert (keep.diff(dim=1) > 0).all()
        assert (wanted.gather(1, keep).sum(dim=1) == min(8, int(wanted[0].sum()))).all()
    again = [oracle(tokens, GRID, 8, torch.Generator().manual_seed(1), Side(shares_BN=shares)) for _ in range(2)]
    assert (again[0].keep == again[1].keep).all()


def test_every_moving_token_is_seen_as_often() -> None:
    shares = torch.zeros(4000, 24)
    shares[:, 4:14] = 1
    keep = oracle(torch.zeros(4000, 24, 1), GRID, 5, torch.Generator().manual_seed(0), Side(shares_BN=shares)).keep
    often = torch.bincount(keep.flatten(), minlength=24) / 4000
    assert often[:4].sum() == often[14:].sum() == 0
    assert (often[4:14] - 0.5).abs().max() < 0.03


def test_shares_of_tokens_are_means_over_tubelets() -> None:
    frames = torch.zeros(1, 4, 3, 4, dtype=torch.uint8)
    frames[0, 2, 1, 2] = 255
    found = token_shares(frames, GRID)
    assert found.shape == (1, 24)
    assert found[0, 12 + 4 + 2] == 0.5
    assert found.sum() == 0.5


def test_without_a_dataset_that_says_so_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="oracle masks need a dataset that says where something moves"):
        oracle(torch.zeros(1, 24, 1), GRID, 8)


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.motions(tmp_path_factory.mktemp("oracle"))


@pytest.mark.parametrize("strategy", ["oracle", "anti-oracle", "random"])
def test_a_run_says_what_was_seen(strategy: str, motions: Path, tmp_path: Path) -> None:
    config = small.pretrain()
    model = replace(config.model, mask=MaskConfig(strategy=strategy, ratio=0.75))
    pretrain.run(replace(config, model=model, moving=True), motions, tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    seen = [line["visible_moving"] for line in lines if "visible_moving" in line]
    there = [line["tokens_moving"] for line in lines if "tokens_moving" in line]
    assert seen
    assert all(0 < value < 1 for value in there)
    mean_seen, mean_there = sum(seen) / len(seen), sum(there) / len(there)
    if strategy == "oracle":
        assert mean_seen > 1.5 * mean_there
    elif strategy == "anti-oracle":
        assert mean_seen < 0.3 * mean_there
    else:
        assert mean_seen == pytest.approx(mean_there, rel=0.5)


def test_settings_that_came_later_leave_the_hashes_of_older_runs() -> None:
    """Of release 0.1.0 before there were probes, parts of classes and oracles."""
    assert config_hash(RECIPES["tiny"]().pretrain) == "6365559502bf4c70"
    assert config_hash(RECIPES["tiny"]().finetune) == "3460de098d3abd41"

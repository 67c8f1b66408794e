"""What a grid and a study check before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.made_rows import planned, row
from tests.bench.report.test_arms import row as arm_row
from vidkit.bench.ablate.journal import check_free, check_split, journal
from vidkit.bench.rows.files import read_rows, write_rows
from vidkit.errors import ConfigError


def test_a_split_without_clips() -> None:
    built = {"name": "tiny", "splits": {"train": {"ok": 9}, "val": {"ok": 3}, "test": {"ok": 0}}}
    check_split(built, "val", Path("d"))
    with pytest.raises(ConfigError, match="tiny has no clips in split 'test'") as caught:
        check_split(built, "test", Path("d"))
    assert "choose one of train, val" in str(caught.value)
    with pytest.raises(ConfigError, match="it has no clips at all"):
        check_split({"name": "tiny", "splits": {}}, "val", Path("d"))


@pytest.mark.parametrize("study", [False, True])
def test_a_grid_and_a_study_do_not_share_a_folder(study: bool, tmp_path: Path) -> None:
    check_free(tmp_path, resume=False, study=study)
    write_rows(tmp_path, [arm_row("mann", 0, 0.5) if study else row(planned())])
    check_free(tmp_path, resume=True, study=study)
    with pytest.raises(ConfigError, match="holds results already"):
        check_free(tmp_path, resume=False, study=study)
    words = "of a study, not of a grid" if study else "of a grid, not of a study"
    with pytest.raises(ConfigError, match=words):
        check_free(tmp_path, resume=True, study=not study)


def test_a_failed_row_runs_again_and_a_good_one_does_not(tmp_path: Path) -> None:
    first, second = planned(seed=0), planned(seed=1)
    told: list[str] = []
    with journal(tmp_path / "out", told.append) as kept:
        kept.add(row(first, status="failed", reason="no memory"))
        kept.add(row(second, top1=0.5))
        assert read_rows(tmp_path / "out") == kept.of([first, second]), "kept at once"
        assert [kept.done(one, f"cell {one.seed}") for one in (first, second)] == [False, True]
        kept.add(row(first, top1=0.25))
    assert told == ["  failed: no memory", "cell 1: done before"]
    assert [one.status for one in read_rows(tmp_path / "out")] == ["ok", "ok"]

"""Each cell against the best other: from files of predictions to the columns of a table, and to what is said."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bench.made_rows import planned, predictions, row
from tests.bench.report.test_table import folder
from tests.reference import ref_significance as reference
from vidkit.bench.report import table as report
from vidkit.bench.report.columns import P_CLIPS, P_SEEDS, RIVALS
from vidkit.bench.rows.files import write_plan
from vidkit.bench.rows.schema import Plan, Planned, Row
from vidkit.errors import ConfigError

CLIPS = 40
SHARES = {"adaptive": 0.8, "tube": 0.5, "random": 0.6}


def right(cell: Planned) -> list[bool]:
    draw = np.random.default_rng(cell.seed + 10 * len(cell.in_grid.settings.mask))
    return (draw.random(CLIPS) < SHARES[cell.in_grid.settings.mask]).tolist()


def made(path: Path, seeds: int) -> tuple[list[Planned], list[Row]]:
    cells = [planned(mask=mask, seed=seed) for mask in SHARES for seed in range(seeds)]
    rows = [row(cell, **predictions(path, cell, right(cell))) for cell in cells]
    folder(path, cells, rows)
    return cells, rows


def test_each_against_the_best_other(tmp_path: Path) -> None:
    cells, _ = made(tmp_path, 1)
    lines = {line.cell.mask: line for line in report.lines(report.read_results([tmp_path]))}
    adaptive, tube, random = (np.array(right(cell)) for cell in cells)
    rivals = {mask: line.rival for mask, line in lines.items()}
    assert all(rival is not None and rival.paired is not None for rival in rivals.values())
    assert {mask: rival.group for mask, rival in rivals.items() if rival} == {
        "adaptive": lines["random"].group,
        "tube": lines["adaptive"].group,
        "random": lines["adaptive"].group,
    }
    for mask, one, other in (
        ("adaptive", adaptive, random),
        ("tube", tube, adaptive),
        ("random", random, adaptive),
    ):
        rival = rivals[mask]
        assert rival is not None
        assert rival.paired is not None
        assert rival.difference == pytest.approx(100 * (one.mean() - other.mean()))
        expected = reference.mcnemar_p(int((one & ~other).sum()), int((other & ~one).sum()))
        assert rival.paired.p_clips == pytest.approx(expected, abs=1e-12), "clips are matched by name, not by place"
        assert rival.paired.p_seeds is None


def test_in_every_kind_of_table(tmp_path: Path) -> None:
    made(tmp_path, 2)
    results = report.read_results([tmp_path])
    text = report.markdown(results)
    assert "| to best other | p, clips | p, clips and seeds |" in text
    assert RIVALS.format(what="cell") in text
    assert P_CLIPS in text
    assert P_SEEDS in text
    assert "of 3 cells there are 3 pairs, and a p below 0.017 holds for all" in text
    first = next(csv.DictReader(io.StringIO(report.csv_text(results))))
    rival = report.lines(results)[0].rival
    assert rival is not None
    assert rival.paired is not None
    assert float(first["to_best_other_points"]) == pytest.approx(rival.difference)
    assert float(first["p_clips"]) == pytest.approx(rival.paired.p_clips)
    assert float(first["p_clips_and_seeds"]) == pytest.approx(rival.paired.p_seeds)
    assert first["best_other_group"] == rival.group
    shown = report.plain(results)["lines"][0]["to best other"]
    assert shown == f"{rival.difference:+.2f} ± {100 * rival.paired.half:.2f}"


def test_one_cell_has_no_other(tmp_path: Path) -> None:
    cell = planned()
    folder(tmp_path, [cell], [row(cell, **predictions(tmp_path, cell, [True, False]))])
    text = report.markdown(report.read_results([tmp_path]))
    assert "to best other" not in text
    assert RIVALS.format(what="cell") not in text


def test_without_predictions_there_is_the_difference_alone(tmp_path: Path) -> None:
    cells, _ = made(tmp_path, 2)
    (tmp_path / f"cells/{cells[2].config_hash}/predictions.parquet").unlink()  # of tube
    results = report.read_results([tmp_path])
    lines = {line.cell.mask: line for line in report.lines(results)}
    tube, adaptive = lines["tube"].rival, lines["adaptive"].rival
    assert tube is not None
    assert adaptive is not None
    assert (tube.paired, tube.why) == (None, "predictions are missing")
    assert adaptive.paired is not None
    text = report.markdown(results)
    assert "No p, since predictions are missing: tube 0.95 against adaptive 0.95." in text
    assert "| – | – |" in text
    for cell in cells:
        (tmp_path / f"cells/{cell.config_hash}/predictions.parquet").unlink(missing_ok=True)
    text = report.markdown(report.read_results([tmp_path]))
    assert "No p, since predictions are missing: every cell." in text
    assert "| p, clips |" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("other clips", r"they were tested on different clips \(40 and 40, 39 of them the same\)"),
        ("fewer clips", r"they were tested on different clips \(40 and 39, 39 of them the same\)"),
        ("other labels", "their clips have different labels"),
        ("other choices", "predictions are not those that the row was made from"),
        ("no parquet", "predictions cannot be read"),
        ("cut off", "predictions cannot be read"),
        ("other columns", "predictions cannot be read"),
        ("twice", "clips have several labels, or are there twice"),
    ],
)
def test_what_cannot_be_paired_is_said(change: str, said: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells, rows = made(tmp_path, 1)
    best, file = cells[0], tmp_path / f"cells/{cells[0].config_hash}/predictions.parquet"
    names = [f"d/{i}" for i in range(CLIPS)]
    hits = right(best)
    if change == "other clips":
        rows[0] = row(best, **predictions(tmp_path, best, hits, clips=["d/x", *names[1:]]))
    elif change == "fewer clips":
        rows[0] = row(best, **predictions(tmp_path, best, hits[:-1]))
    elif change == "other labels":
        rows[0] = row(best, **predictions(tmp_path, best, hits, classes=4))
    elif change == "other choices":
        predictions(tmp_path, best, [not hit for hit in hits])
    elif change == "no parquet":
        file.write_text("scores")
    elif change == "cut off":
        file.write_bytes(file.read_bytes()[:-50])
    elif change == "other columns":
        pq.write_table(pa.table({"key": ["a"]}), file)
    else:
        rows[0] = row(best, **predictions(tmp_path, best, hits, clips=["d/1", *names[1:]]))
    folder(tmp_path, cells, rows)
    text = report.markdown(report.read_results([tmp_path]))
    assert re.search(f"No p, since {said}", text), text


def test_results_from_two_folders(tmp_path: Path) -> None:
    one, other = planned(mask="adaptive"), planned(mask="tube")
    for name, cell in (("a", one), ("b", other)):
        folder(tmp_path / name, [cell], [row(cell, **predictions(tmp_path / name, cell, right(cell)))])
    results = report.read_results([tmp_path / "a", tmp_path / "b"])
    assert all(line.rival is not None and line.rival.paired is not None for line in report.lines(results))


def test_different_clips_under_one_label_map(tmp_path: Path) -> None:
    for name, cell in (("a", planned()), ("b", planned(mask="tube"))):
        folder(tmp_path / name, [cell], [row(cell, top1=0.5)])
        plan = Plan(dataset="d", label_map_sha256="0f", plan_sha256=name * 64, planned=(cell,))
        write_plan(tmp_path / name, plan)
    with pytest.raises(ConfigError, match="their classes are the same, their clips are not") as caught:
        report.read_results([tmp_path / "a", tmp_path / "b"])
    assert "(clips aaaaaaaaaaaa)" in str(caught.value)


def test_a_metric_of_several_labels_has_no_rival(tmp_path: Path) -> None:
    cells = [planned(mask=mask) for mask in ("tube", "random")]
    folder(tmp_path, cells, [replace(row(cell), metrics={"mAP": 0.5, "f1": 0.4}) for cell in cells])
    assert all(line.rival is None for line in report.lines(report.read_results([tmp_path])))

"""Predictions and confusions beside loops, masks beside those of `vidkit masks`, and what is found in folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.train import saved
from tests.view import made
from tests.view.runs import runs
from vidkit.errors import ConfigError, DatasetError
from vidkit.view.clips import query as asking
from vidkit.view.clips.opened import read
from vidkit.view.runs import curves, found, masks, predictions, said
from vidkit.view.runs.confusion import confusion
from vidkit.view.shelf import fill


@pytest.fixture(scope="module")
def places(seen: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return runs.everything(tmp_path_factory.mktemp("runs"), seen)


def test_what_lies_in_folders(places: list[Path]) -> None:
    data, some_runs, table = places
    shelf = fill(places)
    assert [watched.root for watched in shelf.datasets] == [data]
    assert shelf.runs == (some_runs / "adaptive", some_runs / "tube")
    assert shelf.tables == (table,)
    assert shelf.predictions == (some_runs / "test.parquet",)
    assert [one.name for one in found.runs(shelf).values()] == [
        "adaptive",
        "tube",
        "table: adaptive 0.75, seed 0, pre-training",
    ]
    assert [one.name for one in found.predictions(shelf).values()] == [
        "test.parquet",
        "table: adaptive 0.75, seed 0",
    ]
    assert [one.name for one in found.checkpoints(shelf)] == [one.name for one in found.runs(shelf).values()]
    assert list(found.runs(fill(places[1:]))) == list(found.runs(shelf)), "an address is the same tomorrow"


def test_names_that_are_told_apart(places: list[Path], tmp_path: Path) -> None:
    runs.pretrained(tmp_path / "other" / "adaptive", places[0])
    shelf = fill([places[1] / "adaptive", tmp_path / "other" / "adaptive"])
    assert list(shelf.names.values()) == ["runs/adaptive", "other/adaptive"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_look_at(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no .*nowhere|nothing to look at in .*empty"):
        fill([tmp_path / name])


# --- predictions


def test_answers_and_confusions(seen: Path, tmp_path: Path) -> None:
    opened = read(seen)
    answers = predictions.read(runs.predictions(tmp_path / "p.parquet", seen, wrong=4), opened)
    rows, scores = runs.scores(seen, wrong=4)
    tested = {row["clip_id"]: (row["class_id"], scores[i]) for i, row in enumerate(rows)}
    for number, row in enumerate(opened.ledger.to_pylist()):
        if row["clip_id"] not in tested:
            assert (answers.true[number], answers.said[number], answers.top(number)) == (-1, -1, [])
            continue
        true, mine = tested[row["clip_id"]]
        assert (answers.true[number], answers.said[number]) == (true, mine.argmax())
        top = answers.top(number, 3)
        assert [share for _, share in top] == sorted(mine.tolist(), reverse=True)
        assert top[0][0] == answers.classes[int(mine.argmax())]
    pairs = Counter((true, int(mine.argmax())) for true, mine in tested.values())
    assert {
        (i, j): n for i, line in enumerate(answers.confusion().tolist()) for j, n in enumerate(line) if n
    } == pairs
    assert answers.metrics() == {"top1": 1 - 4 / len(rows), "top5": 1.0}
    of = confusion(answers)
    assert sum(pair.clips for pair in of.pairs) == 4
    assert sum(map(sum, of.matrix)) == len(rows) == sum(line.clips for line in of.classes)
    assert [line.right / line.clips for line in of.classes] == sorted(
        line.right / line.clips for line in of.classes
    )


def test_filters_by_what_a_model_says(places: list[Path]) -> None:
    shelf, opened = fill(places), read(places[0])
    short = said.choices(shelf, opened)[0]["id"]
    answers = said.answers(shelf, short, opened)
    rows, scores = runs.scores(places[0])
    sizes = {}
    for asked in ({}, {"right": "no"}, {"right": "yes"}, {"true": "boat"}, {"true": "boat", "said": "car & cart"}):
        query = asking.parse([("pred", short), ("sort", "-sure"), *asked.items()])
        mask = asking.together(asking.masks(opened.index, query, answers), opened.index.clips)
        order = asking.order(opened.index, query, mask, answers)
        assert len(order) == mask.sum()
        sure = answers.sure[order].tolist()
        assert sure == sorted(sure, reverse=True)
        sizes[tuple(asked)] = len(order)
    own = [(row["class_name"], int(mine.argmax())) for row, mine in zip(rows, scores, strict=True)]
    boats = [choice for name, choice in own if name == "boat"]
    assert sizes == {
        (): len(rows),
        ("right",): len(rows) - 2,
        ("true",): len(boats),
        ("true", "said"): boats.count(1),
    }


def test_predictions_of_something_else(seen: Path, tmp_path: Path) -> None:
    opened = read(seen)
    path = runs.predictions(tmp_path / "p.parquet", seen)
    table = pq.read_table(path)
    other = made.many(tmp_path / "many", seen, 40)
    assert predictions.fits(path, opened)
    assert not predictions.fits(path, read(other))
    with pytest.raises(ConfigError, match="of other clips"):
        predictions.read(path, read(other))
    scores = [[0.5, 0.5]] * table.num_rows
    pq.write_table(table.set_column(3, "scores", [scores]), path)
    with pytest.raises(ConfigError, match="have 2 classes, the dataset 3"):
        predictions.read(path, opened)
    path.write_bytes(path.read_bytes()[:200])
    assert not predictions.is_predictions(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        predictions.read(path, opened)


# --- curves


def test_curves_of_runs_side_by_side(places: list[Path]) -> None:
    some = [one for one in found.runs(fill(places)).values() if one.table is None]
    charts = curves.charts(some)
    assert [chart.title for chart in charts] == ["loss", "probe knn", "lr"], "losses and probes come first"
    assert [mark.name for mark in charts[0].marks.values()] == ["adaptive", "tube"]
    settings = curves.settings(some, [found.config_of(one.path) for one in some])
    assert [(name, values) for name, values, differs in settings if differs] == [
        ("model.mask.strategy", ("adaptive", "tube"))
    ]


# --- masks


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> list[list[np.ndarray[Any, Any]]]:
    """What is painted, before it is made smaller."""
    kept: list[list[np.ndarray[Any, Any]]] = []
    plain = masks._webp
    monkeypatch.setattr(masks, "_webp", lambda rows: kept.append(rows) or plain(rows))  # type: ignore[func-returns-value]
    return kept


@pytest.mark.parametrize("ratio", [None, 0.5])
def test_masks_are_those_of_the_command(places: list[Path], arrays: list[Any], ratio: float | None) -> None:
    """Pixel by pixel, on the third clip of a split, and its mask is that clip's whatever else is shown."""
    from vidkit.models import checkpoints
    from vidkit.models.masking import mask_generator
    from vidkit.train.inference import open_views, views_of
    from vidkit.train.pictures import remasked, rows_of

    opened = read(places[0])
    path = places[1] / "adaptive" / "checkpoints" / "last.pt"
    loaded = remasked(checkpoints.load(path), path, strategy=None, ratio=ratio)
    model = checkpoints.build(loaded)
    dataset = open_views(places[0], "train", saved.small.VIT, views_of(loaded.facts))
    row = opened.row_of(dataset.clips.key[2].as_py())
    assert row is not None
    painter = masks.Painter()
    painted = painter.paint(path, opened, row, strategy=None, ratio=ratio, seed=5)
    expected = rows_of(model.predict(dataset[2].video, mask_generator(5, 2, 0, "cpu")))  # type: ignore[operator]
    assert [name for name, _ in painted.rows] == ["video", "prediction", "error", "probability", "mask"]
    assert painted.rows == tuple((one.name, one.caption) for one in expected)
    for mine, theirs in zip(arrays[0], expected, strict=True):
        assert np.array_equal(mine, theirs.frames)
    assert painted.ratio == (ratio or 0.75)
    assert painted.webp[8:12] == b"WEBP"
    assert len(painter._loaded) == 1


def test_masks_that_cannot_be(places: list[Path]) -> None:
    opened, painter = read(places[0]), masks.Painter()
    tube = places[1] / "tube" / "checkpoints" / "last.pt"
    good = next(i for i in range(opened.ledger.num_rows) if opened.row(i)["status"] == "ok")
    bad = next(i for i in range(opened.ledger.num_rows) if opened.row(i)["status"] != "ok")
    with pytest.raises(ConfigError, match="it has no sampler"):
        painter.paint(tube, opened, good, strategy="adaptive", ratio=None, seed=0)
    with pytest.raises(ConfigError, match="cannot be read"):
        painter.paint(tube.with_name("none.pt"), opened, good, strategy=None, ratio=None, seed=0)
    with pytest.raises(DatasetError, match="no clip is stored"):
        painter.paint(tube, opened, bad, strategy=None, ratio=None, seed=0)

"""A pre-training's folder, predictions, and a table of results, on the dataset that is looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.made_rows import planned, row
from tests.data import builds
from tests.train import saved, small
from tests.view import made
from vidkit.bench.rows.files import write_rows
from vidkit.settings.mask import MaskConfig
from vidkit.settings.plain import to_plain

#: Of the clips that are tested, in the ledger's order: class by class, right or not.
SPLIT = "train"


def pretrained(out: Path, data: Path, *, strategy: Any = "adaptive") -> Path:
    """A run's folder with a checkpoint of random weights and a log of two figures."""
    (out / "checkpoints").mkdir(parents=True)
    mask = MaskConfig(strategy=strategy, ratio=0.75)
    saved.adamae(out / "checkpoints" / "last.pt", mask=mask)
    facts = builds.facts(data)
    about = {"format": 1, "kind": "pretrain", "dataset": facts["name"], "dataset_plan_sha256": facts["plan_sha256"]}
    config = {**about, "clips": 9, "config": to_plain(small.pretrain(model=small.model(mask=mask)))}
    (out / "config.json").write_text(json.dumps(config))
    lines = [{"step": i, "epoch": i / 2, "loss": 1 / (i + 1), "lr": 0.1, "probe_knn": i / 9} for i in range(1, 8)]
    (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def scores(root: Path, *, wrong: int = 2) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """(rows of the tested clips, (t, 3) scores): the first `wrong` are taken for the next class."""
    rows = [one for one in made.rows_of(root) if one["status"] == "ok" and one["split"] == SPLIT]
    found = np.full((len(rows), 3), 0.1, np.float32)
    for i, one in enumerate(rows):
        found[i, (one["class_id"] + (i < wrong)) % 3] = 0.8 - i / 100
    return rows, found


def predictions(path: Path, root: Path, *, wrong: int = 2) -> Path:
    rows, found = scores(root, wrong=wrong)
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()  # any order will do
    table = pa.table(
        {
            "key": [rows[i]["key"] for i in order],
            "clip_id": [rows[i]["clip_id"] for i in order],
            "labels": pa.array([[rows[i]["class_id"]] for i in order], pa.list_(pa.int64())),
            "scores": pa.array([found[i].tolist() for i in order], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, path)
    return path


def results(out: Path, root: Path) -> Path:
    """Two cells, one of which failed; the other with its runs and predictions."""
    facts = builds.facts(root)
    good, bad = planned(mask="adaptive", ratio=0.75), planned(mask="tube", ratio=0.9)
    pretrained(out / "pretrain" / "one", root)
    name = f"cells/{good.config_hash}/predictions.parquet"
    predictions(out / name, root)
    write_rows(
        out,
        [
            row(
                good,
                top1=0.7,
                top5=1.0,
                dataset=facts["name"],
                label_map_sha256=facts["label_map"]["sha256"],
                runs={"pretrain": "pretrain/one", "predictions": name},
            ),
            row(
                bad,
                status="failed",
                reason="no <memory>",
                dataset=facts["name"],
                label_map_sha256=facts["label_map"]["sha256"],
            ),
        ],
    )
    return out


def everything(root: Path, data: Path) -> list[Path]:
    """What `vidkit view` would be given."""
    pretrained(root / "runs" / "adaptive", data)
    pretrained(root / "runs" / "tube", data, strategy="tube")
    predictions(root / "runs" / "test.parquet", data)
    return [data, root / "runs", results(root / "table", data)]

"""A dataset and settings small enough for tests of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.tinyset import Clip, build
from tests.train import small
from vidkit.bench.rows.schema import Row
from vidkit.bench.studies import run as studies
from vidkit.bench.studies.run import Todo
from vidkit.bench.studies.work import FewshotSettings, Settings
from vidkit.settings.ablation import Study
from vidkit.settings.train import LogConfig, ViewConfig

CLASSES = ("a", "b", "c", "d")


def dataset(folder: Path, *, train: int = 20, val: int = 8, classes: Sequence[str] = CLASSES) -> Path:
    """Clips of each class in turn, a few encodings in all."""
    clips = [Clip(labels=(classes[i % len(classes)],), first=i % 5, frames=12) for i in range(train)]
    clips += [
        Clip(labels=(classes[i % len(classes)],), split="val", first=20 + i % 5, frames=12) for i in range(val)
    ]
    return build(folder, clips)


def with_sources(data: Path, sources: Sequence[str]) -> Path:
    """The same dataset, with the source of each row given."""
    table = pq.read_table(data / "clips.parquet")
    number = table.column_names.index("source")
    table = table.set_column(number, table.schema.field("source"), pa.array(list(sources)))
    pq.write_table(table, data / "clips.parquet")
    return data


def settings(**changes: Any) -> Settings:
    optim = small.optim(epochs=2)
    how: dict[str, Any] = {
        "about": "micro",
        "pretrain": small.pretrain(optim=optim, log=LogConfig(every=1)),
        "finetune": small.finetune(optim=optim),
        "test": ViewConfig(stride=2, batch_size=4),
        "fewshot": FewshotSettings(
            tune_steps=2,
            tune_episodes=3,
            finetune_steps=2,
            finetune_val_episodes=2,
            way=2,
            shot=1,
            query=2,
            episodes=6,
            steps=4,
            batch=2,
            val_episodes=2,
            hidden=8,
            slots=4,
            width=4,
            reads=1,
        ),
    }
    return Settings(**how | changes)


def todo(study: Study, data: Path, out: Path, **changes: Any) -> Todo:
    how: dict[str, Any] = {"recipe": "micro", "settings": settings(), "seeds": (0, 1)}
    return Todo(study=study, data=data, out=out, **how | changes)


def run(study: Study, data: Path, out: Path, *, resume: bool = False, **changes: Any) -> tuple[Row, ...]:
    return studies.run(todo(study, data, out, **changes), resume=resume, quiet=True)


def by_arm(rows: Sequence[Row], seed: int = 0) -> dict[str, Row]:
    return {row.plan.group: row for row in rows if row.plan.seed == seed}

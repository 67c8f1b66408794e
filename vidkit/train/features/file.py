"""Files of features: Parquet, a row a clip, a float16 column for each layer that was read.

Facts are JSON under one key of the schema's metadata: of which dataset, checkpoint, layers and read-out they are.
Reading them for another dataset, split or layer is an error. Shapes: n clips, T steps, W numbers of a step.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vidkit.data.dataset import CLIPS_PARQUET
from vidkit.data.shards import sha256_file
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError, DatasetError
from vidkit.train.features.readout import MAKES, Reading, Readout, derived

FORMAT = 2
METADATA = b"vidkit"

_AGAIN = "write it with `vidkit extract`"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Features:
    """Clips in dataset order: splits as in `SPLITS`, plan order within."""

    keys: tuple[str, ...]
    split: npt.NDArray[np.str_]
    """(n,)"""
    class_ids: npt.NDArray[np.int64]
    """(n,), -1 where the dataset's label rule gives none."""
    labels: tuple[tuple[int, ...], ...]
    """Ids of each clip under that rule; empty: it has none."""
    array: npt.NDArray[np.float32]
    """(n, T, W)."""

    def __repr__(self) -> str:
        return f"Features({self.array.shape[0]:,} clips of {self.array.shape[1]} x {self.array.shape[2]} numbers)"


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """What a file says of itself."""

    path: Path
    facts: dict[str, Any]

    @property
    def readings(self) -> tuple[Reading, ...]:
        """In the order of the columns."""
        return tuple(Reading(item["layer"], item["norm"]) for item in self.facts["readings"])

    @property
    def readout(self) -> Readout:
        """The read-out that is stored."""
        found: Readout = self.facts["readout"]
        return found

    @property
    def splits(self) -> tuple[str, ...]:
        """In the order of the dataset."""
        return tuple(self.facts["splits"])

    def count(self) -> int:
        """Clips."""
        with _opened(self.path) as file:
            return int(file.metadata.num_rows)

    def check(
        self,
        *,
        data: Place | None = None,
        splits: Sequence[str] = (),
        reading: Reading | None = None,
        readout: Readout | None = None,
    ) -> None:
        """Whether the file is what is wanted.

        Raises:
            DatasetError: features of another dataset, or without a split.
            ConfigError: without that layer or read-out.
        """
        if data is not None:
            for name, sha256 in dataset_hashes(data).items():
                if self.facts[name] != sha256:
                    raise DatasetError(
                        f"features of another dataset: {self.facts['dataset']!r}, {name} "
                        f"{self.facts[name][:12]}; that of {data} is {sha256[:12]}",
                        file=self.path,
                        hint="extract them again, or give the dataset that they were extracted from",
                    )
        missing = [split for split in splits if split not in self.splits]
        if missing:
            raise DatasetError(
                f"no features of split {missing[0]!r}; there are {', '.join(self.splits)}",
                file=self.path,
                hint=f"extract them again: vidkit extract --split {missing[0]}, and each other one",
            )
        if reading is not None and reading not in self.readings:
            raise ConfigError(
                f"no features of {reading}; there are {'; '.join(map(str, self.readings))}",
                file=self.path,
                field="--layer",
                hint=f"extract them again: vidkit extract --layers {reading.layer}",
            )
        if readout is not None and readout not in MAKES[self.readout]:
            raise ConfigError(
                f"the features are the read-out {self.readout!r}, of which {readout!r} cannot be made",
                file=self.path,
                field="--readout",
                hint=f"extract them again: vidkit extract --readout {readout}",
            )

    def load(
        self, reading: Reading | None = None, readout: Readout | None = None, *, splits: Sequence[str] | None = None
    ) -> Features:
        """One layer's features.

        Args:
            reading: None: the last layer, after the norm where that was stored.
            readout: None: as stored.
            splits: None: all.

        Raises:
            ConfigError, DatasetError: as `check`.
        """
        reading = max(self.readings) if reading is None else reading
        self.check(reading=reading, readout=readout, splits=splits or ())
        columns = ["key", "split", "class_id", "labels", reading.column]
        with _opened(self.path) as file:
            table = file.read(columns)
        if splits is not None:
            table = table.filter(pa.compute.is_in(table["split"], pa.array(list(splits), pa.string())))
        array = _numbers(table[reading.column]).reshape(len(table), self.facts["steps"], self.facts["width"])
        if readout is not None:
            array = derived(torch.from_numpy(array), self.readout, readout).numpy()
        return Features(
            keys=tuple(table["key"].to_pylist()),
            split=np.array(table["split"].to_pylist(), dtype=np.str_),
            class_ids=table["class_id"].fill_null(-1).to_numpy().astype(np.int64),
            labels=tuple(map(tuple, table["labels"].to_pylist())),
            array=np.ascontiguousarray(array),
        )


def open_features(path: Path) -> FeatureFile:
    """
    Raises:
        DatasetError: no such file, not one of features, or of another format.
    """
    with _opened(path) as file:
        facts = json.loads(file.schema_arrow.metadata[METADATA])
    if facts.get("format") != FORMAT:
        raise DatasetError(
            f"features in format {facts.get('format')}; this vidkit reads format {FORMAT}",
            file=path,
            hint="extract them again: vidkit extract",
        )
    return FeatureFile(path, facts)


def dataset_hashes(data: Place) -> dict[str, str]:
    """What tells a built dataset from any other: the ledger's and the shards' own hashes."""
    return {
        "ledger_sha256": sha256_file(data / CLIPS_PARQUET)[0],
        "shards_sha256": sha256_file(data / "shards.json")[0],
    }


def schema_of(readings: Sequence[Reading], numbers: int, facts: dict[str, Any]) -> pa.Schema:
    """Of a file with so many numbers for each clip and reading."""
    columns = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("class_id", pa.int32()),  # null where the label rule gives none
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        *(pa.field(reading.column, pa.list_(pa.float16(), numbers), nullable=False) for reading in readings),
    ]
    return pa.schema(columns, metadata={METADATA: json.dumps(facts)})


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """(n, numbers) of a column of lists."""
    width = column.type.list_size
    array = np.empty((len(column), width), np.float32)
    at = 0
    for chunk in column.chunks:
        array[at : at + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        at += len(chunk)
    return array


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as source, pq.ParquetFile(source) as file:
            if METADATA not in (file.schema_arrow.metadata or {}) or "key" not in file.schema_arrow.names:
                raise DatasetError("not a file of features", file=path, hint=_AGAIN)
            yield file
    except FileNotFoundError:
        raise DatasetError("the file is not there", file=path, hint=_AGAIN) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"damaged features: {error}", file=path, hint=_AGAIN) from None

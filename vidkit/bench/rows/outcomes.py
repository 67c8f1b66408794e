"""Which clips a cell got right, from the predictions that its test left beside the results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidkit.bench.rows.schema import Row
from vidkit.data.storage.places import Place, on_disk


class NoOutcomesError(Exception):
    """Cells that cannot be paired over clips; the text completes "no p, since ...". A table is made without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """Of a cell. S seeds, N clips."""

    clips: tuple[str, ...]
    """(N,) identities, sorted."""
    label: npt.NDArray[np.int64]
    """(N,) true classes."""
    right: npt.NDArray[np.bool_]
    """(S, N): whether the first choice is the true class."""

    def __repr__(self) -> str:
        return f"Outcomes(right={self.right.shape})"


def outcomes(rows: Sequence[Row], folders: Mapping[str, Place]) -> Outcomes:
    """Of a cell's seeds.

    Args:
        rows: at least one.
        folders: where each row's results lie, by its config hash.

    Raises:
        NoOutcomesError: predictions are missing, damaged, not those of the row, or of different clips.
    """
    found = [_of_row(row, folders.get(row.plan.config_hash)) for row in rows]
    for other in found[1:]:
        same_clips(found[0], other)
    return Outcomes(clips=found[0].clips, label=found[0].label, right=np.concatenate([one.right for one in found]))


def same_clips(one: Outcomes, other: Outcomes) -> None:
    """Raises NoOutcomesError where two differ in their clips or labels."""
    if one.clips != other.clips:
        shared = len(set(one.clips) & set(other.clips))
        raise NoOutcomesError(
            f"they were tested on different clips ({len(one.clips):,} and {len(other.clips):,}, {shared:,} of them "
            "the same)"
        )
    if not np.array_equal(one.label, other.label):
        raise NoOutcomesError("their clips have different labels")


def _of_row(row: Row, folder: Place | None) -> Outcomes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = row.runs.get("predictions")
    if folder is None or name is None or not (folder / name).is_file():
        raise NoOutcomesError("predictions are missing")
    try:
        with on_disk(folder / name) as path:
            table = pq.read_table(path, columns=["key", "clip_id", "labels", "scores"]).combine_chunks()
        columns = {column: table[column].combine_chunks() for column in table.column_names}
        scores_NK = columns["scores"].flatten().to_numpy().reshape(table.num_rows, -1)
        label = columns["labels"].flatten().to_numpy()
    except (OSError, ValueError, KeyError, pa.ArrowException):
        raise NoOutcomesError("predictions cannot be read") from None
    clips = tuple(map(str, columns["clip_id"].to_pylist()))
    if not clips or len(label) != len(clips) or len(set(clips)) != len(clips):
        raise NoOutcomesError("clips have several labels, or are there twice")
    choice = scores_NK.argmax(axis=1)
    if row.predictions_sha256 not in (None, _sha256(columns["key"].to_pylist(), choice)):
        raise NoOutcomesError("predictions are not those that the row was made from")
    order = sorted(range(len(clips)), key=clips.__getitem__)
    return Outcomes(
        clips=tuple(clips[i] for i in order), label=label[order], right=(choice == label)[order][np.newaxis]
    )


def _sha256(keys: Sequence[str], choice_N: npt.NDArray[np.int64]) -> str:
    """As `train.evaluate.Predictions.sha256`, which would bring torch along."""
    text = "\n".join(f"{key} {number}" for key, number in zip(keys, choice_N.tolist(), strict=True))
    return hashlib.sha256(text.encode()).hexdigest()

"""What cells are measured by, as tables show it: accuracies in percent, the common error in its own unit."""

from __future__ import annotations

from collections.abc import Iterable

from vidkit.bench.rows.schema import Row

FINETUNE, ERROR = "finetune", "common-error"
#: Of the measure "finetune", the first that a row has.
ACCURACY = ("top1", "mAP")
_TITLES = {FINETUNE: "fine-tuned", "ridge": "ridge", "knn": "k-NN", "attentive": "attentive"}
_PARTS = "finetune-"


def title(name: str) -> str:
    """As the head of a column.

    >>> title("finetune-10"), title("ridge"), title("common-error")
    ('fine-tuned, 10 % of labels, %', 'ridge %', 'error, common masks')
    """
    if name == ERROR:
        return "error, common masks"
    if name.startswith(_PARTS):
        return f"fine-tuned, {name.removeprefix(_PARTS)} % of labels, %"
    return f"{_TITLES.get(name, name)} %"


def measures(rows: Iterable[Row]) -> tuple[str, ...]:
    """Names of what rows were measured by, in the order in which that was asked for."""
    found: dict[str, None] = {}
    for row in rows:
        if any(name in row.metrics for name in ACCURACY):
            found[FINETUNE] = None
        found |= dict.fromkeys(row.curve[-1].values if row.curve else ())
    return tuple(found)


def value(row: Row, name: str, share: float = 1.0) -> float | None:
    """Percent, or an error; None where the row does not have it.

    Args:
        share: of pre-training.
    """
    if name == FINETUNE:
        found = next((row.metrics[key] for key in ACCURACY if key in row.metrics), None) if share == 1 else None
    else:
        found = next((point.values.get(name) for point in row.curve if point.share == share), None)
    if found is None:
        return None
    return found if name == ERROR else 100 * found


def shares(rows: Iterable[Row]) -> tuple[float, ...]:
    """Of pre-training, at which something was measured, ascending."""
    return tuple(sorted({point.share for row in rows for point in row.curve}))

"""Metrics of scores, by torchmetrics. Shapes: n clips, K classes or labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def single_label(scores_nK: npt.NDArray[np.float32], class_id_n: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Shares from 0 to 1: `top1`, `top5` (of fewer than 5 classes: all of them), `mean_class` over the classes that
    have clips, `per_class` (None for those that have none), and `confusion`: rows are true classes.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    scores, target = torch.from_numpy(scores_nK), torch.from_numpy(class_id_n)
    classes = scores.shape[1]
    best = scores.topk(min(5, classes), dim=1).indices
    right = best == target[:, None]
    if classes == 1:  # which torchmetrics refuses
        confusion = torch.tensor([[len(target)]])
    else:
        confusion = multiclass_confusion_matrix(best[:, 0], target, num_classes=classes)
    clips = confusion.sum(dim=1)
    each = confusion.diag() / clips
    return {
        "top1": float(right[:, 0].double().mean()),
        "top5": float(right.any(dim=1).double().mean()),
        "mean_class": float(each[clips > 0].double().mean()),
        "per_class": [float(share) if count else None for share, count in zip(each, clips, strict=True)],
        "confusion": confusion.tolist(),
    }


def multi_label(scores_nK: npt.NDArray[np.float32], labels_nK: npt.NDArray[np.float32]) -> dict[str, Any]:
    """`mAP` and `f1` (scores from 0.5 count as yes), means over the labels that some clip has; `labels` counts
    them. `per_class` holds each label's average precision, None for the others.
    """
    from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

    present = np.asarray(labels_nK.any(axis=0))
    scores = torch.from_numpy(scores_nK[:, present])
    labels = torch.from_numpy(labels_nK[:, present]).long()
    number = int(present.sum())
    each: list[float | None] = [None] * len(present)
    if number == 0:
        return {"mAP": None, "f1": None, "labels": 0, "per_class": each}
    # torchmetrics wants two labels at least
    if number == 1:
        scores, labels = scores.repeat(1, 2), labels.repeat(1, 2)
    precision = multilabel_average_precision(scores, labels, num_labels=max(2, number), average="none")
    f1 = multilabel_f1_score(scores, labels, num_labels=max(2, number), average="macro", threshold=0.5)
    for label, value in zip(np.flatnonzero(present), precision.tolist(), strict=False):
        each[label] = value
    return {
        "mAP": float(precision.double().mean()),
        "f1": float(f1),
        "labels": number,
        "per_class": each,
    }

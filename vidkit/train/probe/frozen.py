"""Probes of a frozen encoder as figures of an ablation: the same question to every arm, and little noise.

Read is the last layer after its norm, as mean and deviation over space for each time step. A probe's one setting is
chosen on every fifth training clip by a fit on the others, and then all are fitted: nothing is chosen on the clips
that are tested. Shapes: n clips, T steps, W numbers of a step, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidkit.data.load.loader import ClipLoader
from vidkit.models.adamae import AdaMAE
from vidkit.settings.probe import ProbeConfig
from vidkit.train.features.extract import encoder_source, features_of
from vidkit.train.features.readout import FULLEST, Reading
from vidkit.train.probe import attentive, knn, linear
from vidkit.train.probe.during import labels_of
from vidkit.train.probe.scores import Labels, figure

#: One training clip in so many is what settings are chosen on.
CHOSEN_ON = 5

Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Labelled clips as the encoder sees them."""

    features: Tensor
    """(n, T, W)"""
    labels: Labels

    def take(self, rows: Tensor) -> Part:
        """Some of them."""
        labels = Labels(
            class_id=self.labels.class_id[rows.numpy()], hot=self.labels.hot[rows], several=self.labels.several
        )
        return Part(self.features[rows], labels)


def read(model: AdaMAE, loader: ClipLoader, device: torch.device) -> Part:
    """All clips of a loader whose clips have labels. The model is moved, and put into evaluation mode.

    Raises:
        DatasetError: a clip that cannot be decoded.
        TrainingError: features that are not finite.
    """
    source = encoder_source(model, (Reading(model.config.encoder.depth),), FULLEST, device)
    features = torch.cat([torch.from_numpy(found[0]) for found in features_of(loader, source)])
    return Part(features, labels_of(loader.dataset))


def probed(fit: Part, test: Part, probes: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Top-1, or mean average precision where clips have several labels, of each probe on `test`; 0 to 1.

    Args:
        probes: of "ridge", "knn" and "attentive".
        seed: of the attentive probe.
    """
    rows = torch.arange(len(fit.features))
    aside = rows % CHOSEN_ON == CHOSEN_ON - 1
    # with fewer clips than that there is nothing to choose on but themselves
    parts = (fit.take(rows[~aside]), fit.take(rows[aside])) if bool(aside.any()) else (fit, fit)
    makers = {"ridge": _ridge, "knn": _knn, "attentive": _attentive}
    found = {}
    for name in probes:
        scores = makers[name](fit, *parts, seed)
        found[name] = figure(scores(test.features), test.labels)
    return found


def _best(settings: Sequence[float], value: Callable[[float], float]) -> float:
    """Of equals the first."""
    return settings[int(np.argmax([value(setting) for setting in settings]))]


def _ridge(fit: Part, learn: Part, choose: Part, seed: int) -> Scores:
    axes = linear.principal_axes(learn.features.flatten(1))
    flat = choose.features.flatten(1)
    penalty = _best(linear.RIDGE, lambda p: figure(linear.ridge(axes, learn.labels.hot, p)(flat), choose.labels))
    scores = linear.ridge(linear.principal_axes(fit.features.flatten(1)), fit.labels.hot, penalty)
    return lambda x_mTW: scores(x_mTW.flatten(1))


def _knn(fit: Part, learn: Part, choose: Part, seed: int) -> Scores:
    base, flat = learn.features.flatten(1), fit.features.flatten(1)
    ks = sorted({min(k, len(base)) for k in knn.NEIGHBOURS})
    near = knn.neighbours(base, choose.features.flatten(1), ks[-1])
    k = int(_best(ks, lambda k: figure(knn.votes(*near, learn.labels.hot, int(k)), choose.labels)))
    return lambda x_mTW: knn.votes(*knn.neighbours(flat, x_mTW.flatten(1), k), fit.labels.hot, k)


def _attentive(fit: Part, learn: Part, choose: Part, seed: int) -> Scores:
    """Fitted once: what it chooses is the step at which it stops."""
    scores, _ = attentive.fit(
        learn.features,
        learn.labels.hot,
        ProbeConfig(seed=seed),
        several=fit.labels.several,
        judge=lambda made: figure(made(choose.features), choose.labels),
    )
    return scores

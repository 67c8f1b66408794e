"""Which layer of an encoder to read for few-shot learning: the one that does best on meta-val classes.

Features of the default layers, before and after the final norm, are extracted together, so a choice among them
costs seconds. Test classes have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidkit.errors import ConfigError
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.fewshot.evaluate import evaluate
from vidkit.fewshot.inputs.encoder import Init, Seen, open_encoder
from vidkit.fewshot.inputs.features import clip_features
from vidkit.fewshot.learners.table import needs_training
from vidkit.settings.fewshot import PIXEL_LEARNERS, FewshotConfig
from vidkit.train.features.readout import Reading, default_layers, readings_of

#: Episodes of meta-val that a layer is judged by.
EPISODES = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What was tried, and what did best."""

    seen: Seen
    learner: str
    accuracies: Mapping[Reading, float]
    """On meta-val, 0 to 1."""

    def __str__(self) -> str:
        tried = ", ".join(f"{reading} {value:.1%}" for reading, value in self.accuracies.items())
        return f"read is what does best on meta-val with {self.learner}: {tried}"


def best_reading(
    clips: LabelledClips,
    init: Init | None,
    split: ClassSplit,
    config: FewshotConfig,
    seen: Seen,
    *,
    cache: Path,
    drawn: LabelledClips | None = None,
    **how: Any,
) -> Choice:
    """Judge the default layers, before and after the norm, by the first learner that needs no training, or by
    prototypes; of equals the later one is taken.

    Args:
        clips: that features are made of.
        init: see `clip_features`.
        seen: the read-out.
        cache: a folder for the features, which the choice itself can then be read from.
        drawn: the clips that episodes are drawn from, where these are fewer.
        how: further arguments of `clip_features`.

    Raises:
        ConfigError: pixels, which have no layers; too few meta-val classes or clips.
    """
    if init is None:
        raise ConfigError(
            "pixels have no layers to choose among", field="--layer", hint="give --init, or leave it out"
        )
    if len(split.val) < config.way:
        raise ConfigError(
            f"a layer is chosen on meta-val, which has {len(split.val)} classes; --way is {config.way}",
            field="--layer",
            hint="give a number of a layer, or --shares with more classes for meta-val",
        )
    plain = [name for name in config.learners if name not in PIXEL_LEARNERS and not needs_training(name, config)]
    judge = plain[0] if plain else "proto"
    how_judged = replace(
        config,
        learners=(judge,),
        seeds=config.seeds[:1],
        episodes=min(EPISODES, config.episodes),
        tune=0,
        project=0,
    )
    on_val = ClassSplit(label_map_sha256=split.label_map_sha256, train=split.train, test=split.val)
    depth = open_encoder(clips, init, seed=how.get("seed", 0)).vit.depth
    found: dict[Reading, float] = {}
    for reading in readings_of(default_layers(depth), (False, True), depth):
        at = replace(seen, layer=reading.layer, norm=reading.norm)
        features = clip_features(clips, init, seen=at, cache=cache, **how)
        (row,) = evaluate(drawn or clips, features, on_val, how_judged).rows
        found[reading] = row.accuracy
    best = max(found, key=lambda reading: (found[reading], reading))
    return Choice(seen=replace(seen, layer=best.layer, norm=best.norm), learner=judge, accuracies=found)

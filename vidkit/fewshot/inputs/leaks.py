"""What an encoder has seen of the meta-test classes before a test: their labels, and their clips."""

from __future__ import annotations

import numpy as np

from vidkit.fewshot.episodes.benchmarks import FRAMES, labels_seen, listed
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.labelled import LabelledClips
from vidkit.fewshot.inputs.encoder import RANDOM, Encoder


def leaks(encoder: Encoder | None, clips: LabelledClips, split: ClassSplit) -> list[str]:
    """In words. A checkpoint says which build of which dataset it was trained on, not which clips: of the same
    build these are taken to be the clips of its training split, of another one they are unknown.

    Args:
        encoder: None: pixels, which have seen nothing.
    """
    if encoder is None or encoder.name == RANDOM:
        return []
    said = []
    if seen := labels_seen(encoder.classes, split.test):
        said.append(
            f"the encoder learned labels of {len(seen)} of {len(split.test)} meta-test classes: {listed(seen)}"
        )
    else:
        said.append("the encoder learned no label of a meta-test class")
    facts = encoder.checkpoint.facts
    plan, name = facts.get("dataset_plan_sha256"), facts.get("dataset")
    if plan is None:
        said.append("whether the encoder saw meta-test clips is unknown: the checkpoint does not name its data")
    elif plan != clips.plan_sha256:
        said.append(
            f"whether the encoder saw meta-test clips is unknown: it was trained on another build ({name!r}), "
            "whose clips the checkpoint does not list"
        )
    else:
        ids = [i for i, label in enumerate(clips.classes) if label in set(split.test)]
        rows = np.flatnonzero(np.isin(clips.class_id, ids))
        trained = sum(clips.place(int(row))[0] == "train" for row in rows)
        said.append(
            f"the encoder was trained on this dataset: {trained:,} of the {len(rows):,} meta-test clips are in its "
            "training split"
        )
    if facts.get("init"):
        said.append(
            f"its first weights came from another checkpoint ({facts['init']}), whose data are unknown here"
        )
    if encoder.vit.frames != FRAMES:
        said.append(f"the field reads {FRAMES} frames of a clip; this encoder reads {encoder.vit.frames}")
    return said

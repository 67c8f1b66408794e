"""Few-shot data and networks that are small enough to train in tests: colours, and encoders of three blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fewshot.episodes.made import alone, write
from tests.train import small
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit, split_classes
from vidkit.fewshot.episodes.draw import EpisodeSettings, LabelledClips, episode_pool, open_labelled
from vidkit.fewshot.inputs.encoder import Encoder, features_of
from vidkit.fewshot.inputs.features import ClipFeatures
from vidkit.fewshot.inputs.pixels import ClipPixels
from vidkit.fewshot.learners.training import Pool
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.fewshot import FewshotConfig
from vidkit.settings.model import ClassifierConfig, DecoderConfig, MaskConfig, ViTConfig
from vidkit.train.inference import views_of

VIT = ViTConfig(frames=2, size=16, patch=8, width=16, depth=3, heads=2, mlp_ratio=2.0)
#: All that can be tuned but "trx", which needs two steps; these encoders have one.
TUNED = ("proto", "cosine", "mann", "blackbox", "maml")

SMALL: dict[str, Any] = {
    "way": 3,
    "shot": 2,
    "query": 2,
    "episodes": 12,
    "hidden": 16,
    "slots": 8,
    "width": 8,
    "reads": 1,
    "instances": 4,
    "steps": 4,
    "batch": 2,
    "reduce": 8,
    "val_episodes": 4,
    "tune_steps": 3,
    "tune_episodes": 4,
    "finetune_steps": 4,
    "finetune_val_episodes": 2,
}


def made_clips(folder: Path) -> LabelledClips:
    """20 classes of 6 clips, each of a video of its own, and clips without a label between them."""
    rows = [row for i in range(20) for row in [*alone(f"c{i:02}", 6), *alone(None, 1)]]  # type: ignore[arg-type]
    return open_labelled(write(folder / "data", rows))


def classes_of_eight(folder: Path, classes: int) -> LabelledClips:
    """Classes of 8 clips, each of a video of its own."""
    rows = [row for i in range(classes) for row in alone(f"c{i:02}", 8)]
    return open_labelled(write(folder / "data", rows))


def made_split(clips: LabelledClips) -> ClassSplit:
    return split_classes(clips, shares=(0.5, 0.2, 0.3))


def made_pixels(clips: LabelledClips) -> ClipPixels:
    """Every class has a colour, every clip some noise: nothing is decoded."""
    rng = np.random.default_rng(0)
    colours = rng.integers(30, 226, (len(clips.classes) + 1, 3))[clips.class_id]
    noise = rng.normal(0, 12, (len(clips), 3, VIT.frames, VIT.size, VIT.size))
    video = np.clip(colours[:, :, None, None, None] + noise, 0, 255).astype(np.uint8)
    place = torch.where(torch.from_numpy(clips.class_id) >= 0, torch.arange(len(clips)), -1)
    return ClipPixels(video=torch.from_numpy(video), place=place)


def encoder(kind: str = "adamae", name: str = "a.pt", seed: int = 1) -> Encoder:
    generator = torch.Generator().manual_seed(seed)
    model: AdaMAE | VideoClassifier
    if kind == "adamae":
        decoder, mask = DecoderConfig(width=16, depth=1, heads=2), MaskConfig(strategy="tube", ratio=0.5)
        model = AdaMAE(small.model(encoder=VIT, decoder=decoder, mask=mask), generator)
    else:
        model = VideoClassifier(ClassifierConfig(encoder=VIT, classes=4, drop_path=0.5), generator)
        with torch.no_grad():
            model.fc_norm.weight.uniform_(0.5, 1.5, generator=generator)
    made = Checkpoint(config=model.config, model=model.state_dict(), facts={})
    return Encoder(checkpoint=made, name=name, sha256="s", classes=(), views=views_of({}))


def features(pixels: ClipPixels, source: Encoder) -> ClipFeatures:
    parts = [pixels.video[k : k + 7] for k in range(0, len(pixels.video), 7)]
    array = features_of(source, source.build(), parts, torch.device("cpu")).numpy()[:, None]
    how: dict[str, Any] = {"reading": source.reading, "readout": source.readout}
    return ClipFeatures(array=array, name=source.name, checkpoint_sha256=source.sha256, **how)


def config(*learners: str, **changes: Any) -> FewshotConfig:
    return FewshotConfig(**{**SMALL, "learners": learners or ("scratch",)} | changes)


def pools(clips: LabelledClips, split: ClassSplit, settings: FewshotConfig) -> Iterator[Pool]:
    how = EpisodeSettings(way=settings.way, shot=settings.shot, query=settings.query)
    for part in ("train", "val", "test"):
        yield episode_pool(clips, how, split, part)


def without_times(rows: tuple[fewshot.Row, ...]) -> list[dict[str, Any]]:
    found = [asdict(row) for row in rows]
    for row in found:
        row["training"].pop("seconds", None)
    return found

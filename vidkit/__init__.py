"""vidkit: clips on disk become verified shards, shards become batches, runs become tables to trust.

What a script wants, without looking for it (each name is imported when it is first used):

    import vidkit

    planned = vidkit.plan("k400", {"kinetics": "/data/kinetics"}, size=128)
    vidkit.build(planned, "k400", workers=8)
    assert vidkit.verify("k400", sample=100).ok

    clips = vidkit.ClipDataset("k400", "train", frames=16, stride=4, size=112)
    for batch in vidkit.ClipLoader(clips, batch_size=32, workers=8):
        batch.video  # (32, 3, 16, 112, 112) uint8

    model = vidkit.build_model(vidkit.load_checkpoint("runs/ft/checkpoints/best.pt"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidkit.lazy import names_from

if TYPE_CHECKING:
    from vidkit.data.build.planned import build as build
    from vidkit.data.build.planned import plan as plan
    from vidkit.data.dataset import open_dataset as open_dataset
    from vidkit.data.load.clip_dataset import ClipDataset as ClipDataset
    from vidkit.data.load.loader import ClipLoader as ClipLoader
    from vidkit.data.verify.dataset import verify as verify
    from vidkit.errors import VidkitError as VidkitError
    from vidkit.models.checkpoints import build as build_model
    from vidkit.models.checkpoints import load as load_checkpoint
    from vidkit.settings.recipes import RECIPES as RECIPES
    from vidkit.train.evaluate import run as evaluate
    from vidkit.train.finetune import run as finetune
    from vidkit.train.predict import open_predictor as open_predictor
    from vidkit.train.pretrain import run as pretrain

__version__ = "0.1.0"

_HOMES = {
    "RECIPES": "settings.recipes",
    "ClipDataset": "data.load.clip_dataset",
    "ClipLoader": "data.load.loader",
    "VidkitError": "errors",
    "build": "data.build.planned",
    "build_model": "models.checkpoints:build",
    "evaluate": "train.evaluate:run",
    "finetune": "train.finetune:run",
    "load_checkpoint": "models.checkpoints:load",
    "open_dataset": "data.dataset",
    "open_predictor": "train.predict",
    "plan": "data.build.planned",
    "pretrain": "train.pretrain:run",
    "verify": "data.verify.dataset",
}
__all__ = [
    "RECIPES",
    "ClipDataset",
    "ClipLoader",
    "VidkitError",
    "build",
    "build_model",
    "evaluate",
    "finetune",
    "load_checkpoint",
    "open_dataset",
    "open_predictor",
    "plan",
    "pretrain",
    "verify",
]

__getattr__ = names_from(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

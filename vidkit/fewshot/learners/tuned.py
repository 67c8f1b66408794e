"""An encoder whose last blocks go on learning with a few-shot learner, end to end, on episodes of meta-train.

The learner first learns from the features of the encoder as it is, as without this; then both learn together, at
small rates: a head with random weights would send the encoder gradients that mean nothing (Kumar et al. 2022,
"Fine-tuning can distort pretrained features", section 4). The maps between features and inputs stay those of the
first encoder. Dropout is off. Meta-val episodes choose among the states, that before the first step included.

Shapes: n clips, D width of an encoder's feature, R of a learner's input, B clips asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vidkit.fewshot.inputs.encoder import Encoder, features_of, open_blocks
from vidkit.fewshot.inputs.maps import Map, through
from vidkit.fewshot.inputs.pixels import ClipPixels, class_rows
from vidkit.fewshot.learners.training import Pool, Report, TunableLearner, judgement
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.fewshot import ALL_BLOCKS, FewshotConfig
from vidkit.train.descent import descend

#: Clips at a time where no gradient is needed.
PART = 32

#: States of the encoder that meta-val episodes judge, besides the first: each means features of all of its clips.
JUDGED = 5


class LiveFeatures:
    """Inputs of a learner by row, as a tensor (n, R) gives them, made by the encoder when they are asked for."""

    def __init__(
        self,
        encoder: Encoder,
        model: AdaMAE | VideoClassifier,
        pixels: ClipPixels,
        maps: Sequence[Map],
        inputs_nR: Tensor,
    ) -> None:
        self.encoder, self.model, self.pixels, self.maps = encoder, model, pixels, maps
        self.device, self.shape = inputs_nR.device, inputs_nR.shape

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        video = self.pixels.take(rows.flatten()).to(self.device)
        found = through(self.maps, self.encoder.features(self.model, video))
        return found.view(*rows.shape, *found.shape[1:])

    def table(self, inputs_nR: Tensor, rows_B: Tensor) -> Tensor:
        """The inputs (n, R) with those of some clips made anew, without a gradient."""
        parts = [self.pixels.take(rows_B[k : k + PART]) for k in range(0, len(rows_B), PART)]
        found = inputs_nR.clone()
        found[rows_B.to(self.device)] = through(
            self.maps, features_of(self.encoder, self.model, parts, self.device)
        )
        return found


def tune(
    learner: TunableLearner,
    name: str,
    encoder: Encoder,
    pixels: ClipPixels,
    maps: Sequence[Map],
    inputs_nR: Tensor,
    train: Pool,
    val: Pool | None,
    config: FewshotConfig,
    report: Report | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Train the encoder's last blocks and the learner, which has been fitted to `inputs_nR`.

    Args:
        maps: from the encoder's features to `inputs_nR`.

    Returns:
        The inputs with those of all meta-test clips made by the tuned encoder; and facts about the training.

    Raises:
        ConfigError: fewer blocks than are to be trained.
        TrainingError: a loss that is not finite.
    """
    clips, split = train.clips, train.split
    assert split is not None, "few-shot pools are of a class split"
    model = encoder.build().to(inputs_nR.device)
    opened = open_blocks(model, config.tune, encoder.reading)
    live = LiveFeatures(encoder, model, pixels, maps, inputs_nR)
    head = learner.weights
    groups: list[dict[str, Any]] = [{"params": opened, "lr": config.tune_rate}]
    if head is not None:
        groups.append({"params": list(head.parameters()), "lr": config.learning_rate / 10})
    val_rows = class_rows(clips, split.val)
    judge = None
    if val is not None:
        judge = judgement(learner, lambda: live.table(inputs_nR, val_rows), val, config.val_episodes)
    before = None if judge is None else judge()
    # episodes that the learner's own training has not drawn
    first = -(-config.steps * config.batch // config.tune_batch)
    called = f"{name} with its encoder"
    done = descend(
        lambda step: learner.loss(live, train, config.tune_batch, first + step),
        groups,
        name=called,
        steps=config.tune_steps,
        clip=config.clip,
        modules=() if head is None else (head,),
        judge=judge,
        judged=JUDGED,
        before=before,
        tell=None if report is None else lambda step, loss: report(called, step, config.tune_steps, loss),
        field="tune_rate",
        hint="choose a smaller --tune-rate",
    )
    facts = {
        "blocks": "all" if config.tune == ALL_BLOCKS else config.tune,
        "of": len(model.encoder),
        "parameters": sum(parameter.numel() for parameter in opened),
        "steps": config.tune_steps,
        "kept_step": done.kept_step,
        "val_accuracy_before": before,
        "val_accuracy": done.accuracy,
        "loss": None if math.isnan(done.loss) else done.loss,
        "seconds": done.seconds,
    }
    return live.table(inputs_nR, class_rows(clips, split.test)), facts

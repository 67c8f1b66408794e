"""An encoder whose last blocks go on learning with a few-shot learner, end to end, on episodes of meta-train.

The learner first learns from the features of the encoder as it is, as without this; then both learn together, at
small rates: a head with random weights would send the encoder gradients that mean nothing (Kumar et al. 2022,
"Fine-tuning can distort pretrained features", section 4). The maps between features and inputs stay those of the
first encoder. Dropout is off. Meta-val episodes choose among the states, that before the first step included.

Shapes: n clips, D width of an encoder's feature, R of a learner's input, B clips asked for.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.errors import TrainingError
from vidkit.fewshot.config import ALL_BLOCKS, FewshotConfig
from vidkit.fewshot.encoder import Encoder, features_of, open_blocks
from vidkit.fewshot.episodes.draw import draw_episodes
from vidkit.fewshot.inputs import Map, through
from vidkit.fewshot.pixels import ClipPixels, class_rows
from vidkit.fewshot.training import Pool, Report, TunableLearner, falling, predict_all, stack
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier

#: Clips at a time where no gradient is needed.
PART = 32

#: States of the encoder that meta-val episodes judge, besides the first: each means features of all of its clips.
JUDGED = 5


class LiveFeatures:
    """Inputs of a learner by row, as a tensor (n, R) gives them, made by the encoder when they are asked for."""

    def __init__(
        self,
        model: AdaMAE | VideoClassifier,
        pixels: ClipPixels,
        maps: Sequence[Map],
        inputs_nR: Tensor,
    ) -> None:
        self.model, self.pixels, self.maps = model, pixels, maps
        self.device, self.shape = inputs_nR.device, inputs_nR.shape

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        video = self.pixels.take(rows.flatten()).to(self.device)
        return through(self.maps, self.model.features(video).float()).view(*rows.shape, -1)

    def table(self, inputs_nR: Tensor, rows_B: Tensor) -> Tensor:
        """The inputs (n, R) with those of some clips made anew, without a gradient."""
        parts = [self.pixels.take(rows_B[k : k + PART]) for k in range(0, len(rows_B), PART)]
        found = inputs_nR.clone()
        found[rows_B.to(self.device)] = through(self.maps, features_of(self.model, parts, self.device))
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
    began, steps = time.perf_counter(), config.tune_steps
    clips, split = train.clips, train.split
    assert split is not None, "few-shot pools are of a class split"
    model = encoder.build().to(inputs_nR.device)
    opened = open_blocks(model, config.tune)
    live = LiveFeatures(model, pixels, maps, inputs_nR)
    head = learner.weights
    groups: list[dict[str, Any]] = [{"params": opened, "lr": config.tune_rate}]
    if head is not None:
        groups.append({"params": list(head.parameters()), "lr": config.learning_rate / 10})
    trained = [parameter for group in groups for parameter in group["params"]]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: falling(step, steps))
    judged = None if val is None else stack(draw_episodes(val, config.val_episodes))
    val_rows = class_rows(clips, split.val)

    def accuracy() -> float:
        assert judged is not None
        found = predict_all(learner, live.table(inputs_nR, val_rows), judged)
        return (found == judged.query_slots).double().mean().item()

    def state() -> tuple[list[Tensor], Any]:
        return [p.detach().clone() for p in opened], None if head is None else copy.deepcopy(head.state_dict())

    before = best = -1.0
    best_step, best_state = steps, None
    if judged is not None:
        before = best = accuracy()
        best_step, best_state = 0, state()
    # episodes that the learner's own training has not drawn
    first = -(-config.steps * config.batch // config.tune_batch)
    loss = math.nan
    recent: list[Tensor] = []
    every, judge_every = max(1, steps // 100), max(1, steps // JUDGED)
    for step in range(1, steps + 1):
        if head is not None:
            head.train()
        value = learner.loss(live, train, config.tune_batch, first + step - 1)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, config.clip)
        optimiser.step()
        schedule.step()
        recent.append(value.detach())
        if step % every == 0 or step == steps:
            loss = torch.stack(recent).mean().item()
            recent.clear()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of {name} with its encoder is {loss} at step {step}",
                    field="tune_rate",
                    hint="choose a smaller --tune-rate",
                )
            if report is not None:
                report(f"{name} with its encoder", step, steps, loss)
        if judged is not None and (step % judge_every == 0 or step == steps):
            if head is not None:
                head.eval()
            found = accuracy()
            if found > best:
                best, best_step, best_state = found, step, state()
    if best_state is not None:
        weights, own = best_state
        with torch.no_grad():
            for parameter, kept in zip(opened, weights, strict=True):
                parameter.copy_(kept)
        if head is not None:
            head.load_state_dict(own)
    if head is not None:
        head.eval()
    facts = {
        "blocks": "all" if config.tune == ALL_BLOCKS else config.tune,
        "of": len(model.encoder),
        "parameters": sum(parameter.numel() for parameter in opened),
        "steps": steps,
        "kept_step": best_step,
        "val_accuracy_before": None if judged is None else before,
        "val_accuracy": None if judged is None else best,
        "loss": None if math.isnan(loss) else loss,
        "seconds": round(time.perf_counter() - began, 2),
    }
    return live.table(inputs_nR, class_rows(clips, split.test)), facts

"""Learners that train a whole network on the support of each test episode: "finetune" and "scratch".

Both are the video classifier of `vidkit finetune` with a head for the episode's classes, and both get the same
budget: all support clips in each AdamW step, not augmented, a fixed number of steps, and a learning rate that is
chosen from the same list by accuracy on the same meta-val episodes. They differ in where the encoder comes from: a
checkpoint, or random weights, drawn anew for each episode. The head starts at 0, so that no class is preferred.

Nothing is kept from one episode to the next, and a query has no part in what is learned: each one is classified
by itself. Shapes: E episodes, S support clips, Q query clips, K classes, C T H W a clip.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vidkit.errors import TrainingError
from vidkit.fewshot.episodes.draw import draw_episodes
from vidkit.fewshot.inputs.encoder import Encoder
from vidkit.fewshot.inputs.pixels import ClipPixels
from vidkit.fewshot.learners.training import EpisodeRows, Pool, Report, stack
from vidkit.models.classifier import VideoClassifier, layer_decay_groups
from vidkit.models.memory.mann import parameter_count
from vidkit.settings.fewshot import FewshotConfig
from vidkit.settings.model import ClassifierConfig
from vidkit.train.descent import falling

#: Clips that go through the network at a time. Gradients of a step's parts are added up: it changes nothing else.
PART = 32

WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.999)


class _Told(NamedTuple):
    """Counts trainings for the report."""

    name: str
    total: int
    report: Report | None

    def __call__(self, done: int, loss: float) -> None:
        if self.report is not None:
            self.report(self.name, done, self.total, loss)


def run_episodes(
    name: str,
    config: FewshotConfig,
    encoder: Encoder,
    pixels: ClipPixels,
    test: EpisodeRows,
    val: Pool | None,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    report: Report | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Choose a learning rate on meta-val, then train and classify in each test episode.

    Args:
        name: "finetune", from the encoder's weights, or "scratch", a network of its shape.
        pixels: the clips of meta-test, and of meta-val where `val` is given.
        seed: of the random weights.

    Returns:
        Predicted slots (E, Q) on the CPU, and facts about the training.

    Raises:
        TrainingError: a loss that is not finite.
    """
    began, device = time.perf_counter(), torch.device(device)
    rates = config.finetune_rates
    judged = None
    if val is not None and len(rates) > 1:
        judged = stack(draw_episodes(val, config.finetune_val_episodes))
    tried = 0 if judged is None else len(rates) * len(judged.query)
    tell = _Told(name, tried + len(test.query), report)
    start = None if name == "scratch" else encoder

    def several(rows: EpisodeRows, rate: float, stream: int, done: int) -> tuple[Tensor, float]:
        guesses, losses = [], []
        for i in range(len(rows.query)):
            support, slots, query = (part[i] for part in rows[:3])
            model = network(config, encoder, start, _generator(seed, stream, i)).to(device)
            losses.append(fit_support(model, pixels.take(support), slots, rate, config, f"{name}, episode {i + 1}"))
            guesses.append(classify(model, pixels.take(query)))
            tell(done + i + 1, losses[-1])
        return torch.stack(guesses), sum(losses) / len(losses)

    accuracies: list[float] = []
    for k, rate in enumerate(rates if judged is not None else ()):
        assert judged is not None
        found, _ = several(judged, rate, 1, k * len(judged.query))
        accuracies.append((found == judged.query_slots).double().mean().item())
    # of equals the lowest
    best = max(range(len(rates)), key=lambda k: (accuracies[k], -k)) if accuracies else len(rates) // 2
    guesses_EQ, loss = several(test, rates[best], 0, tried)
    return guesses_EQ, {
        "steps": config.finetune_steps,
        "rate": rates[best],
        "rates": list(rates),
        "val_accuracies": accuracies,
        "val_episodes": 0 if judged is None else len(judged.query),
        "val_accuracy": accuracies[best] if accuracies else None,
        "layer_decay": config.layer_decay,
        "loss": loss,
        "parameters": parameter_count(network(config, encoder, start, _generator(seed, 0, 0))),
        "trainings": tell.total,
        "seconds": round(time.perf_counter() - began, 2),
    }


def network(
    config: FewshotConfig, shape: Encoder, start: Encoder | None, generator: torch.Generator
) -> VideoClassifier:
    """A classifier of K classes, on the CPU, whose head is 0.

    Args:
        shape: whose encoder's settings it has.
        start: whose encoder's weights it takes; None: those that `generator` draws stay.
    """
    settings = ClassifierConfig(encoder=shape.vit, classes=config.way, drop_path=0.0)
    model = VideoClassifier(settings, generator)
    if start is not None:
        state = start.checkpoint.model
        model.load_encoder(state)
        # a classifier's features end with its norm; a masked autoencoder has none behind the pooling
        norm = {key: value for key, value in state.items() if key.startswith("fc_norm.")}
        model.load_state_dict(norm, strict=False)
    nn.init.zeros_(model.head.weight)
    return model


def fit_support(
    model: VideoClassifier,
    support_SCTHW: Tensor,
    slots_S: Tensor,
    rate: float,
    config: FewshotConfig,
    where: str,
) -> float:
    """Train on the support; the last step's loss.

    Raises:
        TrainingError: it is not finite.
    """
    device, steps, count = model.head.weight.device, config.finetune_steps, len(slots_S)
    slots_S = slots_S.to(device)
    groups = layer_decay_groups(model, WEIGHT_DECAY, config.layer_decay)
    for group in groups:
        group["lr"] = rate * group["lr_scale"]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: falling(step, steps))
    parts = [(support_SCTHW[k : k + PART], slots_S[k : k + PART]) for k in range(0, count, PART)]
    model.train()
    loss = math.nan
    for _ in range(steps):
        optimiser.zero_grad()
        losses = []
        for video, slots in parts:
            part = nn.functional.cross_entropy(model(video.to(device)).float(), slots, reduction="sum") / count
            part.backward()  # type: ignore[no-untyped-call]
            losses.append(part.detach())
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        loss = torch.stack(losses).sum().item()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in {where} at rate {rate:g}",
                field="finetune_rates",
                hint="leave out the highest learning rate (--finetune-rate)",
            )
    return loss


@torch.no_grad()
def classify(model: VideoClassifier, query_QCTHW: Tensor) -> Tensor:
    """Slots (Q,) on the CPU."""
    model.eval()
    device = model.head.weight.device
    parts = [query_QCTHW[k : k + PART] for k in range(0, len(query_QCTHW), PART)]
    return torch.cat([model(part.to(device)).argmax(dim=1).cpu() for part in parts])


def _generator(seed: int, stream: int, episode: int) -> torch.Generator:
    """Random weights of one episode, the same at every learning rate."""
    mixed = np.random.SeedSequence((seed, stream, episode)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0] >> 1))

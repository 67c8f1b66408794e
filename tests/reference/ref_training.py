"""Pre-training and metrics in the plainest way: one process, unfused AdamW, loops over clips and classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from vidkit.data import ClipDataset
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import mask_generator, mask_seed
from vidkit.settings.train import PretrainConfig


def schedule(base: float, start: float, low: float, warm: int, total: int) -> list[float]:
    """VideoMAE's rates: numpy.linspace up, then the cosine's own formula, one value a step."""
    up = np.linspace(start, base, warm).tolist() if warm else []
    steps = total - warm
    down = [low + 0.5 * (base - low) * (1 + math.cos(math.pi * i / max(1, steps - 1))) for i in range(steps)]
    return up + down


def pretrain(config: PretrainConfig, clips: ClipDataset) -> tuple[AdaMAE, list[float]]:
    """The trained model, and the loss of each step."""
    model = AdaMAE(config.model, torch.Generator().manual_seed(config.seed))
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and name not in model.no_weight_decay()]
    others = [p for name, p in model.named_parameters() if p.ndim <= 1 or name in model.no_weight_decay()]
    groups = [
        {"params": decayed, "weight_decay": config.optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=config.optim.betas, fused=False, foreach=False)
    per_epoch = len(clips) // config.optim.batch_size
    warm = round(config.optim.warmup_epochs * per_epoch)
    rates = schedule(
        config.optim.lr, config.optim.start_lr, config.optim.min_lr, warm, config.optim.epochs * per_epoch
    )
    losses, step = [], 0
    for epoch in range(config.optim.epochs):
        clips.set_epoch(epoch)
        order = np.random.default_rng(np.random.SeedSequence((config.seed, epoch))).permutation(len(clips))
        for at in range(per_epoch):
            some = order[at * config.optim.batch_size :][: config.optim.batch_size]
            video = torch.cat([clips[int(i)].video for i in some])
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
            torch.manual_seed(mask_seed(config.seed, step, 0))
            optimizer.zero_grad()
            out = model(video, mask_generator(config.seed, step, 0))
            out.loss.backward()
            optimizer.step()
            losses.append(out.loss.item())
            step += 1
    return model, losses


def average_precision(scores: list[float], labels: list[int]) -> float:
    """Mean over the positives of the precision at their rank."""
    ranked = sorted(zip(scores, labels, strict=True), key=lambda pair: -pair[0])
    hits, total = 0, 0.0
    for rank, (_, label) in enumerate(ranked, start=1):
        if label:
            hits += 1
            total += hits / rank
    return total / hits


def accuracy(scores: Any, labels: Any, k: int) -> float:
    right = 0
    for row, label in zip(scores, labels, strict=True):
        right += label in sorted(range(len(row)), key=lambda i: -row[i])[:k]
    return right / len(labels)

"""The learning rate of a step."""

from __future__ import annotations

import math

from vidkit.settings.train import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """Of step 0, 1, ...: linear from `start_lr` to `lr` over the warm-up, then half a cosine down to `min_lr`."""
    warm = round(optim.warmup_epochs * steps_per_epoch)
    total = optim.total_steps(steps_per_epoch)
    if step < warm:
        return optim.start_lr + (optim.lr - optim.start_lr) * step / max(1, warm - 1)
    share = (step - warm) / max(1, total - warm - 1)
    return optim.min_lr + (optim.lr - optim.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

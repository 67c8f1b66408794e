"""Gradient steps with Adam, and of the states on the way the one that does best: for every learner that trains."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidkit.errors import TrainingError

#: Share of the steps after which the rate falls.
DECAY_FROM = 0.7


class Descent(NamedTuple):
    """What came of it."""

    loss: float
    """Mean over the last hundredth of the steps; NaN without a step."""
    kept_step: int
    """After which step the weights were that stay."""
    accuracy: float | None
    """Of these; None where nothing was judged."""
    seconds: float


def descend(
    loss_of: Callable[[int], Tensor],
    groups: Sequence[dict[str, Any]],
    *,
    name: str,
    steps: int,
    clip: float,
    modules: Sequence[nn.Module] = (),
    decay_from: float = DECAY_FROM,
    judge: Callable[[], float] | None = None,
    judged: int = 10,
    before: float | None = None,
    tell: Callable[[int, float], None] | None = None,
    field: str | None = None,
    hint: str = "choose a smaller learning rate",
) -> Descent:
    """Adam on `loss_of(0)`, `loss_of(1)`, ...; of `judged` states the one with the highest `judge()` stays.

    Of equals the first stays; without `judge` the last one. The rate is constant, then falls in a straight line.

    Args:
        groups: of Adam: parameters with their rates.
        clip: largest norm of the gradient.
        modules: in training mode for a step, in evaluation mode for a judgement and at the end.
        before: what `judge()` gives before the first step, where that state may stay too.
        tell: called with (step, mean loss since) about a hundred times.

    Raises:
        TrainingError: a loss that is not finite.
    """
    began = time.perf_counter()
    trained: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
    optimiser = torch.optim.Adam(list(groups))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: falling(step, steps, decay_from))
    kept = None if before is None else _copies(trained)
    best, best_step, loss = -1.0 if before is None else before, steps if before is None else 0, math.nan
    recent: list[Tensor] = []
    every, judge_every = max(1, steps // 100), max(1, steps // judged)
    for step in range(1, steps + 1):
        for module in modules:
            module.train()
        value = loss_of(step - 1)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, clip)
        optimiser.step()
        schedule.step()
        recent.append(value.detach())
        if step % every == 0 or step == steps:
            loss = torch.stack(recent).mean().item()
            recent.clear()
            if not math.isfinite(loss):
                raise TrainingError(f"the loss of {name} is {loss} at step {step}", field=field, hint=hint)
            if tell is not None:
                tell(step, loss)
        if judge is not None and (step % judge_every == 0 or step == steps):
            for module in modules:
                module.eval()
            found = judge()
            if found > best:
                best, best_step, kept = found, step, _copies(trained)
    if kept is not None:
        with torch.no_grad():
            for parameter, value in zip(trained, kept, strict=True):
                parameter.copy_(value)
    for module in modules:
        module.eval()
    seconds = round(time.perf_counter() - began, 2)
    return Descent(loss, best_step, None if judge is None else best, seconds)


def falling(step: int, steps: int, decay_from: float = DECAY_FROM) -> float:
    """Factor on the learning rate: 1, then a straight line over the rest of the steps down to 0.01."""
    start = decay_from * steps
    return 1.0 if step <= start else max(0.01, (steps - step) / (steps - start))


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Products of small matrices are faster in one thread than in several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""One training step of a configuration on clips made of noise: what is timed, tracked and counted."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.mask import ORACLES
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig
from vidkit.settings.train import Precision

ModelConfig = AdaMAEConfig | ClassifierConfig

#: What matrix products are computed in; None: as the weights are.
HALF: dict[Precision, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

#: In the order of a step.
PHASES = ("forward", "backward", "update")


def build_model(config: ModelConfig) -> AdaMAE | VideoClassifier:
    """The model of these settings, with new weights.

    Noise has nothing that moves: in the place of an oracle's masks there are random ones, which cost the same.
    """
    if isinstance(config, AdaMAEConfig) and config.mask.strategy in ORACLES:
        config = replace(config, mask=replace(config.mask, strategy="random"))
    return AdaMAE(config) if isinstance(config, AdaMAEConfig) else VideoClassifier(config)


def check_step(batch: int, precision: str) -> None:
    """Raises ConfigError where a step cannot have these."""
    if batch < 1:
        raise ConfigError(f"batch is {batch!r}; expected at least 1", field="batch")
    if precision not in HALF:
        raise ConfigError(f"precision is {precision!r}; expected one of {', '.join(HALF)}", field="precision")


class TrainStep:
    """A model, its clips and its optimiser, on `device`, or where torch makes tensors by default.

    Weights are float32. Half precision is autocast without a gradient scaler, whose cost is nothing beside a step.
    The optimiser is AdamW in its fused form, as in training: it needs no memory beyond its two moments.

    Raises:
        ConfigError: no clips, or an unknown precision.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int,
        precision: Precision = "fp32",
        device: str | torch.device | None = None,
        optimizer: bool = True,
    ) -> None:
        check_step(batch, precision)
        vit = config.encoder
        self.config, self.batch, self.half = config, batch, HALF[precision]
        model = build_model(config)
        # fake tensors cannot be moved, not even to where they are
        self.model: nn.Module = model if device is None else model.to(device)
        shape = (batch, vit.channels, vit.frames, vit.size, vit.size)
        self.clips = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        self.targets: Tensor | None = None
        if isinstance(config, ClassifierConfig):
            self.targets = torch.randint(0, config.classes, (batch,), device=device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True) if optimizer else None
        self.loss: Tensor | None = None

    def forward(self) -> None:
        """Compute the loss of the clips and keep it, with the activations, for `backward`."""
        with self._precision():
            if self.targets is None:
                self.loss = self.model(self.clips).loss
            else:
                self.loss = nn.functional.cross_entropy(self.model(self.clips).float(), self.targets)

    def backward(self) -> None:
        """Compute the gradients and let go of the loss. Comes after `forward`."""
        assert self.loss is not None
        torch.autograd.backward(self.loss)
        self.loss = None

    def update(self) -> None:
        """Change the weights, if there is an optimiser, and free the gradients."""
        if self.optimizer is not None:
            self.optimizer.step()
        self.model.zero_grad(set_to_none=True)

    def run(self) -> None:
        """All `PHASES`: one whole step."""
        for phase in PHASES:
            getattr(self, phase)()

    def fill_optimizer(self) -> None:
        """Give the optimiser its state, which it makes in its first update, without a forward and backward pass."""
        if self.optimizer is None:
            return
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.update()

    def optimizer_state(self) -> list[Tensor]:
        """Tensors that the optimiser keeps between steps; none before its first update."""
        states = [] if self.optimizer is None else list(self.optimizer.state.values())
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def _precision(self) -> Any:
        if self.half is None:
            return contextlib.nullcontext()
        return torch.autocast(self.clips.device.type, dtype=self.half)

"""The yardstick of a training step computes what the model computes, and what the slow reference computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.bench.small import small
from tests.reference import ref_adamae
from vidkit.bench.measure.eager import EagerStep, losses
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import mask_generator
from vidkit.settings.model import LossConfig, SamplerConfig


@pytest.mark.parametrize("sampling_input", ["detached", "released"])
@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(kind="l1", normalize=False)], ids=["mse", "l1"])
def test_the_same_losses_and_gradients(sampling_input: str, loss: LossConfig) -> None:
    config = replace(small(), sampler=SamplerConfig(input=sampling_input), loss=loss)  # type: ignore[arg-type]
    config = replace(config, loss=replace(loss, sampling_weight=0.5))
    vit = config.encoder
    generator = torch.Generator().manual_seed(5)
    model = AdaMAE(config, generator).eval()
    shape = (2, vit.channels, vit.frames, vit.size, vit.size)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    out = model(clips, mask_generator(0, 0, 0))
    out.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found = losses(weights, config, clips, model.num_visible, keep_BV=out.keep)
    torch.testing.assert_close(found, out.loss, rtol=1e-5, atol=1e-6)
    slow = ref_adamae.forward(dict(model.named_parameters()), config, clips, out.keep).loss
    torch.testing.assert_close(found, slow, rtol=1e-5, atol=1e-6)
    found.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)


def test_steps_train() -> None:
    torch.manual_seed(0)
    step = EagerStep(small(), batch=2)

    def loss() -> float:
        with torch.no_grad():
            return losses(step.weights, step.config, step.clips, step.visible, keep_BV=keep).item()

    keep = torch.rand(2, step.config.encoder.tokens).topk(step.visible).indices.sort().values
    before = loss()
    for _ in range(4):
        step.run()
    assert loss() < before

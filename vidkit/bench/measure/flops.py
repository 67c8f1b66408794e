"""Multiply-accumulates and parameters of a model, part by part.

All counts are *multiply-accumulates* (MACs) of matrix products. torch's counter, and most papers that write FLOPs,
count each as two operations. Norms, activations, softmax and the losses are left out, as is usual.

Shapes: N tokens, V visible, M targets, D the encoder's width, E the decoder's or sampler's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vidkit.bench.measure.attention import kernel_storage
from vidkit.bench.measure.step import ModelConfig, TrainStep, build_model
from vidkit.models.masking import num_targets, num_visible
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, SamplerConfig, ViTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one part of a model costs."""

    name: str
    """tokenizer, sampler, encoder, decoder or head."""
    parameters: int
    forward: int
    """MACs of one clip's forward pass."""
    training: int
    """MACs of one clip's forward and backward pass, without what recomputation repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a model costs, part by part and as a whole."""

    parts: tuple[Part, ...]
    tokens: int
    """N."""
    visible: int
    """V; N for a classifier."""

    @property
    def parameters(self) -> int:
        """Of all parts: how many numbers are trained."""
        return sum(part.parameters for part in self.parts)

    @property
    def forward(self) -> int:
        """MACs of one clip's forward pass."""
        return sum(part.forward for part in self.parts)

    @property
    def training(self) -> int:
        """MACs of one clip's forward and backward pass."""
        return sum(part.training for part in self.parts)

    def rows(self) -> list[dict[str, str | int]]:
        """One row for each part and one for the whole, as plain values."""
        whole = Part(name="total", parameters=self.parameters, forward=self.forward, training=self.training)
        return [
            {"part": p.name, "parameters": p.parameters, "forward_macs": p.forward, "training_macs": p.training}
            for p in (*self.parts, whole)
        ]


def cost(config: ModelConfig) -> Cost:
    """MACs by formula, and parameters counted on a model without storage.

    A product with weights takes as much again for the weights' gradient, and again for its input's where that has
    one; an attention product has two inputs. So training is three times the forward pass, but for products that
    read pixels or detached tokens.

    Raises:
        ConfigError: the mask leaves no token visible, or none hidden.
    """
    if isinstance(config, ClassifierConfig):
        tokens = visible = config.encoder.tokens
        macs = _classifier(config)
    else:
        mask, tokens = config.mask, config.encoder.tokens
        visible = num_visible(config.encoder.grid, mask.ratio, mask.rounding, mask.strategy)
        macs = _adamae(config, visible, num_targets(config.encoder.grid, mask))
    sizes = parameters(config)
    parts = tuple(
        Part(name=name, parameters=sizes[name], forward=forward, training=training)
        for name, (forward, training) in macs.items()
    )
    return Cost(parts=parts, tokens=tokens, visible=visible)


def _adamae(config: AdaMAEConfig, visible: int, targets: int) -> dict[str, tuple[int, int]]:
    vit, decoder, tokens = config.encoder, config.decoder, config.encoder.tokens
    adaptive = config.mask.strategy == "adaptive"
    detached = adaptive and config.sampler.input == "detached"
    one = _tokenizer(vit)
    with_gradient = (visible if detached or not adaptive else tokens) * one
    without = tokens * one if detached else 0
    # with this objective each clip has two masks: the second's tokens are made, encoded and decoded as well
    masks = 2 if config.loss.objective == "plackett-luce" else 1
    with_gradient += (masks - 1) * visible * one
    macs = {"tokenizer": (with_gradient + without, with_gradient * _token_passes(vit) + without)}
    if adaptive:
        macs["sampler"] = _sampler(config.sampler, tokens, vit.width)
    encoder = masks * vit.depth * _block(vit.width, vit.mlp_ratio, visible, visible)
    macs["encoder"] = (encoder, 3 * encoder)
    narrow, ratio = decoder.width, vit.mlp_ratio
    decoding = visible * vit.width * narrow
    if decoder.kind == "cross":
        decoding += decoder.depth * _block(narrow, ratio, targets, visible)
    else:
        decoded = visible + targets
        decoding += (decoder.depth - 1) * _block(narrow, ratio, decoded, decoded)
        # the last block has queries for the targets only
        decoding += _block(narrow, ratio, targets, decoded)
    # targets alone pass the head
    decoding = masks * (decoding + targets * narrow * vit.patch_values)
    macs["decoder"] = (decoding, 3 * decoding)
    return macs


def _classifier(config: ClassifierConfig) -> dict[str, tuple[int, int]]:
    vit = config.encoder
    tokenizer = vit.tokens * _tokenizer(vit)
    encoder = vit.depth * _block(vit.width, vit.mlp_ratio, vit.tokens, vit.tokens)
    head = vit.width * config.classes
    return {
        "tokenizer": (tokenizer, tokenizer * _token_passes(vit)),
        "encoder": (encoder, 3 * encoder),
        "head": (head, 3 * head),
    }


def _tokenizer(vit: ViTConfig) -> int:
    """MACs of one token."""
    return vit.patch_values * (5 if vit.tokenizer == "spt" else 1) * vit.width


def _token_passes(vit: ViTConfig) -> int:
    """Forward, the weights' gradient, and the input's where a trained norm lies before the projection."""
    return 3 if vit.tokenizer == "spt" else 2


def _block(width: int, mlp_ratio: float, queries: int, keys: int) -> int:
    """A transformer block in which `queries` of its `keys` tokens are carried on."""
    mlp = 2 * width * int(width * mlp_ratio)
    weights = queries * (2 * width * width + mlp) + keys * 2 * width * width
    return weights + 2 * queries * keys * width


def _sampler(settings: SamplerConfig, tokens: int, token_width: int) -> tuple[int, int]:
    width = token_width // settings.width_divisor
    reduce = tokens * token_width * width if settings.width_divisor > 1 else 0
    if settings.kind == "mlp":
        rest = tokens * width * width
    else:
        rest = settings.depth * _block(width, settings.mlp_ratio, tokens, tokens)
    rest += tokens * width
    return reduce + rest, reduce * (2 if settings.input == "detached" else 3) + 3 * rest


#: Submodules and parameters of the models, by the part they belong to.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("tokenizer",),
    "sampler": ("sampler",),
    "encoder": ("encoder", "encoder_norm", "fc_norm"),
    "decoder": ("project", "mask_token", "decoder", "decoder_norm"),
    "head": ("head",),
}


def parameters(config: ModelConfig) -> dict[str, int]:
    """Parameters of each part; an AdaMAE's head belongs to its decoder."""
    with torch.device("meta"):
        model = build_model(config)
    found = _by_part(model)
    if isinstance(config, AdaMAEConfig):
        found["decoder"] += found.pop("head")
    return found


def _by_part(model: nn.Module) -> dict[str, int]:
    part_of = {name: part for part, names in _PARTS.items() for name in names}
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of[name.split(".")[0]]
        found[part] = found.get(part, 0) + parameter.numel()
    return found


def counted(config: ModelConfig, *, training: bool = False) -> int:
    """MACs of one clip by torch's `FlopCounterMode`: a forward pass, or with `training` a backward pass as well.

    Nothing is computed: the tensors are fake. Attention runs as its two matrix products, since which of the
    fused kernels the counter knows depends on torch's version. Recomputation, if the config has it, is counted.
    """
    with FakeTensorMode(), kernel_storage("matrices"):
        step = TrainStep(config, batch=1, optimizer=False)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
            step.forward()
            if training:
                step.backward()
    return int(counter.get_total_flops()) // 2

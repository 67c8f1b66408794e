"""What an encoder costs: parameters, and multiply-accumulates of its matrix products, exactly.

Elementwise work (norms, activations, the scores' softmax, the scale and the mask of locality self-attention) is
not counted, as `torch.utils.flop_counter` does not either; it counts two operations for each multiply-accumulate.
"""

from __future__ import annotations

from dataclasses import dataclass

from vidkit.settings.model import ViTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of a module or a whole model; costs add up."""

    parameters: int
    macs: int
    """Multiply-accumulates for one clip, forward."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(parameters=self.parameters + other.parameters, macs=self.macs + other.macs)

    def __mul__(self, times: int) -> Cost:
        return Cost(parameters=self.parameters * times, macs=self.macs * times)


def tokenizer_cost(config: ViTConfig, tokens: int | None = None) -> Cost:
    """Of a tokenizer over `tokens` tokens, all of them by default.

    Shifted patches have five times the inputs, and a scale and a shift for each in the LayerNorm.
    """
    tokens = config.tokens if tokens is None else tokens
    spt = config.tokenizer == "spt"
    values = config.patch_values * (5 if spt else 1)
    parameters = values * config.width + config.width + (2 * values if spt else 0)
    return Cost(parameters=parameters, macs=tokens * values * config.width)


def block_cost(config: ViTConfig, tokens: int | None = None) -> Cost:
    """Of one transformer block. Locality self-attention adds a number for each head and no product.

    Its mask hides the diagonal of the scores, which is computed all the same.
    """
    tokens = config.tokens if tokens is None else tokens
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    attention = 4 * width * width + 4 * width + (config.heads if config.attention == "lsa" else 0)
    mlp = 2 * width * hidden + hidden + width
    products = 4 * width * width + 2 * width * hidden + 2 * tokens * width
    return Cost(parameters=attention + mlp + 4 * width, macs=tokens * products)


def encoder_cost(config: ViTConfig, tokens: int | None = None) -> Cost:
    """Of tokenizer and blocks over `tokens` tokens, without the final norm.

    A masked autoencoder's encoder has V tokens; with adaptive masks its tokenizer also reads all N once more.
    """
    return tokenizer_cost(config, tokens) + block_cost(config, tokens) * config.depth

"""What weights are called in other projects, as tables, and moving them from one name to another.

- "videomae": the released VideoMAE (Tong et al. 2022) and AdaMAE (Bandara et al. 2022) share their names; AdaMAE's
  pre-training adds a sampler. Queries, keys and values are one matrix, with biases `q_bias` and `v_bias`.
- "hf": `VideoMAEForPreTraining` and `VideoMAEForVideoClassification` of Hugging Face transformers, as their files
  have it. Queries, keys and values are three matrices.

The values need no reordering: a tubelet's weights are those of a Conv3d everywhere, and the decoder's outputs run
over frames, rows, columns, channels (channels fastest) everywhere. Positions are fixed tables that nobody stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidkit.settings.model import AdaMAEConfig, ClassifierConfig

Layout = Literal["videomae", "hf"]


@dataclass(frozen=True, slots=True)
class BlockNames:
    """Of a transformer block, relative to it. The keys of `plain` are ours."""

    plain: Mapping[str, str]
    qkv: tuple[str, ...]
    """Matrices that stand one above the other in ours."""
    q_bias: str
    v_bias: str


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Of a whole model, without `.weight` and `.bias`; `blocks` and `decoder` without the number."""

    tokenizer: str
    blocks: str
    block: BlockNames
    norm: str
    head: str
    decoder: str = ""
    decoder_norm: str = ""
    project: str = ""


_VIDEOMAE_BLOCK = BlockNames(
    plain={name: name for name in ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")},
    qkv=("attn.qkv.weight",),
    q_bias="attn.q_bias",
    v_bias="attn.v_bias",
)
_HF_BLOCK = BlockNames(
    plain={
        "norm1": "layernorm_before",
        "attn.proj": "attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
    qkv=tuple(f"attention.attention.{part}.weight" for part in ("query", "key", "value")),
    q_bias="attention.attention.q_bias",
    v_bias="attention.attention.v_bias",
)

NAMES: dict[tuple[Layout, str], ModelNames] = {
    ("videomae", "adamae"): ModelNames(
        tokenizer="encoder.patch_embed.proj",
        blocks="encoder.blocks",
        block=_VIDEOMAE_BLOCK,
        norm="encoder.norm",
        head="decoder.head",
        decoder="decoder.blocks",
        decoder_norm="decoder.norm",
        project="encoder_to_decoder",
    ),
    ("videomae", "classifier"): ModelNames(
        tokenizer="patch_embed.proj", blocks="blocks", block=_VIDEOMAE_BLOCK, norm="fc_norm", head="head"
    ),
    ("hf", "adamae"): ModelNames(
        tokenizer="videomae.embeddings.patch_embeddings.projection",
        blocks="videomae.encoder.layer",
        block=_HF_BLOCK,
        norm="videomae.layernorm",
        head="decoder.head",
        decoder="decoder.decoder_layers",
        decoder_norm="decoder.norm",
        project="encoder_to_decoder",
    ),
    ("hf", "classifier"): ModelNames(
        tokenizer="videomae.embeddings.patch_embeddings.projection",
        blocks="videomae.encoder.layer",
        block=_HF_BLOCK,
        norm="fc_norm",
        head="classifier",
    ),
}

MASK_TOKEN = "mask_token"
SAMPLER_POSITIONS = "encoder.pos_embed_probs"
_SAMPLER_BLOCK = "encoder.get_token_probs.0"
SAMPLER_SCORE = "encoder.get_token_probs.1"
#: Heads of the released sampler's block: a constant there.
SAMPLER_HEADS = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """One of our weights and where it comes from: rows of `theirs`, one above the other."""

    ours: str
    theirs: tuple[str | None, ...]
    """None: as many rows as the others have, zero, and not stored (the key bias)."""
    leading: int = 0
    """Dimensions of size 1 that theirs has in front."""


def rules(config: AdaMAEConfig | ClassifierConfig, layout: Layout) -> list[Rule]:
    """Where each weight of a model of this config is found in a layout."""
    kind = "adamae" if isinstance(config, AdaMAEConfig) else "classifier"
    names = NAMES[layout, kind]
    found = [*_affine("tokenizer.proj", names.tokenizer)]
    for index in range(config.encoder.depth):
        found += _block(f"encoder.{index}", f"{names.blocks}.{index}", names.block)
    if isinstance(config, ClassifierConfig):
        return [*found, *_affine("fc_norm", names.norm), *_affine("head", names.head)]
    found += _affine("encoder_norm", names.norm)
    found += [Rule("project.weight", (f"{names.project}.weight",)), Rule("mask_token", (MASK_TOKEN,), leading=2)]
    for index in range(config.decoder.depth):
        found += _block(f"decoder.{index}", f"{names.decoder}.{index}", names.block)
    found += [*_affine("decoder_norm", names.decoder_norm), *_affine("head", names.head)]
    if config.mask.strategy == "adaptive" and layout == "videomae":
        found.append(Rule("sampler.positions", (SAMPLER_POSITIONS,), leading=1))
        found += _block("sampler.blocks.0", _SAMPLER_BLOCK, names.block, biases=False)
        found.append(Rule("sampler.score.weight", (f"{SAMPLER_SCORE}.weight",)))
    return found


def without_effect(config: AdaMAEConfig | ClassifierConfig, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Their weights that change nothing, with their shapes: left out on the way in, zero on the way out."""
    adaptive = isinstance(config, AdaMAEConfig) and config.mask.strategy == "adaptive" and layout == "videomae"
    # The softmax over tokens takes out what every score has in common.
    return {f"{SAMPLER_SCORE}.bias": (1,)} if adaptive else {}


def _affine(ours: str, theirs: str) -> Iterator[Rule]:
    for part in ("weight", "bias"):
        yield Rule(f"{ours}.{part}", (f"{theirs}.{part}",))


def _block(ours: str, theirs: str, names: BlockNames, *, biases: bool = True) -> Iterator[Rule]:
    yield Rule(f"{ours}.attn.qkv.weight", tuple(f"{theirs}.{name}" for name in names.qkv))
    if biases:
        yield Rule(f"{ours}.attn.qkv.bias", (f"{theirs}.{names.q_bias}", None, f"{theirs}.{names.v_bias}"))
    for mine, other in names.plain.items():
        yield from _affine(f"{ours}.{mine}", f"{theirs}.{other}")


def to_ours(tensors: Mapping[str, Tensor], table: list[Rule]) -> tuple[dict[str, Tensor], list[str], set[str]]:
    """(our weights in float32, one line for each fault, their names that were used)."""
    state, faults, used = {}, [], set()
    for rule in table:
        names = [name for name in rule.theirs if name is not None]
        used.update(names)
        absent = [name for name in names if name not in tensors]
        faults += [f"{name}: missing" for name in absent]
        if absent:
            continue
        rows = [tensors[name].float() for name in names]
        if any(part.shape[1:] != rows[0].shape[1:] or part.ndim == 0 for part in rows):
            shapes = ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in names)
            faults.append(f"shapes that do not go together: {shapes}")
            continue
        by_name = dict(zip(names, rows, strict=True))
        parts = [torch.zeros_like(rows[0]) if name is None else by_name[name] for name in rule.theirs]
        whole = torch.cat(parts)
        if whole.shape[: rule.leading] != (1,) * rule.leading:
            faults.append(f"{names[0]}: shape {tuple(whole.shape)}; expected {rule.leading} x 1 in front")
            continue
        state[rule.ours] = whole.view(whole.shape[rule.leading :])
    return state, faults, used


def to_theirs(state: Mapping[str, Tensor], table: list[Rule]) -> dict[str, Tensor]:
    """Their weights in float32, each with memory of its own. What is nowhere in the table stays behind."""
    tensors = {}
    for rule in table:
        whole = state[rule.ours].detach().cpu().float()
        whole = whole.view((1,) * rule.leading + tuple(whole.shape))
        for name, part in zip(rule.theirs, whole.chunk(len(rule.theirs)), strict=True):
            if name is not None:
                tensors[name] = part.clone(memory_format=torch.contiguous_format)
    return tensors


def depth_of(tensors: Mapping[str, Tensor], blocks: str) -> int:
    """The number of blocks by the highest index in use."""
    pattern = re.compile(re.escape(blocks) + r"\.(\d+)\.")
    found = (pattern.match(name) for name in tensors)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def lost_biases(tensors: Mapping[str, Tensor], table: list[Rule]) -> list[str]:
    """Parts of the model (encoder, decoder) in which every query and value bias is exactly zero and others are not.

    That is what is left where a library has dropped the biases on loading: a trained model's are not all zero, and
    in a fresh model the projections' biases are zero as well.
    """
    lost = []
    for part in ("encoder", "decoder"):
        mine = [rule for rule in table if rule.ours.startswith(f"{part}.")]
        biases = [rule for rule in mine if rule.ours.endswith("attn.qkv.bias")]
        others = [rule for rule in mine if rule.ours.endswith(("attn.proj.bias", "mlp.fc1.bias", "mlp.fc2.bias"))]
        if biases and not _any(tensors, biases) and _any(tensors, others):
            lost.append(part)
    return lost


def _any(tensors: Mapping[str, Tensor], table: list[Rule]) -> bool:
    names = (name for rule in table for name in rule.theirs if name is not None)
    return any(bool(tensors[name].any()) for name in names if name in tensors)
